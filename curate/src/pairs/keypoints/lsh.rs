//! Which pairs of images share signatures: hash tables over the keypoints of the whole set.
//!
//! The bits of a signature are random projections, so any run of them is a locality-sensitive hash (Indyk and Motwani
//! 1998). The 256 bits are cut into tables of about log2(keypoints) bits each; two keypoints that agree in a table and
//! differ in at most [`VOTE_MAX_BITS`] in all are a vote for their images. Mirrored pairs are looked up in the same
//! tables with the mirrored signature. No bucket is compared all with all when it is large: members are then compared
//! with the next few only, the fewer the larger it is, so that the work stays linear; what a bucket of thousands shares is
//! common and says little of any two. When only some images are new, only what shares a bucket with
//! one of their keypoints is sorted, and only pairs with a new image are looked at.
//!
//! Where signatures do not fit their share of memory, a table is filled for one range of its keys after the other: a bucket
//! lies in one range, so that the votes are the same. A pass over the signatures fills as many ranges as there are threads.

use super::Rarity;
use super::slot::{Slot, sort_by_key};
use super::vote::{Owner, Proposal, Vote};
use crate::Result;
use crate::fingerprints::{Prints, Signature};
use crate::memory::{Memory, Share, Sorted, SortedRuns};
use lapidary_pipeline::interrupt;
use multiversion::multiversion;
use rayon::prelude::*;
use std::ops::Range;

/// The largest distance of two signatures that is a vote.
pub(crate) const VOTE_MAX_BITS: u32 = 44;
/// Members of a bucket that each member is compared with at most ...
const WINDOW: usize = 48;
/// ... up to this many members; those of a larger one with fewer, but for ...
const WHOLE_WINDOW_MAX: usize = 2 * WINDOW;
/// ... so many, by which a keypoint still counts as common.
const WINDOW_MIN: usize = 4;
const SIGNATURE_BITS: u32 = 256;
/// Bytes of a keypoint in a range: its signature, number, and slots, those of one table twice while they are sorted.
const GATHERED_BYTES: usize = 64;
/// Images whose signatures are read at a time.
const BLOCK: usize = 1024;
/// Votes that a table holds before they are handed on.
const VOTES: usize = 1 << 18;

/// The keypoints that are looked up: those of the images that stand alone.
pub(crate) struct KeypointSet<'a> {
    pub(crate) prints: &'a Prints,
    /// By image: whether it is looked at for itself.
    pub(crate) stands_alone: &'a [bool],
    /// By image.
    pub(crate) is_new: &'a [bool],
    pub(crate) memory: &'a Memory,
    /// The number of each image's first keypoint, and of all.
    starts: Vec<u64>,
}

/// What votes come to.
pub(crate) struct Votes {
    votes: Sorted<Vote>,
    pub(crate) rarity: Rarity,
}

impl<'a> KeypointSet<'a> {
    pub(crate) fn new(prints: &'a Prints, stands_alone: &'a [bool], is_new: &'a [bool], memory: &'a Memory) -> Self {
        let mut starts = vec![0u64];
        for (summary, alone) in prints.summaries().iter().zip(stands_alone) {
            starts.push(starts[starts.len() - 1] + if *alone { u64::from(summary.keypoints) } else { 0 });
        }
        Self { prints, stands_alone, is_new, memory, starts }
    }

    /// The numbers of an image's keypoints.
    pub(super) fn numbers(&self, image: usize) -> Range<u64> {
        self.starts[image]..self.starts[image + 1]
    }

