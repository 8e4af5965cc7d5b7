//! Which numbers of a run are compared, in what order, and how each is written.

use super::facts::{Figure, RunFacts};
use serde::Serialize;

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// A loss.
    Loss,
    /// Seconds.
    Secs,
    /// A share of test images, or a measure, 0 to 1.
    Top1,
    /// A share of test images.
    Top5,
}

impl Quantity {
    /// As tables and columns name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Secs => "seconds",
            Self::Top1 => "top-1",
            Self::Top5 => "top-5",
        }
    }

    /// What is written is this times the number: shares are written as percentages.
    pub(crate) fn factor(self) -> f64 {
        match self {
            Self::Loss | Self::Secs => 1.0,
            Self::Top1 | Self::Top5 => 100.0,
        }
    }

    /// Digits after the point.
    pub(crate) fn digits(self) -> usize {
        match self {
            Self::Loss => 3,
            Self::Secs => 1,
            Self::Top1 | Self::Top5 => 2,
        }
    }
}

/// The figure of training, beside those of probes.
pub(crate) const TRAINING: &str = "training";

/// A run's numbers, in order: figure, quantity, value.
pub(crate) fn numbers_of(run: &RunFacts) -> Vec<(String, Quantity, f64)> {
    let training = [(Quantity::Loss, run.loss), (Quantity::Secs, run.secs)];
    let training = training.into_iter().filter_map(|(q, value)| Some((TRAINING.to_owned(), q, value?)));
    let probes = run.evaluation.iter().flat_map(|evaluation| numbers_of_figures(&evaluation.trained));
    training.chain(probes).collect()
}

/// The numbers of probes and measures.
pub(crate) fn numbers_of_figures(figures: &[Figure]) -> Vec<(String, Quantity, f64)> {
    let of = |figure: &Figure| {
        let top5 = figure.top5.map(|top5| (figure.name.clone(), Quantity::Top5, top5));
        std::iter::once((figure.name.clone(), Quantity::Top1, figure.top1)).chain(top5).collect::<Vec<_>>()
    };
    figures.iter().flat_map(of).collect()
}
