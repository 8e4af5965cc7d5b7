//! What a run needs of a device's memory, by estimate, and how large a batch would fit: said when a device fails in the middle,
//! since burn says no more than that it failed.

use crate::group_table::parameter_groups;
use lapidary_schemas::Config;
use lapidary_schemas::config::{ModelConfig, Precision, ViewKind};

const FLOAT_BYTES: f64 = 4.0;
const MIB: f64 = (1u64 << 20) as f64;

/// What a run needs, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Needed {
    /// Whatever the batch: weights, gradients, moments, the teacher, and the copy of them that steps taken ahead start from.
    pub(crate) fixed_mib: f64,
    /// For each image of a batch.
    pub(crate) mib_an_image: f64,
}

impl Needed {
    /// By the values that are kept at once.
    pub(crate) fn of(config: &Config) -> Self {
        let weights: usize = parameter_groups(config).iter().map(|row| row.shape.iter().product::<usize>()).sum();
        // Value, gradient and two moments; the teacher; and once more all but the gradient.
        let fixed = weights as f64 * (4.0 + 1.0 + 4.0);
        let of_views = config.plan.views.iter().map(|view| {
            let views = f64::from(view.count);
            let tokens = tokens(&config.model, usize::from(view.size_px));
            let heads = (2 * config.objective.head_hidden + 2 * config.objective.prototypes) as f64;
            let embeddings = if view.kind == ViewKind::Local { 0.0 } else { 6.0 * config.objective.barlow_dim as f64 };
            let pixels = 3.0 * f64::from(view.size_px) * f64::from(view.size_px);
            views * (pixels + kept_by_backbone(config, tokens) + heads + embeddings)
        });
        let an_image = of_views.sum::<f64>() / config.pretrain.accumulate.max(1) as f64;
        Self { fixed_mib: fixed * FLOAT_BYTES / MIB, mib_an_image: an_image * FLOAT_BYTES / MIB }
    }

    /// In words, for so many devices that share a batch, with the batch that would fit into their memory: the least that one of
    /// them has, where that is known.
    pub(crate) fn said(self, batch: usize, devices: usize, memory_mib: Option<f64>) -> String {
        let all = self.fixed_mib + self.mib_an_image * batch.div_ceil(devices) as f64;
        let whose = if devices > 1 { "each device" } else { "the run" };
        let said = format!(
            "by estimate {whose} needs {all:.0} MiB: {:.0} whatever the batch and {:.1} an image of its share",
            self.fixed_mib, self.mib_an_image
        );
        match memory_mib {
            Some(memory) => {
                let fits = ((memory - self.fixed_mib) / self.mib_an_image).floor().max(0.0) * devices as f64;
                format!("{said}; a device has {memory:.0} MiB, into which pretrain.batch={fits:.0} would fit")
            }
            None => said,
        }
    }
}

fn tokens(model: &ModelConfig, size_px: usize) -> f64 {
    ((size_px / model.patch_px.max(1)).pow(2) + 1 + model.registers) as f64
}

/// Values that a view's way through the backbone keeps for the backward pass.
fn kept_by_backbone(config: &Config, tokens: f64) -> f64 {
    let ModelConfig { dim, depth, heads, mlp_ratio, .. } = config.model;
    // Of a block: its input, both normalised inputs with their statistics, queries, keys and values, what came out of attention
    // and its projection, the tokens between, the wide layer before and after GELU, and what comes out.
    // In a half precision what is added to, and what is added, stay f32.
    let stored = if config.pretrain.precision == Precision::F32 { 1.0 } else { 0.5 };
    let block = tokens * (dim as f64 * (3.0 + stored * (6.0 + 2.0 * mlp_ratio as f64)) + heads as f64 + 4.0);
    match config.pretrain.recompute_blocks {
        true => tokens * (dim * depth) as f64 + block,
        false => block * depth as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::config::ViewSpec;

    fn vits16(batch: usize) -> Config {
        let mut config = Config::default();
        config.model = ModelConfig { image_px: 224, patch_px: 16, dim: 384, depth: 12, heads: 6, ..config.model };
        config.objective.prototypes = 16_384;
        config.objective.barlow_dim = 8192;
        config.pretrain.batch = batch;
        let view = |kind, count, size_px| ViewSpec { kind, count, size_px, ..ViewSpec::default() };
        config.plan.views = vec![view(ViewKind::Global, 2, 224), view(ViewKind::Local, 6, 96)];
        config
    }

    #[test]
    fn a_step_of_vit_s_needs_what_it_was_measured_to_take() {
        // `make bench-train` found a peak of 4,556 MiB on the CPU at batch 4, where no copy of the state is kept.
        let needed = Needed::of(&vits16(4));
        let all = needed.fixed_mib * 5.0 / 9.0 + 4.0 * needed.mib_an_image;
        assert!((0.75 * 4556.0..1.33 * 4556.0).contains(&all), "{all} MiB: {needed:?}");
    }

    #[test]
    fn parts_and_recomputed_blocks_need_less_and_the_batch_that_fits_is_named() {
        let whole = Needed::of(&vits16(64));
        let mut config = vits16(64);
        config.pretrain.recompute_blocks = true;
        assert!(Needed::of(&config).mib_an_image < 0.6 * whole.mib_an_image);
        config = vits16(64);
        config.pretrain.precision = Precision::Bf16;
        assert!((0.5..0.75).contains(&(Needed::of(&config).mib_an_image / whole.mib_an_image)));
        config = vits16(64);
        config.pretrain.accumulate = 4;
        assert!((Needed::of(&config).mib_an_image - whole.mib_an_image / 4.0).abs() < 1e-9);
        let needed = Needed { fixed_mib: 1000.0, mib_an_image: 50.0 };
        let said = needed.said(64, 1, Some(3025.0));
        assert!(said.contains("4200 MiB") && said.contains("pretrain.batch=40"), "{said}");
        assert!(!needed.said(64, 1, None).contains("pretrain.batch"));
        let said = needed.said(64, 2, Some(3025.0));
        assert!(said.contains("each device needs 2600 MiB") && said.contains("pretrain.batch=80"), "{said}");
    }
}
