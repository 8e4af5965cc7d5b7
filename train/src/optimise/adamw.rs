//! AdamW (Loshchilov and Hutter 2019) as DINO uses it (spec/pretraining.md 1.7): each parameter's gradient is clipped to a
//! norm of its own, biases and 1-D parameters are not decayed, a frozen parameter keeps no state.

use super::StepSchedule;
use super::gradients::{Gradient, Gradients};
use crate::model::{Seen, map_named};
use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use std::collections::BTreeMap;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The optimiser's state on a backend without gradients.
#[derive(Debug, Default)]
pub struct AdamW<B: Backend> {
    moments: BTreeMap<String, Moments<B>>,
}

#[derive(Debug)]
struct Moments<B: Backend> {
    mean: Tensor<B, 1>,
    square: Tensor<B, 1>,
    steps: i32,
}

impl<B: Backend> AdamW<B> {
    /// No state yet.
    pub fn new() -> Self {
        Self { moments: BTreeMap::new() }
    }

    /// Changes a network by its gradients. `clip_norm` 0 means no clipping.
    pub fn step<A, M>(&mut self, network: M, mut gradients: Gradients<B>, schedule: &StepSchedule, clip_norm: f64) -> M
    where
        A: AutodiffBackend<InnerBackend = B>,
        M: AutodiffModule<A>,
    {
        map_named(network, |(name, shape, value): Seen<'_, A>| {
            let frozen = schedule.freeze_last_layer && name.contains("last_layer.");
            let Some(Gradient { gradient, square }) = gradients.take(name).filter(|_| !frozen) else { return value };
            let gradient = if clip_norm > 0.0 {
                let scale = ((square.sqrt() + 1e-6) / clip_norm).clamp_min(1.0);
                gradient / scale
            } else {
                gradient
            };
            // Biases, norms and other 1-D parameters; what is 2-D or more is decayed, whatever its name.
            let decay = if shape.len() > 1 { schedule.weight_decay } else { 0.0 };
            let updated = self.update(name, value.inner(), gradient, schedule.learning_rate, decay);
            Tensor::from_inner(updated)
        })
    }

    fn update(
        &mut self,
        name: &str,
        value: Tensor<B, 1>,
        gradient: Tensor<B, 1>,
        rate: f64,
        decay: f64,
    ) -> Tensor<B, 1> {
        let square = gradient.clone() * gradient.clone();
        let moments = match self.moments.remove(name) {
            Some(old) => Moments {
                mean: old.mean * BETA_1 + gradient * (1.0 - BETA_1),
                square: old.square * BETA_2 + square * (1.0 - BETA_2),
                steps: old.steps + 1,
            },
            None => Moments { mean: gradient * (1.0 - BETA_1), square: square * (1.0 - BETA_2), steps: 1 },
        };
        // The corrections of both means are scalars: folded into the rate and into epsilon's place.
        let correction_1 = 1.0 - BETA_1.powi(moments.steps);
        let correction_2 = 1.0 - BETA_2.powi(moments.steps);
        let denominator = moments.square.clone().sqrt() / correction_2.sqrt() + EPSILON;
        let updated = value * (1.0 - rate * decay) - moments.mean.clone() / denominator * (rate / correction_1);
        self.moments.insert(name.to_owned(), moments);
        updated
    }

    /// The name of its state in checkpoints.
    pub fn name(&self) -> &'static str {
        "adamw"
    }

    /// The state, flat: `mean.NAME`, `square.NAME`, `steps.NAME`.
    pub fn tensors(&self) -> Vec<(String, Tensor<B, 1>)> {
        let of_parameter = |(name, moments): (&String, &Moments<B>)| {
            let Moments { mean, square, steps } = moments;
            // Exact in f32 up to 2^24 steps.
            let steps = Tensor::from_floats([*steps as f32], &mean.device());
            [("mean", mean.clone()), ("square", square.clone()), ("steps", steps)]
                .map(|(kind, tensor)| (format!("{kind}.{name}"), tensor))
        };
        self.moments.iter().flat_map(of_parameter).collect()
    }

    /// Resumes from the values of what [`AdamW::tensors`] gave.
    pub fn restore(state: &BTreeMap<String, Vec<f32>>, device: &B::Device) -> Self {
        let tensor = |values: &Vec<f32>| Tensor::from_data(TensorData::new(values.clone(), [values.len()]), device);
        let mut moments = BTreeMap::new();
        for (key, mean) in state {
            let Some(name) = key.strip_prefix("mean.") else { continue };
            let (Some(square), Some(steps)) =
                (state.get(&format!("square.{name}")), state.get(&format!("steps.{name}")))
            else {
                continue;
            };
            let (mean, square) = (tensor(mean), tensor(square));
            moments.insert(name.to_owned(), Moments { mean, square, steps: steps[0] as i32 });
        }
        Self { moments }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use crate::model::{host_values, named_gradients};
    use burn::module::{Module, Param};
    use burn_flex::Flex;

    #[derive(Module, Debug)]
    struct Two<B: Backend> {
        weight: Param<Tensor<B, 2>>,
        bias: Param<Tensor<B, 1>>,
    }

    fn step(schedule: &StepSchedule, clip_norm: f64, steps: usize) -> (Vec<f32>, Vec<f32>) {
        let device = Default::default();
        let mut network = Two::<Cpu> {
            weight: Param::from_tensor(Tensor::from_data([[1.0, -2.0]], &device)),
            bias: Param::from_tensor(Tensor::from_data([0.5], &device)),
        };
        let mut optimiser = AdamW::<Flex>::new();
        for _ in 0..steps {
            let loss = (network.weight.val() * network.weight.val()).sum() * 3.0 + network.bias.val().sum() * 2.0;
            let gradients = named_gradients::<Cpu, _>(&network, &loss.backward());
            let gradients = Gradients::of::<Cpu, _>(&network, gradients);
            network = optimiser.step::<Cpu, _>(network, gradients, schedule, clip_norm);
        }
        let host = |t: Tensor<Cpu, 1>| host_values(t);
        (host(network.weight.val().reshape([2])), host(network.bias.val()))
    }

    const SCHEDULE: StepSchedule = StepSchedule {
        learning_rate: 0.1,
        weight_decay: 0.5,
        momentum: 0.9,
        teacher_temperature: 0.04,
        freeze_last_layer: false,
    };

    #[test]
    fn steps_follow_the_formula_and_spare_biases_from_decay() {
        // The same three steps, one number at a time, in f64.
        let reference = |mut value: f64, gradient: fn(f64) -> f64, decay: f64| {
            let (mut m, mut v) = (0.0, 0.0);
            for t in 1..=3 {
                let g = gradient(value);
                (m, v) = (BETA_1 * m + (1.0 - BETA_1) * g, BETA_2 * v + (1.0 - BETA_2) * g * g);
                let (m_hat, v_hat) = (m / (1.0 - BETA_1.powi(t)), v / (1.0 - BETA_2.powi(t)));
                value = value * (1.0 - 0.1 * decay) - 0.1 * m_hat / (v_hat.sqrt() + EPSILON);
            }
            value as f32
        };
        let (weight, bias) = step(&SCHEDULE, 0.0, 3);
        for (found, start) in weight.iter().zip([1.0, -2.0]) {
            assert!((found - reference(start, |w| 6.0 * w, 0.5)).abs() < 1e-5);
        }
        assert!((bias[0] - reference(0.5, |_| 2.0, 0.0)).abs() < 1e-5);
    }

    #[test]
    fn clipping_leaves_small_gradients_alone() {
        assert_eq!(step(&SCHEDULE, 1e9, 2), step(&SCHEDULE, 0.0, 2));
    }
}
