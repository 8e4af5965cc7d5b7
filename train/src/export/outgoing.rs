//! Our tensors on their way out: names exchanged, halves and thirds split, tokens folded.

use crate::model::HostTensor;
use crate::weights::Naming;
use lapidary_schemas::config::{FeedForward, ModelConfig, Positions};
use std::collections::BTreeMap;

/// A backbone that is being written.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) tensors: BTreeMap<String, HostTensor>,
    pub(super) model: ModelConfig,
}

impl Outgoing {
    pub(super) fn new(tensors: &BTreeMap<String, HostTensor>, model: &ModelConfig) -> Self {
        Self { tensors: tensors.clone(), model: model.clone() }
    }

    pub(super) fn has_rope(&self) -> bool {
        self.model.positions == Positions::Rope
    }

    pub(super) fn is_gated(&self) -> bool {
        self.model.feed_forward == FeedForward::Swiglu
    }

    pub(super) fn has_scale(&self) -> bool {
        self.model.layer_scale > 0.0
    }

    /// Leaves the mask token out, for libraries that have none.
    pub(super) fn without_mask(mut self) -> Self {
        self.tensors.remove("mask_token");
        self
    }

    /// Gives a network without mask token one of zeros, shape `[1, dim]`, for libraries that always have one.
    pub(super) fn with_mask(mut self) -> Self {
        let shape = vec![1, self.model.dim];
        let mask = self.tensors.entry("mask_token".to_owned()).or_insert_with(|| constant(shape.clone(), 0.0));
        mask.shape = shape;
        self
    }

    /// Gives blocks without LayerScale one of ones, for libraries that always have it.
    pub(super) fn with_scale(mut self) -> Self {
        for block in 0..self.model.depth {
            for scale in ["ls1", "ls2"] {
                let name = format!("blocks.{block}.{scale}.gamma");
                self.tensors.entry(name).or_insert_with(|| constant(vec![self.model.dim], 1.0));
            }
        }
        self
    }

    /// Adds the class token's position to the class token, so that patches alone have one.
    pub(super) fn with_placed_class(mut self) -> Self {
        let dim = self.model.dim;
        if let Some(positions) = self.tensors.get_mut("pos_embed") {
            let grid = positions.values.split_off(dim);
            let class = std::mem::replace(&mut positions.values, grid);
            positions.shape[1] -= 1;
            if let Some(token) = self.tensors.get_mut("cls_token") {
                token.values.iter_mut().zip(class).for_each(|(token, place)| *token += place);
            }
        }
        self
    }

    /// The tensors by a layout's names; what has several there is split along its first dimension.
    pub(super) fn named(self, naming: Naming) -> BTreeMap<String, HostTensor> {
        let mut named = BTreeMap::new();
        for (ours, tensor) in self.tensors {
            let names = naming.names(&ours);
            if let [name] = &names[..] {
                named.insert(name.clone(), tensor);
                continue;
            }
            let mut shape = tensor.shape;
            shape[0] /= names.len();
            let count = shape.iter().product::<usize>().max(1);
            for (name, values) in names.into_iter().zip(tensor.values.chunks_exact(count)) {
                named.insert(name, HostTensor { shape: shape.clone(), values: values.to_vec() });
            }
        }
        named
    }
}

fn constant(shape: Vec<usize>, value: f32) -> HostTensor {
    let count = shape.iter().product();
    HostTensor { shape, values: vec![value; count] }
}
