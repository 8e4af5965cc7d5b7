//! What speaks for two images being copies: the same bytes, near hashes, near embeddings, shared keypoints.
//!
//! Each kind proposes pairs and is then held to a check of its own: what hashes and embeddings propose must agree as
//! thumbnails, what keypoints propose must fit one affine map and look alike under it. Of each check comes a score from 0
//! to 1 that is 0.5 at its threshold; a pair's score joins the two as independent evidence, `1 - (1 - s) (1 - t)`.

use crate::Result;
use crate::duplicates::UnionFind;
use crate::fingerprint::{Fingerprint, Turn};
use crate::input::{Image, Vectors};
use crate::local::{Fit, LocalFeatures, confirm, propose};
use crate::multi_index::{matches_within, pairs_within};
use crate::neighbours::{NearPairs, pairs_above};
use crate::overlap::{Overlap, overlap};
use lapidary_pipeline::interrupt;
use lapidary_schemas::CopyKind;
use lapidary_schemas::config::{CurateConfig, Evidence};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Evidence between two images, by index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The one with the smaller index.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// The strongest kind of evidence.
    pub kind: CopyKind,
    /// 0 to 1; from `curate.score_min` on the two are tied.
    pub score: f32,
    /// Cosine of their embeddings, where there are any.
    pub similarity: Option<f32>,
    /// Bits in which their PDQ hashes differ, `a` turned.
    pub hash_distance_bits: Option<u32>,
    /// How `a` is turned to become `b`, where a hash or an embedding says so.
    pub turn: Option<Turn>,
    /// Correlation of their thumbnails, `a` turned.
    pub correlation: Option<f32>,
    /// What their keypoints share.
    pub fit: Option<Fit>,
    /// What their thumbnails say of that.
    pub overlap: Option<Overlap>,
}

/// What is known of the images, each indexed like the others; embeddings may be missing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) images: &'a [Image],
    pub(crate) prints: &'a [Fingerprint],
    pub(crate) vectors: Option<&'a Vectors>,
}

/// Keypoints that must speak for a pair before it is fitted.
const VOTES_MIN: usize = 3;
/// Images with the same bytes to whom pairs are passed on.
const CLASS_MAX: usize = 16;
/// Below its threshold, the score of thumbnails falls to 0 over this much correlation.
const CORRELATION_SLOPE: f32 = 0.3;

/// All pairs with evidence, sorted by images, and what the search among embeddings saw.
///
/// Of images with the same bytes only the first is looked at; its pairs are then passed on to the others, unless they are
/// more than [`CLASS_MAX`], who are paired with the first alone.
///
/// # Errors
/// When FAISS refuses, or on an interrupt.
pub(crate) fn find_pairs(known: Known<'_>, config: &CurateConfig) -> Result<(Vec<Pair>, Option<NearPairs>)> {
    let asked = |evidence: Evidence| config.evidence.contains(&evidence);
    let mut found: BTreeMap<(usize, usize), Pair> = BTreeMap::new();
    let mut near_pairs = None;
    let first_of = first_of_each_digest(known.images);
    if asked(Evidence::Exact) {
        for (image, first) in first_of.iter().enumerate().filter(|(image, first)| image != *first) {
            let pair = found.entry((*first, image)).or_insert_with(|| Pair::new(*first, image, CopyKind::Exact));
            pair.score = 1.0;
        }
    }
    let stands_alone = |image: usize| !asked(Evidence::Exact) || first_of[image] == image;
    if asked(Evidence::Hash) {
        for (a, b, turn, bits) in near_hashes(known, config, &stands_alone) {
            let pair = found.entry((a, b)).or_insert_with(|| Pair::new(a, b, CopyKind::Perceptual));
            // A pair that is near in several turns is taken in the nearest.
            if pair.hash_distance_bits.is_none_or(|before| bits < before) {
                (pair.hash_distance_bits, pair.turn) = (Some(bits), Some(turn));
            }
        }
    }
    if let Some(vectors) = known.vectors.filter(|_| asked(Evidence::Embedding)) {
        let mut near = pairs_above(vectors, config)?;
        let pairs = std::mem::take(&mut near.pairs);
        near_pairs = Some(near);
        for (a, b, similarity) in pairs.into_iter().filter(|(a, b, _)| stands_alone(*a) && stands_alone(*b)) {
            let pair = found.entry((a, b)).or_insert_with(|| Pair::new(a, b, CopyKind::Copy));
            pair.similarity = Some(similarity);
            pair.turn = pair.turn.or(Some(Turn::None));
        }
    }
    if asked(Evidence::Local) {
        interrupt::check()?;
        pairs_judged(&mut found, known, config);
        let mut groups = UnionFind::new(known.images.len());
        found.values().filter(|pair| pair.score >= config.score_min).for_each(|pair| groups.join(pair.a, pair.b));
        let group_of: Vec<usize> = (0..known.images.len()).map(|image| groups.root(image)).collect();
        for (a, b, fit) in shared_keypoints(known.prints, &group_of, &stands_alone) {
            let pair = found.entry((a, b)).or_insert_with(|| Pair::new(a, b, CopyKind::Local));
            pair.fit = Some(fit);
        }
    }
    pairs_judged(&mut found, known, config);
    if asked(Evidence::Exact) {
        pass_on_to_exact_copies(&mut found, &first_of);
    }
    let mut pairs: Vec<Pair> = found.into_values().collect();
    if let Some(vectors) = known.vectors {
        pairs.iter_mut().for_each(|pair| pair.similarity = Some(vectors.cosine(pair.a, pair.b)));
    }
    Ok((pairs, near_pairs))
}

