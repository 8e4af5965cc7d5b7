//! What speaks for two images being copies: the same bytes, near hashes, near embeddings, shared keypoints.
//!
//! Each kind proposes pairs and is then held to a check of its own: what hashes and embeddings propose must agree as
//! thumbnails, what keypoints propose must fit one affine map and look alike under it. Of each check comes a score from 0
//! to 1 that is 0.5 at its threshold; a pair's score joins the two as independent evidence, `1 - (1 - s) (1 - t)`.

use crate::Result;
use crate::fingerprint::{Fingerprint, Turn};
use crate::input::{Image, Vectors};
use crate::local::{Fit, LocalFeatures, Rarity, confirm, propose};
use crate::multi_index::{matches_within, pairs_within};
use crate::neighbours::{NearPairs, Neighbours, pairs_of};
use crate::overlap::{Overlap, overlap};
use crate::uniform::pairs_of_a_colour;
use crate::union_find::UnionFind;
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

/// What an earlier search found among some of the images; they are not compared with each other again.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    /// Whether each image is new since then.
    pub(crate) is_new: Vec<bool>,
    /// The pairs of the others.
    pub(crate) pairs: Vec<Pair>,
    /// For each image the counts of [`crate::local::Rarity`], empty for the new.
    pub(crate) met: Vec<Vec<u8>>,
}

