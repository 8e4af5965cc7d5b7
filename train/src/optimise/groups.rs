//! Parameter groups: whether a parameter is decayed, what its learning rate is of the run's, and whether it is frozen at the
//! start, from its name and its rank.
//!
//! - Names that end in `.bias` and 1-D parameters (norms, LayerScale) are not decayed; `pos_embed`, `cls_token` and
//!   `weight_g` are, as in facebookresearch/dino (spec/pretraining.md 1.7).
//! - Layer decay is facebookresearch/dinov2's `get_vit_lr_decay_rate`: of a backbone of L blocks, the patch projection, the
//!   positions and the tokens have `decay^(L + 1)`, block i (from 0) `decay^(L - i)`, the last norm and all heads 1. The patch
//!   projection has `patch_embed_rate` besides.
//! - Under LARS, what is not decayed is not scaled by its trust ratio either, and has `lars_bias_rate` besides.

use crate::model::{Network, NetworkConfig, disk_shape, parameter_shapes};
use crate::operators::Operators;
use lapidary_schemas::Config;
use lapidary_schemas::config::{OptimiserKind, PretrainConfig};
use serde::Serialize;

/// The tokens and positions of a backbone, by the first part of their names in it.
const EMBEDDINGS: [&str; 5] = ["patch_embed", "pos_embed", "cls_token", "reg_token", "mask_token"];

/// How a run's parameters are grouped.
#[derive(Debug, Clone)]
pub struct Groups {
    layer_decay: f64,
    patch_embed_rate: f64,
    undecayed_rate: f64,
    backbone_rate: f64,
    blocks: usize,
}

/// How a parameter is optimised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Weight decay applies, and LARS's trust ratio.
    pub decayed: bool,
    /// What its learning rate is of the schedule's.
    pub rate: f64,
    /// It belongs to a head's prototypes, which are frozen during the first steps: neither it nor its state changes.
    pub last_layer: bool,
}

/// A line of the table of `lapidary pretrain --dry-run`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupRow {
    /// The parameter's name.
    pub name: String,
    /// Its shape on disk, PyTorch's.
    pub shape: Vec<usize>,
    /// Weight decay applies.
    pub decayed: bool,
    /// What its learning rate is of the schedule's.
    pub rate: f64,
    /// Frozen during the first steps.
    pub last_layer: bool,
}

impl Groups {
    /// The groups of a network whose backbone has so many blocks.
    pub fn new(config: &PretrainConfig, blocks: usize) -> Self {
        let undecayed_rate = match config.optimiser {
            OptimiserKind::Adamw => 1.0,
            OptimiserKind::Lars => config.lars_bias_rate,
        };
        let PretrainConfig { layer_decay, patch_embed_rate, .. } = *config;
        Self { layer_decay, patch_embed_rate, undecayed_rate, backbone_rate: 1.0, blocks }
    }

    /// The same groups with the backbone's rates multiplied by a factor.
    pub(crate) fn with_backbone_rate(self, backbone_rate: f64) -> Self {
        Self { backbone_rate, ..self }
    }

    /// The group of a parameter, by its name and the number of its dimensions.
    pub fn of(&self, name: &str, dims: usize) -> Group {
        let decayed = dims > 1 && !name.ends_with(".bias");
        let mut rate = if decayed { 1.0 } else { self.undecayed_rate };
        if let Some(inner) = name.strip_prefix("backbone.") {
            rate *= self.backbone_rate * self.layer_decay.powi(self.layers_after(inner) as i32);
            if inner.starts_with("patch_embed.") {
                rate *= self.patch_embed_rate;
            }
        }
        Group { decayed, rate, last_layer: name.contains("last_layer.") }
    }

