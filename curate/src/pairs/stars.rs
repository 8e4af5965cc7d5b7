//! Many near-identical images, as frames of a still camera are: one stands for the others, so that n of them bring n
//! pairs and not n^2 / 2.
//!
//! Images whose hashes lie within [`STAR_BITS`] of an earlier one's gather around it (leader clustering, Hartigan 1975).
//! Where more than [`CLASS_MAX`] do, each is held against it by all checks that any pair has to pass, keypoints matched
//! directly; who passes is represented by it: it keeps that one pair, and is looked at for nothing else. Who does not is
//! held against another of those that did not, for a few rounds, and else is looked at as any image.

use super::Pair;
use super::exact::{CLASS_MAX, old_first};
use super::judge::judge;
use super::keypoints::{VOTE_MAX_BITS, confirm};
use crate::Result;
use crate::fingerprints::{Dihedral, ImageSet, LocalFeatures, Pdq};
use lapidary_pipeline::interrupt;
use lapidary_schemas::CopyKind;
use lapidary_schemas::config::{CurateConfig, Evidence};
use multiversion::multiversion;
use rayon::prelude::*;

/// Bits of 256 within which an image gathers around another. Of hashes cut into 16 slots, so near ones have one in common.
const STAR_BITS: u32 = 15;
const SLOTS: usize = 16;
const SLOT_VALUES: usize = 1 << 16;
/// Rounds in which those that did not pass are held against one of their own.
const ROUNDS: usize = 8;
/// The score from which on an image is represented.
const SCORE_MIN: f32 = 0.5;

/// Finds images that others represent, of those that stand alone; they do not from then on. Returns the pair of each with
/// its representative, at least one of the two being new.
///
/// # Errors
/// When the disk refuses, or on an interrupt.
pub(super) fn stars(
    set: ImageSet<'_>,
    is_new: &[bool],
    config: &CurateConfig,
    stands_alone: &mut [bool],
) -> Result<Vec<Pair>> {
    let summaries = set.prints.summaries();
    // Plain images have hashes of noise: they gather around nothing, and are judged by what else there is.
    let is_looked_at = |image: &usize| stands_alone[*image] && !summaries[*image].is_uniform;
    let images: Vec<usize> = old_first(is_new).into_iter().filter(is_looked_at).collect();
    let hashes = set.prints.hashes(Dihedral::None)?;
    let mut gathered: Vec<Vec<usize>> = leaders(&images, &hashes);
    gathered.retain(|group| group.len() > CLASS_MAX);
    let mut pairs = Vec::new();
    for _ in 0..ROUNDS {
        let mut others = Vec::new();
        for group in gathered {
            interrupt::check()?;
            let (leader, members) = (group[0], &group[1..]);
            let of_leader = set.prints.get(leader)?;
            let held: Vec<Pair> = members
                .par_iter()
                .map(|member| {
                    let of_member = set.prints.get(*member)?;
                    let (a, b) = (leader.min(*member), leader.max(*member));
                    let bits = hashes[a].distance_bits(&hashes[b]);
                    let mut pair = Pair {
                        hash_distance_bits: Some(bits),
                        dihedral: Some(Dihedral::None),
                        ..Pair::new(a, b, CopyKind::Perceptual)
                    };
                    let (first, second) =
                        if leader < *member { (&of_leader, &of_member) } else { (&of_member, &of_leader) };
                    if config.evidence.contains(&Evidence::Local) {
                        let votes = all_votes(&first.local, &second.local);
                        // How rare keypoints are is not known yet, and what so many share may be a template: they count
                        // as common, so that details have to bear out the pair.
                        pair.fit = confirm(&first.local, &second.local, &votes, |_, _| 0.0);
                    }
                    judge(&mut pair, first, second, config);
                    Ok(pair)
                })
                .collect::<Result<_>>()?;
            let mut left = Vec::new();
            for (member, pair) in members.iter().zip(held) {
                if pair.score < SCORE_MIN {
                    left.push(*member);
                    continue;
                }
                stands_alone[*member] = false;
                if is_new[pair.a] || is_new[pair.b] {
                    pairs.push(pair);
                }
            }
            if left.len() > CLASS_MAX {
                others.push(left);
            }
        }
        gathered = others;
        if gathered.is_empty() {
            break;
        }
    }
    if !pairs.is_empty() {
        tracing::info!("{} images are represented by near-identical ones", pairs.len());
    }
    Ok(pairs)
}

/// Each image that gathers others, followed by those: each goes to the nearest of the leaders before it that lie within
/// [`STAR_BITS`], and is a leader when there is none.
fn leaders(images: &[usize], hashes: &[Pdq]) -> Vec<Vec<usize>> {
    const NONE: u32 = u32::MAX;
    // Leaders that have a value in a slot, as linked lists.
    let mut heads = vec![NONE; SLOTS * SLOT_VALUES];
    let mut next: Vec<[u32; SLOTS]> = Vec::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for image in images {
        let hash = &hashes[*image];
        let bucket = |slot: usize| slot * SLOT_VALUES + (hash.0[slot / 4] >> (slot % 4 * 16)) as usize % SLOT_VALUES;
        let mut nearest: Option<(u32, u32)> = None;
        for slot in 0..SLOTS {
            let mut leader = heads[bucket(slot)];
            while leader != NONE {
                let bits = hashes[groups[leader as usize][0]].distance_bits(hash);
                if bits <= STAR_BITS && nearest.is_none_or(|before| (bits, leader) < before) {
                    nearest = Some((bits, leader));
                }
                leader = next[leader as usize][slot];
            }
        }
        if let Some((_, leader)) = nearest {
            groups[leader as usize].push(*image);
            continue;
        }
        let leader = groups.len() as u32;
        groups.push(vec![*image]);
        next.push(std::array::from_fn(|slot| std::mem::replace(&mut heads[bucket(slot)], leader)));
    }
    groups
}

/// All pairs of keypoints that are near, plainly.
#[multiversion(targets("x86_64+avx2+fma+popcnt"))]
fn all_votes(a: &LocalFeatures, b: &LocalFeatures) -> Vec<(u32, u32, bool)> {
    let mut votes = Vec::new();
    for (i, one) in (0..).zip(&a.signatures) {
        for (j, other) in (0..).zip(&b.signatures) {
            if one.distance_bits(other) <= VOTE_MAX_BITS {
                votes.push((i, j, false));
            }
        }
    }
    votes
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::random::{Purpose, Rng, keyed};

    #[test]
    fn near_hashes_gather_around_a_leader_and_far_ones_do_not() {
        let mut rng = keyed(2, Purpose::Scene, 0, 0);
        let centres: Vec<[u64; 4]> = (0..7).map(|_| std::array::from_fn(|_| rng.next_u64())).collect();
        let near = |centre: [u64; 4], flips: u32, rng: &mut dyn FnMut() -> u64| {
            let mut hash = centre;
            for _ in 0..flips {
                let bit = rng() as usize % 256;
                hash[bit / 64] ^= 1 << (bit % 64);
            }
            Pdq(hash)
        };
        let hashes: Vec<Pdq> =
            (0..700).map(|i| near(centres[i % 7], if i < 7 { 0 } else { STAR_BITS }, &mut || rng.next_u64())).collect();
        let groups = leaders(&(0..700).collect::<Vec<_>>(), &hashes);
        assert_eq!(groups.len(), 7);
        for (centre, group) in groups.iter().enumerate() {
            assert_eq!((group.len(), group[0]), (100, centre));
            assert!(group.iter().all(|image| image % 7 == centre));
        }
    }
}
