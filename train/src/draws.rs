//! What a step leaves to chance, drawn on the host before its forward passes: stochastic depth and RoPE's rescaling.
//!
//! Every draw is a function of the seed, the step and the image, never of pieces, threads or order, so that a resumed run
//! draws what the uninterrupted one would have drawn.

use crate::model::{Draws, Keep};
use crate::operators::Operators;
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::loader::{Batch, ViewGroup};
use lapidary_pipeline::random::{Purpose, RngExt, keyed};
use lapidary_schemas::config::{ModelConfig, Positions};
use std::ops::Range;

/// The draws of a step.
#[derive(Debug, Clone)]
pub(crate) struct StepDraws {
    images: usize,
    groups: Vec<GroupDraws>,
    rope_rescale: f64,
}

/// The draws of the views of a kind and size.
#[derive(Debug, Clone)]
struct GroupDraws {
    views: usize,
    /// What each branch is multiplied by, two of them a block, shape `[2 * depth, views, images]`; empty when no branch is left
    /// out.
    keep: Vec<f32>,
    /// 1 where a patch is masked, shape `[views, images, patches]`; empty when no view is.
    mask: Vec<u8>,
}

/// Views of one size that are shown to a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShownSize<'a> {
    /// Groups, as places in the batch's list.
    pub(crate) places: &'a [usize],
    /// Patches of a view.
    pub(crate) patches: usize,
    /// Tokens of a view, the class token and registers among them.
    pub(crate) tokens: usize,
}

/// The probability that a block's branch is left out, block by block.
pub(crate) fn drop_rates(model: &ModelConfig) -> Vec<f64> {
    let last = model.depth.max(2) - 1;
    let rate = |block: usize| {
        if model.drop_path_uniform { model.drop_path } else { model.drop_path * block as f64 / last as f64 }
    };
    (0..model.depth).map(rate).collect()
}

impl StepDraws {
    /// Draws for a batch at a step.
    pub(crate) fn draw(model: &ModelConfig, seed: u64, step: usize, batch: &Batch) -> Self {
        let (images, step) = (batch.ids.len(), step as u64);
        let none = |group: &ViewGroup| GroupDraws { views: group.views, keep: Vec::new(), mask: Vec::new() };
        let mut groups: Vec<GroupDraws> = batch.groups.iter().map(none).collect();
        if model.drop_path > 0.0 {
            let rates: Vec<f64> = drop_rates(model).into_iter().flat_map(|rate| [rate, rate]).collect();
            groups.iter_mut().for_each(|group| group.keep = vec![1.0; rates.len() * group.views * images]);
            for (image, id) in batch.ids.iter().enumerate() {
                let mut rng = keyed(seed, Purpose::StochasticDepth, step, id.0);
                for GroupDraws { views, keep, .. } in &mut groups {
                    for view in 0..*views {
                        for (branch, rate) in rates.iter().enumerate() {
                            let kept = f64::from(u8::from(rng.random::<f64>() >= *rate));
                            keep[(branch * *views + view) * images + image] = (kept / (1.0 - rate)) as f32;
                        }
                    }
                }
            }
        }
        let rope_rescale = if model.positions == Positions::Rope && model.rope_rescale > 1.0 {
            let mut rng = keyed(seed, Purpose::RopeRescale, step, 0);
            model.rope_rescale.powf(2.0 * rng.random::<f64>() - 1.0)
        } else {
            1.0
        };
        Self { images, groups, rope_rescale }
    }

    /// Masks a group's views: 1 where a patch is masked, shape `[views, images, patches]`.
    pub(crate) fn set_mask(&mut self, group: usize, mask: Vec<u8>) {
        self.groups[group].mask = mask;
    }

    /// A group's mask; empty when its views are not masked.
    pub(crate) fn mask(&self, group: usize) -> &[u8] {
        &self.groups[group].mask
    }

