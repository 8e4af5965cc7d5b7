//! What speaks for two images being copies: the same bytes, near hashes, near embeddings, shared keypoints.
//!
//! Each kind proposes pairs and is then held to a check of its own: what hashes and embeddings propose must agree as
//! thumbnails, what keypoints propose must fit one affine map and look alike under it. Of each check comes a score from
//! 0 to 1 that is 0.5 at its threshold; a pair's score joins the two as independent evidence, `1 - (1 - s) (1 - t)`.
//!
//! Candidates, votes and pairs are sorted records that may lie on disk; blocks of them are looked at, never all.

use super::candidate::Candidate;
use super::embeddings::{NearPairs, pairs_of};
use super::exact::{Classes, first_of_each_digest};
use super::hashes::near_hashes;
use super::index::Neighbours;
use super::inverted::inverted;
use super::judge::judge;
use super::keypoints::{KeypointSet, Proposal, Rarity, Votes, confirm};
use super::sorted::{ByImages, ByScore};
use super::stars::stars;
use super::union_find::UnionFind;
use super::{KnownPairs, Pair};
use crate::Result;
use crate::fingerprints::ImageSet;
use crate::memory::{Memory, Sorted, SortedRuns};
use lapidary_pipeline::interrupt;
use lapidary_schemas::CopyKind;
use lapidary_schemas::config::{CurateConfig, Evidence};
use rayon::prelude::*;

/// What was found.
pub(crate) struct FoundPairs {
    /// All pairs with evidence, the strongest first.
    pub(crate) pairs: Sorted<ByScore>,
    /// How many they are.
    pub(crate) count: u64,
    /// Statistics of the search among embeddings.
    pub(crate) near: Option<NearPairs>,
    /// How often each image's keypoints occur elsewhere.
    pub(crate) occurrences: Occurrences,
}

/// How often keypoints occur elsewhere, by image.
pub(crate) enum Occurrences {
    /// As an earlier search counted them.
    Known(Vec<Vec<u8>>),
    /// As this one did.
    Counted(Rarity),
}

impl Occurrences {
    /// The counts of each of an image's keypoints; empty when it was not looked at for itself.
    pub(crate) fn of(&self, image: usize) -> &[u8] {
        match self {
            Self::Known(counts) => counts.get(image).map_or(&[], Vec::as_slice),
            Self::Counted(rarity) => rarity.counts(image),
        }
    }
}

/// The score from which on two images count as copies when keypoints are counted by groups: where each kind of evidence
/// reaches its own threshold. It is not `curate.score_min`, which groups alone depend on.
const COPIES_SCORE_MIN: f32 = 0.5;
/// Keypoints that must speak for a pair before it is fitted.
const VOTES_MIN: usize = 3;
/// Pairs that are judged at a time.
const BLOCK: usize = 4096;

