//! The networks: a Vision Transformer, DINO's head, Barlow Twins' projector, and what is common to all parameters.

mod head;
mod parameters;
mod position;
mod projector;
mod vit;

pub use head::DinoHead;
pub use parameters::{
    HostTensor, Seen, host_values, initialise, load, map_named, named_gradients, named_tensors, snapshot,
};
pub use projector::BarlowProjector;
pub(crate) use projector::standardise;
pub use vit::Vit;

use crate::{Result, TrainError};
use burn::module::Module;
use burn::tensor::backend::Backend;
use lapidary_schemas::config::{ModelConfig, ObjectiveConfig, ObjectiveKind, PlanConfig};

/// A student: backbone and the heads its objective needs. The teacher is one without the projector.
#[derive(Module, Debug)]
pub struct Network<B: Backend> {
    /// Images to features.
    pub backbone: Vit<B>,
    /// Features to prototypes, for DINO.
    pub head: Option<DinoHead<B>>,
    /// Features to embeddings, for Barlow Twins.
    pub projector: Option<BarlowProjector<B>>,
}

impl<B: Backend> Network<B> {
    /// A student with weights drawn from `seed`, the same on every backend.
    pub fn student(model: &ModelConfig, objective: &ObjectiveConfig, seed: u64, device: &B::Device) -> Self {
        let head = (objective.kind != ObjectiveKind::BarlowTwins).then(|| DinoHead::new(model.dim, objective, device));
        let projector = (objective.kind != ObjectiveKind::Dino)
            .then(|| BarlowProjector::new(model.dim, objective.barlow_dim, device));
        initialise(Self { backbone: Vit::new(model, device), head, projector }, seed)
    }

    /// The teacher of a student, equal to it at first.
    pub fn teacher_of(student: &Self) -> Self {
        Self { projector: None, ..student.clone() }.no_grad()
    }
}

/// Whether the sizes of model and views go together.
///
/// # Errors
/// [`TrainError::Model`] naming what does not divide.
pub fn check(model: &ModelConfig, plan: &PlanConfig) -> Result<()> {
    let wrong = |text: String| Err(TrainError::Model(text));
    if model.patch_px == 0 || model.heads == 0 || model.depth == 0 || model.dim == 0 {
        return wrong("model: patch_px, dim, depth and heads must be above 0".to_owned());
    }
    if !model.dim.is_multiple_of(model.heads) {
        return wrong(format!("model.dim = {} is no multiple of model.heads = {}", model.dim, model.heads));
    }
    let sides = plan.views.iter().map(|view| usize::from(view.size_px)).chain([model.image_px]);
    for side in sides {
        if side == 0 || !side.is_multiple_of(model.patch_px) {
            return wrong(format!("a view of {side} px is no multiple of model.patch_px = {}", model.patch_px));
        }
    }
    Ok(())
}