    /// The draws of the views of some images, in the order in which they are shown to the network: size by size, group by
    /// group, view by view.
    pub(crate) fn of<B: Operators>(
        &self,
        sizes: &[ShownSize<'_>],
        images: &Range<usize>,
        device: &B::Device,
    ) -> Draws<B> {
        let masks: Vec<_> = sizes.iter().map(|size| self.mask_of(size, images, device)).collect();
        Draws { keep: self.keep_of(sizes, images, device), masks, rope_rescale: self.rope_rescale }
    }

    /// Stochastic depth of each block: a factor for each view, or, where sizes are packed, for each token.
    fn keep_of<B: Operators>(
        &self,
        sizes: &[ShownSize<'_>],
        images: &Range<usize>,
        device: &B::Device,
    ) -> Vec<Keep<B>> {
        let groups: Vec<&GroupDraws> = sizes.iter().flat_map(|size| self.groups_of(size)).collect();
        let branches = groups.first().map_or(0, |group| group.keep.len() / (group.views * self.images));
        let of_branch = |branch: usize| {
            let mut factors = Vec::new();
            for GroupDraws { views, keep, .. } in &groups {
                for of_view in keep[branch * views * self.images..][..views * self.images].chunks_exact(self.images) {
                    factors.extend_from_slice(&of_view[images.clone()]);
                }
            }
            factors
        };
        let leaves_out = |(_, factors): &(usize, Vec<f32>)| factors.iter().any(|factor| *factor != 1.0);
        let drawn: Vec<(usize, Vec<f32>)> =
            (0..branches).map(|branch| (branch, of_branch(branch))).filter(leaves_out).collect();
        let mut keep: Vec<Keep<B>> = (0..branches / 2).map(|_| [None, None]).collect();
        if sizes.len() > 1 && !drawn.is_empty() {
            let of_tokens = self.for_tokens::<B>(&drawn, sizes, images, device);
            let rows = of_tokens.dims()[1];
            for (row, (branch, _)) in drawn.iter().enumerate() {
                let factors = of_tokens.clone().slice([row..row + 1, 0..rows]).reshape([rows]);
                keep[branch / 2][branch % 2] = Some(factors);
            }
        } else {
            for (branch, factors) in drawn {
                let shape = [factors.len()];
                keep[branch / 2][branch % 2] = Some(Tensor::from_data(TensorData::new(factors, shape), device));
            }
        }
        keep
    }

    /// Factors of views, repeated on the device for all tokens of each, `[branches, rows]`: one upload for all branches.
    fn for_tokens<B: Operators>(
        &self,
        drawn: &[(usize, Vec<f32>)],
        sizes: &[ShownSize<'_>],
        images: &Range<usize>,
        device: &B::Device,
    ) -> Tensor<B, 2> {
        let branches = drawn.len();
        let values: Vec<f32> = drawn.iter().flat_map(|(_, factors)| factors.iter().copied()).collect();
        let views = values.len() / branches;
        let of_views = Tensor::<B, 2>::from_data(TensorData::new(values, [branches, views]), device);
        let mut first = 0;
        let of_size = |size: &ShownSize<'_>| {
            let views = self.groups_of(size).map(|group| group.views).sum::<usize>() * images.len();
            let of_size = of_views.clone().slice([0..branches, first..first + views]);
            first += views;
            of_size.reshape([branches, views, 1]).repeat_dim(2, size.tokens).reshape([branches, views * size.tokens])
        };
        Tensor::cat(sizes.iter().map(of_size).collect(), 1)
    }

    fn groups_of(&self, size: &ShownSize<'_>) -> impl Iterator<Item = &GroupDraws> {
        size.places.iter().map(|place| &self.groups[*place])
    }

    fn mask_of<B: Operators>(
        &self,
        size: &ShownSize<'_>,
        images: &Range<usize>,
        device: &B::Device,
    ) -> Option<Tensor<B, 3>> {
        let patches = size.patches;
        if self.groups_of(size).all(|group| group.mask.is_empty()) {
            return None;
        }
        let mut rows = Vec::new();
        for GroupDraws { views, mask, .. } in self.groups_of(size) {
            if mask.is_empty() {
                rows.resize(rows.len() + views * images.len() * patches, 0.0);
                continue;
            }
            for of_view in mask.chunks_exact(self.images * patches) {
                rows.extend(
                    of_view[images.start * patches..images.end * patches].iter().map(|masked| f32::from(*masked)),
                );
            }
        }
        let shape = [rows.len() / patches, patches, 1];
        Some(Tensor::from_data(TensorData::new(rows, shape), device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use lapidary_pipeline::loader::Pixels;
    use lapidary_schemas::ImageId;
    use lapidary_schemas::config::ViewKind;

    fn model() -> ModelConfig {
        ModelConfig { dim: 8, depth: 4, heads: 2, drop_path: 0.3, ..ModelConfig::default() }
    }

    fn batch(images: u64) -> Batch {
        let group = |kind, views| ViewGroup { kind, size_px: 16, views, pixels: Pixels::Rendered(Vec::new()) };
        let groups = vec![group(ViewKind::Global, 2), group(ViewKind::Local, 3)];
        Batch { step: 0, ids: (0..images).map(ImageId).collect(), groups }
    }

    fn values<const D: usize>(drawn: &Option<Tensor<Flex, D>>) -> Vec<f32> {
        drawn.as_ref().map_or(Vec::new(), |drawn| drawn.to_data().to_vec().expect("f32"))
    }

    fn shown(places: &[usize], patches: usize) -> ShownSize<'_> {
        ShownSize { places, patches, tokens: patches + 1 }
    }

    #[test]
    fn branches_are_left_out_at_their_rate_and_the_rest_makes_up_for_it() {
        assert_eq!(drop_rates(&model()).iter().map(|r| (r * 10.0).round()).collect::<Vec<_>>(), [0., 1., 2., 3.]);
        let draws = StepDraws::draw(&model(), 1, 7, &batch(4000));
        let draws = draws.of::<Flex>(&[shown(&[0, 1], 16)], &(0..4000), &Default::default());
        assert!(draws.keep[0].iter().all(Option::is_none), "the first block is never left out");
        for (block, rate) in drop_rates(&model()).into_iter().enumerate().skip(1) {
            for branch in &draws.keep[block] {
                let factors = values(branch);
                assert_eq!(factors.len(), 5 * 4000);
                let left_out = factors.iter().filter(|factor| **factor == 0.0).count() as f64 / factors.len() as f64;
                let deviation = (rate * (1.0 - rate) / factors.len() as f64).sqrt();
                assert!((left_out - rate).abs() < 5.0 * deviation, "block {block}: {left_out}");
                let kept = (1.0 / (1.0 - rate)) as f32;
                assert!(factors.iter().all(|factor| *factor == 0.0 || *factor == kept));
            }
        }
    }

    #[test]
    fn draws_are_the_same_for_an_image_in_any_piece_and_differ_by_step() {
        let device = Default::default();
        let all = StepDraws::draw(&model(), 1, 7, &batch(10));
        let whole = values(&all.of::<Flex>(&[shown(&[0], 16)], &(0..10), &device).keep[3][1]);
        let piece = values(&all.of::<Flex>(&[shown(&[0], 16)], &(4..6), &device).keep[3][1]);
        assert_eq!(piece, [whole[4], whole[5], whole[14], whole[15]]);
        let next = StepDraws::draw(&model(), 1, 8, &batch(10));
        assert_ne!(whole, values(&next.of::<Flex>(&[shown(&[0], 16)], &(0..10), &device).keep[3][1]));
        let none = StepDraws::draw(&ModelConfig { drop_path: 0.0, ..model() }, 1, 7, &batch(10));
        assert!(none.of::<Flex>(&[shown(&[0, 1], 16)], &(0..10), &device).keep.is_empty());
    }

    #[test]
    fn a_mask_is_cut_like_the_views_it_belongs_to() {
        let mut draws = StepDraws::draw(&ModelConfig { drop_path: 0.0, ..model() }, 1, 0, &batch(3));
        draws.set_mask(0, (0..2 * 3 * 4).map(|at| u8::from(at % 3 == 0)).collect());
        let mask = &draws.of::<Flex>(&[shown(&[0, 1], 4)], &(1..2), &Default::default()).masks[0];
        assert_eq!(values(mask)[..8], [0., 0., 1., 0., 0., 0., 1., 0.].map(|v: f32| v));
        assert_eq!(values(mask)[8..], [0.0; 12]);
    }

    #[test]
    fn packed_views_have_their_factor_for_each_of_their_tokens() {
        let device = Default::default();
        let all = StepDraws::draw(&model(), 1, 7, &batch(10));
        let apart = |place: usize, patches: usize| all.of::<Flex>(&[shown(&[place], patches)], &(2..8), &device).keep;
        let packed = all.of::<Flex>(&[shown(&[1], 4), shown(&[0], 9)], &(2..8), &device).keep;
        let (small, large) = (apart(1, 4), apart(0, 9));
        assert_eq!(packed.len(), 4);
        for (block, branches) in packed.iter().enumerate() {
            for (branch, found) in branches.iter().enumerate() {
                let ones = |keep: &[Keep<Flex>], views: usize| {
                    let factors = values(&keep[block][branch]);
                    if factors.is_empty() { vec![1.0; views * 6] } else { factors }
                };
                let repeated = |factors: Vec<f32>, tokens: usize| {
                    factors.into_iter().flat_map(move |factor| std::iter::repeat_n(factor, tokens))
                };
                let expected: Vec<f32> = repeated(ones(&small, 3), 5).chain(repeated(ones(&large, 2), 10)).collect();
                assert_eq!(found.is_some(), block > 0);
                assert!(found.is_none() || values(found) == expected, "block {block}, branch {branch}");
            }
        }
    }
}
