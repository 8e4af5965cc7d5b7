//! A run on several devices: each is a rank, a thread with a copy of the run that takes every step on its share of the batch. The
//! first rank is the thread that trains; it tells the others what it does next, and what all of them compute together they have
//! by [`crate::operators::Collective`]. Gradients, statistics and decisions are the same bits on all ranks, and so are the copies.

use super::Trainer;
use crate::Result;
use crate::backend::said_of_panic;
use crate::operators::{Alone, Ranks, Stream, TrainBackend, collectives};
use crate::optimise::Schedule;
use crate::share::BatchShare;
use crate::upload::{Loaded, Uploader};
use lapidary_schemas::Config;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// What the first rank tells the others to do with it.
#[derive(Debug)]
pub(super) enum Order<B: TrainBackend> {
    Train(Loaded<B::InnerBackend>),
    Advance(Loaded<B::InnerBackend>, bool),
    Read,
    Compute(Loaded<B::InnerBackend>),
}

/// A run's place among the ranks.
pub(super) struct Rank<B: TrainBackend> {
    end: Ranks<B::InnerBackend>,
    /// The other ranks' ends, of the first one.
    other_ends: Vec<Ranks<B::InnerBackend>>,
    /// Their threads, from the first step on.
    others: OnceLock<Vec<Other<B>>>,
}

impl<B: TrainBackend> Default for Rank<B> {
    fn default() -> Self {
        Self { end: Arc::new(Alone), other_ends: Vec::new(), others: OnceLock::new() }
    }
}

impl<B: TrainBackend> Rank<B> {
    pub(super) fn number(&self) -> usize {
        self.end.rank()
    }

    pub(super) fn is_first(&self) -> bool {
        self.number() == 0
    }

    /// This rank's share of a batch.
    pub(super) fn share_of(&self, images: usize) -> BatchShare<B::InnerBackend> {
        BatchShare::of(&self.end, images)
    }

    /// Whether the other ranks' threads have begun.
    pub(super) fn has_begun(&self) -> bool {
        self.others.get().is_some()
    }

    /// Ends the other ranks' threads: they begin again with the run as it is then.
    pub(super) fn end_others(&mut self) {
        drop(self.others.take());
    }
}

/// A rank that is not the first.
struct Other<B: TrainBackend> {
    /// None when it is told to end.
    orders: Option<Sender<Order<B>>>,
    thread: Option<JoinHandle<()>>,
}

impl<B: TrainBackend> Drop for Other<B> {
    fn drop(&mut self) {
        drop(self.orders.take());
        // After a failure it may wait for a device that does not answer; else it ends, and what it failed of is said already.
        if !std::thread::panicking() {
            drop(self.thread.take().map(JoinHandle::join));
        }
    }
}

/// While it is there, a panic of this thread is told to the other ranks.
pub(super) struct Failing<B: TrainBackend>(Option<Ranks<B::InnerBackend>>);

impl<B: TrainBackend> Drop for Failing<B> {
    fn drop(&mut self) {
        if let (Some(end), true) = (&self.0, std::thread::panicking()) {
            end.abandon("the first device failed");
        }
    }
}

/// What a copy of a run begins from.
struct Copied<B: TrainBackend> {
    config: Config,
    schedule: Schedule,
    uploader: Uploader<B::InnerBackend>,
    state: crate::checkpoint::Checkpoint,
    fixed: super::FixedNetworks<B::InnerBackend>,
    metrics_steps: usize,
    packed: bool,
}

impl<B: TrainBackend> Trainer<B> {
    /// The same run with its batches spread over devices, each a rank, of which the first is the run's own. The same devices give
    /// the same bits, on GPUs as far as their kernels do.
    ///
    /// # Panics
    /// When a step's batch has fewer images than there are devices.
    pub fn spread_over(mut self, devices: Vec<B::Device>) -> Self {
        let mut ends = collectives::<B>(&devices).into_iter();
        self.rank = Rank { end: ends.next().unwrap_or_else(|| Arc::new(Alone)), ..Rank::default() };
        self.rank.other_ends = ends.collect();
        self.uploader.devices = devices;
        self
    }

    /// How ranks reach each other: `alone`, `threads` or `nccl`.
    pub fn collective(&self) -> &'static str {
        self.rank.end.name()
    }

    /// Tells the other ranks what this one does next, if it is the first.
    pub(super) fn tell(&self, order: impl Fn() -> Order<B>) -> Failing<B> {
        if self.rank.other_ends.is_empty() {
            return Failing(None);
        }
        let failing = Failing(Some(Arc::clone(&self.rank.end)));
        for Other { orders, .. } in self.rank.others.get_or_init(|| self.begin_others()) {
            // A thread that is gone has said why where the ranks meet.
            let _ = orders.as_ref().map(|orders| orders.send(order()));
        }
        failing
    }

    fn begin_others(&self) -> Vec<Other<B>> {
        assert!(self.ahead.is_none(), "ranks begin before steps are taken ahead, or after they are read");
        let copied = Arc::new(Copied {
            config: self.config.clone(),
            schedule: self.schedule.clone(),
            uploader: self.uploader.clone(),
            state: self.checkpoint(),
            fixed: self.fixed.without_anchor(),
            metrics_steps: self.metrics_steps,
            packed: self.packed,
        });
        let begin = |end: &Ranks<B::InnerBackend>| {
            let (orders, received) = channel();
            let (copied, end) = (Arc::clone(&copied), Arc::clone(end));
            let (failed, stream) = (Arc::clone(&end), Stream::current());
            let thread = std::thread::Builder::new().name(format!("rank {}", end.rank())).spawn(move || {
                match catch_unwind(AssertUnwindSafe(|| stream.executes(|| follow(copied, end, &received)))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => failed.abandon(&error.to_string()),
                    Err(panic) => failed.abandon(&said_of_panic(panic.as_ref())),
                }
            });
            let thread = thread.map_err(|error| self.rank.end.abandon(&error.to_string())).ok();
            Other { orders: Some(orders), thread }
        };
        self.rank.other_ends.iter().map(begin).collect()
    }
}

/// Does on its share of each batch what it is told to, until there is nothing more.
fn follow<B: TrainBackend>(
    copied: Arc<Copied<B>>,
    end: Ranks<B::InnerBackend>,
    orders: &Receiver<Order<B>>,
) -> Result<()> {
    let device = copied.uploader.devices[end.rank()].clone();
    let mut trainer = Trainer::<B>::new(&copied.config, copied.schedule.clone(), &device);
    trainer.rank = Rank { end, ..Rank::default() };
    trainer.uploader = copied.uploader.clone();
    trainer.fixed = copied.fixed.on_device(&device);
    (trainer.metrics_steps, trainer.packed) = (copied.metrics_steps, copied.packed);
    trainer = trainer.restore(&copied.state, Path::new("the first device's state"))?;
    drop(copied);
    while let Ok(order) = orders.recv() {
        match order {
            Order::Train(batch) => drop(trainer.train_share(batch)),
            Order::Advance(batch, read_now) => drop(trainer.advance_share(batch, read_now)),
            Order::Read => drop(trainer.read_share()),
            Order::Compute(batch) => drop(trainer.compute_share(batch)),
        }
    }
    Ok(())
}

/// How many values each parameter of a network has, by name.
pub(super) fn value_counts<B: TrainBackend>(network: &crate::model::Network<B>) -> BTreeMap<String, usize> {
    crate::model::shapes(network).into_iter().map(|(name, shape)| (name, shape.iter().product())).collect()
}

#[cfg(test)]
mod tests;
