//! Where the threads of all ranks meet: each brings a value, and each leaves with what was made of all of them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A meeting place of a fixed number of threads, one round after another.
#[derive(Debug)]
pub(super) struct Meeting<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// What was brought to this round, by rank.
    brought: Vec<Option<T>>,
    /// What was made of it, until all have taken it.
    made: Option<T>,
    /// Ranks that have yet to take it.
    to_take: usize,
    /// Why a rank is gone, once one is.
    failure: Option<String>,
}

impl<T: Clone> Meeting<T> {
    /// For so many ranks.
    pub(super) fn new(ranks: usize) -> Self {
        let state = State { brought: vec![None; ranks], made: None, to_take: 0, failure: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// How many ranks meet.
    pub(super) fn ranks(&self) -> usize {
        self.lock().brought.len()
    }

    /// Brings a value, waits for the others, and takes what `make` made of all values in the order of the ranks. The rank that
    /// comes last calls it.
    ///
    /// # Panics
    /// When a rank has failed.
    pub(super) fn exchange(&self, rank: usize, value: T, make: impl FnOnce(Vec<T>) -> T) -> T {
        // Of the round before all have taken what was made, or it would be mistaken for this one's.
        let mut state = self.wait(self.lock(), |state| state.to_take == 0);
        state.brought[rank] = Some(value);
        if state.brought.iter().all(Option::is_some) {
            let all: Vec<T> = state.brought.iter_mut().filter_map(Option::take).collect();
            state.to_take = all.len();
            state.made = Some(make(all));
            self.changed.notify_all();
        } else {
            state = self.wait(state, |state| state.made.is_some());
        }
        state.to_take -= 1;
        let made = if state.to_take == 0 { state.made.take() } else { state.made.clone() };
        if state.to_take == 0 {
            self.changed.notify_all();
        }
        drop(state);
        made.unwrap_or_else(|| unreachable!("what was made stays until all have taken it"))
    }

    /// Lets every rank that waits, or will, fail with what is said here; what is said first counts.
    pub(super) fn abandon(&self, why: &str) {
        self.lock().failure.get_or_insert_with(|| why.to_owned());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State<T>>,
        until: impl Fn(&State<T>) -> bool,
    ) -> MutexGuard<'a, State<T>> {
        loop {
            if let Some(why) = state.failure.clone() {
                drop(state);
                // Said where it happened.
                std::panic::resume_unwind(Box::new(why));
            }
            if until(&state) {
                return state;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_the_values_of_all_ranks_in_their_order() {
        for ranks in [2, 5] {
            let meeting = Meeting::new(ranks);
            std::thread::scope(|scope| {
                for rank in 0..ranks {
                    let meeting = &meeting;
                    scope.spawn(move || {
                        for round in 0..300 {
                            let value = vec![round * 10 + rank];
                            let all = meeting.exchange(rank, value, |all| all.concat());
                            assert_eq!(all, (0..ranks).map(|rank| round * 10 + rank).collect::<Vec<_>>());
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_rank_that_fails_fails_those_that_wait_for_it() {
        let meeting = Meeting::new(3);
        let failed = std::thread::scope(|scope| {
            let waits = [0, 1].map(|rank| {
                scope.spawn({
                    let meeting = &meeting;
                    move || meeting.exchange(rank, (), |_| ())
                })
            });
            meeting.abandon("the third is out of memory");
            meeting.abandon("and what came of it");
            waits.map(|thread| thread.join().expect_err("fails"))
        });
        for panic in failed {
            assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("the third is out of memory"));
        }
    }
}
