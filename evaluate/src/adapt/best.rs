//! Early stopping: the best epoch so far by held-out images, and when to stop looking for a better one.

use super::network::Looked;
use super::scores::EpochLine;

/// The best state of a network so far.
#[derive(Debug)]
pub(crate) struct Best<T> {
    patience: usize,
    best: Option<(Looked, usize, T)>,
    /// Epochs since it was found, or since something new began to learn.
    since: usize,
    history: Vec<EpochLine>,
}

impl<T> Best<T> {
    pub(crate) fn new(patience: usize) -> Self {
        Self { patience, best: None, since: 0, history: Vec::new() }
    }

    /// Something new begins to learn: it gets as many epochs as the first had.
    pub(crate) fn begin_anew(&mut self) {
        self.since = 0;
    }

    /// Notes an epoch: its mean train loss, how the network did on held-out images afterwards (none where nothing is held out:
    /// then the last epoch is the best), and its state. Whether to stop.
    pub(crate) fn see(&mut self, loss: f64, looked: Option<Looked>, state: T) -> bool {
        let epoch = self.history.len();
        self.history.push(EpochLine {
            loss,
            held_out_top1: looked.map(|looked| looked.accuracy.top1()),
            held_out_loss: looked.map(|looked| looked.loss),
        });
        let Some(looked) = looked else {
            self.best = Some((Looked { accuracy: Default::default(), loss: f64::NAN }, epoch, state));
            return false;
        };
        let is_better = self.best.as_ref().is_none_or(|(best, _, _)| {
            let (new, old) = (looked.accuracy.first, best.accuracy.first);
            new > old || (new == old && looked.loss < best.loss)
        });
        if is_better {
            self.best = Some((looked, epoch, state));
            self.since = 0;
        } else {
            self.since += 1;
        }
        self.since >= self.patience
    }

    /// The best state, its epoch from 0, and every epoch's line; none when no epoch was seen.
    pub(crate) fn into_best(self) -> Option<(T, usize, Vec<EpochLine>)> {
        let (_, epoch, state) = self.best?;
        Some((state, epoch, self.history))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_train::probe::Accuracy;

    fn looked(first: u64, loss: f64) -> Option<Looked> {
        Some(Looked { accuracy: Accuracy { tested: 10, first, in_five: 10 }, loss })
    }

    #[test]
    fn the_best_epoch_is_kept_ties_go_to_the_lower_loss_and_patience_ends() {
        let mut best = Best::new(2);
        let seen = [(3, 1.0), (5, 0.9), (5, 0.8), (5, 0.85), (4, 0.1)];
        let stops: Vec<bool> =
            seen.iter().enumerate().map(|(i, (first, loss))| best.see(0.0, looked(*first, *loss), i)).collect();
        assert_eq!(stops, [false, false, false, false, true]);
        let (state, epoch, history) = best.into_best().expect("some");
        assert_eq!((state, epoch, history.len()), (2, 2, 5));
    }

    #[test]
    fn what_begins_anew_has_its_patience_and_without_held_out_images_the_last_epoch_is_kept() {
        let mut best = Best::new(1);
        assert!(!best.see(0.0, looked(5, 1.0), 0));
        assert!(best.see(0.0, looked(4, 1.0), 1));
        best.begin_anew();
        assert!(!best.see(0.0, looked(6, 1.0), 2));
        let mut blind = Best::new(1);
        assert!(!blind.see(1.0, None, 0) && !blind.see(2.0, None, 1));
        let (state, epoch, _) = blind.into_best().expect("some");
        assert_eq!((state, epoch), (1, 1));
    }
}
