//! A rank's share of a batch: which of its images are the rank's own, and what losses take of all of them. A loss is computed on the
//! rank's own rows as far as it is a mean over images; where images are compared with each other, their embeddings are gathered
//! first, and every rank computes the same.

use crate::operators::{Alone, Operators, Ranks, standardise_over_ranks, sum_over_ranks};
use crate::pieces::ranges;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// BatchNorm's and Barlow Twins' epsilon.
const EPSILON: f64 = 1e-5;

/// Values of gradients that are summed over the ranks at once: 64 MiB.
const SUMMED_AT_ONCE: usize = 1 << 24;

/// Some images of a batch in a row, and how their rank reaches those that have the others.
#[derive(Debug)]
pub struct BatchShare<B: Backend> {
    ranks: Ranks<B>,
    images: Range<usize>,
    batch: usize,
}

// Derived, this would ask the same of the backend.
impl<B: Backend> Clone for BatchShare<B> {
    fn clone(&self) -> Self {
        Self { ranks: Arc::clone(&self.ranks), images: self.images.clone(), batch: self.batch }
    }
}

impl<B: Backend> BatchShare<B> {
    /// The images.
    pub fn images(&self) -> Range<usize> {
        self.images.clone()
    }

    /// Images in the batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Whether there is no other rank.
    pub(crate) fn is_whole(&self) -> bool {
        self.images.len() == self.batch
    }
}

impl<B: Operators<Inner = B>> BatchShare<B> {
    /// All of a batch of so many images.
    pub fn whole(batch: usize) -> Self {
        Self::of(&(Arc::new(Alone) as Ranks<B>), batch)
    }

    /// A rank's of a batch of so many images, at least as many as there are ranks.
    pub fn of(ranks: &Ranks<B>, batch: usize) -> Self {
        let images = ranges(batch, ranks.ranks()).swap_remove(ranks.rank());
        Self { ranks: Arc::clone(ranks), images, batch }
    }

    /// Waits until all ranks are here.
    pub(crate) fn barrier(&self) {
        self.ranks.barrier();
    }

    /// Waits until all ranks have asked their devices for all of a step.
    pub(crate) fn settle(&self) {
        self.ranks.settle();
    }

    /// How many ranks there are.
    pub(crate) fn ranks(&self) -> usize {
        self.ranks.ranks()
    }

    /// The first rank's values on all of them, and how many ranks have added to these. What a run decides by is then the same
    /// everywhere.
    ///
    /// # Shapes
    /// - values: `[count]`; returns: `[count + 1]`
    pub(crate) fn of_first_counted(&self, values: Tensor<B, 1>) -> Tensor<B, 1> {
        let device = values.device();
        let values = if self.ranks.rank() == 0 { values } else { Tensor::zeros(values.dims(), &device) };
        self.sum(Tensor::cat(vec![values, Tensor::ones([1], &device)], 0))
    }

    /// The sums of all ranks' gradients by name, flat, of the parameters that have one on any rank; `counts` tells how many values
    /// each parameter has.
    pub(crate) fn sum_of_gradients(
        &self,
        mut gradients: BTreeMap<String, Tensor<B, 1>>,
        counts: impl FnOnce() -> BTreeMap<String, usize>,
        device: &B::Device,
    ) -> BTreeMap<String, Tensor<B, 1>> {
        if self.is_whole() {
            return gradients;
        }
        let counts = counts();
        let names = self.ranks.union(gradients.keys().cloned().collect());
        let of_name = |name: String| {
            let count = counts.get(&name).copied().unwrap_or_default();
            let own = gradients.remove(&name).unwrap_or_else(|| Tensor::zeros([count], device));
            (name, own)
        };
        let mut own: Vec<(String, Tensor<B, 1>)> = names.into_iter().map(of_name).collect();
        let mut sums = BTreeMap::new();
        // Many at once: a sum over ranks costs the same wait however small it is.
        while !own.is_empty() {
            let mut values = 0;
            let mut is_within = |(_, tensor): &(String, Tensor<B, 1>)| {
                values += tensor.dims()[0];
                values <= SUMMED_AT_ONCE
            };
            let at_once = own.iter().take_while(|gradient| is_within(gradient)).count().max(1);
            let (names, tensors): (Vec<_>, Vec<_>) = own.drain(..at_once).unzip();
            let counts: Vec<usize> = tensors.iter().map(|tensor: &Tensor<B, 1>| tensor.dims()[0]).collect();
            let parts = self.sum(Tensor::cat(tensors, 0)).split_with_sizes(counts, 0);
            sums.extend(names.into_iter().zip(parts));
        }
        sums
    }

