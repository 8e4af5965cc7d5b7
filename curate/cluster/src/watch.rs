//! What the client sees of a stage while executors make it: markers in OUT, and how long none has come.

use crate::{ClusterError, Result, Submission};
use lapidary_pipeline::interrupt;
use lapidary_pipeline::stage::{Progress, Shares};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often Ctrl-C is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long markers are left alone after a look, in times of what it took: a folder of a million, or a slow store, is looked at
/// seldom.
const REST_TIMES_COST: u32 = 10;
const LONGEST_REST: Duration = Duration::from_secs(30);
/// When it first says that nothing happens; then after twice as long, each time.
const WARN_AFTER: Duration = Duration::from_secs(60);

/// The markers of a stage, watched.
pub(crate) struct Watch {
    stage: &'static str,
    shares: Shares,
    rows: HashMap<String, u64>,
    total_rows: u64,
    give_up_after: Duration,
    made: Arc<AtomicUsize>,
}

impl Watch {
    /// Of a stage whose shards have these names.
    pub(crate) fn new(stage: &Submission, names: &[String]) -> Self {
        let rows = |name: &String| stage.images.outputs.get(name).map_or(0, |output| output.rows);
        Self {
            stage: stage.task.stage.verb(),
            shares: stage.task.shares(stage.root),
            rows: names.iter().map(|name| (name.clone(), rows(name))).collect(),
            total_rows: stage.images.rows.output,
            give_up_after: stage.give_up_after,
            made: Arc::default(),
        }
    }

    /// How many shards are made so far.
    pub(crate) fn made(&self) -> Arc<AtomicUsize> {
        self.made.clone()
    }

    /// Shows how many images' shards are there, until that is all of them.
    ///
    /// # Errors
    /// When Ctrl-C is pressed, no shard is made for too long, or OUT lies in a store that goes away.
    pub(crate) async fn until_all_made(self) -> Result<()> {
        let progress = Progress::new(self.stage, self.total_rows, "images");
        let mut seen: HashSet<String> = HashSet::new();
        let (mut newest, mut warn_after, mut is_first) = (Instant::now(), WARN_AFTER, true);
        loop {
            let begun = Instant::now();
            let shares = self.shares.clone();
            // A folder on a network may not answer for minutes: that is no reason not to hear Ctrl-C.
            let mut look = tokio::task::spawn_blocking(move || shares.fetched_names());
            let names = loop {
                tokio::select! {
                    names = &mut look => break names.map_err(|e| ClusterError::Engine(e.to_string()))??,
                    () = tokio::time::sleep(POLL_INTERVAL) => self.check(newest, &mut warn_after, seen.len())?,
                }
            };
            let new: Vec<String> =
                names.into_iter().filter(|name| self.rows.contains_key(name) && !seen.contains(name)).collect();
            let rows: u64 = new.iter().map(|name| self.rows[name]).sum();
            if !new.is_empty() {
                (newest, warn_after) = (Instant::now(), WARN_AFTER);
                seen.extend(new);
                self.made.store(seen.len(), Ordering::Relaxed);
            }
            if is_first {
                progress.begin_at(rows);
            } else if rows > 0 {
                progress.add(rows);
            }
            is_first = false;
            if seen.len() == self.rows.len() {
                return Ok(());
            }
            let rest = (begun.elapsed() * REST_TIMES_COST).clamp(POLL_INTERVAL, LONGEST_REST);
            let rested = Instant::now();
            while rested.elapsed() < rest {
                self.check(newest, &mut warn_after, seen.len())?;
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// Looks for Ctrl-C, and at how long nothing has come.
    fn check(&self, newest: Instant, warn_after: &mut Duration, seen: usize) -> Result<()> {
        interrupt::check()?;
        let (silent, left) = (newest.elapsed(), self.rows.len() - seen);
        if silent >= self.give_up_after {
            return Err(ClusterError::Stalled { stage: self.stage, secs: silent.as_secs(), left });
        }
        if silent >= *warn_after {
            tracing::warn!(
                "no new shard of {} for {} s, {left} are left: are there executors? Given up after {} s (--give-up-secs)",
                self.stage,
                silent.as_secs(),
                self.give_up_after.as_secs()
            );
            *warn_after *= 2;
        }
        Ok(())
    }
}
