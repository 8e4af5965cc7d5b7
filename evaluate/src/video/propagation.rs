//! Labels of a frame from those of earlier frames, by the nearness of patches (facebookresearch/dino eval_video_segmentation.py,
//! label_propagation).
//!
//! A patch of the new frame looks at the patches of each earlier frame that lie within a reach of its own place, keeps the nearest
//! few of all of them, and takes the mean of their labels, weighed by exp(cosine / temperature).

use crate::matrix::{Matrix, multiply};
use rayon::prelude::*;

/// A frame's patches and their labels.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Tokens of unit length, shape `[rows * columns, dim]`.
    tokens: Vec<f32>,
    /// Shares of each label, shape `[rows * columns, labels]`.
    shares: Vec<f32>,
}

impl Frame {
    /// Of tokens of any length and shares.
    pub(super) fn new(tokens: &[f32], dim: usize, shares: Vec<f32>) -> Self {
        let mut tokens = tokens.to_vec();
        for row in tokens.chunks_exact_mut(dim) {
            let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
            row.iter_mut().for_each(|value| *value /= norm);
        }
        Self { tokens, shares }
    }

    /// The same patches with labels of their own.
    pub(super) fn with_shares(self, shares: Vec<f32>) -> Self {
        Self { shares, ..self }
    }
}

/// How labels travel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Propagation {
    /// Patches of a frame, down and across.
    pub(super) grid: (usize, usize),
    pub(super) labels: usize,
    pub(super) top_k: usize,
    /// Patches that one may lie away, down and across.
    pub(super) reach: usize,
    pub(super) temperature: f64,
}

impl Propagation {
    /// A new frame's labels from those of earlier frames, shape `[rows * columns, labels]`.
    pub(super) fn shares(&self, frame: &Frame, earlier: &[&Frame]) -> Vec<f32> {
        let patches = self.grid.0 * self.grid.1;
        let dim = frame.tokens.len() / patches;
        let similarities: Vec<Vec<f32>> = earlier
            .par_iter()
            .map(|source| {
                let mut out = vec![0f32; patches * patches];
                let (new, old) = (Matrix::new(&frame.tokens, dim), Matrix::new(&source.tokens, dim));
                multiply(&mut out, new, old.transposed(), false);
                out
            })
            .collect();
        let mut shares = vec![0f32; patches * self.labels];
        shares.par_chunks_exact_mut(self.labels).enumerate().for_each(|(patch, shares)| {
            let mut near: Vec<(f32, &[f32])> = Vec::new();
            for (similarities, source) in similarities.iter().zip(earlier) {
                let row = &similarities[patch * patches..][..patches];
                near.extend(self.reached(patch).map(|at| (row[at], &source.shares[at * self.labels..][..self.labels])));
            }
            let place = self.top_k.min(near.len()) - 1;
            // All that are as near as the last of the nearest few: ties are kept, as in the reference.
            let (_, (least, _), _) = near.select_nth_unstable_by(place, |a, b| b.0.total_cmp(&a.0));
            let least = *least;
            let kept: Vec<(f64, &[f32])> = near
                .iter()
                .filter(|(similarity, _)| *similarity >= least)
                .map(|(similarity, labels)| ((f64::from(*similarity) / self.temperature).exp(), *labels))
                .collect();
            let sum: f64 = kept.iter().map(|(weight, _)| weight).sum();
            for (label, share) in shares.iter_mut().enumerate() {
                *share =
                    kept.iter().map(|(weight, labels)| weight / sum * f64::from(labels[label])).sum::<f64>() as f32;
            }
        });
        shares
    }

    /// The patches within reach of one.
    fn reached(&self, patch: usize) -> impl Iterator<Item = usize> {
        let (rows, columns) = self.grid;
        let around = |at: usize, end: usize| at.saturating_sub(self.reach)..(at + self.reach + 1).min(end);
        let across = around(patch % columns, columns);
        around(patch / columns, rows).flat_map(move |row| across.clone().map(move |column| row * columns + column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::{agree, golden, numbers, wave};

    #[test]
    fn shares_are_those_of_dinos_code_over_several_frames() {
        let (patches, dim, labels) = (20, 12, 3);
        let propagation = Propagation { grid: (4, 5), labels, top_k: 5, reach: 2, temperature: 0.1 };
        let tokens = |frame: usize| wave(patches * dim, 0.3 + 0.05 * frame as f64);
        let mut first = vec![0f32; patches * labels];
        (0..patches).for_each(|patch| first[patch * labels + (patch + patch / 4) % labels] = 1.0);
        let first = Frame::new(&tokens(0), dim, first);
        let mut last: Vec<Frame> = Vec::new();
        let golden = golden()["propagation"]["frames"].clone();
        for frame in 1..4 {
            let new = Frame::new(&tokens(frame), dim, Vec::new());
            let earlier: Vec<&Frame> = std::iter::once(&first).chain(&last).collect();
            let shares = propagation.shares(&new, &earlier);
            let found: Vec<f64> = shares.iter().map(|share| f64::from(*share)).collect();
            agree("shares", &found, &numbers(&golden[frame - 1]), 1e-5);
            last.push(new.with_shares(shares));
            last.drain(..last.len().saturating_sub(2));
        }
    }

    #[test]
    fn a_frame_that_stands_still_keeps_its_labels_and_reach_is_a_square() {
        let propagation = Propagation { grid: (3, 4), labels: 2, top_k: 1, reach: 1, temperature: 0.1 };
        assert_eq!(propagation.reached(0).collect::<Vec<_>>(), [0, 1, 4, 5]);
        assert_eq!(propagation.reached(6).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7, 9, 10, 11]);
        let shares: Vec<f32> = (0..12).flat_map(|patch| if patch % 3 == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
        let frame = Frame::new(&wave(12 * 9, 0.4), 9, shares.clone());
        assert_eq!(propagation.shares(&frame, &[&frame, &frame]), shares);
    }
}
