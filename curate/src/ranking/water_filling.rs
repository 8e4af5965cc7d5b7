//! One ranking for every size: the prefix of every length has hierarchical sampling's allotment.
//!
//! Hierarchical sampling for a size N allots to the children of a node min(x, size) each, the same x for all
//! ("water-filling", Vo et al. 2024). Walking the tree and always taking from the child that was allotted least and
//! still has images yields an order in which the prefix of every N has exactly that allotment, give or take one for the
//! remainder.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A tree of images: leaves hold them in the order they are taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A finest cluster.
    Leaf(Vec<usize>),
    /// A cluster of clusters.
    Inner(Vec<Node>),
}

/// A node with what is left of it.
enum Allocator {
    Leaf(std::vec::IntoIter<usize>),
    /// Children that are not exhausted, by how many images were taken from them, then by their place.
    Inner(Vec<Allocator>, BinaryHeap<Reverse<(usize, usize)>>),
}

impl From<Node> for Allocator {
    fn from(node: Node) -> Self {
        match node {
            Node::Leaf(images) => Self::Leaf(images.into_iter()),
            Node::Inner(children) => {
                let order = (0..children.len()).map(|child| Reverse((0, child))).collect();
                Self::Inner(children.into_iter().map(Self::from).collect(), order)
            }
        }
    }
}

impl Allocator {
    fn allot(&mut self) -> Option<usize> {
        match self {
            Self::Leaf(images) => images.next(),
            Self::Inner(children, order) => {
                while let Some(Reverse((allotted, child))) = order.pop() {
                    if let Some(image) = children[child].allot() {
                        order.push(Reverse((allotted + 1, child)));
                        return Some(image);
                    }
                }
                None
            }
        }
    }
}

/// All images of a tree, ranked.
pub fn rank(tree: Node) -> Vec<usize> {
    let mut root = Allocator::from(tree);
    std::iter::from_fn(|| root.allot()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(node: &Node) -> usize {
        match node {
            Node::Leaf(images) => images.len(),
            Node::Inner(children) => children.iter().map(size).sum(),
        }
    }

    /// The level x to which children of these sizes are filled for a budget: the largest with sum of min(x, size) at
    /// most the budget. By trying every level, without the ranking.
    fn water_level(sizes: &[usize], budget: usize) -> usize {
        let filled = |x: usize| sizes.iter().map(|size| x.min(*size)).sum::<usize>();
        (0..=budget).take_while(|x| filled(*x) <= budget).last().unwrap_or(0)
    }

    /// How many of `taken` lie under the node; checks the allotment of every child on the way.
    fn check_allotment(node: &Node, taken: &[bool]) -> usize {
        let Node::Inner(children) = node else {
            let Node::Leaf(images) = node else { unreachable!() };
            let count = images.iter().filter(|image| taken[**image]).count();
            assert!(images[..count].iter().all(|image| taken[*image]), "a leaf is taken in its order");
            return count;
        };
        let counts: Vec<usize> = children.iter().map(|child| check_allotment(child, taken)).collect();
        let budget = counts.iter().sum();
        let sizes: Vec<usize> = children.iter().map(size).collect();
        let level = water_level(&sizes, budget);
        let least: usize = sizes.iter().map(|size| level.min(*size)).sum();
        let mut above = 0;
        for (count, size) in counts.iter().zip(&sizes) {
            let allotted = level.min(*size);
            assert!(*count == allotted || (*count == allotted + 1 && *size > level), "{counts:?} of {sizes:?}");
            above += count - allotted;
        }
        assert_eq!(above, budget - least, "the remainder and no more lies above the level");
        budget
    }

    /// Random trees of up to three inner levels, images numbered from left to right.
    fn trees() -> impl Strategy<Value = Node> {
        let leaf = (0usize..12).prop_map(|count| Node::Leaf(vec![0; count]));
        leaf.prop_recursive(3, 40, 5, |inner| prop::collection::vec(inner, 1..5).prop_map(Node::Inner)).prop_map(
            |mut tree| {
                fn number(node: &mut Node, next: &mut usize) {
                    match node {
                        Node::Leaf(images) => images.iter_mut().for_each(|image| {
                            *image = *next;
                            *next += 1;
                        }),
                        Node::Inner(children) => children.iter_mut().for_each(|child| number(child, next)),
                    }
                }
                number(&mut tree, &mut 0);
                tree
            },
        )
    }

    proptest! {
        #[test]
        fn every_prefix_has_the_allotment_of_water_filling(tree in trees()) {
            let count = size(&tree);
            let ranked = rank(tree.clone());
            let mut sorted = ranked.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..count).collect::<Vec<_>>(), "each image once");
            let mut taken = vec![false; count];
            check_allotment(&tree, &taken);
            for image in ranked {
                taken[image] = true;
                check_allotment(&tree, &taken);
            }
        }
    }

    #[test]
    fn the_published_sizes_get_the_published_allotment() {
        // spec/curation.md section 8, test 1: [100, 50, 10, 5, 1] for 40 fills to 12 with no remainder.
        assert_eq!(water_level(&[100, 50, 10, 5, 1], 40), 12);
        let mut next = 0;
        let leaves = [100usize, 50, 10, 5, 1].map(|count| {
            next += count;
            Node::Leaf((next - count..next).collect())
        });
        let first: Vec<usize> = rank(Node::Inner(leaves.to_vec())).into_iter().take(40).collect();
        let count = |from: usize, to: usize| first.iter().filter(|image| (from..to).contains(*image)).count();
        assert_eq!(
            [count(0, 100), count(100, 150), count(150, 160), count(160, 165), count(165, 166)],
            [12, 12, 10, 5, 1]
        );
    }
}
