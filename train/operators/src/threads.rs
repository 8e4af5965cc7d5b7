//! Where operators may use more than one thread: not in a piece of a batch, which has a thread of its own beside other pieces.

use rayon::prelude::*;
use std::cell::Cell;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs with operators that stay on this thread.
pub fn on_one_thread<R>(run: impl FnOnce() -> R) -> R {
    let before = ALONE.replace(true);
    let result = run();
    ALONE.set(before);
    result
}

/// Whether operators stay on this thread.
pub(super) fn is_alone() -> bool {
    ALONE.get() || rayon::current_num_threads() == 1
}

/// Calls `f` for each chunk of `values`, with its index, on several threads where that is allowed.
pub(super) fn for_chunks<T: Send>(values: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync + Send) {
    if is_alone() || values.len() <= chunk {
        values.chunks_mut(chunk).enumerate().for_each(|(index, chunk)| f(index, chunk));
    } else {
        values.par_chunks_mut(chunk).enumerate().for_each(|(index, chunk)| f(index, chunk));
    }
}

/// The same for two slices cut side by side.
pub(super) fn for_chunks_of_two<S: Send, T: Send>(
    (first, chunk_of_first): (&mut [S], usize),
    (second, chunk_of_second): (&mut [T], usize),
    f: impl Fn(usize, &mut [S], &mut [T]) + Sync + Send,
) {
    if is_alone() {
        let both = first.chunks_mut(chunk_of_first).zip(second.chunks_mut(chunk_of_second));
        both.enumerate().for_each(|(index, (a, b))| f(index, a, b));
    } else {
        let both = first.par_chunks_mut(chunk_of_first).zip(second.par_chunks_mut(chunk_of_second));
        both.enumerate().for_each(|(index, (a, b))| f(index, a, b));
    }
}
