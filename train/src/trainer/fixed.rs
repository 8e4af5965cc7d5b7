//! Networks that stand still beside a student: the frozen teacher that it is distilled from, and Gram anchoring's anchor.
//!
//! The frozen teacher is an input, too large to be written again with each checkpoint: a checkpoint holds the digest of its
//! weights, and resumes beside no other. The anchor is the run's own, an earlier teacher, and is in the checkpoint.

use super::state::parameter_entries;
use crate::checkpoint::{Checkpoint, Entry};
use crate::model::{Vit, load};
use crate::operators::Operators;
use crate::optimise::Schedule;
use burn::module::Module;
use burn::tensor::backend::Backend;
use lapidary_schemas::Digest;

/// The prefix of the anchor's tensors in a checkpoint.
const ANCHOR: &str = "anchor";

/// Networks that stand still.
#[derive(Clone)]
pub(super) struct FixedNetworks<B: Backend> {
    frozen: Option<(Vit<B>, Digest)>,
    anchor: Option<Vit<B>>,
}

impl<B: Operators> Default for FixedNetworks<B> {
    fn default() -> Self {
        Self { frozen: None, anchor: None }
    }
}

impl<B: Operators> FixedNetworks<B> {
    pub(super) fn set_frozen(&mut self, teacher: Vit<B>, digest: &Digest) {
        self.frozen = Some((teacher, digest.clone()));
    }

    /// What a checkpoint does not hold.
    pub(super) fn without_anchor(&self) -> Self {
        Self { frozen: self.frozen.clone(), anchor: None }
    }

    /// The same on a device.
    pub(super) fn on_device(&self, device: &B::Device) -> Self {
        let frozen = self.frozen.clone().map(|(teacher, digest)| (teacher.fork(device), digest));
        Self { frozen, anchor: self.anchor.clone().map(|anchor| anchor.fork(device)) }
    }

    pub(super) fn frozen(&self) -> Option<&Vit<B>> {
        self.frozen.as_ref().map(|(teacher, _)| teacher)
    }

    pub(super) fn anchor(&self) -> Option<&Vit<B>> {
        self.anchor.as_ref()
    }

    /// Makes the teacher before a step the anchor, when it is time.
    pub(super) fn take_anchor(&mut self, teacher: &Vit<B>, schedule: &Schedule, step: usize) {
        if schedule.takes_anchor(step) {
            self.anchor = Some(teacher.clone());
        }
    }

    /// The digest of the frozen teacher's weights.
    pub(super) fn frozen_digest(&self) -> Option<&Digest> {
        self.frozen.as_ref().map(|(_, digest)| digest)
    }

    /// The anchor's tensors, for checkpoints.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.anchor.iter().flat_map(|anchor| parameter_entries(ANCHOR, anchor)).collect()
    }

    /// Resumes from a checkpoint; the anchor is a network like `backbone`.
    ///
    /// # Errors
    /// Says so when the checkpoint was distilled from other weights, or its anchor is another network.
    pub(super) fn restore(
        &mut self,
        checkpoint: &Checkpoint,
        backbone: &Vit<B>,
        device: &B::Device,
    ) -> Result<(), String> {
        if let Some((_, digest)) = &self.frozen {
            let before = checkpoint.networks.distilled_from.as_ref();
            if before != Some(digest) {
                let before = before.map_or("none", Digest::short);
                return Err(format!(
                    "it was distilled from other weights than objective.distill_from names now (digest {before}, now {})\n\
                     hint: give the run the weights that it began with, or begin another run",
                    digest.short()
                ));
            }
        }
        let anchor = checkpoint.part(&format!("{ANCHOR}."));
        self.anchor = match anchor.is_empty() {
            true => None,
            false => Some(load(backbone.clone(), &anchor, device)?),
        };
        Ok(())
    }
}
