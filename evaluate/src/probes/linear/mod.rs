//! Linear classifiers of the last blocks' tokens, trained on random crops as facebookresearch/dino (`eval_linear.py`) and dinov2
//! (`eval/linear.py`) train theirs. The features of an epoch's crops are computed once for both.
//!
//! What is chosen (dinov2's classifier) is chosen on a held-out tenth of each class's train images, which that protocol does not
//! learn from; the reference chooses on its test images.

mod batches;
mod crops;
mod dino;
mod dinov2;
mod heads;
mod inputs;
#[cfg(test)]
mod tests;

pub(crate) use crops::Crops;
pub(crate) use inputs::LastBlocks;

use super::held_out::held_out;
use crate::Result;
use crate::probes::ProbeScore;
use dino::DinoLinear;
use dinov2::{Choice, Dinov2Grid};
use inputs::Average;
use lapidary_schemas::config::{EvalConfig, Interpolation};
use lapidary_train::operators::Operators;

const DINO: &str = "linear classifier of the last blocks' class tokens, facebookresearch/dino eval_linear.py: its last epoch, \
                    where the reference reports its best on the test images; comparable after 100 epochs, as a lower bound";
const DINOV2: &str = "the best of a grid of linear classifiers, chosen on a held-out tenth of the train images, where \
                      facebookresearch/dinov2 eval/linear.py chooses on the test images: comparable after 12,500 iterations, as a lower \
                      bound";
/// What the references train.
const DINO_EPOCHS: usize = 100;
const DINOV2_ITERATIONS: usize = 12_500;
/// Share of each class's train images that chooses.
const HELD_OUT: f64 = 0.1;

/// Last blocks that the configured classifiers read of a network of `depth` blocks; 0 where there are no classifiers.
pub(crate) fn blocks_read(config: &EvalConfig, depth: usize) -> usize {
    let dino = (config.dino_linear.epochs > 0).then(|| dino::input(&config.dino_linear, depth).blocks);
    let grid = dinov2::inputs(&config.dinov2_linear, depth).into_iter().map(|input| input.blocks);
    let grid = grid.filter(|_| config.dinov2_linear.iterations > 0);
    dino.into_iter().chain(grid).max().unwrap_or(0)
}

/// Trains and tests the configured classifiers. `read` gives the features of train images at these indices as test images have
/// them.
///
/// # Errors
/// When an image is gone, features are not finite, or the user interrupts.
pub(crate) fn linear_probes<B: Operators>(
    crops: &Crops<'_, B>,
    test: &LastBlocks,
    (classes, config): (usize, &EvalConfig),
    device: &B::Device,
    read: impl FnOnce(&[usize]) -> Result<LastBlocks>,
) -> Result<Vec<ProbeScore>> {
    let (network, seed) = (crops.network.1, crops.seed);
    let (depth, width) = (network.depth(), network.dim());
    let labels: Vec<u32> = crops.list.iter().map(|labelled| labelled.class).collect();
    let mut dino = (config.dino_linear.epochs > 0)
        .then(|| DinoLinear::<B>::new(&config.dino_linear, (depth, width), classes, seed, device));
    let has_grid = config.dinov2_linear.iterations > 0;
    let mut grid = has_grid
        .then(|| Dinov2Grid::<B>::new(&config.dinov2_linear, (depth, crops.blocks, width), classes, seed, device));
    let (held, rest) = if has_grid { held_out(&labels, HELD_OUT, seed) } else { (Vec::new(), Vec::new()) };
    let is_held = |index: &usize| held.binary_search(index).is_ok();
    for epoch in 0.. {
        let of_dino = dino.as_ref().is_some_and(|dino| !dino.is_done());
        let left = grid.as_ref().map_or(0, Dinov2Grid::crops_left);
        if !of_dino && left == 0 {
            break;
        }
        let most = if of_dino { usize::MAX } else { left };
        crops.epoch(epoch, (most, |index| of_dino || !is_held(&index)), |indices, crops| {
            if let Some(dino) = &mut dino {
                dino.learn(crops);
            }
            if let Some(grid) = &mut grid {
                let rows: Vec<usize> = (0..indices.len()).filter(|row| !is_held(&indices[*row])).collect();
                grid.learn(&crops.features.select(&rows));
            }
        })?;
        if let Some(dino) = dino.as_mut().filter(|_| of_dino) {
            dino.end_epoch();
        }
    }
    let mut scores = Vec::new();
    if let Some(dino) = dino {
        scores.push(score_of_dino(&dino, labels.len(), test, (config, depth)));
    }
    if let Some(grid) = grid {
        let held = (!held.is_empty()).then(|| read(&held)).transpose()?;
        scores.push(score_of_grid(&grid, rest.len(), (held.as_ref(), test), (config, depth)));
    }
    Ok(scores)
}