    /// How many layers of a backbone stand between a parameter and its last norm, that included.
    fn layers_after(&self, name: &str) -> usize {
        let mut parts = name.split('.');
        match (parts.next(), parts.next().and_then(|block| block.parse::<usize>().ok())) {
            (Some("blocks"), Some(block)) => self.blocks.saturating_sub(block),
            (Some(first), _) if EMBEDDINGS.contains(&first) => self.blocks + 1,
            _ => 0,
        }
    }
}

/// The groups of all parameters of a run's student, by name; nothing is drawn.
pub fn describe<B: Operators>(config: &Config, device: &B::Device) -> Vec<GroupRow> {
    let network = NetworkConfig::of(&config.model.resolved(), &config.objective);
    let groups = Groups::new(&config.pretrain, network.model.depth);
    let student = Network::<B>::undrawn(&network, device);
    parameter_shapes(&student)
        .into_iter()
        .map(|(name, shape)| {
            let Group { decayed, rate, last_layer } = groups.of(&name, shape.len());
            GroupRow { shape: disk_shape(&name, &shape), name, decayed, rate, last_layer }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    fn config() -> Config {
        let mut config = Config::default();
        let model = &mut config.model;
        (model.image_px, model.patch_px, model.dim, model.depth, model.heads) = (8, 4, 8, 3, 2);
        let objective = &mut config.objective;
        (objective.prototypes, objective.head_hidden, objective.head_bottleneck) = (16, 8, 4);
        (objective.barlow_dim, objective.norm_last_layer) = (8, false);
        (config.pretrain.layer_decay, config.pretrain.patch_embed_rate) = (0.5, 0.2);
        config
    }

    #[test]
    fn rates_grow_towards_the_last_norm_and_vectors_are_not_decayed() {
        let rows = describe::<Flex>(&config(), &Default::default());
        let of = |name: &str| rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name} in {rows:?}"));
        for (name, decayed, rate) in [
            ("backbone.cls_token", true, 0.0625),
            ("backbone.pos_embed", true, 0.0625),
            ("backbone.patch_embed.proj.weight", true, 0.0625 * 0.2),
            ("backbone.patch_embed.proj.bias", false, 0.0625 * 0.2),
            ("backbone.blocks.0.attn.qkv.weight", true, 0.125),
            ("backbone.blocks.0.norm1.weight", false, 0.125),
            ("backbone.blocks.2.mlp.fc2.bias", false, 0.5),
            ("backbone.norm.weight", false, 1.0),
            ("head.last_layer.weight_g", true, 1.0),
            ("projector.1.norm.weight", false, 1.0),
        ] {
            let row = of(name);
            assert_eq!((row.decayed, row.rate), (decayed, rate), "{name}");
        }
        assert_eq!(of("backbone.patch_embed.proj.weight").shape, [8, 3, 4, 4]);
        assert_eq!(of("head.last_layer.weight_v").shape, [16, 4]);
        let last: Vec<&str> = rows.iter().filter(|row| row.last_layer).map(|row| row.name.as_str()).collect();
        assert_eq!(last, ["head.last_layer.weight_v", "head.last_layer.weight_g"]);
    }

    #[test]
    fn the_backbone_may_have_a_rate_of_its_own() {
        let groups = Groups::new(&config().pretrain, 3).with_backbone_rate(0.1);
        assert_eq!(groups.of("backbone.norm.weight", 1).rate, 0.1);
        assert!((groups.of("backbone.blocks.2.attn.qkv.weight", 2).rate - 0.05).abs() < 1e-12);
        assert_eq!(groups.of("head.fc2.weight", 2).rate, 1.0);
    }

    #[test]
    fn lars_has_a_rate_of_its_own_for_what_is_not_decayed() {
        let pretrain = PretrainConfig { optimiser: OptimiserKind::Lars, ..PretrainConfig::default() };
        let groups = Groups::new(&pretrain, 3);
        assert_eq!(groups.of("backbone.norm.bias", 1).rate, 0.024);
        assert_eq!(groups.of("backbone.blocks.1.mlp.fc1.weight", 2).rate, 1.0);
    }
}