    /// All keypoints.
    pub(super) fn count(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    /// The votes of all tables, and how rare keypoints are.
    ///
    /// `group_of` names for each image the group of copies that it is known to belong to, `occurrences` how often the
    /// keypoints of those that are not new occurred before.
    ///
    /// # Errors
    /// When the disk refuses, or on an interrupt.
    pub(crate) fn votes(&self, group_of: &[u32], occurrences: &[Vec<u8>]) -> Result<Votes> {
        let bits = (self.count().max(2).ilog2() + 1).clamp(12, Slot::KEY_BITS);
        let threads = rayon::current_num_threads() as u64;
        let share = self.memory.share(Share::Signatures) as u64;
        let whole_bytes = self.count() * (size_of::<Signature>() as u64 + 3 * threads * size_of::<Slot>() as u64);
        let whole = if whole_bytes <= share { self.gather(&[Wanted::All])?.pop() } else { None };
        // Plainly and in a mirror, a keypoint may lie in two ranges.
        let ranges = if whole.is_some() {
            1
        } else {
            (2 * self.count() * GATHERED_BYTES as u64 * threads).div_ceil(share.max(1))
        };
        let ranges = ranges.clamp(1, 1 << bits) as u32;
        if ranges > 1 {
            tracing::info!("{} keypoints are looked up in {ranges} parts of each table", self.count());
        }
        let step = (1u32 << bits).div_ceil(ranges);
        let table = |table: u32, range: u32| {
            let keys = range * step..((range + 1) * step).min(1 << bits);
            HashTable { first_bit: table * bits, bits, keys }
        };
        let tables: Vec<HashTable> = (0..SIGNATURE_BITS / bits)
            .flat_map(|t| (0..ranges).map(move |range| (t, range)))
            .map(|(t, r)| table(t, r))
            .collect();
        let votes = SortedRuns::new(self.memory);
        let hand_on = |found: &mut Vec<Vote>| {
            votes.add(found)?;
            found.clear();
            Ok(())
        };
        let look_up = |gathered: &Gathered, table: &HashTable| {
            interrupt::check()?;
            self.votes_of_table(gathered, table, &hand_on)
        };
        if let Some(whole) = &whole {
            tables.par_iter().with_max_len(1).try_for_each(|table| look_up(whole, table))?;
        } else {
            // One pass over the signatures fills as many ranges as there are threads.
            for tables in tables.chunks(threads as usize) {
                interrupt::check()?;
                let wanted: Vec<Wanted<'_>> = tables.iter().map(Wanted::Of).collect();
                let gathered = self.gather(&wanted)?;
                gathered.into_par_iter().zip(tables).try_for_each(|(gathered, table)| look_up(&gathered, table))?;
            }
        }
        let votes = votes.finish()?;
        tracing::debug!("{} keypoints, {} votes at most", self.count(), votes.most());
        let rarity = Rarity::of(self, &votes, group_of, occurrences)?;
        Ok(Votes { votes, rarity })
    }

    /// The keypoints whose signatures are wanted, in their order: for each that wants some, from one pass over all.
    fn gather(&self, wanted: &[Wanted<'_>]) -> Result<Vec<Gathered>> {
        let mut gathered: Vec<Gathered> = wanted.iter().map(|_| Gathered::default()).collect();
        let images: Vec<u32> =
            self.prints.by_place().into_iter().filter(|image| self.stands_alone[*image as usize]).collect();
        if let [Wanted::All] = wanted {
            gathered[0].owners.reserve_exact(self.count() as usize);
            gathered[0].signatures.reserve_exact(self.count() as usize);
        }
        let of_block = |block: &[u32]| -> Result<Vec<Gathered>> {
            let mut gathered: Vec<Gathered> = wanted.iter().map(|_| Gathered::default()).collect();
            self.prints.signatures_of(block, |image, signatures| {
                for (keypoint, signature) in (0..).zip(signatures) {
                    for (gathered, wanted) in gathered.iter_mut().zip(wanted) {
                        if wanted.holds(signature) {
                            gathered.owners.push(Owner { image: image as u32, keypoint });
                            gathered.signatures.push(*signature);
                        }
                    }
                }
            })?;
            Ok(gathered)
        };
        // A few blocks at a time, so that no more than those are in memory twice.
        for blocks in images.chunks(BLOCK * rayon::current_num_threads()) {
            let found: Vec<_> = blocks.par_chunks(BLOCK).map(of_block).collect::<Result<_>>()?;
            for found in found {
                gathered.iter_mut().zip(found).for_each(|(gathered, found)| gathered.append(found));
            }
        }
        let all_new = self.is_new.iter().all(|is_new| *is_new);
        gathered.par_iter_mut().for_each(|gathered| {
            if !self.prints.is_held() {
                gathered.sort();
            }
            if !all_new {
                let is_new = |owner: &Owner| self.is_new[owner.image as usize];
                gathered.is_new = gathered.owners.iter().map(is_new).collect();
            }
        });
        Ok(gathered)
    }

    fn votes_of_table(
        &self,
        all: &Gathered,
        table: &HashTable,
        hand_on: &dyn Fn(&mut Vec<Vote>) -> Result<()>,
    ) -> Result<()> {
        let shared = table.keys_of_new(all);
        let keyed = |mirrored: bool| {
            let mut keyed: Vec<Slot> = Vec::with_capacity(all.signatures.len());
            for (index, signature) in all.signatures.iter().enumerate() {
                let key = if mirrored { table.key(&signature.mirrored()) } else { table.key(signature) };
                if table.keys.contains(&key) && shared.as_ref().is_none_or(|shared| shared[table.place(key)]) {
                    keyed.push(Slot::new(key, index));
                }
            }
            sort_by_key(&mut keyed, table.bits);
            keyed
        };
        let plain = keyed(false);
        let (mut votes, mut compared) = (Vec::new(), Comparisons::default());
        for bucket in plain.chunk_by(|x, y| x.key() == y.key()) {
            let (old, window) = (all.old_of(bucket), window(bucket.len()));
            for (place, first) in bucket.iter().enumerate().filter(|(_, first)| all.is_new(first.index())) {
                let after = &bucket[place + 1..];
                let near = [&after[..after.len().min(window)], last_before(&old, *first, window)];
                near.into_iter().for_each(|others| compared.add(*first, others));
            }
            if compared.are_enough() {
                compared.vote(all, false, &mut votes);
            }
            if votes.len() >= VOTES {
                hand_on(&mut votes)?;
            }
        }
        compared.vote(all, false, &mut votes);
        // A table of bits that a mirror leaves alone has both kinds of pairs in the same buckets.
        if !table.has_mirrored() {
            return hand_on(&mut votes);
        }
        let mirrored = keyed(true);
        let mut from = 0;
        for bucket in plain.chunk_by(|x, y| x.key() == y.key()) {
            let key = bucket[0].key();
            from += mirrored[from..].partition_point(|other| other.key() < key);
            let others = &mirrored[from..];
            let others = &others[..others.partition_point(|other| other.key() == key)];
            let (old, window) = (all.old_of(others), window(others.len()));
            for first in bucket.iter().filter(|first| all.is_new(first.index())) {
                // A pair comes up from both sides: the one with the smaller index is enough, or the new one.
                let after = others.partition_point(|other| other.index() <= first.index());
                let after = &others[after..];
                let near = [&after[..after.len().min(window)], last_before(&old, *first, window)];
                near.into_iter().for_each(|others| compared.add(*first, others));
            }
            if compared.are_enough() {
                compared.vote(all, true, &mut votes);
            }
            if votes.len() >= VOTES {
                hand_on(&mut votes)?;
            }
        }
        compared.vote(all, true, &mut votes);
        hand_on(&mut votes)
    }
}

/// Keypoints that are to be compared, by their indices, the smaller first. Their signatures lie anywhere in memory: many pairs are
/// compared in one loop in which nothing depends on what comes out, so that a processor fetches the next while it waits for one.
#[derive(Debug, Default)]
struct Comparisons {
    pairs: Vec<(usize, usize)>,
    /// Of each pair, the bits in which the signatures differ, plainly and in a mirror.
    distances_bits: Vec<[u32; 2]>,
    /// The pairs that are near in either way, and their keypoints.
    near: Vec<usize>,
    owners: Vec<(Owner, Owner)>,
}

/// Pairs that are compared at a time, but for what one bucket adds.
const COMPARED: usize = 1024;

impl Comparisons {
    fn add(&mut self, first: Slot, others: &[Slot]) {
        let in_order = |other: &Slot| (first.index().min(other.index()), first.index().max(other.index()));
        self.pairs.extend(others.iter().map(in_order));
    }

    fn are_enough(&self) -> bool {
        self.pairs.len() >= COMPARED
    }

    /// Makes votes of those that are near and of different images, in a mirror or, unless that is all that is asked for, plainly;
    /// begins anew.
    fn vote(&mut self, all: &Gathered, only_mirrored: bool, votes: &mut Vec<Vote>) {
        compare(&self.pairs, &all.signatures, &mut self.distances_bits);
        let is_near = |bits: &[u32; 2]| bits[0].min(bits[1]) <= VOTE_MAX_BITS;
        self.near.clear();
        self.near.extend((0..self.pairs.len()).filter(|pair| is_near(&self.distances_bits[*pair])));
        self.owners.clear();
        self.owners.extend(self.near.iter().map(|pair| {
            let (first, second) = self.pairs[*pair];
            (all.owners[first], all.owners[second])
        }));
        for (pair, (a, b)) in self.near.iter().zip(&self.owners).filter(|(_, (a, b))| a.image != b.image) {
            let [plain, mirrored] = self.distances_bits[*pair].map(|bits| bits <= VOTE_MAX_BITS);
            if plain && !only_mirrored {
                votes.push(Vote::new(*a, *b, false));
            }
            if mirrored {
                votes.push(Vote::new(*a, *b, true));
            }
        }
        self.pairs.clear();
    }
}

#[multiversion(targets("x86_64+avx2+fma+popcnt"))]
fn compare(pairs: &[(usize, usize)], signatures: &[Signature], distances_bits: &mut Vec<[u32; 2]>) {
    distances_bits.clear();
    distances_bits.extend(pairs.iter().map(|(one, other)| signatures[*one].distances_bits(&signatures[*other])));
}

impl Votes {
    /// The pairs of images, at least one of them new, that at least `votes_min` pairs of keypoints speak for, sorted.
    pub(crate) fn proposals(&self, votes_min: usize) -> impl Iterator<Item = Result<Proposal>> {
        let mut votes = self.votes.iter().peekable();
        let mut of_pair = Vec::new();
        std::iter::from_fn(move || {
            loop {
                let first = match votes.next()? {
                    Ok(vote) => vote,
                    Err(e) => return Some(Err(e)),
                };
                of_pair.clear();
                of_pair.push(first.of_pair());
                let is_same = |vote: &Result<Vote>| vote.as_ref().is_ok_and(|vote| vote.images() == first.images());
                while let Some(Ok(vote)) = votes.next_if(is_same) {
                    of_pair.push(vote.of_pair());
                }
                if of_pair.len() >= votes_min {
                    let (a, b) = first.images();
                    return Some(Ok(Proposal { a: a as usize, b: b as usize, votes: of_pair.clone() }));
                }
            }
        })
    }
}

/// Which signatures are gathered.
enum Wanted<'a> {
    All,
    /// What a table holds.
    Of(&'a HashTable),
}

impl Wanted<'_> {
    fn holds(&self, signature: &Signature) -> bool {
        match self {
            Self::All => true,
            Self::Of(table) => table.holds(signature),
        }
    }
}

/// A table over some bits of the signatures, of which a range of keys is filled.
struct HashTable {
    first_bit: u32,
    bits: u32,
    keys: Range<u32>,
}

impl HashTable {
    /// A signature's key: `bits` bits of it from `first_bit` on.
    fn key(&self, signature: &Signature) -> u32 {
        let (word, shift) = ((self.first_bit / 64) as usize, self.first_bit % 64);
        let mut value = signature.0[word] >> shift;
        if shift + self.bits > 64 {
            value |= signature.0[word + 1] << (64 - shift);
        }
        (value & ((1 << self.bits) - 1)) as u32
    }

