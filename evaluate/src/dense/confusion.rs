//! Counts of pixels by their class and what was said of them, and intersection over union.

use super::labels::{IGNORED, LabelMap};

/// How many pixels of each label were given each label, shape `[labels, labels]`, by truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confusion {
    labels: usize,
    counts: Vec<u64>,
}

impl Confusion {
    /// None counted.
    pub(super) fn new(labels: usize) -> Self {
        Self { labels, counts: vec![0; labels * labels] }
    }

    /// With a view's pixels: what is true and what was said of each.
    pub(super) fn with(mut self, truth: &LabelMap, said: &[u16]) -> Self {
        for (truth, said) in truth.labels.iter().zip(said).filter(|(truth, _)| **truth != IGNORED) {
            self.counts[usize::from(*truth) * self.labels + usize::from(*said)] += 1;
        }
        self
    }

    /// Both together.
    pub(super) fn plus(mut self, other: Self) -> Self {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self
    }

    /// Of each label that pixels have: its index and its intersection over union.
    pub(super) fn intersections_over_unions(&self) -> Vec<(usize, f64)> {
        let row = |label: usize| self.counts[label * self.labels..(label + 1) * self.labels].iter().sum::<u64>();
        let column = |label: usize| self.counts.iter().skip(label).step_by(self.labels).sum::<u64>();
        let of = |label: usize| {
            let both = self.counts[label * self.labels + label];
            (label, both as f64 / (row(label) + column(label) - both) as f64)
        };
        (0..self.labels).filter(|label| row(*label) > 0).map(of).collect()
    }

    /// The share of pixels that were given their own label; none where there are no pixels.
    pub(super) fn accuracy(&self) -> Option<f64> {
        let (all, right) = (self.counts.iter().sum::<u64>(), self.counts.iter().step_by(self.labels + 1).sum::<u64>());
        (all > 0).then(|| right as f64 / all as f64)
    }
}

/// The mean of some values; none of none.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::{agree, golden, numbers};

    #[test]
    fn figures_are_those_of_scikit_learns_matrix() {
        let golden = &golden()["confusion"];
        let truth = (0..600usize).map(|i| {
            let label = (7 * i + i / 3) % 6;
            if label == 4 { 5 } else { label as u16 }
        });
        let said: Vec<u16> = (0..600usize)
            .zip(truth.clone())
            .map(|(i, truth)| if i % 3 == 0 { truth } else { ((5 * i + i * i / 7) % 6) as u16 })
            .collect();
        let labels = truth.enumerate().map(|(i, label)| if i % 11 == 0 { IGNORED } else { label }).collect();
        let map = LabelMap { side_px: 0, labels };
        // In two halves, as images are counted.
        let half = |from: usize, to: usize| {
            let part = LabelMap { side_px: 0, labels: map.labels[from..to].to_vec() };
            Confusion::new(6).with(&part, &said[from..to])
        };
        let confusion = half(0, 250).plus(half(250, 600));
        let found = confusion.intersections_over_unions();
        let classes: Vec<usize> = found.iter().map(|(label, _)| *label).collect();
        assert_eq!(classes, [0, 1, 2, 3, 5]);
        let expected = numbers(&golden["iou"]);
        for (label, iou) in &found {
            agree("iou", &[*iou], &[expected[*label]], 1e-12);
        }
        let both = [
            mean(found.iter().map(|(_, iou)| *iou)).expect("five"),
            mean(found.iter().skip(1).map(|(_, iou)| *iou)).expect("four"),
            confusion.accuracy().expect("pixels"),
        ];
        let expected =
            ["miou", "miou_without_background", "accuracy"].map(|name| golden[name].as_f64().expect("a number"));
        agree("means", &both, &expected, 1e-12);
        assert_eq!(Confusion::new(3).accuracy(), None);
        assert_eq!(mean(Confusion::new(3).intersections_over_unions().into_iter().map(|(_, iou)| iou)), None);
    }
}
