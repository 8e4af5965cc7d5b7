//! The trainer: one step after another, generic over the backend.
//!
//! A step: teacher forward on the globals; student forward once for each resolution; one head call; losses; backward; clip;
//! AdamW; the teacher follows. The backbone works on pieces of the batch side by side, the heads on all of it. All state
//! that makes a run is in a [`Checkpoint`]; the plan's position is the step itself, and no other randomness exists.

use crate::augment::finish;
use crate::checkpoint::Checkpoint;
use crate::model::{Network, Seen, Vit, host_values, load, map_named, named_gradients, snapshot};
use crate::objective::{Features, Objective, Weighted, build};
use crate::optimise::{AdamW, Schedule, StepSchedule, follow};
use crate::pieces::{in_parallel, ranges};
use crate::{Result, TrainError};
use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::loader::{Batch, Pixels, ViewGroup};
use lapidary_pipeline::plan::View;
use lapidary_schemas::Config;
use lapidary_schemas::config::ViewKind;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// A run at work.
pub struct Trainer<B: AutodiffBackend> {
    student: Network<B>,
    teacher: Network<B::InnerBackend>,
    objective: Weighted<B>,
    optimiser: AdamW<B::InnerBackend>,
    schedule: Schedule,
    clip_norm: f64,
    pieces: usize,
    device: B::Device,
    step: usize,
}

/// What a step came to.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// What held at the step.
    pub schedule: StepSchedule,
    /// The loss.
    pub loss: f64,
    /// Named scalars: the parts of the loss and what tells a collapse.
    pub metrics: BTreeMap<&'static str, f64>,
}

impl<B: AutodiffBackend> Trainer<B> {
    /// A run at its first step.
    pub fn new(config: &Config, schedule: Schedule, device: &B::Device) -> Self {
        let student = Network::<B>::student(&config.model, &config.objective, config.seed, device);
        let kinds: Vec<ViewKind> = config.plan.views.iter().map(|view| view.kind).collect();
        Self {
            teacher: Network::teacher_of(&student.valid()),
            student,
            objective: build(&config.objective, &kinds, device),
            optimiser: AdamW::new(),
            schedule,
            clip_norm: config.pretrain.clip_norm,
            pieces: config.pretrain.pieces,
            device: device.clone(),
            step: 0,
        }
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The kinds of views that the objective reads.
    pub fn reads(&self) -> Vec<ViewKind> {
        let all = [ViewKind::Global, ViewKind::Local, ViewKind::Barlow];
        all.into_iter().filter(|kind| self.objective.reads(*kind)).collect()
    }

    /// Trains on a batch.
    ///
    /// The batch is cut into pieces of images that go through the backbone side by side, each with a graph of its own. The
    /// losses see the features of all of them; their gradients then go back through each piece (gradient caching, Gao et
    /// al. 2021: the same gradients as in one piece, up to rounding).
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] when the loss is no number.
    pub fn train(&mut self, batch: Batch) -> Result<StepReport> {
        let schedule = self.schedule.at(self.step);
        let images = batch.ids.len();
        let ranges = ranges(images, self.pieces);
        let forwarded = in_parallel(&ranges, |range| Piece::forward(self, &batch, range.clone()));
        drop(batch);
        let features = join(&forwarded, images);
        let loss = self.objective.loss(&features, &self.student, &self.teacher, &schedule);
        let total = loss.total;
        let mut heads = total.backward();
        let mut gradients = named_gradients::<B, _>(&self.student, &heads);
        let wanted: BTreeMap<ViewKind, Tensor<B::InnerBackend, 2>> =
            features.student.iter().filter_map(|(kind, seen)| Some((*kind, seen.grad_remove(&mut heads)?))).collect();
        drop((features, heads));
        for of_piece in in_parallel(&forwarded, |piece| piece.backward(&wanted, images)) {
            for (name, gradient) in of_piece {
                let sum = match gradients.remove(&name) {
                    Some(sum) => sum + gradient,
                    None => gradient,
                };
                gradients.insert(name, sum);
            }
        }
        drop(forwarded);
        let stepped = self.optimiser.step(self.student.clone(), gradients, &schedule, self.clip_norm);
        self.student = stepped.network;
        if self.objective.needs_teacher() {
            self.teacher = follow(self.teacher.clone(), &self.student.valid(), schedule.momentum);
        }
        let scalar = |tensor: Tensor<B::InnerBackend, 1>| f64::from(host_values(tensor)[0]);
        let mut metrics: BTreeMap<&'static str, f64> =
            loss.metrics.into_iter().map(|(name, tensor)| (name, scalar(tensor))).collect();
        if let Some(norm) = stepped.gradient_norm {
            metrics.insert("gradient_norm", scalar(norm));
        }
        let loss = scalar(total.inner());
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { step: self.step });
        }
        self.step += 1;
        Ok(StepReport { schedule, loss, metrics })
    }

    /// All state that makes the run.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut tensors = BTreeMap::new();
        let parts = [
            ("student", snapshot(&self.student.valid())),
            ("adamw", self.optimiser.state()),
            ("objective", self.objective.state()),
        ];
        let teacher = self.objective.needs_teacher().then(|| ("teacher", snapshot(&self.teacher)));
        for (prefix, part) in parts.into_iter().chain(teacher) {
            tensors.extend(part.into_iter().map(|(name, tensor)| (format!("{prefix}.{name}"), tensor)));
        }
        Checkpoint { step: self.step, tensors }
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] when it is of another network.
    pub fn restore(mut self, checkpoint: &Checkpoint, path: &Path) -> Result<Self> {
        let fault = |detail: String| TrainError::Checkpoint { path: path.to_owned(), detail };
        self.student = load(self.student, &checkpoint.part("student."), &self.device).map_err(fault)?;
        if self.objective.needs_teacher() {
            self.teacher = load(self.teacher, &checkpoint.part("teacher."), &self.device).map_err(fault)?;
        }
        self.optimiser = AdamW::restore(&checkpoint.part("adamw."), &self.device);
        self.objective.restore(&checkpoint.part("objective."));
        self.step = checkpoint.step;
        Ok(self)
    }
}