/// All pairs with evidence: those found before, and those of which at least one image is new.
///
/// Of images with the same bytes only the first is looked at; its pairs are then passed on to the others, unless they
/// are more than [`CLASS_MAX`](super::exact::CLASS_MAX), which are paired with the first alone; so are those of many
/// near-identical images ([`stars`](super::stars)). `neighbours` is an index over the embeddings, where they count.
///
/// # Errors
/// When FAISS or the disk refuses, or on an interrupt.
pub(crate) fn find_pairs(
    set: ImageSet<'_>,
    known: KnownPairs,
    neighbours: Option<Neighbours<'_>>,
    config: &CurateConfig,
    memory: &Memory,
) -> Result<FoundPairs> {
    let is_sought = |evidence: Evidence| config.evidence.contains(&evidence);
    let KnownPairs { is_new, pairs: known_pairs, occurrences: known_counts } = known;
    let all = 0..set.images.len();
    let first_of: Vec<u32> = if is_sought(Evidence::Exact) {
        first_of_each_digest(set.images, &is_new)
    } else {
        all.clone().map(|image| image as u32).collect()
    };
    let mut stands_alone: Vec<bool> = all.clone().map(|image| first_of[image] as usize == image).collect();
    let mut found = SortedRuns::<ByImages>::new(memory);
    let as_found = |pair: Pair| ByImages { pair, is_passed_on: false };
    let copies = all.clone().filter(|image| first_of[*image] as usize != *image && is_new[*image]);
    found.extend(copies.map(|image| {
        let first = first_of[image] as usize;
        let (a, b) = (image.min(first), image.max(first));
        as_found(Pair { score: 1.0, ..Pair::new(a, b, CopyKind::Exact) })
    }))?;

    let mut of_stars = Vec::new();
    let mut candidates = SortedRuns::<Candidate>::new(memory);
    if is_sought(Evidence::Hash) {
        of_stars = stars(set, &is_new, config, &mut stands_alone)?;
        near_hashes(set, &is_new, config, &stands_alone, &mut candidates)?;
        inverted(set, &is_new, config, &stands_alone, &mut candidates)?;
    }
    let mut near_pairs = None;
    if let Some(mut neighbours) = neighbours.filter(|_| is_sought(Evidence::Embedding)) {
        let queried: Vec<usize> = all.clone().filter(|image| is_new[*image]).collect();
        let near = pairs_of(&mut neighbours, &queried, config, |near| {
            let near = near.iter().filter(|(a, b, _)| stands_alone[*a] && stands_alone[*b]);
            candidates.extend(near.map(|(a, b, similarity)| Candidate::by_embedding(*a, *b, *similarity)))
        })?;
        near_pairs = Some(near);
    }
    let candidates = candidates.finish()?;

    // Each candidate is judged by itself first; once more only where keypoints have something to say.
    let mut groups = UnionFind::new(set.images.len());
    let mut judged = SortedRuns::<ByImages>::new(memory);
    let by_itself = |mut pair: Pair| -> Result<Option<Pair>> {
        let (a, b) = (set.prints.get(pair.a)?, set.prints.get(pair.b)?);
        judge(&mut pair, &a, &b, config);
        Ok(Some(pair))
    };
    in_blocks(pairs_of_candidates(&candidates), by_itself, |pairs| {
        let copies = pairs.iter().filter(|pair| pair.score >= COPIES_SCORE_MIN);
        copies.for_each(|pair| groups.join(pair.a, pair.b));
        judged.extend(pairs.iter().copied().map(as_found))
    })?;
    drop(candidates);
    let judged = judged.finish()?;

    let mut votes = None;
    if is_sought(Evidence::Local) {
        interrupt::check()?;
        let edges = of_stars.iter().chain(&known_pairs).filter(|pair| pair.score >= COPIES_SCORE_MIN);
        edges.for_each(|pair| groups.join(pair.a, pair.b));
        let exact = all.clone().filter(|image| first_of[*image] as usize != *image);
        exact.for_each(|image| groups.join(image, first_of[image] as usize));
        let group_of: Vec<u32> = all.clone().map(|image| groups.root(image) as u32).collect();
        drop(groups);
        votes = Some(KeypointSet::new(set.prints, &stands_alone, &is_new, memory).votes(&group_of, &known_counts)?);
    }
    let classes = Classes::of(&first_of);
    let mut keep = |pairs: &[Pair]| -> Result<()> {
        found.extend(pairs.iter().copied().map(as_found))?;
        let passed_on = pairs.iter().flat_map(|pair| classes.passed_on(pair));
        found.extend(passed_on.map(|pair| ByImages { pair, is_passed_on: true }))
    };
    let proposals = votes.iter().flat_map(|votes| votes.proposals(VOTES_MIN));
    let rarity = votes.as_ref().map(|votes| &votes.rarity);
    let whole = judged.iter().map(|judged| judged.map(|judged| judged.pair));
    let with_keypoints = |(mut pair, proposal): Proposed| -> Result<Option<Pair>> {
        let (a, b) = (set.prints.get(pair.a)?, set.prints.get(pair.b)?);
        if let (Some(proposal), Some(rarity)) = (&proposal, rarity) {
            let weight = |of_a, of_b| rarity.weight(pair.a, of_a).min(rarity.weight(pair.b, of_b));
            pair.fit = confirm(&a.local, &b.local, &proposal.votes, weight);
        }
        if pair.fit.is_none() {
            // What a hash or an embedding proposed has been judged.
            return Ok(pair.dihedral.map(|_| pair));
        }
        judge(&mut pair, &a, &b, config);
        Ok(Some(pair))
    };
    in_blocks(joined(whole, proposals), with_keypoints, &mut keep)?;
    drop(judged);
    keep(&of_stars)?;
    keep(&known_pairs)?;
    found.extend(classes.pairs().map(|pair| ByImages { pair, is_passed_on: true }))?;
    let occurrences = match votes {
        Some(Votes { rarity, .. }) => Occurrences::Counted(rarity),
        None => Occurrences::Known(known_counts),
    };
    let (pairs, count) = strongest_first(&found.finish()?, set, memory)?;
    Ok(FoundPairs { pairs, count, near: near_pairs, occurrences })
}

