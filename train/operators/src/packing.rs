//! Sequences of several lengths in one matrix: their tokens lie one after another as rows, so that what acts on each token
//! alone acts on all of them at once. Attention alone must know where a sequence ends; it is softmax under a block-diagonal
//! mask, of which nothing outside the blocks is computed. DINOv2 packs global and local crops so (sequence packing: Krell et al.
//! 2021; Oquab et al. 2023, section 5).

use std::ops::Range;

/// How rows of tokens make sequences: group by group, and in a group one sequence after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    groups: Vec<Group>,
}

/// Sequences that lie side by side and are as long as each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// How many there are.
    pub sequences: usize,
    /// Tokens of each.
    pub tokens: usize,
}

impl Group {
    /// Tokens of all of them.
    pub fn rows(self) -> usize {
        self.sequences * self.tokens
    }
}

impl Packing {
    /// Groups in the order in which their rows lie; those without a token are left out.
    pub fn new(groups: impl IntoIterator<Item = Group>) -> Self {
        Self { groups: groups.into_iter().filter(|group| group.rows() > 0).collect() }
    }

    /// A batch of sequences that are all as long as each other.
    pub fn batch(sequences: usize, tokens: usize) -> Self {
        Self::new([Group { sequences, tokens }])
    }

    /// The groups, in order; each has a token.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Rows of all groups.
    pub fn rows(&self) -> usize {
        self.groups.iter().map(|group| group.rows()).sum()
    }

    /// The groups with the rows of each.
    pub fn ranges(&self) -> impl Iterator<Item = (Range<usize>, Group)> {
        self.groups.iter().scan(0, |end, group| {
            let start = *end;
            *end += group.rows();
            Some((start..*end, *group))
        })
    }

    /// Tokens of the longest sequence; 0 where there is none.
    pub fn longest(&self) -> usize {
        self.groups.iter().map(|group| group.tokens).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_lie_one_after_another_and_empty_ones_are_left_out() {
        let groups = [(2, 3), (0, 7), (4, 0), (1, 5)].map(|(sequences, tokens)| Group { sequences, tokens });
        let packing = Packing::new(groups);
        assert_eq!(packing.ranges().collect::<Vec<_>>(), [(0..6, groups[0]), (6..11, groups[3])]);
        assert_eq!((packing.rows(), packing.longest()), (11, 5));
        let none = Packing::batch(0, 5);
        assert_eq!((none.rows(), none.longest(), none.groups().len()), (0, 0, 0));
    }
}