/// Some of a batch's images on their way through the backbone.
struct Piece<B: AutodiffBackend> {
    images: Range<usize>,
    /// The student with leaves of its own, so that pieces share no graph.
    student: Vit<B>,
    /// Features of each kind, shape `[views * images.len(), dim]`.
    seen: BTreeMap<ViewKind, Tensor<B, 2>>,
    teacher: Option<Tensor<B::InnerBackend, 2>>,
}

impl<B: AutodiffBackend> Piece<B> {
    /// Shows the networks their views: each network sees each resolution once.
    fn forward(trainer: &Trainer<B>, batch: &Batch, images: Range<usize>) -> Self {
        let student = map_named(trainer.student.backbone.clone(), |(_, _, leaf): Seen<'_, B>| leaf);
        let device = &trainer.device;
        let teacher = trainer.objective.needs_teacher().then(|| {
            let globals = batch.groups.iter().filter(|group| group.kind == ViewKind::Global);
            let pixels: Vec<_> = globals.map(|group| pixels::<B::InnerBackend>(group, &images, device)).collect();
            trainer.teacher.backbone.forward(Tensor::cat(pixels, 0))
        });
        let mut by_size: BTreeMap<usize, Vec<&ViewGroup>> = BTreeMap::new();
        for group in &batch.groups {
            by_size.entry(group.size_px).or_default().push(group);
        }
        let mut seen = BTreeMap::new();
        for groups in by_size.into_values() {
            let shown: Vec<_> = groups.iter().map(|group| pixels::<B>(group, &images, device)).collect();
            let features = student.forward(Tensor::cat(shown, 0));
            let dim = features.dims()[1];
            let mut first = 0;
            for group in &groups {
                let rows = group.views * images.len();
                seen.insert(group.kind, features.clone().slice([first..first + rows, 0..dim]));
                first += rows;
            }
        }
        Self { images, student, seen, teacher }
    }

    /// The backbone's gradients, given those of the whole batch's features.
    fn backward(
        &self,
        wanted: &BTreeMap<ViewKind, Tensor<B::InnerBackend, 2>>,
        images: usize,
    ) -> BTreeMap<String, Tensor<B::InnerBackend, 1>> {
        let mut dot: Option<Tensor<B, 1>> = None;
        for (kind, seen) in &self.seen {
            let Some(gradient) = wanted.get(kind) else { continue };
            let [rows, dim] = gradient.dims();
            let own = gradient
                .clone()
                .reshape([rows / images, images, dim])
                .slice([0..rows / images, self.images.clone(), 0..dim])
                .reshape(seen.dims());
            let part = (seen.clone() * Tensor::from_inner(own)).sum();
            dot = Some(dot.map_or(part.clone(), |sum| sum + part));
        }
        let Some(dot) = dot else { return BTreeMap::new() };
        let gradients = named_gradients::<B, _>(&self.student, &dot.backward());
        gradients.into_iter().map(|(name, gradient)| (format!("backbone.{name}"), gradient)).collect()
    }
}

/// The views of some images of a group, shape `[views * images, 3, size_px, size_px]`.
fn pixels<B: Backend>(group: &ViewGroup, images: &Range<usize>, device: &B::Device) -> Tensor<B, 4> {
    let plane = 3 * group.size_px * group.size_px;
    let shape = [group.views * images.len(), 3, group.size_px, group.size_px];
    match &group.pixels {
        Pixels::Rendered(values) => {
            Tensor::from_data(TensorData::new(of_images(values, group.views, plane, images).collect(), shape), device)
        }
        Pixels::Cropped(levels, rows) => {
            let levels = of_images(levels, group.views, plane, images).map(f32::from).collect();
            let rows: Vec<View> = of_images(rows, group.views, 1, images).collect();
            finish(Tensor::from_data(TensorData::new(levels, shape), device), &rows)
        }
    }
}

/// What belongs to some images, of values of shape `[views, batch, width]`.
fn of_images<'a, T: Copy>(
    values: &'a [T],
    views: usize,
    width: usize,
    images: &Range<usize>,
) -> impl Iterator<Item = T> + use<'a, T> {
    let range = images.start * width..images.end * width;
    values.chunks_exact(values.len() / views).flat_map(move |view| &view[range.clone()]).copied()
}