    /// A mean over the rank's rows, as its part of that over all ranks'.
    pub fn part_of_mean<A: Operators<Inner = B>, const D: usize>(&self, mean: Tensor<A, D>) -> Tensor<A, D> {
        if self.is_whole() { mean } else { mean * (self.images.len() as f64 / self.batch as f64) }
    }

    /// The sum of all ranks' tensors, of which every rank computes the same from here on.
    ///
    /// # Shapes
    /// - part: any, the same on all ranks
    /// - returns: the same
    pub fn sum<A: Operators<Inner = B>, const D: usize>(&self, part: Tensor<A, D>) -> Tensor<A, D> {
        sum_over_ranks(part, &self.ranks)
    }

    /// The mean of the rows of all ranks.
    ///
    /// # Shapes
    /// - rows: `[views * images, width]`
    /// - returns: `[1, width]`
    pub fn mean_of_rows<A: Operators<Inner = B>>(&self, rows: Tensor<A, 2>) -> Tensor<A, 2> {
        self.sum(self.part_of_mean(rows.mean_dim(0)))
    }

    /// The rows of all ranks in the order of the batch, of which every rank computes the same from here on.
    ///
    /// # Shapes
    /// - rows: `[views * images, width]`, view by view
    /// - returns: `[views * batch, width]`, view by view
    pub fn gather<A: Operators<Inner = B>>(&self, rows: Tensor<A, 2>) -> Tensor<A, 2> {
        if self.is_whole() {
            return rows;
        }
        let ([count, width], Range { start, end }) = (rows.dims(), self.images());
        let views = count / self.images.len();
        let own = rows.reshape([views, self.images.len(), width]);
        self.sum(between(own, start, self.batch - end)).reshape([views * self.batch, width])
    }

    /// One row of each rank, in the order of the ranks; without a gradient.
    ///
    /// # Shapes
    /// - row: `[1, width]`
    /// - returns: `[ranks, width]`
    pub(crate) fn row_of_each(&self, row: Tensor<B, 2>) -> Tensor<B, 2> {
        let (rank, ranks, width) = (self.ranks.rank(), self.ranks.ranks(), row.dims()[1]);
        let rows = self.sum(between(row.reshape([1, 1, width]), rank, ranks - rank - 1));
        rows.reshape([ranks, width])
    }

    /// Columns less their mean over the rows of all ranks, over their standard deviation (biased, eps 1e-5).
    ///
    /// # Shapes
    /// - rows: `[views * images, width]`
    /// - returns: as rows
    pub fn standardise<A: Operators<Inner = B>>(&self, rows: Tensor<A, 2>) -> Tensor<A, 2> {
        let all_rows = rows.dims()[0] / self.images.len() * self.batch;
        standardise_over_ranks(rows, all_rows, EPSILON, &self.ranks)
    }
}

/// Rows between so many rows of zeros: `[views, rows, width]` to `[views, before + rows + after, width]`.
fn between<A: Operators>(rows: Tensor<A, 3>, before: usize, after: usize) -> Tensor<A, 3> {
    let [views, _, width] = rows.dims();
    let zeros = |count: usize| (count > 0).then(|| Tensor::zeros([views, count, width], &rows.device()));
    Tensor::cat(zeros(before).into_iter().chain([rows.clone()]).chain(zeros(after)).collect(), 1)
}