fn score_of_dino<B: Operators>(
    dino: &DinoLinear<B>,
    labels: usize,
    test: &LastBlocks,
    (config, depth): (&EvalConfig, usize),
) -> ProbeScore {
    let of = &config.dino_linear;
    let short = (of.epochs < DINO_EPOCHS).then(|| format!("{} epochs; the reference trains {DINO_EPOCHS}", of.epochs));
    let clipped = (of.blocks > depth).then(|| clipped(of.blocks, depth));
    let filter = filter_note(config.crops.interpolation, Interpolation::Bilinear);
    ProbeScore::new("linear dino".to_owned(), DINO, labels, dino.accuracy(test))
        .with("epochs", of.epochs as f64)
        .with("blocks", dino.input.blocks as f64)
        .with("average_patches", f64::from(u8::from(of.average_patches)))
        .with("batch", of.batch as f64)
        .with("base_learning_rate", of.base_learning_rate)
        .noting(short.into_iter().chain(clipped).chain(filter))
}

fn score_of_grid<B: Operators>(
    grid: &Dinov2Grid<B>,
    labels: usize,
    (held, test): (Option<&LastBlocks>, &LastBlocks),
    (config, depth): (&EvalConfig, usize),
) -> ProbeScore {
    let of = &config.dinov2_linear;
    let tested = grid.accuracies(test);
    let best = held.map_or(0, |held| best_of(&grid.accuracies(held)));
    let (Choice { input, base_learning_rate }, accuracy) = tested[best];
    let short = (of.iterations < DINOV2_ITERATIONS)
        .then(|| format!("{} iterations; the reference takes {DINOV2_ITERATIONS}", of.iterations));
    let deepest = of.blocks.iter().copied().max().unwrap_or(0);
    let clipped = (deepest > depth).then(|| clipped(deepest, depth));
    let unchosen = held.is_none().then(|| "no class has two labels: the first classifier is taken".to_owned());
    let filter = filter_note(config.crops.interpolation, Interpolation::Bicubic);
    ProbeScore::new("linear dinov2".to_owned(), DINOV2, labels, accuracy)
        .with("iterations", of.iterations as f64)
        .with("classifiers", tested.len() as f64)
        .with("blocks", input.blocks as f64)
        .with("average_patches", f64::from(u8::from(input.average != Average::None)))
        .with("batch", of.batch as f64)
        .with("base_learning_rate", base_learning_rate)
        .with("held_out", held.map_or(0, |held| held.features.len()) as f64)
        .noting(short.into_iter().chain(clipped).chain(unchosen).chain(filter))
}

/// The first of those that have most right.
fn best_of(accuracies: &[(Choice, crate::scores::Accuracy)]) -> usize {
    let mut best = 0;
    for (index, (_, accuracy)) in accuracies.iter().enumerate() {
        if accuracy.first > accuracies[best].1.first {
            best = index;
        }
    }
    best
}

fn clipped(blocks: usize, depth: usize) -> String {
    format!("the last {blocks} blocks are requested and the network has {depth}")
}

fn filter_note(used: Interpolation, reference: Interpolation) -> Option<String> {
    let name = |interpolation| match interpolation {
        Interpolation::Bicubic => "bicubic",
        Interpolation::Bilinear => "bilinear",
    };
    (used != reference).then(|| {
        format!("crops are {}; the reference's are {} (`eval.crops.interpolation`)", name(used), name(reference))
    })
}
