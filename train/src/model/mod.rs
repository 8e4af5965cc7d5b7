//! The networks: a Vision Transformer, the heads that objectives read it through, and what is common to all parameters.

mod block;
mod descriptor;
mod head;
mod initial;
mod layout;
mod lora;
mod mlp;
mod norm;
mod parameters;
mod position;
mod precision;
mod rope;
mod sequences;
mod vit;

pub(crate) use block::Keep;
pub use descriptor::DescriptorHead;
#[cfg(test)]
pub(crate) use descriptor::generalised_mean;
pub use head::DinoHead;
pub(crate) use head::l2_normalise;
pub use initial::initialise;
pub(crate) use layout::{disk_shape, from_disk, to_disk};
pub use lora::is_lora;
pub use mlp::{Activation, Layer, Mlp, Norm};
pub use parameters::{
    HostTensor, Seen, host_values, load, map_named, named_gradients, named_tensors, names, parameter_shapes, shapes,
    snapshot, with_gradients_of,
};
pub(crate) use position::resize_matrix;
pub(crate) use precision::stored_as;
pub use vit::{Draws, Tokens, Vit};

use crate::operators::Operators;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::backend::Backend;
use lapidary_schemas::config::{ModelConfig, ObjectiveConfig, ObjectiveKind, Precision};

/// A student: backbone and the heads its objectives need. The teacher has those of them that make targets.
#[derive(Module, Debug)]
pub struct Network<B: Backend> {
    /// Images to features.
    pub backbone: Vit<B>,
    /// Class features to prototypes, for DINO.
    pub head: Option<DinoHead<B>>,
    /// Patch features to prototypes, for iBOT with a head of its own.
    pub patch_head: Option<DinoHead<B>>,
    /// Features to embeddings, for objectives that compare two views without a teacher.
    pub projector: Option<Mlp<B>>,
    /// Class and patch features to a descriptor, for SSCD.
    pub descriptor: Option<DescriptorHead<B>>,
    /// Class features to a frozen teacher's width, for distillation.
    pub distill_class: Option<Linear<B>>,
    /// Patch features to it.
    pub distill_patches: Option<Linear<B>>,
}

/// What a student is made of.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The backbone.
    pub model: ModelConfig,
    /// Whether it sees masked views.
    pub masks: bool,
    /// Widths of the heads.
    pub objective: ObjectiveConfig,
}

impl NetworkConfig {
    /// The student of an objective.
    pub fn of(model: &ModelConfig, objective: &ObjectiveConfig) -> Self {
        Self { model: model.clone(), masks: objective.ibot_weight > 0.0, objective: objective.clone() }
    }
}

impl<B: Operators> Network<B> {
    /// A student with weights drawn from `seed`, the same on every backend.
    pub fn student(config: &NetworkConfig, seed: u64, device: &B::Device) -> Self {
        initialise(Self::undrawn(config, device), seed)
    }

    /// The same, whose weights are yet to be drawn.
    pub fn undrawn(config: &NetworkConfig, device: &B::Device) -> Self {
        let NetworkConfig { model, masks, objective } = config;
        let (dim, kind) = (model.dim, objective.kind);
        let head = kind.has_prototypes();
        let patch_head = head && objective.ibot_weight > 0.0 && objective.ibot_separate_head;
        let projector = match kind {
            ObjectiveKind::BarlowTwins | ObjectiveKind::Hybrid => Some(barlow_projector(objective.barlow_dim)),
            ObjectiveKind::Vicreg => Some(vicreg_projector(objective.barlow_dim)),
            ObjectiveKind::Simclr => Some(simclr_projector(dim, objective.simclr_dim)),
            ObjectiveKind::Dino | ObjectiveKind::Sscd | ObjectiveKind::Distillation => None,
        };
        let distils = kind == ObjectiveKind::Distillation;
        let distils_patches = distils && objective.distill_patch_weight > 0.0;
        let to_teacher = || LinearConfig::new(dim, objective.distill_dim).init(device);
        Self {
            backbone: Vit::new(model, *masks, device),
            head: head.then(|| DinoHead::new(dim, objective, device)),
            patch_head: patch_head.then(|| DinoHead::new(dim, objective, device)),
            projector: projector.map(|layers| Mlp::new(dim, &layers, device)),
            descriptor: (kind == ObjectiveKind::Sscd).then(|| DescriptorHead::new(dim, objective.sscd_dim, device)),
            distill_class: distils.then(to_teacher),
            distill_patches: distils_patches.then(to_teacher),
        }
    }

    /// The same network with activations of the backbone in a precision; those of heads' MLPs without BatchNorm too, unless it
    /// is f16, in which the gradients of a mean loss would be lost.
    pub fn with_precision(self, precision: Precision) -> Self {
        let of_heads = if precision == Precision::F16 { Precision::F32 } else { precision };
        Self {
            backbone: self.backbone.with_precision(precision),
            head: self.head.map(|head| head.with_precision(of_heads)),
            patch_head: self.patch_head.map(|head| head.with_precision(of_heads)),
            projector: self.projector.map(|projector| projector.with_precision(of_heads)),
            ..self
        }
    }

    /// The teacher of a student, equal to it at first.
    pub fn teacher_of(student: &Self) -> Self {
        Self { projector: None, descriptor: None, distill_class: None, distill_patches: None, ..student.clone() }
            .no_grad()
    }
}

/// Barlow Twins' projector: Linear, BatchNorm, ReLU twice, then Linear; no biases (spec/pretraining.md 1.4;
/// facebookresearch/barlowtwins main.py).
fn barlow_projector(width: usize) -> Vec<Layer> {
    let hidden = Layer { width, bias: false, norm: Norm::Affine, activation: Activation::Relu };
    vec![hidden, hidden, Layer { norm: Norm::None, activation: Activation::None, ..hidden }]
}

/// VICReg's: the same, but for biases in the hidden layers (facebookresearch/vicreg main_vicreg.py).
fn vicreg_projector(width: usize) -> Vec<Layer> {
    let hidden = Layer { width, bias: true, norm: Norm::Affine, activation: Activation::Relu };
    vec![hidden, hidden, Layer { width, bias: false, norm: Norm::None, activation: Activation::None }]
}

/// SimCLR's (version 1): a hidden layer of the backbone's width, no biases, BatchNorm after both. The last one's is without its
/// learned scale, which google-research/simclr keeps.
fn simclr_projector(dim: usize, width: usize) -> Vec<Layer> {
    let hidden = Layer { width: dim, bias: false, norm: Norm::Affine, activation: Activation::Relu };
    vec![hidden, Layer { width, norm: Norm::Plain, activation: Activation::None, ..hidden }]
}