/// The pairs that candidates propose, in the order of their images.
fn pairs_of_candidates(candidates: &Sorted<Candidate>) -> impl Iterator<Item = Result<Pair>> {
    let mut candidates = candidates.iter().peekable();
    let mut of_pair: Vec<Candidate> = Vec::new();
    std::iter::from_fn(move || {
        let first = match candidates.next()? {
            Ok(candidate) => candidate,
            Err(e) => return Some(Err(e)),
        };
        of_pair.clear();
        of_pair.push(first);
        let is_same = |other: &Result<Candidate>| other.as_ref().is_ok_and(|other| other.images() == first.images());
        while let Some(Ok(candidate)) = candidates.next_if(is_same) {
            of_pair.push(candidate);
        }
        Candidate::pair(&of_pair).map(Ok)
    })
}

/// A pair of images, and the keypoints that propose it, if any do.
type Proposed = (Pair, Option<Proposal>);

/// What whole images and what keypoints propose, joined by images.
fn joined(
    whole: impl Iterator<Item = Result<Pair>>,
    local: impl Iterator<Item = Result<Proposal>>,
) -> impl Iterator<Item = Result<Proposed>> {
    let (mut whole, mut local) = (whole.peekable(), local.peekable());
    std::iter::from_fn(move || {
        // An error sorts before everything.
        let of_whole = whole.peek().map(|pair| pair.as_ref().ok().map(|pair| (pair.a, pair.b)));
        let of_local = local.peek().map(|proposal| proposal.as_ref().ok().map(|proposal| (proposal.a, proposal.b)));
        let take_whole = of_whole.is_some() && of_local.is_none_or(|of_local| of_whole <= Some(of_local));
        let take_local = of_local.is_some() && of_whole.is_none_or(|of_whole| of_local <= Some(of_whole));
        let pair = if take_whole { whole.next() } else { None };
        let proposal = if take_local { local.next() } else { None };
        match (pair, proposal) {
            (None, None) => None,
            (Some(Err(e)), _) | (_, Some(Err(e))) => Some(Err(e)),
            (Some(Ok(pair)), None) => Some(Ok((pair, None))),
            (Some(Ok(pair)), Some(Ok(proposal))) => Some(Ok((pair, Some(proposal)))),
            (None, Some(Ok(proposal))) => {
                Some(Ok((Pair::new(proposal.a, proposal.b, CopyKind::Local), Some(proposal))))
            }
        }
    })
}

/// Judges what is proposed, block by block, and hands on what there is evidence for.
fn in_blocks<T: Send>(
    mut proposed: impl Iterator<Item = Result<T>>,
    judge: impl Fn(T) -> Result<Option<Pair>> + Sync,
    mut hand_on: impl FnMut(&[Pair]) -> Result<()>,
) -> Result<()> {
    loop {
        interrupt::check()?;
        let block: Vec<T> = proposed.by_ref().take(BLOCK).collect::<Result<_>>()?;
        if block.is_empty() {
            return Ok(());
        }
        let judged: Vec<Option<Pair>> = block.into_par_iter().with_min_len(16).map(&judge).collect::<Result<_>>()?;
        hand_on(&judged.into_iter().flatten().collect::<Vec<_>>())?;
    }
}

