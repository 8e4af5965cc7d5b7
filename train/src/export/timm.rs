//! timm's folder: an architecture of its list with arguments that make it ours (`VisionTransformer` for learned positions, `Eva`
//! for RoPE), and how images are prepared.

use super::Planned;
use super::outgoing::Outgoing;
use super::preprocess::{crop_share, normalisation};
use crate::weights::{Layout, Naming};
use lapidary_schemas::config::NAMED_MODELS;
use serde_json::{Map, Value, json};

pub(super) fn plan(out: Outgoing) -> Result<Planned, String> {
    let (architecture, particular) = if out.has_rope() { eva(&out)? } else { vit(&out)? };
    let model = &out.model;
    let (hidden, dim) = (model.hidden(), model.dim);
    // `Eva` counts the gated width once, `VisionTransformer`, which packs both halves, twice.
    let width = if out.is_gated() && !out.has_rope() { 2 * hidden } else { hidden };
    let mut arguments = json!({
        "img_size": model.image_px,
        "patch_size": model.patch_px,
        "embed_dim": dim,
        "depth": model.depth,
        "num_heads": model.heads,
        "mlp_ratio": ratio(width, dim),
        "init_values": if out.has_scale() { json!(model.layer_scale) } else { Value::Null },
        "global_pool": "token",
    });
    if let Some(arguments) = arguments.as_object_mut() {
        arguments.extend(particular);
    }
    let [mean, std] = normalisation();
    let (px, rope) = (model.image_px, out.has_rope());
    let config = json!({
        "architecture": architecture,
        "num_classes": 0,
        "num_features": dim,
        "global_pool": "token",
        "model_args": arguments,
        // Not timm's: for Lapidary itself.
        "position_resize": model.position_resize,
        "pretrained_cfg": {
            "tag": "lapidary",
            "custom_load": false,
            "input_size": [3, px, px],
            "fixed_input_size": !rope,
            "interpolation": "bicubic",
            "crop_pct": crop_share(px),
            "crop_mode": "center",
            "mean": mean,
            "std": std,
            "num_classes": 0,
            "pool_size": Value::Null,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    });
    let naming = Naming {
        layout: if rope { Layout::TimmEva } else { Layout::Timm },
        is_recent: true,
        is_gated: out.is_gated(),
        is_split: false,
    };
    let has_registers = out.model.registers > 0;
    let out = out.without_mask();
    let out = if has_registers { out.with_placed_class() } else { out };
    Ok(Planned::pytorch(out.named(naming), vec![("config.json", config)]))
}

/// A ratio of which Python's `int(dim * ratio)` is the width.
fn ratio(width: usize, dim: usize) -> f64 {
    let ratio = width as f64 / dim as f64;
    if (dim as f64 * ratio) as usize == width { ratio } else { ratio.next_up() }
}

type Architecture = (&'static str, Map<String, Value>);

fn vit(out: &Outgoing) -> Result<Architecture, String> {
    let model = &out.model;
    if model.norm_epsilon != 1e-6 {
        return Err(format!(
            "timm's VisionTransformer has LayerNorms with an epsilon of 1e-6, the network's is {:e}; `--to transformers` takes \
             any",
            model.norm_epsilon
        ));
    }
    let mut particular = Map::new();
    if model.registers > 0 {
        particular.insert("reg_tokens".to_owned(), json!(model.registers));
        particular.insert("no_embed_class".to_owned(), json!(true));
    }
    // The one whose feed-forward networks are gated and packed.
    if out.is_gated() {
        return Ok(("vit_giant_patch14_dinov2", particular));
    }
    let name = NAMED_MODELS.iter().find(|(_, numbers)| *numbers == [model.dim, model.depth, model.heads]);
    let architecture = match name.map(|(name, _)| *name) {
        Some("vit-ti") => "vit_tiny_patch16_224",
        Some("vit-b") => "vit_base_patch16_224",
        Some("vit-l") => "vit_large_patch16_224",
        _ => "vit_small_patch16_224",
    };
    Ok((architecture, particular))
}

fn eva(out: &Outgoing) -> Result<Architecture, String> {
    let model = &out.model;
    let architecture = match model.norm_epsilon {
        1e-5 => "vit_small_patch16_dinov3_qkvb",
        1e-6 => "eva02_tiny_patch14_224",
        other => {
            return Err(format!(
                "timm's Eva has LayerNorms with an epsilon of 1e-5 or 1e-6, the network's is {other:e}"
            ));
        }
    };
    let particular = json!({
        "attn_type": "rope",
        "qkv_bias": true,
        "qkv_fused": true,
        "use_abs_pos_emb": false,
        "use_rot_pos_emb": true,
        "rope_type": "dinov3",
        "rope_temperature": 100,
        "rope_rotate_half": true,
        "ref_feat_shape": Value::Null,
        "num_reg_tokens": model.registers,
        "swiglu_mlp": out.is_gated(),
        "swiglu_align_to": 8,
        "use_fc_norm": false,
        "dynamic_img_size": true,
    });
    Ok((architecture, particular.as_object().cloned().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_truncation_gives_the_width_back() {
        for dim in 1..800usize {
            for width in [dim, 2 * dim, 3 * dim + 1, (dim * 8 / 3).div_ceil(8) * 16] {
                assert_eq!((dim as f64 * ratio(width, dim)) as usize, width, "{width} / {dim}");
            }
        }
    }
}
