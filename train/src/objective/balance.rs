//! The scale that holds one loss's gradient at a set ratio to another's: both norms, at the backbone's features, by a moving
//! average, so that the scale does not jump from step to step.

use crate::model::HostTensor;
use std::collections::BTreeMap;

const STATE: &str = "balance.gradient_norms";
/// What the averages keep of themselves at a step.
const MOMENTUM: f32 = 0.95;

/// Matched gradient norms.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    ratio: f64,
    /// Averages of the norms of the scaled loss, before its scale, and of the other, with its weight. In f32, as they are
    /// stored, so that a resumed run has the same.
    norms: Option<[f32; 2]>,
}

impl Balance {
    /// A scale that holds the first loss's gradient norm at `ratio` times the second's.
    pub fn new(ratio: f64) -> Self {
        Self { ratio, norms: None }
    }

    /// The scale; none before the first step, and where the first loss has no gradient.
    pub fn scale(&self) -> Option<f64> {
        let [first, second] = self.norms?;
        let scale = self.ratio * f64::from(second) / f64::from(first);
        scale.is_finite().then_some(scale)
    }

    /// Notes both gradient norms of a step that is taken.
    pub fn note(&mut self, first: f64, second: f64) {
        let new = [first as f32, second as f32];
        self.norms = Some(match self.norms {
            None => new,
            Some(old) => [0, 1].map(|i| MOMENTUM * old[i] + (1.0 - MOMENTUM) * new[i]),
        });
    }

    /// For checkpoints.
    pub fn state(&self) -> BTreeMap<String, HostTensor> {
        let tensor = |norms: [f32; 2]| (STATE.to_owned(), HostTensor { shape: vec![2], values: norms.to_vec() });
        self.norms.map(tensor).into_iter().collect()
    }

    /// Resumes from what [`Balance::state`] gave.
    pub fn restore(&mut self, state: &BTreeMap<String, HostTensor>) {
        self.norms = state.get(STATE).and_then(|tensor| tensor.values[..].try_into().ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_held_when_the_norms_drift_and_a_restored_one_is_the_same() {
        let mut balance = Balance::new(2.0);
        assert_eq!(balance.scale(), None);
        for step in 0..400 {
            balance.note(1000.0 / f64::from(step + 1), 3.0);
        }
        let scale = balance.scale().expect("noted");
        assert!((scale * (1000.0 / 400.0) / 3.0 - 2.0).abs() < 0.2, "{scale}");
        let mut restored = Balance::new(2.0);
        restored.restore(&balance.state());
        assert_eq!(restored, balance);
        balance.restore(&BTreeMap::new());
        balance.note(0.0, 1.0);
        assert_eq!(balance.scale(), None, "a loss without a gradient keeps its own scale");
    }
}
