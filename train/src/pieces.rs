//! A batch on its way through the backbone: cut into pieces of images that go side by side, each with a graph of its own, and,
//! to save memory, into parts that go one after another.
//!
//! burn-flex runs most operators on one thread, so that a second core is best used by a second piece. Pieces get threads of
//! the system, not rayon's: the operators use rayon themselves.
//!
//! With several ranks all of this is of a rank's share of the batch. The losses see the features of all of its images; their
//! gradients then go back through each piece (gradient caching, Gao et al. 2021: the same gradients as in one piece, up to
//! rounding). With several parts the features are first computed without a
//! graph, and each part is computed again with one when its gradients are asked for.
//!
//! On a GPU the views of all sizes go through a network together, packed (see `model/sequences.rs`), with fewer launches; on the
//! CPU, where a launch costs nothing, each size goes by itself.

mod backward;
mod forward;
mod pass;

pub(crate) use backward::{FeatureGradients, add_to};
pub(crate) use forward::{Inputs, Piece, Remembered, Teachers, join};

use crate::operators::{Operators, on_one_thread};
use std::ops::Range;

/// `count` images cut into at most `pieces` ranges of nearly equal length.
pub(crate) fn ranges(count: usize, pieces: usize) -> Vec<Range<usize>> {
    let pieces = pieces.clamp(1, count);
    (0..pieces).map(|piece| count * piece / pieces..count * (piece + 1) / pieces).collect()
}

/// Maps, in order, on the CPU on a thread for each item. A GPU is given its work by one thread, which does not wait for it.
pub(crate) fn each<B: Operators, T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if B::ON_HOST { in_parallel(items, f) } else { items.iter().map(f).collect() }
}

/// Maps on a thread for each item, in order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if let [one] = items {
        return vec![f(one)];
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| on_one_thread(|| f(item)))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once() {
        assert_eq!(ranges(7, 3), [0..2, 2..4, 4..7]);
        assert_eq!(ranges(2, 5), [0..1, 1..2]);
        assert_eq!(in_parallel(&ranges(7, 3), |range| range.len()), [2, 2, 3]);
    }
}
