//! Targets by Sinkhorn and Knopp's normalisation (Caron et al. 2020, section 3.1; DINOv2's teacher): the batch is spread evenly
//! over the prototypes, which keeps a teacher from one prototype without a running centre.
//!
//! The reference multiplies exponentials and overflows on large logits. Here the rounds are done on logarithms, which is the
//! same in exact arithmetic and neither overflows nor divides by a sum that underflowed.

use super::contrast::EXCLUDED;
use crate::operators::Operators;
use crate::share::BatchShare;
use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};

/// Rounds of SwAV, DINOv2 and DINOv3.
pub const ROUNDS: usize = 3;

/// Distributions over prototypes, shape `[samples, prototypes]`, each row summing to 1; without a gradient.
///
/// A round divides each prototype by its sum over the samples, then each sample by its sum over the prototypes: samples last,
/// so that their sums are exact and the prototypes' are nearly samples / prototypes. What the reference divides by besides, the
/// numbers of both (iBOT's total of masked patches), is the same for all and gone after the samples' normalisation.
///
/// # Shapes
/// - logits: `[samples, prototypes]`, before the temperature, of the share's images; a prototype's sum is over all ranks'
pub fn sinkhorn<B: Operators<Inner = B>>(
    logits: Tensor<B, 2>,
    temperature: f64,
    rounds: usize,
    share: &BatchShare<B>,
) -> Tensor<B, 2> {
    let logarithms = logits.detach() / temperature;
    let over_samples = |now: Tensor<B, 2>| match share.is_whole() {
        true => log_softmax(now, 0),
        false => now.clone() - log_sums_over_ranks(log_sums(now), share),
    };
    let Some(last) = rounds.checked_sub(1) else { return softmax(logarithms, 1) };
    let logarithms = (0..last).fold(logarithms, |now, _| log_softmax(over_samples(now), 1));
    softmax(over_samples(logarithms), 1)
}

/// The part of a rank that has no samples while others may have: its sums are 0. `like` is any row of prototypes, `[1, K]`.
pub(super) fn without_rows<B: Operators<Inner = B>>(like: &Tensor<B, 2>, rounds: usize, share: &BatchShare<B>) {
    if !share.is_whole() {
        let nothing = like.clone() * 0.0 + EXCLUDED;
        (0..rounds).for_each(|_| drop(log_sums_over_ranks(nothing.clone(), share)));
    }
}

/// The logarithms of the sums of the columns' exponentials, `[rows, K]` to `[1, K]`.
fn log_sums<B: Operators>(logarithms: Tensor<B, 2>) -> Tensor<B, 2> {
    let greatest = logarithms.clone().max_dim(0);
    (logarithms - greatest.clone()).exp().sum_dim(0).log() + greatest
}

/// The same over all ranks, by those of each.
fn log_sums_over_ranks<B: Operators<Inner = B>>(own: Tensor<B, 2>, share: &BatchShare<B>) -> Tensor<B, 2> {
    log_sums(share.row_of_each(own))
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, f64_tensor, host};
    use super::*;
    use proptest::prelude::*;

    /// Of a batch that one rank has.
    fn alone(logits: Tensor<Cpu, 2>, temperature: f64) -> Tensor<Cpu, 2> {
        let share = BatchShare::whole(logits.dims()[0]);
        Tensor::from_inner(sinkhorn(logits.inner(), temperature, ROUNDS, &share))
    }

    /// Exponentials, multiplied as the paper does.
    fn sinkhorn_reference(logits: &[f64], columns: usize, temperature: f64) -> Vec<f64> {
        let greatest = logits.iter().copied().fold(f64::MIN, f64::max);
        let mut q: Vec<f64> = logits.iter().map(|value| ((value - greatest) / temperature).exp()).collect();
        for _ in 0..3 {
            for column in 0..columns {
                let sum: f64 = q.iter().skip(column).step_by(columns).sum();
                q.iter_mut().skip(column).step_by(columns).for_each(|value| *value /= sum);
            }
            for row in q.chunks_mut(columns) {
                let sum: f64 = row.iter().sum();
                row.iter_mut().for_each(|value| *value /= sum);
            }
        }
        q
    }

    #[test]
    fn targets_are_dinov2_s() {
        let golden = Golden::load();
        let targets = host(alone(golden.tensor::<2>("sinkhorn.logits"), 0.07));
        close("targets", &targets, &golden.values("sinkhorn.targets"), 1e-9);
    }

    #[test]
    fn large_logits_neither_overflow_nor_vanish() {
        let golden = Golden::load();
        let large: Tensor<Cpu, 2> = golden.tensor("sinkhorn.large.logits");
        let expected = golden.values("sinkhorn.large.targets");
        close("f64", &host(alone(large.clone(), 0.07)), &expected, 1e-9);
        let narrow = host(alone(large.cast(burn::tensor::DType::F32), 0.07));
        assert!(narrow.iter().all(|value| value.is_finite()), "{narrow:?}");
        close("sums", &narrow.chunks(4).map(|row| row.iter().sum()).collect::<Vec<f64>>(), &[1.0; 4], 1e-6);
    }

    #[test]
    fn one_prototype_takes_all_and_equal_logits_are_uniform() {
        let device = Default::default();
        assert_eq!(host(alone(Tensor::<Cpu, 2>::ones([3, 1], &device), 0.05)), [1.0; 3]);
        close("uniform", &host(alone(Tensor::<Cpu, 2>::ones([2, 4], &device), 0.05)), &[0.25; 8], 1e-6);
    }

    proptest! {
        #[test]
        fn it_is_the_plain_one(seed in 0u32..1000, rows in 1usize..7, columns in 1usize..7, temperature in 0.04f64..1.0) {
            let logits: Vec<f64> = (0..rows * columns).map(|at| (f64::from(seed) + at as f64 * 1.7).sin()).collect();
            let targets = host(alone(f64_tensor::<2>(&logits, [rows, columns]), temperature));
            for (target, expected) in targets.iter().zip(sinkhorn_reference(&logits, columns, temperature)) {
                prop_assert!((target - expected).abs() < 1e-9, "{target} {expected}");
            }
        }
    }
}
