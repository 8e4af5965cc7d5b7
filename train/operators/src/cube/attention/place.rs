//! Where a cube is at work: which sequence of a packing, which head of it, which tile of its tokens. It is found by arithmetic
//! over the groups, of which there are as many as there are sizes of views, so that all groups are one launch.

use crate::packing::Packing;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use cubecl::prelude::*;

/// So many sequences of so many tokens.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Group {
    sequences: usize,
    tokens: usize,
}

/// Groups in the order in which their rows lie, and the heads of each token.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Packed {
    groups: Sequence<Group>,
    pub(super) heads: usize,
}

/// A packing as kernels are given it: they are compiled for its number of groups, not for their sizes.
pub(super) fn packed_arg<R: CubeRuntime>(packing: &Packing, heads: usize) -> PackedLaunch<R> {
    let mut groups = SequenceArg::new();
    packing.groups().iter().for_each(|group| groups.push(GroupLaunch::new(group.sequences, group.tokens)));
    PackedLaunch::new(groups, heads)
}

/// Tiles of all heads of all sequences.
pub(super) fn tiles_in(packing: &Packing, heads: usize, tile: usize) -> usize {
    packing.groups().iter().map(|group| group.sequences * heads * group.tokens.div_ceil(tile)).sum()
}

/// A tile of tokens of a head of a sequence.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    /// The sequence's first row among those of all sequences.
    pub(super) row: usize,
    /// The sequence's tokens; 0 beyond the last tile of all.
    pub(super) tokens: usize,
    pub(super) head: usize,
    /// The first token of the tile in the sequence.
    pub(super) first: usize,
}

/// The tile that is number `at` when groups, sequences, heads and tokens are gone through in this order.
#[cube]
pub(super) fn place_at(packed: &Packed, at: usize, #[comptime] tile: usize) -> Place {
    let groups = comptime![packed.groups.len()];
    // Rows and tiles of the groups before.
    let mut rows = comptime![0usize].runtime();
    let mut tiles = comptime![0usize].runtime();
    let mut row = comptime![0usize].runtime();
    let mut tokens = comptime![0usize].runtime();
    let mut head = comptime![0usize].runtime();
    let mut first = comptime![0usize].runtime();
    #[unroll]
    for index in 0..groups {
        let group = packed.groups.index(index);
        let of_head = (group.tokens + comptime![tile - 1]) / tile;
        let of_group = group.sequences * packed.heads * of_head;
        if at >= tiles && at < tiles + of_group {
            let within = at - tiles;
            let pair = within / of_head;
            row = rows + (pair / packed.heads) * group.tokens;
            tokens = group.tokens;
            head = pair % packed.heads;
            first = (within % of_head) * tile;
        }
        tiles += of_group;
        rows += group.sequences * group.tokens;
    }
    Place { row, tokens, head, first }
}
