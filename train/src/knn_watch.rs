//! k-NN of the network at work on a labelled source, every few epochs: `pretrain.watch`.
//!
//! It draws nothing and changes nothing of the run: a run with it has the weights of one without. Its score stands in
//! `metrics.jsonl` and beside the checkpoint that is written then, so that the best by it can be kept.

use crate::Result;
use crate::frozen::FrozenVit;
use crate::operators::Operators;
use crate::probe::{Labelled, Probe, features, knn};
use lapidary_pipeline::ImageStore;
use lapidary_pipeline::stage::Layout;
use lapidary_schemas::Config;
use lapidary_schemas::config::EvalConfig;

/// The labelled images of `pretrain.watch`, and how they are measured: by `eval`'s keys for features and k-NN.
pub(crate) struct KnnWatch {
    probe: Probe,
    store: ImageStore,
    eval: EvalConfig,
    every_epochs: usize,
}

impl KnnWatch {
    /// Opens the source that `pretrain.watch` names; none when it names none.
    ///
    /// # Errors
    /// When there is no such source, or it cannot be a probe.
    pub(crate) fn open(layout: &Layout, config: &Config) -> Result<Option<Self>> {
        let name = &config.pretrain.watch;
        if name.is_empty() {
            return Ok(None);
        }
        let probe = Probe::open(layout, name, &config.eval, config.seed)?;
        let store = ImageStore::open(&probe.folder)?;
        Ok(Some(Self { probe, store, eval: config.eval.clone(), every_epochs: config.pretrain.watch_epochs }))
    }

    /// Whether the network is measured after `done` of `steps` steps: at the end of each so many epochs, and of the run.
    pub(crate) fn is_due(&self, done: usize, steps: usize, steps_per_epoch: usize) -> bool {
        done == steps || (self.every_epochs > 0 && done.is_multiple_of(self.every_epochs * steps_per_epoch))
    }

    /// Top-1 of the weighted k-NN probe.
    ///
    /// # Errors
    /// When an image is gone or the user interrupts.
    pub(crate) fn top1<B: Operators>(&self, network: &FrozenVit<B>, device: &B::Device) -> Result<f64> {
        let EvalConfig { batch, ref knn_neighbours, knn_temperature, .. } = self.eval;
        let features = |list: &[Labelled]| features::compute(&self.store, list, network, batch, |_| {});
        let (train, test) = (features(&self.probe.train)?.normalised(), features(&self.probe.test)?.normalised());
        let classes = self.probe.classes.len();
        let k = *knn_neighbours.first().expect("one number at least: checked by probe::check");
        Ok(knn::probe::<B>(&train, &test, classes, k, knn_temperature, device).top1())
    }
}
