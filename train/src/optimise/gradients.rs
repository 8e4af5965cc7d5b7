//! A step's gradients with their norms, to be looked at before anything is changed by them.

use crate::model::{host_values, names};
use crate::operators::{Operators, TrainBackend, sum_of_squares};
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::collections::BTreeMap;

/// A parameter's gradient.
#[derive(Debug)]
pub(crate) struct Gradient<B: Backend> {
    /// Its values, flat.
    pub(crate) gradient: Tensor<B, 1>,
    /// The sum of their squares, shape `[1]`.
    pub(crate) square: Tensor<B, 1>,
}

/// The gradients of a network's parameters, by name, before clipping.
#[derive(Debug)]
pub struct Gradients<B: Backend> {
    by_name: BTreeMap<String, Gradient<B>>,
    norm: Option<Tensor<B, 1>>,
}

impl<B: Operators> Gradients<B> {
    /// The gradients of those of a network's parameters that have one.
    pub fn of<A, M>(network: &M, mut gradients: BTreeMap<String, Tensor<B, 1>>) -> Self
    where
        A: TrainBackend<InnerBackend = B>,
        M: AutodiffModule<A>,
    {
        let mut by_name = BTreeMap::new();
        // Summed in the module's order: sums in another differ in their last bits.
        let mut squares: Option<Tensor<B, 1>> = None;
        for name in names::<A, M>(network) {
            let Some(gradient) = gradients.remove(&name) else { continue };
            let square = sum_of_squares(gradient.clone());
            squares = Some(squares.map_or(square.clone(), |sum| sum + square.clone()));
            by_name.insert(name, Gradient { gradient, square });
        }
        Self { by_name, norm: squares.map(Tensor::sqrt) }
    }

    /// The norm of all of them, shape `[1]`; none when there are none. Not finite when a value is not, or when the squares
    /// pass f32's range.
    pub(crate) fn norm_tensor(&self) -> Option<Tensor<B, 1>> {
        self.norm.clone()
    }

    /// The norm of each parameter's, by name.
    pub fn norms(&self) -> BTreeMap<String, f64> {
        let norm = |gradient: &Gradient<B>| f64::from(host_values(gradient.square.clone().sqrt())[0]);
        self.by_name.iter().map(|(name, gradient)| (name.clone(), norm(gradient))).collect()
    }

    /// The squared norm of each parameter's, by name.
    pub(crate) fn squares(&self) -> impl Iterator<Item = (&str, &Tensor<B, 1>)> {
        self.by_name.iter().map(|(name, gradient)| (name.as_str(), &gradient.square))
    }

    /// Each parameter's gradient, by name.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, &Tensor<B, 1>)> {
        self.by_name.iter().map(|(name, gradient)| (name.as_str(), &gradient.gradient))
    }

    /// Takes a parameter's out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Gradient<B>> {
        self.by_name.remove(name)
    }
}