/// Gives the pairs of an image that stands for its exact copies to each of them.
fn pass_on_to_exact_copies(found: &mut BTreeMap<(usize, usize), Pair>, first_of: &[usize]) {
    let mut classes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (image, first) in first_of.iter().enumerate() {
        classes.entry(*first).or_default().push(image);
    }
    let class = |image: usize| classes.get(&image).filter(|class| class.len() <= CLASS_MAX).map_or(&[][..], |c| c);
    let mut passed_on = Vec::new();
    for pair in found.values().filter(|pair| pair.kind != CopyKind::Exact) {
        for a in class(pair.a) {
            for b in class(pair.b).iter().filter(|b| *b != a) {
                let swapped = a > b;
                // Turn and map lead from the smaller index to the larger: a pair the other way around keeps its score alone.
                let copy = if swapped {
                    Pair { a: *b, b: *a, turn: None, fit: None, overlap: None, ..*pair }
                } else {
                    Pair { a: *a, b: *b, ..*pair }
                };
                passed_on.push(copy);
            }
        }
    }
    for class in classes.values().filter(|class| (3..=CLASS_MAX).contains(&class.len())) {
        for (i, b) in class.iter().enumerate() {
            passed_on
                .extend(class[1..i.max(1)].iter().map(|a| Pair { score: 1.0, ..Pair::new(*a, *b, CopyKind::Exact) }));
        }
    }
    for pair in passed_on {
        found.entry((pair.a, pair.b)).or_insert(pair);
    }
}

impl Pair {
    /// Two images of whom nothing is known but what proposed them.
    pub(crate) fn new(a: usize, b: usize, kind: CopyKind) -> Self {
        Self {
            a,
            b,
            kind,
            score: 0.0,
            similarity: None,
            hash_distance_bits: None,
            turn: None,
            correlation: None,
            fit: None,
            overlap: None,
        }
    }
}

/// Scores all pairs by what has been found so far.
fn pairs_judged(found: &mut BTreeMap<(usize, usize), Pair>, known: Known<'_>, config: &CurateConfig) {
    let pairs: Vec<&mut Pair> = found.values_mut().filter(|pair| pair.kind != CopyKind::Exact).collect();
    pairs.into_par_iter().for_each(|pair| judge(pair, known, config));
}

/// Checks what was proposed and scores it.
fn judge(pair: &mut Pair, known: Known<'_>, config: &CurateConfig) {
    let global = pair.turn.map_or(0.0, |turn| {
        let correlation = known.prints[pair.a].thumbnail.correlation(turn, &known.prints[pair.b].thumbnail);
        pair.correlation = Some(correlation);
        correlation_score(correlation, config.correlation_min)
    });
    let local = pair.fit.map_or(0.0, |fit| {
        let (a, b) = (&known.prints[pair.a], &known.prints[pair.b]);
        let seen = overlap((&a.thumbnail, &a.local), (&b.thumbnail, &b.local), &fit.map);
        pair.overlap = seen;
        let support = fit.support() * seen.map_or(0.0, |seen| seen.likeness());
        support / (support + config.local_support_min)
    });
    pair.score = 1.0 - (1.0 - global) * (1.0 - local);
    // What the hash or embedding proposed without being borne out is not its evidence.
    if local > global {
        pair.kind = CopyKind::Local;
    }
}

fn correlation_score(correlation: f32, least: f32) -> f32 {
    let score = if correlation >= least {
        0.5 + 0.5 * (correlation - least) / (1.0 - least).max(1e-6)
    } else {
        0.5 * (1.0 - (least - correlation) / CORRELATION_SLOPE)
    };
    score.clamp(0.0, 1.0)
}

/// For each image the first with the same bytes: itself, when there is none before it.
fn first_of_each_digest(images: &[Image]) -> Vec<usize> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    images.iter().enumerate().map(|(index, image)| *first.entry(image.digest.as_str()).or_insert(index)).collect()
}

