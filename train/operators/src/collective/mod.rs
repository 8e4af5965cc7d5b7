//! What devices that share a batch tell each other. Each of them is a *rank*: a thread with a copy of the networks and its share of
//! the images. A rank's loss is that of the whole batch, and its gradients are those of that loss by what it holds itself, so
//! that the gradients of a parameter are the sum of all ranks'.
//!
//! One trait, three ways: a rank that is alone, threads of this process, whose tensors are added in the order of the ranks, and
//! NCCL between CUDA's devices.

mod alone;
mod meeting;
#[cfg(feature = "cuda")]
mod nccl;
mod threads;

pub use alone::Alone;
#[cfg(feature = "cuda")]
pub(crate) use nccl::over_nccl;
pub(crate) use threads::threads;

use super::{Float, Operators, float, tensor};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

/// A rank's end of what it shares with the others. All ranks call the same methods in the same order.
pub trait Collective<B: Backend>: Debug + Send + Sync {
    /// How it is done: `alone`, `threads`, `nccl`.
    fn name(&self) -> &'static str;

    /// This rank's number, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn ranks(&self) -> usize;

    /// The sum of all ranks' tensors of one shape, on this rank's device; the same bits on each.
    ///
    /// # Panics
    /// When another rank has failed, with what was said of it.
    fn sum(&self, share: Float<B>) -> Float<B>;

    /// The names that any of the ranks brings; all of them have waited for each other when it is there.
    ///
    /// # Panics
    /// When another rank has failed, with what was said of it.
    fn union(&self, names: BTreeSet<String>) -> BTreeSet<String>;

    /// Waits until all ranks are here.
    ///
    /// # Panics
    /// When another rank has failed, with what was said of it.
    fn barrier(&self) {
        self.union(BTreeSet::new());
    }

    /// Waits until all ranks have asked their devices for all they had to: from here on none waits for a device that waits for
    /// another rank's.
    ///
    /// # Panics
    /// When this rank's device refuses what it was asked for, or another rank has failed.
    fn settle(&self) {
        self.barrier();
    }

    /// Tells the others that this rank has failed, so that none waits for it.
    fn abandon(&self, why: &str);
}

/// A rank's end, shared by all that run on it.
pub type Ranks<B> = Arc<dyn Collective<B>>;

/// The ends of ranks on these devices, in their order.
pub fn collectives<B: Operators>(devices: &[B::Device]) -> Vec<Ranks<B::Inner>> {
    if devices.len() == 1 { vec![Arc::new(Alone)] } else { B::collectives(devices) }
}

/// The sum of all ranks' tensors, of which every rank computes the same from here on: the gradient of a rank's tensor is that of
/// the sum as this rank has it.
///
/// # Shapes
/// - share: any, the same on all ranks
/// - returns: the same
pub fn sum_over_ranks<B: Operators, const D: usize>(share: Tensor<B, D>, ranks: &Ranks<B::Inner>) -> Tensor<B, D> {
    if ranks.ranks() == 1 { share } else { tensor(B::sum_of_ranks(float(share), ranks)) }
}

/// Each column less its mean over the rows of all ranks, over its standard deviation over them (biased); see
/// [`standardise`](super::standardise). Two sums over the ranks forward, one backward.
///
/// # Shapes
/// - x: this rank's rows, `[rows, width]`; `all_rows` counts those of all ranks
/// - returns: as x
pub fn standardise_over_ranks<B: Operators>(
    x: Tensor<B, 2>,
    all_rows: usize,
    epsilon: f64,
    ranks: &Ranks<B::Inner>,
) -> Tensor<B, 2> {
    if ranks.ranks() == 1 {
        return super::standardise(x, epsilon);
    }
    tensor(B::standardise_columns_of_ranks(float(x), all_rows, epsilon, ranks))
}

/// What a backend without gradients has of [`Operators`] for ranks.
macro_rules! of_ranks {
    () => {
        type Inner = Self;

        fn sum_of_ranks(
            share: burn::tensor::ops::FloatTensor<Self>,
            ranks: &$crate::Ranks<Self>,
        ) -> burn::tensor::ops::FloatTensor<Self> {
            ranks.sum(share)
        }

        fn standardise_columns_of_ranks(
            x: burn::tensor::ops::FloatTensor<Self>,
            all_rows: usize,
            epsilon: f64,
            ranks: &$crate::Ranks<Self>,
        ) -> burn::tensor::ops::FloatTensor<Self> {
            let [standardised, _] = $crate::collective::standardised::<Self>(x, all_rows, epsilon, ranks);
            standardised
        }
    };
}
pub(crate) use of_ranks;

/// Standardised columns, and each column's inverse deviation `[1, width]`.
pub(crate) fn standardised<B: Operators<Inner = B>>(
    x: Float<B>,
    all_rows: usize,
    epsilon: f64,
    ranks: &Ranks<B>,
) -> [Float<B>; 2] {
    let x = tensor::<B, 2>(x);
    let mean_over_all = |sum: Tensor<B, 2>| sum_over_ranks(sum, ranks) / all_rows as f64;
    let centred = x.clone() - mean_over_all(x.sum_dim(0));
    let variance = mean_over_all((centred.clone() * centred.clone()).sum_dim(0));
    let inverse = (variance + epsilon).sqrt().recip();
    [float(centred * inverse.clone()), float(inverse)]
}

/// The gradient of x, by what `standardised` gave.
pub(crate) fn standardised_backward<B: Operators<Inner = B>>(
    [standardised, inverse]: [Float<B>; 2],
    gradient: Float<B>,
    all_rows: usize,
    ranks: &Ranks<B>,
) -> Float<B> {
    let [standardised, inverse, gradient] = [standardised, inverse, gradient].map(tensor::<B, 2>);
    let width = gradient.dims()[1];
    let sums = Tensor::cat(vec![gradient.clone().sum_dim(0), (gradient.clone() * standardised.clone()).sum_dim(0)], 0);
    let means = sum_over_ranks(sums, ranks) / all_rows as f64;
    let mean = |index: usize| means.clone().slice([index..index + 1, 0..width]);
    float((gradient - mean(0) - standardised * mean(1)) * inverse)
}

#[cfg(test)]
mod tests;
