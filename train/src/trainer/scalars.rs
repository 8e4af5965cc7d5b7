//! The scalars of a step: the loss, its parts, norms of gradients. They stay on the device until they are read, those of one
//! step or of several in one transfer.

use super::GRADIENT_NORM;
use crate::model::host_values;
use crate::operators::Operators;
use crate::share::BatchShare;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::collections::BTreeMap;

/// The loss among a step's scalars.
pub(super) const LOSS: &str = "loss";
/// The norm of a loss's gradient at the backbone's features, on its way to the metrics.
pub(super) const FEATURE_GRADIENT: &str = "feature_gradient";

/// How many ranks have added to the scalars.
const RANKS: &str = "ranks";

/// A step's scalars on the device.
#[derive(Debug)]
pub(crate) struct Scalars<B: Backend> {
    names: Vec<&'static str>,
    /// Shape `[names]`.
    values: Tensor<B, 1>,
    /// How many ranks have added to the values, whose count is the last of them; one has none.
    ranks: usize,
    /// The losses that have a gradient at the features, in the order of their norms, with their weights.
    losses: Vec<(&'static str, f64)>,
}

/// What they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readings {
    pub(crate) loss: f64,
    /// By name: the parts of the loss and what tells a collapse.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// Norm of each loss's gradient at the backbone's features, before its weight.
    pub(crate) feature_norms: Vec<f64>,
}

impl<B: Operators<Inner = B>> Scalars<B> {
    /// Of named scalars, shape `[1]` each.
    pub(super) fn new(
        scalars: Vec<(&'static str, Tensor<B, 1>)>,
        losses: Vec<(&'static str, f64)>,
        share: &BatchShare<B>,
    ) -> Self {
        let (mut names, tensors): (Vec<_>, Vec<_>) = scalars.into_iter().unzip();
        let mut values = Tensor::cat(tensors, 0);
        if !share.is_whole() {
            values = share.of_first_counted(values);
            names.push(RANKS);
        }
        Self { names, values, ranks: share.ranks(), losses }
    }

    /// Reads them.
    pub(crate) fn read(&self) -> Readings {
        Self::read_all(&[self]).pop().expect("one for each")
    }

    /// Reads those of several steps at once.
    pub(super) fn read_all(steps: &[&Self]) -> Vec<Readings> {
        if steps.is_empty() {
            return Vec::new();
        }
        let values = Tensor::cat(steps.iter().map(|step| step.values.clone()).collect(), 0);
        let mut values = host_values(values).into_iter().map(f64::from);
        steps.iter().map(|step| step.readings(values.by_ref().take(step.names.len()))).collect()
    }

    fn readings(&self, values: impl Iterator<Item = f64>) -> Readings {
        let mut readings = Readings { loss: f64::NAN, ..Readings::default() };
        for (name, value) in self.names.iter().zip(values) {
            match *name {
                LOSS => readings.loss = value,
                RANKS => assert!(value == self.ranks as f64, "a sum is of {value} devices, not of {}", self.ranks),
                FEATURE_GRADIENT => {
                    let (loss, weight) = self.losses[readings.feature_norms.len()];
                    readings.feature_norms.push(if weight == 0.0 { 0.0 } else { value / weight });
                    readings.metrics.insert(format!("{GRADIENT_NORM}_{loss}"), value);
                    readings.metrics.insert(format!("weight_{loss}"), weight);
                }
                name => {
                    readings.metrics.insert(name.to_owned(), value);
                }
            }
        }
        readings
    }
}

impl Readings {
    /// Whether a step with these may be taken.
    pub(crate) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.metrics.get(GRADIENT_NORM).is_none_or(|norm| norm.is_finite())
    }
}
