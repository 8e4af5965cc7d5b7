//! The gradients of a loss that is a sum over images: what supervised training takes. The batch goes through the network in
//! pieces side by side, forward all of them and then backward all of them. Each piece has leaves of its own: burn-autodiff
//! would merge graphs that share some, and lose track of them when both are built at once.

use crate::model::{Seen, host_values, map_named, named_gradients};
use crate::operators::{Operators, TrainBackend};
use crate::optimise::Gradients;
use crate::pieces::{add_to, in_parallel, ranges};
use crate::trainer::GRAPHS;
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::PoisonError;

/// A loss and its gradients.
#[derive(Debug)]
pub struct SummedLoss<B: TrainBackend> {
    /// The loss of all images, summed.
    pub loss: f64,
    /// The gradients of those of the network's parameters that have one.
    pub gradients: Gradients<B::InnerBackend>,
}

/// The loss of `count` images by a network, and its gradients. `loss` is given a range of the images and returns their loss,
/// shape `[1]`; the batch's is the sum over its pieces.
///
/// No other gradients are computed in the process meanwhile: burn-autodiff 0.21 would mix them up.
pub fn summed_loss<B, M>(
    network: &M,
    count: usize,
    pieces: usize,
    loss: impl Fn(&M, Range<usize>) -> Tensor<B, 1> + Sync,
) -> SummedLoss<B>
where
    B: TrainBackend,
    M: AutodiffModule<B> + Sync,
{
    let _alone = GRAPHS.lock().unwrap_or_else(PoisonError::into_inner);
    // Pieces are for the cores of a processor.
    let pieces = if B::InnerBackend::ON_HOST { pieces } else { 1 };
    let pieces: Vec<(M, Tensor<B, 1>)> = in_parallel(&ranges(count, pieces), |piece| {
        let own = map_named(network.clone(), |(_, _, leaf): Seen<'_, B>| leaf);
        let loss = loss(&own, piece.clone());
        (own, loss)
    });
    let total = pieces.iter().map(|(_, loss)| f64::from(host_values(loss.clone().inner())[0])).sum();
    let of_pieces = in_parallel(&pieces, |(own, loss)| named_gradients::<B, M>(own, &loss.clone().backward()));
    let mut sums = BTreeMap::new();
    of_pieces.into_iter().for_each(|of_piece| add_to(&mut sums, of_piece));
    SummedLoss { loss: total, gradients: Gradients::of::<B, M>(network, sums) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use crate::model::{Vit, initialise};
    use burn::tensor::TensorData;
    use lapidary_schemas::config::ModelConfig;

    #[test]
    fn pieces_give_the_loss_and_the_gradients_of_the_whole_batch() {
        let model = ModelConfig {
            image_px: 8,
            patch_px: 4,
            dim: 32,
            depth: 2,
            heads: 2,
            mlp_ratio: 2,
            ..ModelConfig::default()
        };
        let vit: Vit<Cpu> = initialise(Vit::new(&model, false, &Default::default()), 3);
        let values: Vec<f32> = (0..5 * 3 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
        let images = Tensor::<Cpu, 4>::from_data(TensorData::new(values, [5, 3, 8, 8]), &Default::default());
        let of = |pieces| {
            summed_loss(&vit, 5, pieces, |vit: &Vit<Cpu>, piece| {
                let features = vit.forward(images.clone().slice([piece, 0..3, 0..8, 0..8]));
                features.powf_scalar(3.0).sum()
            })
        };
        let whole = of(1);
        // Often: graphs that are built at once must not meet.
        for parted in (0..20).map(|_| of(3)) {
            assert!((whole.loss - parted.loss).abs() < 1e-3 * whole.loss.abs(), "{} {}", whole.loss, parted.loss);
            let (a, b) = (whole.gradients.norms(), parted.gradients.norms());
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
            assert!(a.len() > 20, "every parameter has one");
            for (name, norm) in &a {
                // The keys' bias has a gradient of rounding alone.
                assert!((norm - b[name]).abs() < 1e-4 * norm.max(1.0), "{name}: {norm} {}", b[name]);
            }
        }
    }
}