impl Before {
    /// Nothing was looked for before among `count` images.
    pub(crate) fn nothing(count: usize) -> Self {
        Self { is_new: vec![true; count], pairs: Vec::new(), met: vec![Vec::new(); count] }
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// All pairs with evidence, sorted by images.
    pub(crate) pairs: Vec<Pair>,
    /// What the search among embeddings saw.
    pub(crate) near: Option<NearPairs>,
    /// How often each image's keypoints were met.
    pub(crate) met: Vec<Vec<u8>>,
}

/// Keypoints that must speak for a pair before it is fitted.
const VOTES_MIN: usize = 3;
/// Images with the same bytes to whom pairs are passed on.
const CLASS_MAX: usize = 16;
/// Below its threshold, the score of thumbnails falls to 0 over this much correlation.
const CORRELATION_SLOPE: f32 = 0.3;

/// All pairs with evidence: those found before, and those of which at least one image is new.
///
/// Of images with the same bytes only the first is looked at; its pairs are then passed on to the others, unless they are
/// more than [`CLASS_MAX`], who are paired with the first alone. `neighbours` is an index over the embeddings, where they count.
///
/// # Errors
/// When FAISS refuses, or on an interrupt.
pub(crate) fn find_pairs(
    known: Known<'_>,
    before: Before,
    neighbours: Option<&mut Neighbours<'_>>,
    config: &CurateConfig,
) -> Result<Found> {
    let asked = |evidence: Evidence| config.evidence.contains(&evidence);
    let Before { is_new, pairs: pairs_before, mut met } = before;
    let mut found: BTreeMap<(usize, usize), Pair> = BTreeMap::new();
    let first_of = first_of_each_digest(known.images, &is_new);
    if asked(Evidence::Exact) {
        for (image, first) in first_of.iter().enumerate().filter(|(image, first)| image != *first && is_new[*image]) {
            let (a, b) = (image.min(*first), image.max(*first));
            found.insert((a, b), Pair { score: 1.0, ..Pair::new(a, b, CopyKind::Exact) });
        }
    }
    let stands_alone = |image: usize| !asked(Evidence::Exact) || first_of[image] == image;
    if asked(Evidence::Hash) {
        for (a, b, turn, bits) in near_hashes(known, &is_new, config, &stands_alone) {
            let pair = found.entry((a, b)).or_insert_with(|| Pair::new(a, b, CopyKind::Perceptual));
            // A pair that is near in several turns is taken in the nearest.
            if pair.hash_distance_bits.is_none_or(|before| bits < before) {
                (pair.hash_distance_bits, pair.turn) = (Some(bits), Some(turn));
            }
        }
    }
    let mut near_pairs = None;
    if let Some(neighbours) = neighbours.filter(|_| asked(Evidence::Embedding)) {
        let asking: Vec<usize> = (0..is_new.len()).filter(|image| is_new[*image]).collect();
        let mut near = pairs_of(neighbours, &asking, config)?;
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
        let ties = found.values().chain(&pairs_before).filter(|pair| pair.score >= config.score_min);
        ties.for_each(|pair| groups.join(pair.a, pair.b));
        let group_of: Vec<usize> = (0..known.images.len()).map(|image| groups.root(image)).collect();
        let (fits, rarity) = shared_keypoints(known.prints, &group_of, &is_new, &met, &stands_alone);
        met = rarity.into_counts();
        for (a, b, fit) in fits {
            let pair = found.entry((a, b)).or_insert_with(|| Pair::new(a, b, CopyKind::Local));
            pair.fit = Some(fit);
        }
    }
    pairs_judged(&mut found, known, config);
    found.extend(pairs_before.into_iter().map(|pair| ((pair.a, pair.b), pair)));
    if asked(Evidence::Exact) {
        pass_on_to_exact_copies(&mut found, &first_of);
    }
    let mut pairs: Vec<Pair> = found.into_values().collect();
    if let Some(vectors) = known.vectors {
        pairs.iter_mut().for_each(|pair| pair.similarity = Some(vectors.cosine(pair.a, pair.b)));
    }
    Ok(Found { pairs, near: near_pairs, met })
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
        let correlation = known.prints[pair.a].correlation(turn, &known.prints[pair.b]);
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

/// For each image the first with the same bytes, those that are not new being asked first: itself, when it is that one.
fn first_of_each_digest(images: &[Image], is_new: &[bool]) -> Vec<usize> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for image in old_first(is_new) {
        first.entry(images[image].digest.as_str()).or_insert(image);
    }
    images.iter().map(|image| first[image.digest.as_str()]).collect()
}

/// All images, those that are not new before the others.
fn old_first(is_new: &[bool]) -> Vec<usize> {
    let mut images: Vec<usize> = (0..is_new.len()).collect();
    images.sort_by_key(|image| is_new[*image]);
    images
}

/// Pairs `(a, b, turn, bits)` of images whose hashes are near, `a` turned, at least one of them new.
fn near_hashes(
    known: Known<'_>,
    is_new: &[bool],
    config: &CurateConfig,
    stands_alone: &dyn Fn(usize) -> bool,
) -> Vec<(usize, usize, Turn, u32)> {
    let bits = |a: usize, b: usize, turn: Turn| {
        known.prints[a].pdq.by_turn[turn as usize].distance_bits(&known.prints[b].pdq.by_turn[0])
    };
    let in_order: Vec<usize> = old_first(is_new).into_iter().filter(|image| stands_alone(*image)).collect();
    let mut near = Vec::new();
    let short: Vec<(usize, [u64; 1])> = in_order.iter().map(|image| (*image, [known.images[*image].phash])).collect();
    for (a, b) in distinct(&short, is_new, config.hash_max_bits) {
        near.push((a, b, Turn::None, bits(a, b, Turn::None)));
    }
    // Of equal hashes only the first is looked at: uniform images have one hash and many colours.
    let uniform: Vec<(usize, [u8; 3])> = in_order
        .iter()
        .filter(|image| known.prints[**image].thumbnail.is_uniform())
        .map(|image| (*image, known.prints[*image].mean_rgb))
        .collect();
    for (a, b) in pairs_of_a_colour(&uniform, is_new) {
        near.push((a, b, Turn::None, bits(a, b, Turn::None)));
    }
    // The images with enough in them; of those with equal hashes, the first stands for all.
    let telling = |image: &usize| known.prints[*image].pdq.quality >= config.pdq_quality_min;
    let images: Vec<usize> = in_order.into_iter().filter(telling).collect();
    let turned = |images: &[usize], turn: Turn| -> Vec<[u64; 4]> {
        images.iter().map(|image| known.prints[*image].pdq.by_turn[turn as usize].0).collect()
    };
    let long: Vec<(usize, [u64; 4])> = images.iter().copied().zip(turned(&images, Turn::None)).collect();
    for (a, b) in distinct(&long, is_new, config.pdq_max_bits) {
        near.push((a, b, Turn::None, bits(a, b, Turn::None)));
    }
    let (old, new) = images.split_at(images.partition_point(|image| !is_new[*image]));
    for turn in Turn::ALL.into_iter().skip(1) {
        // Each pair is met twice, once with either turned back onto the other: the one with the smaller index is turned.
        for (turning, onto) in [(new, &images[..]), (old, new)] {
            for (a, b, distance) in
                matches_within(&turned(turning, turn), &turned(onto, Turn::None), config.pdq_max_bits)
            {
                let (a, b) = (turning[a as usize], onto[b as usize]);
                if a < b {
                    near.push((a, b, turn, distance));
                }
            }
        }
    }
    near
}

/// Pairs of items that are near, at least one of them new, where items of equal hashes are paired with the first of them
/// only, so that a hash that thousands share does not bring millions of pairs. Those that are not new come first.
fn distinct<const W: usize>(items: &[(usize, [u64; W])], is_new: &[bool], max_bits: u32) -> Vec<(usize, usize)> {
    let mut first: BTreeMap<[u64; W], usize> = BTreeMap::new();
    let mut firsts: Vec<(usize, [u64; W])> = Vec::new();
    let mut pairs = Vec::new();
    for (item, hash) in items {
        match first.get(hash) {
            Some(before) if is_new[*item] => pairs.push((*before, *item)),
            Some(_) => {}
            None => {
                first.insert(*hash, *item);
                firsts.push((*item, *hash));
            }
        }
    }
    let (old, new) = firsts.split_at(firsts.partition_point(|(item, _)| !is_new[*item]));
    let hashes = |items: &[(usize, [u64; W])]| -> Vec<[u64; W]> { items.iter().map(|(_, hash)| *hash).collect() };
    let (old_hashes, new_hashes) = (hashes(old), hashes(new));
    let among_new = pairs_within(&new_hashes, max_bits).into_iter();
    pairs.extend(among_new.map(|(a, b, _)| (new[a as usize].0, new[b as usize].0)));
    let with_old = matches_within(&new_hashes, &old_hashes, max_bits).into_iter();
    pairs.extend(with_old.map(|(a, b, _)| (new[a as usize].0, old[b as usize].0)));
    pairs.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect()
}

fn shared_keypoints(
    prints: &[Fingerprint],
    group_of: &[usize],
    is_new: &[bool],
    met: &[Vec<u8>],
    stands_alone: &dyn Fn(usize) -> bool,
) -> (Vec<(usize, usize, Fit)>, Rarity) {
    let nothing = LocalFeatures::default();
    let features: Vec<&LocalFeatures> = prints
        .iter()
        .enumerate()
        .map(|(image, print)| if stands_alone(image) { &print.local } else { &nothing })
        .collect();
    let (proposals, rarity) = propose(&features, group_of, is_new, met, VOTES_MIN);
    tracing::debug!("{} pairs of images share keypoints", proposals.len());
    let fits = proposals
        .par_iter()
        .filter_map(|proposal| confirm(&features, proposal, &rarity).map(|fit| (proposal.a, proposal.b, fit)))
        .collect();
    (fits, rarity)
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
        let pairs = distinct(&items, &[true; 1000], 0);
        assert_eq!(pairs.len(), 989);
        assert!(pairs.iter().all(|(a, _)| *a == 0));
    }
}
