//! Heads on frozen features: computed once, without augmentation, and standardised.

use super::best::Best;
use super::fit::{Fit, Rates, Task, check_loss};
use super::network::{Head, share_of_loss, targets};
use super::order::epoch_order;
use super::standard::Standard;
use crate::Result;
use burn::module::AutodiffModule;
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::interrupt;
use lapidary_pipeline::random::{Purpose, RngExt, keyed};
use lapidary_train::model::{initialise, parameter_shapes};
use lapidary_train::operators::TrainBackend;
use lapidary_train::probe::Features;
use lapidary_train::summed_loss;

/// A hidden layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hidden {
    pub(crate) width: usize,
    /// Share of its values that are left out at a step.
    pub(crate) dropout: f64,
}

/// Trains a head on features of `task`'s images as they are; what comes out reads features as they are.
///
/// # Errors
/// When the user interrupts, or the loss is no number.
pub(crate) fn train_head<B: TrainBackend>(
    task: &Task<'_>,
    (learned, held): (&Features, &Features),
    hidden: Option<Hidden>,
    rung: &'static str,
    device: &B::Device,
) -> Result<Fit<Head<B::InnerBackend>>> {
    let config = task.config;
    let standard = Standard::of(learned);
    let (learned, held) = (standard.apply(learned), standard.apply(held));
    let head = Head::<B>::new(learned.dim, hidden.map(|hidden| hidden.width), task.classes, device);
    let mut head = initialise(head, task.seed);
    let trainable = parameter_shapes(&head).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let rates = Rates::of_head(config);
    let mut optimiser = rates.optimiser::<B::InnerBackend>(config, 0);
    let (per_epoch, mut step) = (task.steps_per_epoch(), 0);
    let steps = per_epoch * config.epochs;
    let mut best = Best::new(config.patience);
    for epoch in 0..config.epochs {
        let (order, mut losses) = (epoch_order(task.learned, task.seed, epoch), 0.0);
        for batch in order.chunks(config.batch) {
            interrupt::check()?;
            let (chosen, count) = (learned.select(batch), batch.len());
            let inputs: Tensor<B, 2> = Tensor::from_data(TensorData::new(chosen.values, [count, learned.dim]), device);
            let targets = targets::<B>(&chosen.classes, task.classes, device);
            let kept = hidden.map(|hidden| kept::<B>(hidden, count, task.seed, step, device));
            let found = summed_loss(&head, count, 1, |head: &Head<B>, _| {
                share_of_loss(head.forward(inputs.clone(), kept.clone()), targets.clone(), count)
            });
            check_loss(found.loss, step, rung)?;
            let schedule = rates.at(step, steps, per_epoch);
            let no_teacher = None::<Head<B::InnerBackend>>;
            head = optimiser.step::<B, _, _>(head, no_teacher, found.gradients, &schedule).0;
            losses += found.loss;
            step += 1;
        }
        let state = head.valid();
        let looked = (!held.is_empty()).then(|| state.look(&held, device));
        if best.see(losses / per_epoch as f64, looked, state) {
            break;
        }
    }
    let fit = Fit::of(best, step, trainable);
    Ok(Fit { best: standard.folded_into(fit.best), ..fit })
}

/// What a step's hidden values are multiplied by, shape `[count, width]`: 0, or 1 over the share that is kept.
fn kept<B: TrainBackend>(hidden: Hidden, count: usize, seed: u64, step: usize, device: &B::Device) -> Tensor<B, 2> {
    let mut rng = keyed(seed, Purpose::Dropout, step as u64, 0);
    let scale = (1.0 / (1.0 - hidden.dropout)) as f32;
    let values: Vec<f32> =
        (0..count * hidden.width).map(|_| if rng.random::<f64>() < hidden.dropout { 0.0 } else { scale }).collect();
    Tensor::from_data(TensorData::new(values, [count, hidden.width]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_train::backend::Cpu;

    #[test]
    fn dropout_leaves_out_its_share_and_keeps_the_mean() {
        let hidden = Hidden { width: 64, dropout: 0.25 };
        let mask =
            |step| kept::<Cpu>(hidden, 64, 1, step, &Default::default()).into_data().to_vec::<f32>().expect("f32");
        let (first, second) = (mask(0), mask(1));
        assert_ne!(first, second);
        assert_eq!(first, mask(0));
        let zeros = first.iter().filter(|value| **value == 0.0).count() as f64 / first.len() as f64;
        let mean = first.iter().sum::<f32>() / first.len() as f32;
        assert!((zeros - 0.25).abs() < 0.03 && (mean - 1.0).abs() < 0.04, "{zeros} {mean}");
    }
}