    /// Whether mirrored signatures have other keys.
    fn has_mirrored(&self) -> bool {
        self.first_bit + self.bits > SIGNATURE_BITS / 2
    }

    fn holds(&self, signature: &Signature) -> bool {
        self.keys.contains(&self.key(signature))
            || (self.has_mirrored() && self.keys.contains(&self.key(&signature.mirrored())))
    }

    fn place(&self, key: u32) -> usize {
        (key - self.keys.start) as usize
    }

    /// Which keys new keypoints have, plainly or in a mirror; none when all are new, and every key counts.
    fn keys_of_new(&self, all: &Gathered) -> Option<Vec<bool>> {
        if all.is_new.is_empty() {
            return None;
        }
        let mut keys = vec![false; self.keys.len()];
        for (_, signature) in all.signatures.iter().enumerate().filter(|(index, _)| all.is_new(*index)) {
            for key in [self.key(signature), self.key(&signature.mirrored())] {
                if self.keys.contains(&key) {
                    keys[self.place(key)] = true;
                }
            }
        }
        Some(keys)
    }
}

/// Keypoints of the set in the order of their images.
#[derive(Debug, Clone, Default)]
struct Gathered {
    owners: Vec<Owner>,
    signatures: Vec<Signature>,
    /// Empty when all are new.
    is_new: Vec<bool>,
}

impl Gathered {
    fn append(&mut self, other: Self) {
        self.owners.extend(other.owners);
        self.signatures.extend(other.signatures);
    }

