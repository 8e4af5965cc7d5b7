//! How a listing is cut into shards before anything is read, so that any process can make any shard.
//!
//! Inputs come in the order of their ids, in chunks. A shard ends with the chunk with which the inputs in it have reached the
//! size of a shard, by their lengths as they were listed; what is rejected later counts, and makes a shard smaller.

use crate::images::shard_name;
use crate::ingest::sources::{Entry, Place};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::IngestConfig;
use std::ops::Range;

/// Inputs a chunk; chunks are the unit of parallel work and of writing.
pub(super) const CHUNK_INPUTS: usize = 64;

/// A shard that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// The number in its name.
    pub(super) number: usize,
    /// Which inputs go into it.
    pub(super) entries: Range<usize>,
}

impl Cut {
    /// The name of its file.
    pub(super) fn name(&self) -> String {
        shard_name(self.number)
    }
}

/// Cuts inputs, numbering shards from `first`.
pub(super) fn cut(entries: &[(ImageId, Entry)], config: &IngestConfig, first: usize) -> Vec<Cut> {
    let lengths = entries.chunks(CHUNK_INPUTS).map(|chunk| {
        let lengths = chunk.iter().map(|(_, entry)| length_bytes(entry));
        (chunk.len(), lengths.filter(|length| *length <= config.max_bytes).sum())
    });
    cut_chunks(lengths, config.shard_mib << 20, first)
}

/// The length of an input; 0 of one that is not there, which is rejected when it is read.
fn length_bytes(entry: &Entry) -> u64 {
    match &entry.place {
        Place::Spool { len_bytes, .. } => *len_bytes,
        Place::File(path) => std::fs::metadata(path).map_or(0, |meta| meta.len()),
    }
}

/// Cuts chunks of so many inputs and bytes.
fn cut_chunks(chunks: impl Iterator<Item = (usize, u64)>, shard_bytes: u64, first: usize) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let (mut begin, mut end, mut bytes) = (0, 0, 0);
    for (inputs, of_chunk) in chunks {
        (end, bytes) = (end + inputs, bytes + of_chunk);
        if bytes >= shard_bytes {
            cuts.push(Cut { number: first + cuts.len(), entries: begin..end });
            (begin, bytes) = (end, 0);
        }
    }
    if begin < end {
        cuts.push(Cut { number: first + cuts.len(), entries: begin..end });
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_ends_with_the_chunk_that_fills_it() {
        let chunks = [(64, 60), (64, 40), (64, 30), (64, 200), (10, 5)];
        let cuts = cut_chunks(chunks.into_iter(), 100, 7);
        let entries: Vec<Range<usize>> = cuts.iter().map(|cut| cut.entries.clone()).collect();
        assert_eq!(entries, [0..128, 128..256, 256..266]);
        assert_eq!(cuts[2].name(), "part-00009.parquet");
        assert_eq!(crate::images::shard_number(&cuts[2].name()), Some(9));
        assert!(cut_chunks(std::iter::empty(), 100, 0).is_empty());
        // Inputs of no length still need a shard.
        assert_eq!(cut_chunks([(3, 0)].into_iter(), 100, 0).len(), 1);
    }
}
