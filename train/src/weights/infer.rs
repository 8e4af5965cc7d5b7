//! The network that weights are of, from their shapes, their names, and what stands beside them.

use super::described::Described;
use super::detect::Found;
use super::names::{Layout, Naming};
use super::raw::StateDict;
use lapidary_schemas::config::{FeedForward, ModelConfig, NAMED_MODELS, PositionResize, Positions};

/// RoPE's base in DINOv3 and here.
const ROPE_BASE: f64 = 100.0;
/// More blocks than any Vision Transformer has.
const DEPTH_MAX: usize = 1000;

/// The network; what was assumed is added to the notes.
pub(super) fn infer(file: &StateDict, found: &mut Found, described: &Described) -> Result<ModelConfig, String> {
    let shape = |naming: Naming, ours: &str| shape_of(file, found, naming, ours);
    let cls = shape(found.naming, "cls_token")?;
    let dim = *cls.last().filter(|dim| **dim > 0).ok_or("`cls_token` has no width")?;
    if described.dim.is_some_and(|said| said != dim) {
        return Err(format!(
            "its tokens are {dim} wide, but `config.json` beside it is of a network {} wide: put the weights in a folder of \
             their own",
            described.dim.unwrap_or_default()
        ));
    }
    let patch = shape(found.naming, "patch_embed.proj.weight")?;
    let [_, 3, patch_px, across] = patch[..] else {
        return Err(format!("its patch projection has shape {patch:?}; [{dim}, 3, patch, patch] was expected"));
    };
    if patch_px != across || patch_px == 0 {
        return Err(format!("its patches are {patch_px} by {across} pixels, not square"));
    }
    let depth = depth(found)?;
    let (fc1, fc2) = (shape(found.naming, "blocks.0.mlp.fc1.weight")?, shape(found.naming, "blocks.0.mlp.fc2.weight")?);
    let ([packed, _], [_, hidden]) = (&fc1[..], &fc2[..]) else {
        return Err(format!("its feed-forward weights have shapes {fc1:?} and {fc2:?}, not two sides each"));
    };
    let feed_forward = match (*packed, *hidden) {
        (packed, hidden) if packed == hidden => FeedForward::Mlp,
        (packed, hidden) if Some(packed) == hidden.checked_mul(2) => FeedForward::Swiglu,
        _ => return Err(format!("its feed-forward weights have shapes {fc1:?} and {fc2:?}, which do not fit")),
    };
    let sized = ModelConfig { name: String::new(), dim, depth, patch_px, feed_forward, ..ModelConfig::default() };
    let fits = |ratio: &usize| ModelConfig { mlp_ratio: *ratio, ..sized.clone() }.hidden() == *hidden;
    let mlp_ratio = (1..=16).find(fits).ok_or_else(|| {
        format!("its feed-forward networks are {hidden} wide inside, which is no whole multiple of {dim} as here")
    })?;
    let has_scale = found.has(found.naming, "blocks.0.ls1.gamma");
    let registers = if found.has(found.naming, "reg_token") {
        *shape(found.naming, "reg_token")?.get(1).ok_or("its register tokens have no number")?
    } else {
        0
    };
    let mut notes = Vec::new();
    let (positions, grid) = if found.has(found.naming, "pos_embed") {
        let rows = *shape(found.naming, "pos_embed")?.get(1).ok_or("`pos_embed` has no length")?;
        (
            Positions::Learned,
            Some(grid_of(rows, registers, found.naming.layout, described.image_px.map(|px| px / patch_px))?),
        )
    } else if matches!(found.naming.layout, Layout::Dinov3 | Layout::TransformersDinov3 | Layout::TimmEva)
        || found.naming.layout == Layout::Lapidary
    {
        (Positions::Rope, None)
    } else {
        return Err("`pos_embed` is missing".to_owned());
    };
    if let Some(base) = described.rope_base.filter(|base| *base != ROPE_BASE) {
        return Err(format!("its RoPE has base {base}; {ROPE_BASE} was expected"));
    }
    let image_px = match (grid, described.image_px) {
        (Some(grid), _) => grid.checked_mul(patch_px).ok_or("its position embedding is too large")?,
        (None, Some(px)) => px,
        (None, None) => {
            let px = 224 / patch_px.min(224) * patch_px;
            notes.push(format!("images are taken to have {px} pixels a side, which RoPE does not tell"));
            px
        }
    };
    let heads = heads(file, found, described, dim, &mut notes)?;
    let norm_epsilon = described.norm_epsilon.unwrap_or(match found.naming.layout {
        Layout::TransformersVit => 1e-12,
        Layout::Dinov3 | Layout::TransformersDinov3 | Layout::TimmEva => 1e-5,
        _ => 1e-6,
    });
    check_activation(described, found.naming.layout, feed_forward)?;
    let name = NAMED_MODELS.iter().find(|(_, numbers)| *numbers == [dim, depth, heads]).map_or("", |(name, _)| name);
    let position_resize = position_resize(found, described, registers, &mut notes);
    if let Some([mean, std]) = &described.normalisation
        && (mean.contains(&0.5) || std.contains(&0.5))
    {
        notes.push(
            "they were made with images normalised by 0.5; here they get ImageNet's mean and deviation".to_owned(),
        );
    }
    found.notes.extend(notes);
    Ok(ModelConfig {
        name: name.to_owned(),
        image_px,
        heads,
        mlp_ratio,
        layer_scale: if has_scale { described.layer_scale.filter(|scale| *scale > 0.0).unwrap_or(1e-5) } else { 0.0 },
        registers,
        positions,
        position_resize,
        norm_epsilon,
        ..sized
    })
}