    /// Brings keypoints that were read in another order into that of their images.
    fn sort(&mut self) {
        let mut rows: Vec<(Owner, Signature)> = self.owners.drain(..).zip(self.signatures.drain(..)).collect();
        rows.sort_unstable_by_key(|(owner, _)| *owner);
        (self.owners, self.signatures) = rows.into_iter().unzip();
    }

    fn is_new(&self, keypoint: usize) -> bool {
        self.is_new.is_empty() || self.is_new[keypoint]
    }

    /// The members of a bucket that are not new, in the order of their indices.
    fn old_of(&self, bucket: &[Slot]) -> Vec<Slot> {
        if self.is_new.is_empty() {
            return Vec::new();
        }
        bucket.iter().copied().filter(|keypoint| !self.is_new(keypoint.index())).collect()
    }
}

/// Members that each of a bucket of so many is compared with.
fn window(members: usize) -> usize {
    if members <= WHOLE_WINDOW_MAX { WINDOW } else { (WHOLE_WINDOW_MAX * WINDOW / members).max(WINDOW_MIN) }
}

/// The last few members before a keypoint.
fn last_before(old: &[Slot], keypoint: Slot, window: usize) -> &[Slot] {
    let before = old.partition_point(|other| other.index() < keypoint.index());
    &old[before.saturating_sub(window)..before]
}
