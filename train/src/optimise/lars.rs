//! LARS (You et al. 2017) in two flavours (spec/objectives.md section 1). A weight's step is scaled by the trust ratio of its
//! norm to its gradient's; biases and 1-D parameters are neither decayed nor scaled, and have a learning rate of their own.
//!
//! - Barlow Twins': `g += wd p; g *= trust |p| / |g|`.
//! - solo-learn's `clip_lr` (`lars_clip_rate`): `g += wd p; g *= min(trust |p| / (|g| + wd |p| + 1e-8) / lr, 1)`, with the
//!   norm of the gradient before decay, so that a step is never longer than `lr g`.
//!
//! Then `m = 0.9 m + g; p -= lr m`. Where either norm is 0 the ratio is 1 (solo-learn: and nothing is decayed).

use super::optimiser::Update;
use crate::operators::{Operators, moving_average};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use lapidary_schemas::config::PretrainConfig;
use std::collections::BTreeMap;

const MOMENTUM: f64 = 0.9;
const EPSILON: f64 = 1e-8;

/// The optimiser's state on a backend without gradients.
#[derive(Debug, Clone)]
pub struct Lars<B: Backend> {
    trust: f64,
    clips_rate: bool,
    momentum: BTreeMap<String, Tensor<B, 1>>,
}

impl<B: Operators> Lars<B> {
    /// No state yet.
    pub fn new(config: &PretrainConfig) -> Self {
        Self { trust: config.lars_trust, clips_rate: config.lars_clip_rate, momentum: BTreeMap::new() }
    }

    /// A parameter's values after a step, and their moving average.
    pub(crate) fn update(&mut self, update: Update<'_, B>) -> (Tensor<B, 1>, Option<Tensor<B, 1>>) {
        let Update { name, value, gradient, divisor, rate, decay, scaled, average, momentum: of_average } = update;
        let gradient = match divisor {
            Some(divisor) => gradient / divisor,
            None => gradient,
        };
        let gradient = if scaled { self.scale(&value, gradient, rate, decay) } else { gradient };
        let momentum = match self.momentum.remove(name) {
            Some(old) => old * MOMENTUM + gradient,
            None => gradient,
        };
        let updated = value - momentum.clone() * rate;
        self.momentum.insert(name.to_owned(), momentum);
        let average = average.map(|old| moving_average(old, updated.clone(), of_average));
        (updated, average)
    }

    /// A weight's gradient, decayed and scaled by its trust ratio; nothing is read back from the device.
    fn scale(&self, value: &Tensor<B, 1>, gradient: Tensor<B, 1>, rate: f64, decay: f64) -> Tensor<B, 1> {
        let norm = |values: &Tensor<B, 1>| (values.clone() * values.clone()).sum().sqrt();
        let decayed = gradient.clone() + value.clone() * decay;
        let of_value = norm(value);
        let of_gradient = norm(if self.clips_rate { &gradient } else { &decayed });
        let is_zero = of_value.clone().equal_elem(0.0).bool_or(of_gradient.clone().equal_elem(0.0));
        if self.clips_rate {
            let bound = of_value.clone() * self.trust / (of_gradient + of_value * decay + EPSILON) / rate;
            let scaled = decayed * bound.clamp_max(1.0);
            let count = scaled.dims()[0];
            scaled.mask_where(is_zero.expand([count]), gradient)
        } else {
            let ratio = (of_value * self.trust / of_gradient).mask_fill(is_zero, 1.0);
            decayed * ratio
        }
    }

    /// The state, flat: `momentum.NAME`.
    pub fn tensors(&self) -> Vec<(String, Tensor<B, 1>)> {
        self.momentum.iter().map(|(name, momentum)| (format!("momentum.{name}"), momentum.clone())).collect()
    }

    /// Resumes from the values of what [`Lars::tensors`] gave.
    pub fn restore(&mut self, state: &BTreeMap<String, Vec<f32>>, device: &B::Device) {
        let device_tensor = |(key, values): (&String, &Vec<f32>)| {
            let data = TensorData::new(values.clone(), [values.len()]);
            key.strip_prefix("momentum.").map(|name| (name.to_owned(), Tensor::from_data(data, device)))
        };
        self.momentum = state.iter().filter_map(device_tensor).collect();
    }
}
