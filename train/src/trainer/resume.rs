//! A run that is killed at any steps, and one that is extended meanwhile, ends in the bits of one that was left alone.

use super::Trainer;
use crate::backend::Cpu;
use crate::checkpoint::{Checkpoint, step_name};
use crate::optimise::Schedule;
use lapidary_pipeline::loader::{Batch, Pixels, ViewGroup};
use lapidary_schemas::config::{
    ClipBy, ModelConfig, ObjectiveConfig, ObjectiveKind, OptimiserKind, PretrainConfig, ViewKind, ViewSpec,
};
use lapidary_schemas::{Config, ImageId};
use proptest::prelude::*;
use std::path::Path;

const IMAGES: usize = 4;
const PER_EPOCH: usize = 3;

fn config(optimiser: OptimiserKind, clip_by: ClipBy) -> Config {
    let mut config = Config {
        model: ModelConfig {
            image_px: 8,
            patch_px: 4,
            dim: 8,
            depth: 2,
            heads: 2,
            mlp_ratio: 2,
            drop_path: 0.3,
            ..ModelConfig::default()
        },
        objective: ObjectiveConfig {
            kind: ObjectiveKind::Hybrid,
            prototypes: 6,
            head_hidden: 8,
            head_bottleneck: 4,
            barlow_dim: 6,
            norm_last_layer: false,
            // From the third step on, and the anchor taken anew every other step.
            gram_weight: 1.0,
            gram_from_step: 2,
            gram_refresh_steps: 2,
            ..ObjectiveConfig::default()
        },
        pretrain: PretrainConfig {
            batch: IMAGES,
            pieces: 1,
            base_learning_rate: 0.1,
            warmup_steps: 2,
            freeze_last_layer_steps: 3,
            optimiser,
            clip_by,
            ..PretrainConfig::default()
        },
        ..Config::default()
    };
    let view = |kind, size_px| ViewSpec { kind, count: 2, size_px, ..ViewSpec::default() };
    config.plan.views = vec![view(ViewKind::Global, 8), view(ViewKind::Local, 4)];
    config
}

/// The batch of a step: others at others.
fn batch(step: usize) -> Batch {
    let group = |kind, size_px: usize| {
        let count = 2 * IMAGES * 3 * size_px * size_px;
        let pixels = (0..count).map(|i| ((i * 7 + step * 31) as f32 * 0.37).sin()).collect();
        ViewGroup { kind, size_px, views: 2, pixels: Pixels::Rendered(pixels) }
    };
    let ids = (0..IMAGES as u64).map(ImageId).collect();
    Batch { step, ids, groups: vec![group(ViewKind::Global, 8), group(ViewKind::Local, 4)] }
}

/// Where a run is killed, and how often it keeps its state.
struct Kills<'a> {
    /// Steps after which the process ends, each once.
    after: &'a [usize],
    /// Steps between checkpoints.
    checkpoint_steps: usize,
}

/// The state after `steps` steps that begin from `start`, as the stage trains them: from the newest checkpoint whenever the
/// process was killed.
fn train(config: &Config, start: Option<&Checkpoint>, steps: usize, kills: &Kills<'_>) -> Checkpoint {
    let folder = tempfile::tempdir().expect("a folder");
    let mut left: Vec<usize> = kills.after.to_vec();
    loop {
        let schedule = Schedule::new(&config.pretrain, &config.objective, steps, PER_EPOCH);
        let mut trainer = Trainer::<Cpu>::new(config, schedule, &Default::default());
        let newest = Checkpoint::latest(folder.path());
        if let Some(checkpoint) = newest.as_ref().or(start) {
            trainer = trainer.restore(checkpoint, Path::new("")).expect("restores");
        }
        while trainer.step() < steps {
            trainer.train(batch(trainer.step()));
            if trainer.step().is_multiple_of(kills.checkpoint_steps) {
                trainer.snapshot().save(folder.path(), &step_name(trainer.step()), None).expect("saves");
            }
            if let Some(at) = left.iter().position(|step| *step == trainer.step()) {
                left.remove(at);
                break;
            }
        }
        if trainer.step() == steps {
            return trainer.checkpoint();
        }
    }
}

fn on_one_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool").install(run)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn kills_an_extension_and_the_number_of_threads_change_no_bit(
        steps in 3usize..9,
        more in 1usize..7,
        after in prop::collection::vec(1usize..15, 0..5),
        checkpoint_steps in 1usize..4,
        lars: bool,
        clip_by in prop_oneof![Just(ClipBy::Tensor), Just(ClipBy::Module), Just(ClipBy::Global)],
    ) {
        let config = config(if lars { OptimiserKind::Lars } else { OptimiserKind::Adamw }, clip_by);
        let unharmed = Kills { after: &[], checkpoint_steps: 100 };
        let kills = Kills { after: &after, checkpoint_steps };
        let first = train(&config, None, steps, &unharmed);
        let killed = on_one_thread(|| train(&config, None, steps, &kills));
        prop_assert_eq!(&first, &killed);
        // A finished run goes on under the schedules of all its steps.
        let extended = train(&config, Some(&first), steps + more, &unharmed);
        let killed = on_one_thread(|| train(&config, Some(&killed), steps + more, &kills));
        prop_assert_eq!(extended.step, steps + more);
        prop_assert_eq!(&extended, &killed);
        prop_assert_ne!(&extended.tensors, &first.tensors);
    }
}