/// Pairs by their score, each once: as it was found rather than passed on; with the cosine of the embeddings.
fn strongest_first(found: &Sorted<ByImages>, set: ImageSet<'_>, memory: &Memory) -> Result<(Sorted<ByScore>, u64)> {
    let mut sorted = SortedRuns::new(memory);
    let (mut before, mut count) = (None, 0);
    for each in found.iter() {
        let mut pair = each?.pair;
        if before.replace((pair.a, pair.b)) == Some((pair.a, pair.b)) {
            continue;
        }
        if let Some(vectors) = set.vectors {
            pair.similarity = Some(vectors.cosine(pair.a, pair.b));
        }
        sorted.extend([ByScore(pair)])?;
        count += 1;
    }
    Ok((sorted.finish()?, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprints::{Contents, Fingerprinter, Prints, PrintsWriter};
    use crate::input::{Image, Vectors};
    use lapidary_pipeline::DecodeRule;
    use lapidary_pipeline::draw::draw_pile;
    use lapidary_pipeline::stage::digest_of_bytes;
    use lapidary_schemas::ImageId;
    use lapidary_schemas::config::IngestConfig;
    use std::path::{Path, PathBuf};

    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("reads").path());
        entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
    }

    /// The images of a drawn pile, with what is known of each.
    fn pile(memory: &Memory) -> (Vec<Image>, Prints, Vectors) {
        let folder = tempfile::tempdir().expect("a folder");
        draw_pile(folder.path(), 3).expect("draws");
        let mut paths = files_below(folder.path());
        paths.sort();
        let (mut images, mut vectors) = (Vec::new(), Vectors::default());
        let mut prints = PrintsWriter::new(memory, paths.len());
        let (mut fingerprinter, rule) = (Fingerprinter::default(), DecodeRule::from(&IngestConfig::default()));
        for path in paths {
            let bytes = std::fs::read(&path).expect("reads");
            // Broken files and the tables beside the images are none.
            let contents = Contents { keypoints: 300, quality: false };
            let Ok(taken) = fingerprinter.take(&bytes, rule, contents) else { continue };
            let vector = fingerprinter.describe().expect("describes");
            vectors.dim = vector.len();
            vectors.values.extend(vector);
            prints.push(images.len(), taken.print).expect("writes");
            let id = ImageId(images.len() as u64);
            let digest = digest_of_bytes(&bytes).0;
            images.push(Image { id, digest, phash: taken.phash, pixels: 1, path: path.display().to_string() });
        }
        (images, prints.finish().expect("finishes"), vectors)
    }

    #[test]
    fn a_budget_of_a_megabyte_finds_the_pairs_of_an_unlimited_one() {
        let config = CurateConfig::default();
        let found = [1 << 40, 1 << 20].map(|bytes| {
            let memory = Memory::bytes(bytes);
            let (images, prints, vectors) = pile(&memory);
            let set = ImageSet { images: &images, prints: &prints, vectors: Some(&vectors) };
            // All at once, and what comes later beside what was there.
            [0, images.len() * 2 / 3].map(|old| {
                let known = KnownPairs {
                    is_new: (0..images.len()).map(|image| image >= old).collect(),
                    ..KnownPairs::none(images.len())
                };
                let neighbours = Neighbours::new(&vectors, &config).expect("an index");
                let found = find_pairs(set, known, Some(neighbours), &config, &memory).expect("finds");
                let pairs: Vec<Pair> = found.pairs.iter().map(|pair| pair.expect("reads").0).collect();
                let counts: Vec<Vec<u8>> =
                    (0..images.len()).map(|image| found.occurrences.of(image).to_vec()).collect();
                assert_eq!(pairs.len() as u64, found.count);
                assert!(pairs.windows(2).all(|two| two[0].score >= two[1].score));
                (pairs, counts, prints.is_held())
            })
        });
        let [held, scratch] = found;
        for (of_held, of_scratch) in held.into_iter().zip(scratch) {
            assert!(of_held.2 && !of_scratch.2, "one holds all, the other has files");
            assert!(of_held.0.len() > 90 && of_held.0 == of_scratch.0, "{} pairs", of_held.0.len());
            assert_eq!(of_held.1, of_scratch.1);
        }
    }
}