/// The shape of a parameter of ours, its parts one after another.
fn shape_of(file: &StateDict, found: &Found, naming: Naming, ours: &str) -> Result<Vec<usize>, String> {
    let mut whole: Option<Vec<usize>> = None;
    for name in naming.names(ours) {
        let raw = found.raw(file, &name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
        match &mut whole {
            None => whole = Some(raw.shape.clone()),
            Some(whole) if whole.get(1..) == raw.shape.get(1..) && !whole.is_empty() => {
                whole[0] = whole[0].checked_add(raw.shape[0]).ok_or("its shapes are too large")?;
            }
            Some(_) => return Err(format!("tensor `{name}` of shape {:?} does not fit its other half", raw.shape)),
        }
    }
    whole.ok_or_else(|| format!("`{ours}` has no name in {}", naming.layout.name()))
}

/// Blocks, which must be numbered from 0 without a gap.
fn depth(found: &Found) -> Result<usize, String> {
    let base = found.naming.block();
    let number = |name: &String| name.strip_prefix(base)?.split('.').next()?.parse::<usize>().ok();
    let last = found.names.keys().filter_map(number).max();
    let last = last.ok_or_else(|| format!("it holds no blocks: `{base}0.norm1.weight` and the like were expected"))?;
    if last >= DEPTH_MAX {
        return Err(format!("it holds a block `{base}{last}`, which no network has"));
    }
    Ok(last + 1)
}

/// Patches along a side, from the rows of the position embedding.
fn grid_of(rows: usize, registers: usize, layout: Layout, said: Option<usize>) -> Result<usize, String> {
    let square = |patches: usize| Some(patches.isqrt()).filter(|side| side * side == patches && *side > 0);
    // timm gives registers and class token a place or not; everybody else the class token alone.
    let prefixes: &[usize] = if layout == Layout::Timm && registers > 0 { &[0, 1, 1 + registers] } else { &[1] };
    let mut grids: Vec<usize> = prefixes.iter().filter_map(|prefix| square(rows.checked_sub(*prefix)?)).collect();
    if let Some(said) = said.filter(|_| grids.len() > 1) {
        grids.retain(|grid| *grid == said);
    }
    match grids[..] {
        [grid] => Ok(grid),
        [] => Err(format!("its {rows} positions are no square grid with a class token")),
        _ => Err(format!("its {rows} positions may be a grid of {grids:?}: `img_size` in `config.json` would tell")),
    }
}

/// Heads: said, told by RoPE's periods, or the usual width of 64 each.
fn heads(
    file: &StateDict,
    found: &Found,
    described: &Described,
    dim: usize,
    notes: &mut Vec<String>,
) -> Result<usize, String> {
    let periods = match found.names.get("rope_embed.periods") {
        Some(name) => Some(file.read(name)?.values),
        None => None,
    };
    let told = periods.as_ref().and_then(|periods| dim.checked_div(periods.len().checked_mul(4)?));
    let heads = match (described.heads.or(told), dim / 64) {
        (Some(heads), _) => heads,
        (None, heads) if heads > 0 && dim.is_multiple_of(64) => {
            notes.push(format!("its shapes do not tell the attention heads; {heads} of width 64 are taken"));
            heads
        }
        _ => {
            return Err(format!(
                "its shapes do not tell the attention heads, and {dim} is no multiple of the usual 64\nhint: put a \
                 `config.json` with `num_attention_heads` beside it"
            ));
        }
    };
    if heads == 0 || !dim.is_multiple_of(heads) {
        return Err(format!("{heads} attention heads do not divide its width of {dim}"));
    }
    if let Some(periods) = periods {
        let width = dim / heads;
        let expected = (0..width / 4).map(|i| ROPE_BASE.powf(2.0 * i as f64 / (width as f64 / 2.0)));
        // They may be kept in bf16, whose steps are 1 / 256.
        let fits = |(expected, found): (f64, &f32)| (f64::from(*found) / expected - 1.0).abs() < 0.01;
        if periods.len() != width / 4 || !expected.zip(&periods).all(fits) {
            return Err(format!("its RoPE's periods are not those of base {ROPE_BASE} for {heads} heads"));
        }
    }
    Ok(heads)
}

/// The activation must be ours. transformers' Dinov2 gates by SiLU whatever it says, its DINOv3ViT by what it says.
fn check_activation(described: &Described, layout: Layout, feed_forward: FeedForward) -> Result<(), String> {
    let is_gated = feed_forward == FeedForward::Swiglu;
    let expected = if is_gated { "silu" } else { "gelu" };
    match described.activation.as_deref() {
        None => Ok(()),
        Some(said) if said == expected => Ok(()),
        Some("gelu") if is_gated && layout != Layout::TransformersDinov3 => Ok(()),
        Some(other) => Err(format!("its activation is `{other}`; `{expected}` was expected")),
    }
}

/// How the weights' positions were resized in their training.
fn position_resize(found: &Found, described: &Described, registers: usize, notes: &mut Vec<String>) -> PositionResize {
    if let Some(said) = described.position_resize {
        return said;
    }
    if registers > 0 {
        return PositionResize::Antialiased;
    }
    let is_dino = described.tag.as_deref().is_some_and(|tag| tag.contains("dino") || tag.contains("lvd"));
    let has_classifier = ["head.weight", "fc_norm.weight"].iter().any(|name| found.names.contains_key(*name));
    match found.naming.layout {
        Layout::Timm if !is_dino && (has_classifier || described.tag.is_some()) => PositionResize::Antialiased,
        Layout::Timm if !is_dino => {
            notes.push("no classifier and no tag: positions are resized as DINO does (offset 0.1)".to_owned());
            PositionResize::Offset
        }
        _ => PositionResize::Offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_told_by_the_number_of_positions() {
        assert_eq!(grid_of(197, 0, Layout::Timm, None), Ok(14));
        assert_eq!(grid_of(1369, 4, Layout::Timm, None), Ok(37));
        assert_eq!(grid_of(201, 4, Layout::Timm, None), Ok(14));
        assert_eq!(grid_of(197, 4, Layout::Dinov2, None), Ok(14));
        assert!(grid_of(198, 0, Layout::Timm, None).is_err());
        // 9 are 3 x 3 patches alone, or 2 x 2 with a class token and 4 registers.
        assert!(grid_of(9, 4, Layout::Timm, None).is_err());
        assert_eq!(grid_of(9, 4, Layout::Timm, Some(3)), Ok(3));
    }

    #[test]
    fn activations_that_are_not_ours_are_refused() {
        let check = |activation: &str, layout, feed_forward| {
            let described = Described { activation: Some(activation.to_owned()), ..Described::default() };
            check_activation(&described, layout, feed_forward)
        };
        assert_eq!(check("gelu", Layout::TransformersVit, FeedForward::Mlp), Ok(()));
        assert_eq!(check("gelu", Layout::TransformersDinov2, FeedForward::Swiglu), Ok(()));
        assert_eq!(check("silu", Layout::TransformersDinov3, FeedForward::Swiglu), Ok(()));
        assert!(check("gelu", Layout::TransformersDinov3, FeedForward::Swiglu).is_err());
        assert!(check("quick_gelu", Layout::TransformersVit, FeedForward::Mlp).is_err());
    }
}