/// Pairs `(a, b, turn, bits)` of images whose hashes are near, `a` turned.
fn near_hashes(
    known: Known<'_>,
    config: &CurateConfig,
    stands_alone: &dyn Fn(usize) -> bool,
) -> Vec<(usize, usize, Turn, u32)> {
    let bits = |a: usize, b: usize, turn: Turn| {
        known.prints[a].pdq.by_turn[turn as usize].distance_bits(&known.prints[b].pdq.by_turn[0])
    };
    let mut near = Vec::new();
    let short: Vec<(usize, [u64; 1])> = (0..known.images.len())
        .filter(|image| stands_alone(*image))
        .map(|image| (image, [known.images[image].phash]))
        .collect();
    for (a, b) in distinct(&short, |hashes| pairs_within(hashes, config.hash_max_bits)) {
        near.push((a, b, Turn::None, bits(a, b, Turn::None)));
    }
    // The images with enough in them; of those with equal hashes, the first stands for all.
    let telling = |image: &usize| stands_alone(*image) && known.prints[*image].pdq.quality >= config.pdq_quality_min;
    let images: Vec<usize> = (0..known.images.len()).filter(telling).collect();
    let long: Vec<(usize, [u64; 4])> =
        images.iter().map(|image| (*image, known.prints[*image].pdq.by_turn[0].0)).collect();
    for (a, b) in distinct(&long, |hashes| pairs_within(hashes, config.pdq_max_bits)) {
        near.push((a, b, Turn::None, bits(a, b, Turn::None)));
    }
    let base: Vec<[u64; 4]> = long.iter().map(|(_, hash)| *hash).collect();
    for turn in Turn::ALL.into_iter().skip(1) {
        let turned: Vec<[u64; 4]> =
            images.iter().map(|image| known.prints[*image].pdq.by_turn[turn as usize].0).collect();
        for (a, b, distance) in matches_within(&turned, &base, config.pdq_max_bits) {
            let (a, b) = (images[a as usize], images[b as usize]);
            // Each pair is met twice, once with either turned back onto the other.
            if a < b {
                near.push((a, b, turn, distance));
            }
        }
    }
    near
}

/// Pairs of items that are near, where items of equal hashes are paired with the first of them only, so that a hash that
/// thousands share does not bring millions of pairs.
fn distinct<const W: usize>(
    items: &[(usize, [u64; W])],
    near: impl Fn(&[[u64; W]]) -> Vec<(u32, u32, u32)>,
) -> Vec<(usize, usize)> {
    let mut first: BTreeMap<[u64; W], usize> = BTreeMap::new();
    let mut firsts: Vec<(usize, [u64; W])> = Vec::new();
    let mut pairs = Vec::new();
    for (item, hash) in items {
        match first.get(hash) {
            Some(before) => pairs.push((*before, *item)),
            None => {
                first.insert(*hash, *item);
                firsts.push((*item, *hash));
            }
        }
    }
    let hashes: Vec<[u64; W]> = firsts.iter().map(|(_, hash)| *hash).collect();
    pairs.extend(near(&hashes).into_iter().map(|(a, b, _)| (firsts[a as usize].0, firsts[b as usize].0)));
    pairs
}

fn shared_keypoints(
    prints: &[Fingerprint],
    group_of: &[usize],
    stands_alone: &dyn Fn(usize) -> bool,
) -> Vec<(usize, usize, Fit)> {
    let nothing = LocalFeatures::default();
    let features: Vec<&LocalFeatures> = prints
        .iter()
        .enumerate()
        .map(|(image, print)| if stands_alone(image) { &print.local } else { &nothing })
        .collect();
    let (proposals, rarity) = propose(&features, group_of, VOTES_MIN);
    tracing::debug!("{} pairs of images share keypoints", proposals.len());
    proposals
        .par_iter()
        .filter_map(|proposal| confirm(&features, proposal, &rarity).map(|fit| (proposal.a, proposal.b, fit)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_a_half_at_its_threshold_and_grows() {
        assert_eq!(correlation_score(0.9, 0.9), 0.5);
        assert_eq!(correlation_score(1.0, 0.9), 1.0);
        assert!(correlation_score(0.89, 0.9) < 0.5 && correlation_score(0.95, 0.9) > 0.5);
        assert_eq!(correlation_score(0.2, 0.9), 0.0);
    }

    #[test]
    fn a_hash_that_many_share_brings_a_pair_for_each_of_them() {
        let items: Vec<(usize, [u64; 1])> = (0..1000).map(|i| (i, [if i < 990 { 7 } else { i as u64 }])).collect();
        let pairs = distinct(&items, |hashes| pairs_within(hashes, 0));
        assert_eq!(pairs.len(), 989);
        assert!(pairs.iter().all(|(a, _)| *a == 0));
    }
}
