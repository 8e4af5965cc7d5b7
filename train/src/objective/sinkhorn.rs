//! Targets by Sinkhorn and Knopp's normalisation (Caron et al. 2020, section 3.1; DINOv2's teacher): the batch is spread evenly
//! over the prototypes, which keeps a teacher from one prototype without a running centre.
//!
//! The reference multiplies exponentials and overflows on large logits. Here the rounds are done on logarithms, which is the
//! same in exact arithmetic and neither overflows nor divides by a sum that underflowed.

use crate::operators::Operators;
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
/// - logits: `[samples, prototypes]`, before the temperature, of the whole batch
pub fn sinkhorn<B: Operators>(logits: Tensor<B, 2>, temperature: f64, rounds: usize) -> Tensor<B, 2> {
    let logarithms = logits.detach() / temperature;
    let Some(last) = rounds.checked_sub(1) else { return softmax(logarithms, 1) };
    let logarithms = (0..last).fold(logarithms, |now, _| log_softmax(log_softmax(now, 0), 1));
    softmax(log_softmax(logarithms, 0), 1)
}

#[cfg(test)]
mod tests {
    use super::super::comparison::{Cpu, Golden, close, f64_tensor, host};
    use super::*;
    use proptest::prelude::*;

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
        let targets = host(sinkhorn(golden.tensor::<2>("sinkhorn.logits"), 0.07, ROUNDS));
        close("targets", &targets, &golden.values("sinkhorn.targets"), 1e-9);
    }

    #[test]
    fn large_logits_neither_overflow_nor_vanish() {
        let golden = Golden::load();
        let large: Tensor<Cpu, 2> = golden.tensor("sinkhorn.large.logits");
        let expected = golden.values("sinkhorn.large.targets");
        close("f64", &host(sinkhorn(large.clone(), 0.07, ROUNDS)), &expected, 1e-9);
        let narrow = host(sinkhorn(large.cast(burn::tensor::DType::F32), 0.07, ROUNDS));
        assert!(narrow.iter().all(|value| value.is_finite()), "{narrow:?}");
        close("sums", &narrow.chunks(4).map(|row| row.iter().sum()).collect::<Vec<f64>>(), &[1.0; 4], 1e-6);
    }

    #[test]
    fn one_prototype_takes_all_and_equal_logits_are_uniform() {
        let device = Default::default();
        assert_eq!(host(sinkhorn(Tensor::<Cpu, 2>::ones([3, 1], &device), 0.05, ROUNDS)), [1.0; 3]);
        close("uniform", &host(sinkhorn(Tensor::<Cpu, 2>::ones([2, 4], &device), 0.05, ROUNDS)), &[0.25; 8], 1e-6);
    }

    proptest! {
        #[test]
        fn it_is_the_plain_one(seed in 0u32..1000, rows in 1usize..7, columns in 1usize..7, temperature in 0.04f64..1.0) {
            let logits: Vec<f64> = (0..rows * columns).map(|at| (f64::from(seed) + at as f64 * 1.7).sin()).collect();
            let targets = host(sinkhorn(f64_tensor::<2>(&logits, [rows, columns]), temperature, ROUNDS));
            for (target, expected) in targets.iter().zip(sinkhorn_reference(&logits, columns, temperature)) {
                prop_assert!((target - expected).abs() < 1e-9, "{target} {expected}");
            }
        }
    }
}
