//! AdamW (Loshchilov and Hutter 2019) as PyTorch has it (spec/pretraining.md 1.7). A parameter without a gradient, or frozen,
//! keeps no state and counts no step.

use super::optimiser::Update;
use crate::operators::{AdamwStep, Moving, Operators, adamw};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use std::collections::BTreeMap;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The optimiser's state on a backend without gradients.
#[derive(Debug, Clone, Default)]
pub struct AdamW<B: Backend> {
    moments: BTreeMap<String, Moments<B>>,
}

#[derive(Debug, Clone)]
struct Moments<B: Backend> {
    mean: Tensor<B, 1>,
    square: Tensor<B, 1>,
    steps: i32,
}

impl<B: Operators> AdamW<B> {
    /// No state yet.
    pub fn new() -> Self {
        Self { moments: BTreeMap::new() }
    }

    /// A parameter's values after a step, and their moving average.
    pub(crate) fn update(&mut self, update: Update<'_, B>) -> (Tensor<B, 1>, Option<Tensor<B, 1>>) {
        let Update { name, value, gradient, divisor, rate, decay, scaled: _, average, momentum } = update;
        let moments = self.moments.remove(name).unwrap_or_else(|| {
            let zeros = || Tensor::zeros(value.dims(), &value.device());
            Moments { mean: zeros(), square: zeros(), steps: 0 }
        });
        let steps = moments.steps + 1;
        let step = AdamwStep {
            beta_1: BETA_1,
            beta_2: BETA_2,
            keep: 1.0 - rate * decay,
            rate: rate / (1.0 - BETA_1.powi(steps)),
            inverse_deviation: (1.0 - BETA_2.powi(steps)).powf(-0.5),
            epsilon: EPSILON,
            momentum,
        };
        let moving = Moving { value, mean: moments.mean, square: moments.square, average };
        let Moving { value, mean, square, average } = adamw(moving, gradient, divisor, &step);
        self.moments.insert(name.to_owned(), Moments { mean, square, steps });
        (value, average)
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
    use crate::optimise::{Gradients, Optimiser, StepSchedule};
    use burn::module::{Module, Param};
    use burn_flex::Flex;
    use lapidary_schemas::config::PretrainConfig;

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
        let config = PretrainConfig { clip_norm, ..PretrainConfig::default() };
        let mut optimiser = Optimiser::<Flex>::new(&config, 0);
        for _ in 0..steps {
            let loss = (network.weight.val() * network.weight.val()).sum() * 3.0 + network.bias.val().sum() * 2.0;
            let gradients = named_gradients::<Cpu, _>(&network, &loss.backward());
            let gradients = Gradients::of::<Cpu, _>(&network, gradients);
            network = optimiser.step::<Cpu, _, Two<Flex>>(network, None, gradients, schedule).0;
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
        gram_share: 0.0,
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