/// The features of all pieces, in the order of the batch, as leaves that gradients are asked for.
fn join<B: AutodiffBackend>(pieces: &[Piece<B>], images: usize) -> Features<B> {
    let kinds: Vec<ViewKind> = pieces[0].seen.keys().copied().collect();
    let student = kinds.into_iter().map(|kind| {
        let parts = pieces.iter().map(|piece| (piece.seen[&kind].clone().inner(), piece.images.len()));
        (kind, Tensor::from_inner(join_views(parts)).require_grad())
    });
    let teacher = pieces[0]
        .teacher
        .is_some()
        .then(|| join_views(pieces.iter().filter_map(|piece| Some((piece.teacher.clone()?, piece.images.len())))));
    Features { batch: images, student: student.collect(), teacher }
}

/// Features of pieces, `[views * images, dim]` each, as `[views * batch, dim]`.
fn join_views<B: Backend>(parts: impl Iterator<Item = (Tensor<B, 2>, usize)>) -> Tensor<B, 2> {
    let split = |(features, images): (Tensor<B, 2>, usize)| {
        let [rows, dim] = features.dims();
        features.reshape([rows / images, images, dim])
    };
    let joined = Tensor::cat(parts.map(split).collect(), 1);
    let [views, images, dim] = joined.dims();
    joined.reshape([views * images, dim])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use lapidary_schemas::ImageId;
    use lapidary_schemas::config::{ModelConfig, ObjectiveConfig, ObjectiveKind, PretrainConfig, ViewSpec};

    fn config(kind: ObjectiveKind, pieces: usize) -> Config {
        let view = |kind, count, size_px| ViewSpec { kind, count, size_px, ..ViewSpec::default() };
        let mut config = Config {
            model: ModelConfig { image_px: 16, patch_px: 4, dim: 16, depth: 2, heads: 2, mlp_ratio: 2 },
            objective: ObjectiveConfig {
                kind,
                prototypes: 24,
                head_hidden: 16,
                head_bottleneck: 8,
                barlow_dim: 12,
                ..ObjectiveConfig::default()
            },
            pretrain: PretrainConfig {
                batch: 24,
                pieces,
                base_learning_rate: 5e-2,
                warmup_steps: 5,
                freeze_last_layer_steps: 2,
                weight_decay: 0.0,
                final_weight_decay: 0.0,
                momentum: 0.9,
                ..PretrainConfig::default()
            },
            ..Config::default()
        };
        config.plan.views = vec![view(ViewKind::Global, 2, 16), view(ViewKind::Local, 2, 8)];
        config
    }

    /// Images that are waves of their own, each view with a little noise.
    fn batch() -> Batch {
        let group = |kind, size_px: usize, views: usize| {
            let value = |i: usize| {
                let plane = 3 * size_px * size_px;
                let (view, image, at) = (i / plane / 24, i / plane % 24, i % plane);
                let wave = ((at as f32 * (1.0 + image as f32) * 0.11).sin() + (image as f32).cos()) * 0.7;
                wave + 0.1 * ((i * 7919 + view) as f32).sin()
            };
            let pixels = (0..views * 24 * 3 * size_px * size_px).map(value).collect();
            ViewGroup { kind, size_px, views, pixels: Pixels::Rendered(pixels) }
        };
        let ids = (0..24).map(ImageId).collect();
        Batch { step: 0, ids, groups: vec![group(ViewKind::Global, 16, 2), group(ViewKind::Local, 8, 2)] }
    }

    /// What is left to learn of each part of an objective: DINO's loss above its floor, the teacher's entropy, and Barlow
    /// Twins' loss; at the first and at the last of 160 steps beside a teacher that stands still.
    fn left_to_learn(kind: ObjectiveKind) -> Vec<(&'static str, f64, f64)> {
        let mut config = config(kind, 2);
        config.pretrain.momentum = 1.0;
        let schedule = Schedule::new(&config.pretrain, &config.objective, 160, 160);
        let mut trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
        let metrics: Vec<_> = (0..160).map(|_| trainer.train(batch()).expect("trains").metrics).collect();
        let (first, last) = (&metrics[0], &metrics[159]);
        let mut left = Vec::new();
        if first.contains_key("loss_dino") {
            left.push((
                "dino",
                first["loss_dino"] - first["teacher_entropy"],
                last["loss_dino"] - last["teacher_entropy"],
            ));
        }
        if first.contains_key("loss_barlow") {
            left.push(("barlow", first["loss_barlow"], last["loss_barlow"]));
        }
        left
    }

    #[test]
    fn every_objective_learns_a_batch_by_heart() {
        for (kind, parts, share) in [
            (ObjectiveKind::BarlowTwins, 1, 0.2),
            (ObjectiveKind::Dino, 1, 0.25),
            // The two share the backbone's 16 numbers.
            (ObjectiveKind::Hybrid, 2, 0.4),
        ] {
            let left = left_to_learn(kind);
            assert_eq!(left.len(), parts, "{kind:?}");
            for (part, first, last) in left {
                assert!(last < share * first, "{kind:?}, {part}: {first} to {last}");
            }
        }
    }

    #[test]
    fn pieces_change_nothing_but_rounding() {
        let weights = |pieces| {
            let config = config(ObjectiveKind::Hybrid, pieces);
            let schedule = Schedule::new(&config.pretrain, &config.objective, 3, 3);
            let mut trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
            (0..3).for_each(|_| drop(trainer.train(batch()).expect("trains")));
            snapshot(&trainer.student.valid())
        };
        let whole = weights(1);
        for (name, tensor) in weights(3) {
            for (a, b) in tensor.values.iter().zip(&whole[&name].values) {
                assert!((a - b).abs() < 2e-3, "{name}: {a} {b}");
            }
        }
    }

    #[test]
    fn a_restored_trainer_goes_on_to_the_bit() {
        let config = config(ObjectiveKind::Hybrid, 2);
        let schedule = || Schedule::new(&config.pretrain, &config.objective, 6, 3);
        let fresh = || Trainer::<Cpu>::new(&config, schedule(), &Default::default());
        let (mut straight, mut first) = (fresh(), fresh());
        for _ in 0..6 {
            straight.train(batch()).expect("trains");
        }
        for _ in 0..3 {
            first.train(batch()).expect("trains");
        }
        let mut second = fresh().restore(&first.checkpoint(), Path::new("")).expect("restores");
        for _ in 0..3 {
            second.train(batch()).expect("trains");
        }
        assert_eq!(straight.checkpoint(), second.checkpoint());
    }
}
