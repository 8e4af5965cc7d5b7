//! Training a classifier whose backbone learns too, on crops of the images.

use super::best::Best;
use super::fit::{Fit, Rates, Task, check_loss};
use super::images;
use super::learned::Learned;
use super::network::{Classifier, Looked, share_of_loss, targets};
use super::order::epoch_order;
use crate::Result;
use burn::module::AutodiffModule;
use lapidary_pipeline::interrupt;
use lapidary_pipeline::stage::Progress;
use lapidary_train::model::{parameter_shapes, with_gradients_of};
use lapidary_train::operators::{Operators, TrainBackend};
use lapidary_train::probe::{Features, Labelled, features};
use lapidary_train::{FrozenVit, summed_loss};

/// Trains a classifier. What comes out has its low-rank maps still beside its weights.
///
/// # Errors
/// When an image is gone, the user interrupts, or the loss is no number.
pub(crate) fn tune<B: TrainBackend>(
    task: &Task<'_>,
    mut network: Classifier<B>,
    (learned, rates): (Learned, Rates),
    rung: &'static str,
    device: &B::Device,
) -> Result<Fit<Classifier<B::InnerBackend>>> {
    let (config, blocks) = (task.config, network.backbone.depth());
    let (per_epoch, mut step) = (task.steps_per_epoch(), 0);
    let steps = per_epoch * config.epochs;
    let mut optimiser = rates.optimiser::<B::InnerBackend>(config, blocks);
    let (mut best, mut trainable, mut stage_before) = (Best::new(config.patience), 0, None);
    let progress = Progress::new(rung, steps as u64, "steps");
    for epoch in 0..config.epochs {
        let stage = learned.stage(epoch, blocks);
        if stage_before != Some(stage) {
            network = with_gradients_of(network, |name| learned.is_learned(name, stage, blocks));
            trainable = count_learned(&network, |name| learned.is_learned(name, stage, blocks));
            best.begin_anew();
            stage_before = Some(stage);
        }
        let (order, mut losses) = (epoch_order(task.learned, task.seed, epoch), 0.0);
        for batch in order.chunks(config.batch) {
            interrupt::check()?;
            let (list, count): (Vec<Labelled>, usize) = (batch.iter().map(|i| task.learned[*i]).collect(), batch.len());
            let images = images::batch::<B>(task, &list, epoch, device)?;
            let classes: Vec<u32> = list.iter().map(|labelled| labelled.class).collect();
            let targets = targets::<B>(&classes, task.classes, device);
            let [_, channels, side, _] = images.dims();
            let found = summed_loss(&network, count, config.pieces, |network: &Classifier<B>, piece| {
                let images = images.clone().slice([piece.clone(), 0..channels, 0..side, 0..side]);
                let scores = network.head.forward(network.backbone.forward(images), None);
                share_of_loss(scores, targets.clone().slice([piece, 0..task.classes]), count)
            });
            check_loss(found.loss, step, rung)?;
            let schedule = rates.at(step, steps, per_epoch);
            let no_teacher = None::<Classifier<B::InnerBackend>>;
            network = optimiser.step::<B, _, _>(network, no_teacher, found.gradients, &schedule).0;
            losses += found.loss;
            step += 1;
            progress.add_with(1, || format!("loss {:.4}", found.loss));
        }
        let state = network.valid();
        let looked = if task.held.is_empty() { None } else { Some(look(task, &state, task.held, device)?) };
        if best.see(losses / per_epoch as f64, looked, state) {
            break;
        }
    }
    Ok(Fit::of(best, step, trainable))
}

/// Values of the parameters that are named.
fn count_learned<B: TrainBackend>(network: &Classifier<B>, is_learned: impl Fn(&str) -> bool) -> usize {
    let shapes = parameter_shapes(network);
    shapes.iter().filter(|(name, _)| is_learned(name)).map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

/// How a classifier does on labelled images, as `eval` shows them.
///
/// # Errors
/// When an image is gone or the user interrupts.
pub(crate) fn look<B: Operators>(
    task: &Task<'_>,
    network: &Classifier<B>,
    list: &[Labelled],
    device: &B::Device,
) -> Result<Looked> {
    Ok(network.head.look(&features_of(task, network, list, device)?, device))
}

fn features_of<B: Operators>(
    task: &Task<'_>,
    network: &Classifier<B>,
    list: &[Labelled],
    device: &B::Device,
) -> Result<Features> {
    let frozen = FrozenVit::new(network.backbone.clone().merged(), task.model, device);
    Ok(features::compute(task.store, list, &frozen, task.feature_batch, |_| ())?)
}
