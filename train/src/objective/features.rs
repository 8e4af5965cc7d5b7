//! Features of a step's views, named by kind and size, as objectives read them.

use crate::operators::{Operators, TrainBackend};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use lapidary_schemas::config::ViewKind;

/// Features of the views of a kind and size.
#[derive(Debug, Clone)]
pub struct Views<B: Backend> {
    /// Their kind.
    pub kind: ViewKind,
    /// Their side.
    pub size_px: usize,
    /// Views an image.
    pub views: usize,
    /// Class tokens after the final norm, shape `[views * batch, dim]`, view by view.
    pub class: Tensor<B, 2>,
    /// Patch tokens after the final norm, shape `[views * batch, patches, dim]`; where an objective needs them.
    pub patches: Option<Tensor<B, 3>>,
    /// 1 where a patch was masked, `[views * batch * patches]`; empty when these views were not masked.
    pub mask: Vec<u8>,
}

/// Features of a step's views.
#[derive(Debug)]
pub struct Features<B: TrainBackend> {
    /// Images that they are of.
    pub batch: usize,
    /// The student's, in the order of the plan.
    pub student: Vec<Views<B>>,
    /// The teacher's, of the kinds that objectives ask for.
    pub teacher: Vec<Views<B::InnerBackend>>,
    /// The frozen teacher's, of the global views, where an objective asks for it; on its own grid of patches.
    pub frozen: Vec<Views<B::InnerBackend>>,
    /// The anchor's, of the global views, where an objective asks for it and from the step on that it is there.
    pub anchor: Vec<Views<B::InnerBackend>>,
}

impl<B: TrainBackend> Features<B> {
    /// The student's class features of these kinds, kind by kind, whatever their sizes: `[views * batch, dim]`.
    pub fn student_class(&self, kinds: &[ViewKind]) -> Tensor<B, 2> {
        joined_class(&self.student, kinds)
    }

    /// The teacher's.
    pub fn teacher_class(&self, kinds: &[ViewKind]) -> Tensor<B::InnerBackend, 2> {
        joined_class(&self.teacher, kinds)
    }

    /// The frozen teacher's.
    pub fn frozen_class(&self, kinds: &[ViewKind]) -> Tensor<B::InnerBackend, 2> {
        joined_class(&self.frozen, kinds)
    }

    /// The student's global views beside another network's, group by group in the order of the plan.
    pub fn globals_beside<'a>(
        &'a self,
        other: &'a [Views<B::InnerBackend>],
    ) -> impl Iterator<Item = (&'a Views<B>, &'a Views<B::InnerBackend>)> {
        let globals = self.student.iter().filter(|views| views.kind == ViewKind::Global);
        globals.zip(other.iter().filter(|views| views.kind == ViewKind::Global))
    }
}

fn joined_class<B: Operators>(views: &[Views<B>], kinds: &[ViewKind]) -> Tensor<B, 2> {
    let classes = kinds.iter().flat_map(|kind| {
        let of_kind = views.iter().filter(move |views| views.kind == *kind);
        of_kind.map(|views| views.class.clone())
    });
    Tensor::cat(classes.collect(), 0)
}
