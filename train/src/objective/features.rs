//! Features of a step's views, named by kind and size, as objectives read them.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
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
pub struct Features<B: AutodiffBackend> {
    /// Images in the batch.
    pub batch: usize,
    /// The student's, in the order of the plan.
    pub student: Vec<Views<B>>,
    /// The teacher's, of the kinds that objectives ask for.
    pub teacher: Vec<Views<B::InnerBackend>>,
}

impl<B: AutodiffBackend> Features<B> {
    /// The student's class features of these kinds, kind by kind, whatever their sizes: `[views * batch, dim]`.
    pub fn student_class(&self, kinds: &[ViewKind]) -> Tensor<B, 2> {
        joined_class(&self.student, kinds)
    }

    /// The teacher's.
    pub fn teacher_class(&self, kinds: &[ViewKind]) -> Tensor<B::InnerBackend, 2> {
        joined_class(&self.teacher, kinds)
    }
}

fn joined_class<B: Backend>(views: &[Views<B>], kinds: &[ViewKind]) -> Tensor<B, 2> {
    let classes = kinds.iter().flat_map(|kind| {
        let of_kind = views.iter().filter(move |views| views.kind == *kind);
        of_kind.map(|views| views.class.clone())
    });
    Tensor::cat(classes.collect(), 0)
}
