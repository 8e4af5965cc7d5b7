//! The networks: a Vision Transformer, DINO's head, Barlow Twins' projector, and what is common to all parameters.

mod head;
mod parameters;
mod position;
mod projector;
mod vit;

pub use head::DinoHead;
pub use parameters::{
    HostTensor, Seen, host_values, initialise, load, map_named, named_gradients, named_tensors, names, snapshot,
};
pub(crate) use position::resize_matrix;
pub use projector::BarlowProjector;
pub(crate) use projector::standardise;
pub use vit::Vit;

use burn::module::Module;
use burn::tensor::backend::Backend;
use lapidary_schemas::config::{ModelConfig, ObjectiveConfig, ObjectiveKind};

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
