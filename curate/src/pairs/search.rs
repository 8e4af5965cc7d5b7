//! What speaks for two images being copies: the same bytes, near hashes, near embeddings, shared keypoints.
//!
//! Each kind proposes pairs and is then held to a check of its own: what hashes and embeddings propose must agree as
//! thumbnails, what keypoints propose must fit one affine map and look alike under it. Of each check comes a score from
//! 0 to 1 that is 0.5 at its threshold; a pair's score joins the two as independent evidence, `1 - (1 - s) (1 - t)`.

use super::embeddings::{NearPairs, pairs_of};
use super::exact::{first_of_each_digest, pass_on_to_exact_copies};
use super::hashes::near_hashes;
use super::index::Neighbours;
use super::inverted::inverted;
use super::judge::judge_all;
use super::keypoints::{Fit, Rarity, confirm, propose};
use super::union_find::UnionFind;
use super::{KnownPairs, Pair};
use crate::Result;
use crate::fingerprints::{Dihedral, Fingerprint, ImageSet, LocalFeatures};
use lapidary_pipeline::interrupt;
use lapidary_schemas::CopyKind;
use lapidary_schemas::config::{CurateConfig, Evidence};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// What was found.
#[derive(Debug)]
pub(crate) struct FoundPairs {
    /// All pairs with evidence, sorted by images.
    pub(crate) pairs: Vec<Pair>,
    /// Statistics of the search among embeddings.
    pub(crate) near: Option<NearPairs>,
    /// How often each image's keypoints occur elsewhere.
    pub(crate) occurrences: Vec<Vec<u8>>,
}

/// The score from which on two images count as copies when keypoints are counted by groups: where each kind of evidence
/// reaches its own threshold. It is not `curate.score_min`, which groups alone depend on.
const COPIES_SCORE_MIN: f32 = 0.5;
/// Keypoints that must speak for a pair before it is fitted.
const VOTES_MIN: usize = 3;

/// All pairs with evidence: those found before, and those of which at least one image is new.
///
/// Of images with the same bytes only the first is looked at; its pairs are then passed on to the others, unless they
/// are more than [`CLASS_MAX`](super::exact::CLASS_MAX), which are paired with the first alone. `neighbours` is an
/// index over the embeddings, where they count.
///
/// # Errors
/// When FAISS refuses, or on an interrupt.
pub(crate) fn find_pairs(
    set: ImageSet<'_>,
    known: KnownPairs,
    neighbours: Option<&mut Neighbours<'_>>,
    config: &CurateConfig,
) -> Result<FoundPairs> {
    let is_sought = |evidence: Evidence| config.evidence.contains(&evidence);
    let KnownPairs { is_new, pairs: known_pairs, mut occurrences } = known;
    let mut found: BTreeMap<(usize, usize), Pair> = BTreeMap::new();
    let first_of = first_of_each_digest(set.images, &is_new);
    if is_sought(Evidence::Exact) {
        for (image, first) in first_of.iter().enumerate().filter(|(image, first)| image != *first && is_new[*image]) {
            let (a, b) = (image.min(*first), image.max(*first));
            found.insert((a, b), Pair { score: 1.0, ..Pair::new(a, b, CopyKind::Exact) });
        }
    }
    let stands_alone = |image: usize| !is_sought(Evidence::Exact) || first_of[image] == image;
    if is_sought(Evidence::Hash) {
        for (a, b, dihedral, bits) in near_hashes(set, &is_new, config, &stands_alone) {
            let pair = found.entry((a, b)).or_insert_with(|| Pair::new(a, b, CopyKind::Perceptual));
            // A pair that is near under several dihedral transforms is taken under the nearest.
            if pair.hash_distance_bits.is_none_or(|before| bits < before) {
                (pair.hash_distance_bits, pair.dihedral) = (Some(bits), Some(dihedral));
            }
        }
    }
    if is_sought(Evidence::Hash) {
        for (a, b, bits) in inverted(set, &is_new, config, &stands_alone) {
            let pair = found.entry((a, b)).or_insert_with(|| Pair::new(a, b, CopyKind::Perceptual));
            if pair.hash_distance_bits.is_none() {
                (pair.hash_distance_bits, pair.dihedral) = (Some(bits), Some(Dihedral::None));
            }
        }
    }
    let mut near_pairs = None;
    if let Some(neighbours) = neighbours.filter(|_| is_sought(Evidence::Embedding)) {
        let queried: Vec<usize> = (0..is_new.len()).filter(|image| is_new[*image]).collect();
        let mut near = pairs_of(neighbours, &queried, config)?;
        let pairs = std::mem::take(&mut near.pairs);
        near_pairs = Some(near);
        for (a, b, similarity) in pairs.into_iter().filter(|(a, b, _)| stands_alone(*a) && stands_alone(*b)) {
            let pair = found.entry((a, b)).or_insert_with(|| Pair::new(a, b, CopyKind::Copy));
            pair.similarity = Some(similarity);
            pair.dihedral = pair.dihedral.or(Some(Dihedral::None));
        }
    }
    if is_sought(Evidence::Local) {
        interrupt::check()?;
        judge_all(&mut found, set, config);
        let mut groups = UnionFind::new(set.images.len());
        let edges = found.values().chain(&known_pairs).filter(|pair| pair.score >= COPIES_SCORE_MIN);
        edges.for_each(|pair| groups.join(pair.a, pair.b));
        let group_of: Vec<usize> = (0..set.images.len()).map(|image| groups.root(image)).collect();
        let (fits, rarity) = shared_keypoints(set.prints, &group_of, &is_new, &occurrences, &stands_alone);
        occurrences = rarity.into_counts();
        for (a, b, fit) in fits {
            let pair = found.entry((a, b)).or_insert_with(|| Pair::new(a, b, CopyKind::Local));
            pair.fit = Some(fit);
        }
    }
    judge_all(&mut found, set, config);
    found.extend(known_pairs.into_iter().map(|pair| ((pair.a, pair.b), pair)));
    if is_sought(Evidence::Exact) {
        pass_on_to_exact_copies(&mut found, &first_of);
    }
    let mut pairs: Vec<Pair> = found.into_values().collect();
    if let Some(vectors) = set.vectors {
        pairs.iter_mut().for_each(|pair| pair.similarity = Some(vectors.cosine(pair.a, pair.b)));
    }
    Ok(FoundPairs { pairs, near: near_pairs, occurrences })
}

fn shared_keypoints(
    prints: &[Fingerprint],
    group_of: &[usize],
    is_new: &[bool],
    occurrences: &[Vec<u8>],
    stands_alone: &dyn Fn(usize) -> bool,
) -> (Vec<(usize, usize, Fit)>, Rarity) {
    let nothing = LocalFeatures::default();
    let features: Vec<&LocalFeatures> = prints
        .iter()
        .enumerate()
        .map(|(image, print)| if stands_alone(image) { &print.local } else { &nothing })
        .collect();
    let (proposals, rarity) = propose(&features, group_of, is_new, occurrences, VOTES_MIN);
    tracing::debug!("{} pairs of images share keypoints", proposals.len());
    let fits = proposals
        .par_iter()
        .filter_map(|proposal| confirm(&features, proposal, &rarity).map(|fit| (proposal.a, proposal.b, fit)))
        .collect();
    (fits, rarity)
}
