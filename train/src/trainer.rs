//! The trainer: one step after another, generic over the backend.
//!
//! A step: teacher forward on the globals, and that of a frozen teacher or an anchor where there is one (see `fixed`); student
//! forward once for each resolution; each loss on the whole batch, and its backward pass to the features; backward through the
//! backbone; a look at loss and gradient norm; clip; optimiser; EMA. The backbone works on pieces of the batch (see
//! [`crate::pieces`]), the heads on all of it. All state that makes a run is in a
//! [`Checkpoint`]; the plan's position is the step itself, and what is drawn is a function of seed, step and image. A step
//! whose loss or gradient norm is not finite is skipped: it changes nothing but the counts.

use crate::checkpoint::{Checkpoint, Entry, Skipped, Snapshot};
use crate::draws::StepDraws;
use crate::health::look;
use crate::model::{
    HostTensor, Network, NetworkConfig, Vit, disk_shape, from_disk, host_values, load, named_gradients, named_tensors,
    shapes, snapshot, to_disk,
};
use crate::objective::masks::{Grid, MaskAmount, step_masks};
use crate::objective::{Needs, Pending, StepInput, Weighted, build, outputs};
use crate::optimise::{Gradients, Optimiser, Schedule, StepSchedule, ema_update};
use crate::pieces::{FeatureGradients, Inputs, Piece, Remembered, Teachers, add_to, in_parallel, join, ranges};
use crate::{Result, TrainError};
use burn::module::{AutodiffModule, Module};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use lapidary_pipeline::loader::Batch;
use lapidary_schemas::config::ViewKind;
use lapidary_schemas::{Config, Digest};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

mod fixed;
#[cfg(test)]
mod resume;

use fixed::FixedNetworks;

/// A run at work.
pub struct Trainer<B: AutodiffBackend> {
    student: Network<B>,
    teacher: Network<B::InnerBackend>,
    fixed: FixedNetworks<B::InnerBackend>,
    objective: Weighted<B>,
    optimiser: Optimiser<B::InnerBackend>,
    schedule: Schedule,
    config: Config,
    needs: Needs,
    device: B::Device,
    step: usize,
    skipped: Skipped,
}

/// What a step came to.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// What held at the step.
    pub schedule: StepSchedule,
    /// The loss.
    pub loss: f64,
    /// Named scalars: the parts of the loss and what tells a collapse.
    pub metrics: BTreeMap<String, f64>,
    /// Loss or gradient norm was not finite, and nothing was changed by the step.
    pub skipped: bool,
}

/// A step as computed, before anything is changed by it.
pub(crate) struct Computed<B: AutodiffBackend> {
    pub(crate) schedule: StepSchedule,
    pub(crate) loss: f64,
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) gradients: Gradients<B::InnerBackend>,
    /// What the losses gave for a look at the run's health.
    pub(crate) outputs: BTreeMap<&'static str, Tensor<B::InnerBackend, 2>>,
    pending: Pending<B::InnerBackend>,
    /// Norm of each loss's gradient at the backbone's features, before its weight.
    feature_norms: Vec<f64>,
}

impl<B: AutodiffBackend> Computed<B> {
    /// Whether it may be taken.
    pub(crate) fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.metrics.get(GRADIENT_NORM).is_none_or(|norm| norm.is_finite())
    }
}

const GRADIENT_NORM: &str = "gradient_norm";
const LOSS: &str = "loss";
/// Held while a step is computed: burn-autodiff 0.21 keeps one table of graphs for the whole process, and with a backward pass
/// beside another thread's forward pass gradients were seen that are off by a tenth of their norm. Forward passes beside each
/// other, and backward passes beside each other, were right in every run.
static GRAPHS: Mutex<()> = Mutex::new(());
/// The norm of a loss's gradient at the backbone's features, on its way to the metrics.
const FEATURE_GRADIENT: &str = "feature_gradient";

/// Reads scalars from the device, all in one transfer.
fn read_scalars<B: Backend>(scalars: Vec<(&'static str, Tensor<B, 1>)>) -> Vec<(&'static str, f64)> {
    let (names, tensors): (Vec<_>, Vec<_>) = scalars.into_iter().unzip();
    names.into_iter().zip(host_values(Tensor::cat(tensors, 0)).into_iter().map(f64::from)).collect()
}

impl<B: AutodiffBackend> Trainer<B> {
    /// A run at its first step.
    pub fn new(config: &Config, schedule: Schedule, device: &B::Device) -> Self {
        let network = NetworkConfig::of(&config.model.resolved(), &config.objective);
        let student = Network::<B>::student(&network, config.seed, device);
        let kinds: Vec<ViewKind> = config.plan.views.iter().map(|view| view.kind).collect();
        let objective = build(&config.objective, &kinds, device);
        Self {
            teacher: Network::teacher_of(&student.valid()),
            student,
            fixed: FixedNetworks::default(),
            needs: objective.needs(),
            objective,
            optimiser: Optimiser::new(&config.pretrain, network.model.depth),
            schedule,
            config: Config { model: network.model, ..config.clone() },
            device: device.clone(),
            step: 0,
            skipped: Skipped::default(),
        }
    }

    /// The same run with its backbone's weights replaced before its first step, the student's and the teacher's.
    ///
    /// # Errors
    /// When a tensor is not of the backbone's shape.
    pub fn start_from(mut self, backbone: &BTreeMap<String, HostTensor>) -> Result<Self> {
        // What weights may lack, a mask token, stays as it was drawn; what the network has no use for is left.
        let mut tensors = snapshot(&self.student.backbone);
        for (name, tensor) in backbone {
            tensors.entry(name.clone()).and_modify(|drawn| *drawn = tensor.clone());
        }
        self.student.backbone = load(self.student.backbone, &tensors, &self.device).map_err(TrainError::Model)?;
        self.teacher = Network::teacher_of(&self.student.valid());
        Ok(self)
    }

    /// The same run beside the frozen teacher that its objective needs, which is known by the digest of its weights.
    pub fn distil_from(mut self, teacher: Vit<B::InnerBackend>, digest: &Digest) -> Self {
        self.fixed.set_frozen(teacher, digest);
        self
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Steps that were skipped.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The kinds of views that the objective reads.
    pub fn reads(&self) -> Vec<ViewKind> {
        let all = [ViewKind::Global, ViewKind::Local, ViewKind::Barlow];
        all.into_iter().filter(|kind| self.needs.reads(*kind)).collect()
    }

    /// Trains on a batch, unless its loss or its gradients are not finite.
    pub fn train(&mut self, batch: Batch) -> StepReport {
        let images = batch.ids.len();
        if self.needs.anchor {
            self.fixed.take_anchor(&self.teacher.backbone, &self.schedule, self.step);
        }
        let computed = self.compute(batch);
        let is_look = self.is_look() && computed.is_finite();
        self.step += 1;
        let skipped = !computed.is_finite();
        self.skipped = self.skipped.and(skipped);
        let Computed { schedule, loss, mut metrics, gradients, outputs, pending, feature_norms } = computed;
        if is_look {
            for (name, value) in look(&outputs, images, metrics.get("loss_dino").copied()) {
                metrics.entry(name.to_owned()).or_insert(value);
            }
        }
        if !skipped {
            self.objective.commit(&pending, &feature_norms);
            self.student = self.optimiser.step(self.student.clone(), gradients, &schedule);
            if self.needs.has_teacher() {
                self.teacher = ema_update(self.teacher.clone(), &self.student.valid(), schedule.momentum);
            }
        }
        StepReport { schedule, loss, metrics, skipped }
    }

    /// Whether the run's health is looked at at the step at hand.
    fn is_look(&self) -> bool {
        let every = self.config.pretrain.health_steps;
        every > 0 && self.step.is_multiple_of(every)
    }

    /// Draws the masks of a batch's global views.
    fn mask(&self, amount: MaskAmount, batch: &Batch, draws: &mut StepDraws) {
        let images: Vec<u64> = batch.ids.iter().map(|id| id.0).collect();
        let mut first = 0;
        for (place, group) in batch.groups.iter().enumerate().filter(|(_, group)| group.kind == ViewKind::Global) {
            let side = group.size_px / self.config.model.patch_px;
            let (grid, views) = (Grid { height: side, width: side }, first..first + group.views);
            first = views.end;
            draws.set_mask(place, step_masks(self.config.seed, self.step as u64, &images, views, grid, amount));
        }
    }

    /// The loss and the gradients of a batch at the step at hand.
    pub(crate) fn compute(&self, batch: Batch) -> Computed<B> {
        let _alone = GRAPHS.lock().unwrap_or_else(PoisonError::into_inner);
        let schedule = self.schedule.at(self.step);
        let mut draws = StepDraws::draw(&self.config.model, self.config.seed, self.step, &batch);
        if let Some(amount) = self.needs.masks {
            self.mask(amount, &batch, &mut draws);
        }
        let inputs = Inputs { batch: &batch, draws: &draws, needs: &self.needs };
        let pretrain = &self.config.pretrain;
        let parts: Vec<Vec<_>> = ranges(batch.ids.len(), pretrain.accumulate)
            .into_iter()
            .map(|part| {
                let pieces = ranges(part.len(), pretrain.pieces).into_iter();
                pieces.map(|piece| part.start + piece.start..part.start + piece.end).collect()
            })
            .collect();
        let kept = if pretrain.recompute_blocks { Remembered::BlockInputs } else { Remembered::Graph };
        let several = parts.len() > 1;
        let teachers = Teachers {
            teacher: self.needs.has_teacher().then_some(&self.teacher.backbone),
            frozen: self.fixed.frozen().filter(|_| self.needs.frozen),
            anchor: self.fixed.anchor().filter(|_| schedule.gram_share > 0.0),
        };
        let forward = |part: &[std::ops::Range<usize>], teachers: &Teachers<'_, B::InnerBackend>, remembered| {
            in_parallel(part, |piece| {
                let student = &self.student.backbone;
                Piece::forward(student, teachers, inputs, piece.clone(), remembered, &self.device)
            })
        };
        // Of several parts none keeps a graph: it would be in memory until the last one's features are there.
        let remembered = if several { Remembered::Nothing } else { kept };
        let pieces: Vec<Piece<B>> = parts.iter().flat_map(|part| forward(part, &teachers, remembered)).collect();
        let features = join(&pieces, inputs);

        let mut scalars: Vec<(&'static str, Tensor<B::InnerBackend, 1>)> = Vec::new();
        let mut total: Option<Tensor<B::InnerBackend, 1>> = None;
        let (mut gradients, mut pending, mut outputs) = (BTreeMap::new(), Pending::new(), BTreeMap::new());
        let mut of_features: Option<FeatureGradients<B::InnerBackend>> = None;
        let mut names = Vec::new();
        let step =
            StepInput { features: &features, student: &self.student, teacher: &self.teacher, schedule: &schedule };
        for (weight, part) in self.objective.parts(&schedule) {
            let loss = part.loss(&step);
            let weighted = loss.total * weight;
            let mut of_loss = weighted.backward();
            let own = FeatureGradients::take(&features, &mut of_loss);
            if let Some(square) = own.square() {
                names.push((part.name(), weight));
                scalars.push((FEATURE_GRADIENT, square.sqrt()));
            }
            add_to(&mut gradients, named_gradients::<B, _>(&self.student, &of_loss));
            of_features = Some(of_features.map_or(own.clone(), |sum| sum.plus(own)));
            let weighted = weighted.inner();
            total = Some(total.map_or(weighted.clone(), |sum| sum + weighted));
            scalars.extend(loss.metrics);
            pending.extend(loss.pending);
            outputs.extend(loss.outputs);
        }
        if self.is_look() {
            let is_global = self.needs.student.contains(&ViewKind::Global);
            let kind = if is_global { ViewKind::Global } else { ViewKind::Barlow };
            outputs.insert(outputs::FEATURES, features.student_class(&[kind]).inner());
        }
        drop(features);
        let (total, of_features) = total.zip(of_features).expect("an objective has a part: made in build");
        // Blocks that are computed again are forward and backward passes in turn: not beside another piece's (see GRAPHS).
        let backward = |pieces: &[Piece<B>]| {
            let of_piece = |piece: &Piece<B>| piece.backward(&of_features, inputs, &self.device);
            if pretrain.recompute_blocks {
                pieces.iter().map(of_piece).collect()
            } else {
                in_parallel(pieces, of_piece)
            }
        };
        if several {
            drop(pieces);
            for part in &parts {
                let of_pieces = backward(&forward(part, &Teachers::NONE, kept));
                of_pieces.into_iter().for_each(|of_piece| add_to(&mut gradients, of_piece));
            }
        } else {
            backward(&pieces).into_iter().for_each(|of_piece| add_to(&mut gradients, of_piece));
        }
        let gradients = Gradients::of::<B, _>(&self.student, gradients);
        scalars.extend(gradients.norm_tensor().map(|norm| (GRADIENT_NORM, norm)));
        scalars.push((LOSS, total));
        let mut metrics = BTreeMap::new();
        let (mut loss, mut feature_norms) = (f64::NAN, Vec::new());
        for (name, value) in read_scalars(scalars) {
            match name {
                LOSS => loss = value,
                FEATURE_GRADIENT => {
                    // Named after its loss below; before its weight.
                    let (part, weight) = names[feature_norms.len()];
                    feature_norms.push(if weight == 0.0 { 0.0 } else { value / weight });
                    metrics.insert(format!("{GRADIENT_NORM}_{part}"), value);
                    metrics.insert(format!("weight_{part}"), weight);
                }
                _ => {
                    metrics.insert(name.to_owned(), value);
                }
            }
        }
        Computed { schedule, loss, metrics, gradients, outputs, pending, feature_norms }
    }

    /// All state that makes the run, to be written while training goes on.
    pub fn snapshot(&self) -> Snapshot {
        let student = self.student.valid();
        let shapes = shapes(&student);
        let mut entries = parameter_entries("student", &student);
        if self.needs.has_teacher() {
            entries.extend(parameter_entries("teacher", &self.teacher));
        }
        entries.extend(self.fixed.entries());
        for (key, tensor) in self.optimiser.tensors() {
            let name = key.split_once('.').map_or("", |(_, name)| name);
            let shape = shapes.get(name).cloned().filter(|shape| shape.iter().product::<usize>() == tensor.dims()[0]);
            entries.push(entry(format!("{}.{key}", self.optimiser.name()), name, shape.unwrap_or(vec![1]), tensor));
        }
        for (name, tensor) in self.objective.state() {
            let shape = tensor.shape.clone();
            entries.push(Entry::new(format!("objective.{name}"), shape, move || tensor.values.clone()));
        }
        Snapshot { step: self.step, skipped: self.skipped, entries }
    }

    /// The same on the host.
    pub fn checkpoint(&self) -> Checkpoint {
        let Snapshot { step, skipped, entries } = self.snapshot();
        let on_host = |entry: &Entry| {
            (entry.name().to_owned(), HostTensor { shape: entry.shape().to_vec(), values: entry.values() })
        };
        Checkpoint { step, skipped, tensors: entries.iter().map(on_host).collect() }
    }

    /// Resumes from a checkpoint.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] when it is of another network.
    pub fn restore(mut self, checkpoint: &Checkpoint, path: &Path) -> Result<Self> {
        let fault = |detail: String| TrainError::Checkpoint { path: path.to_owned(), detail };
        self.student = load(self.student, &checkpoint.part("student."), &self.device).map_err(fault)?;
        if self.needs.has_teacher() {
            self.teacher = load(self.teacher, &checkpoint.part("teacher."), &self.device).map_err(fault)?;
        }
        self.fixed.restore(checkpoint, &self.teacher.backbone, &self.device).map_err(fault)?;
        let shapes = shapes(&self.student);
        let mut state = BTreeMap::new();
        for (key, tensor) in checkpoint.part(&format!("{}.", self.optimiser.name())) {
            let name = key.split_once('.').map_or("", |(_, name)| name);
            let shape = shapes.get(name).ok_or_else(|| fault(format!("tensor `{key}` is of no parameter")))?;
            let values = if tensor.shape == [1] && shape != &[1] {
                tensor.values
            } else {
                from_disk(name, shape, Some(&tensor)).map_err(fault)?
            };
            state.insert(key, values);
        }
        self.optimiser.restore(&state, &self.device);
        self.objective.restore(&checkpoint.part("objective."));
        (self.step, self.skipped) = (checkpoint.step, checkpoint.skipped);
        Ok(self)
    }
}

/// A network's parameters as they are written.
fn parameter_entries<B: Backend, M: Module<B>>(prefix: &str, network: &M) -> Vec<Entry> {
    let mut shapes = shapes(network);
    named_tensors(network)
        .into_iter()
        .map(|(name, tensor)| {
            let shape = shapes.remove(&name).unwrap_or_default();
            entry(format!("{prefix}.{name}"), &name, shape, tensor)
        })
        .collect()
}

/// A flat tensor of the layout of parameter `name`, whose shape in memory is `shape`.
fn entry<B: Backend>(key: String, name: &str, shape: Vec<usize>, tensor: Tensor<B, 1>) -> Entry {
    let name = name.to_owned();
    Entry::new(key, disk_shape(&name, &shape), move || to_disk(&name, &shape, host_values(tensor.clone())).values)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::backend::Cpu;
    use lapidary_pipeline::loader::{Pixels, ViewGroup};
    use lapidary_schemas::ImageId;
    use lapidary_schemas::config::{ModelConfig, ObjectiveConfig, ObjectiveKind, PretrainConfig, ViewSpec};

    pub(crate) fn config(kind: ObjectiveKind, pieces: usize) -> Config {
        let view = |kind, count, size_px| ViewSpec { kind, count, size_px, ..ViewSpec::default() };
        let mut config = Config {
            model: ModelConfig {
                image_px: 16,
                patch_px: 4,
                dim: 16,
                depth: 2,
                heads: 2,
                mlp_ratio: 2,
                drop_path: 0.0,
                ..ModelConfig::default()
            },
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
    pub(crate) fn batch() -> Batch {
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
        let metrics: Vec<_> = (0..160).map(|_| trainer.train(batch()).metrics).collect();
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
    fn every_objective_overfits_a_batch() {
        for (kind, parts, share) in [
            (ObjectiveKind::BarlowTwins, 1, 0.3),
            (ObjectiveKind::Dino, 1, 0.25),
            // The two share the backbone's 16 numbers.
            (ObjectiveKind::Hybrid, 2, 0.7),
        ] {
            let left = left_to_learn(kind);
            assert_eq!(left.len(), parts, "{kind:?}");
            for (part, first, last) in left {
                assert!(last < share * first, "{kind:?}, {part}: {first} to {last}");
            }
        }
    }

    /// The student's weights after three steps.
    fn weights(change: impl Fn(&mut Config)) -> BTreeMap<String, HostTensor> {
        let mut config = config(ObjectiveKind::Hybrid, 1);
        config.model.drop_path = 0.2;
        change(&mut config);
        let schedule = Schedule::new(&config.pretrain, &config.objective, 3, 3);
        let mut trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
        (0..3).for_each(|_| drop(trainer.train(batch())));
        snapshot(&trainer.student.valid())
    }

    #[test]
    fn pieces_parts_and_recomputed_blocks_change_nothing_but_rounding() {
        let whole = weights(|_| {});
        for (what, other) in [
            ("pieces", weights(|config| config.pretrain.pieces = 3)),
            ("parts, Barlow Twins included", weights(|config| config.pretrain.accumulate = 3)),
            ("recomputed blocks", weights(|config| config.pretrain.recompute_blocks = true)),
            (
                "all together",
                weights(|config| {
                    config.pretrain.accumulate = 2;
                    config.pretrain.pieces = 2;
                    config.pretrain.recompute_blocks = true;
                }),
            ),
        ] {
            for (name, tensor) in other {
                for (a, b) in tensor.values.iter().zip(&whole[&name].values) {
                    assert!((a - b).abs() < 2e-3, "{what}: {name}: {a} {b}");
                }
            }
        }
        let undropped = weights(|config| config.model.drop_path = 0.0);
        assert_ne!(undropped, whole, "stochastic depth leaves branches out");
    }

    #[test]
    fn a_restored_trainer_resumes_to_the_bit() {
        let config = config(ObjectiveKind::Hybrid, 2);
        let schedule = || Schedule::new(&config.pretrain, &config.objective, 6, 3);
        let fresh = || Trainer::<Cpu>::new(&config, schedule(), &Default::default());
        let (mut straight, mut first) = (fresh(), fresh());
        for _ in 0..6 {
            straight.train(batch());
        }
        for _ in 0..3 {
            first.train(batch());
        }
        let mut second = fresh().restore(&first.checkpoint(), Path::new("")).expect("restores");
        for _ in 0..3 {
            second.train(batch());
        }
        assert_eq!(straight.checkpoint(), second.checkpoint());
    }
    /// The batch with the first value of a view of an image replaced.
    fn batch_with(value: f32) -> Batch {
        let mut batch = batch();
        let Pixels::Rendered(values) = &mut batch.groups[0].pixels else { unreachable!("rendered above") };
        values[3 * 16 * 16 * 5] = value;
        batch
    }

    #[test]
    fn a_step_that_is_not_finite_changes_nothing_but_the_counts_and_resumes_to_the_bit() {
        for kind in [ObjectiveKind::BarlowTwins, ObjectiveKind::Dino, ObjectiveKind::Hybrid] {
            let config = config(kind, 2);
            let schedule = || Schedule::new(&config.pretrain, &config.objective, 8, 4);
            let fresh = || Trainer::<Cpu>::new(&config, schedule(), &Default::default());
            let batches = || [0.5, f32::NAN, 0.5, f32::INFINITY, f32::NAN, 0.5, f32::NEG_INFINITY, 0.5].map(batch_with);
            let mut straight = fresh();
            let mut states = vec![straight.checkpoint()];
            for (step, batch) in batches().into_iter().enumerate() {
                let report = straight.train(batch);
                states.push(straight.checkpoint());
                let (before, after) = (&states[step], &states[step + 1]);
                assert_eq!(after.step, step + 1, "the plan goes on");
                let broken = [1, 3, 4, 6].contains(&step);
                assert_eq!(
                    (report.skipped, before.tensors == after.tensors),
                    (broken, broken),
                    "{kind:?}, step {step}"
                );
                let norm = report.metrics["gradient_norm"];
                assert_eq!(report.skipped, !(report.loss.is_finite() && norm.is_finite()));
            }
            let counts: Vec<(usize, usize)> =
                states.iter().map(|state| (state.skipped.steps, state.skipped.in_a_row)).collect();
            assert_eq!(counts, [(0, 0), (0, 0), (1, 1), (1, 0), (2, 1), (3, 2), (3, 0), (4, 1), (4, 0)]);
            // Cut off between two skipped steps, through a file.
            let folder = tempfile::tempdir().expect("a folder");
            states[4].snapshot().save(folder.path(), "a", None).expect("saves");
            let state = Checkpoint::load(folder.path(), "a").expect("loads");
            let mut resumed = fresh().restore(&state, Path::new("")).expect("restores");
            batches().into_iter().skip(4).for_each(|batch| drop(resumed.train(batch)));
            assert_eq!(resumed.checkpoint(), states[8]);
        }
    }

    #[test]
    fn gradients_that_are_not_finite_under_a_finite_loss_are_seen() {
        let config = config(ObjectiveKind::Dino, 2);
        let schedule = Schedule::new(&config.pretrain, &config.objective, 4, 4);
        let fresh = Trainer::<Cpu>::new(&config, schedule, &Default::default());
        // The head's output is so small that its length counts as 1e-12, what it is made of so large that gradients come to
        // some 1e22: the logits are plain numbers, the squares of the gradients pass f32's range.
        let mut state = fresh.checkpoint();
        for (name, factor) in [("student.head.mlp.1.linear.weight", 1e14), ("student.head.mlp.2.linear.weight", 1e-30)]
        {
            let weight = state.tensors.get_mut(name).expect("a layer of the head");
            weight.values.iter_mut().for_each(|value| *value *= factor);
        }
        let mut trainer = fresh.restore(&state, Path::new("")).expect("restores");
        let report = trainer.train(batch());
        assert!(report.loss.is_finite() && !report.metrics["gradient_norm"].is_finite(), "{report:?}");
        assert!(report.skipped);
        assert_eq!(trainer.checkpoint().tensors, state.tensors);
    }

    #[test]
    fn a_checkpoint_of_version_1_resumes_as_it_would_have_gone_on() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/v1"));
        let mut config = lapidary_pipeline::cli::resolve(None, Some(&folder.join("config.toml")), &[]).expect("reads");
        // What that version did not have.
        config.model.drop_path = 0.0;
        let text = std::fs::read(folder.join("expected.json")).expect("reads");
        let expected: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let state = Checkpoint::load(folder, "step-00000005").expect("loads");
        let schedule = Schedule::new(&config.pretrain, &config.objective, 8, 4);
        let trainer = Trainer::<Cpu>::new(&config, schedule, &Default::default());
        let mut trainer = trainer.restore(&state, folder).expect("restores");
        let Pixels::Rendered(values) = &batch().groups[0].pixels else { unreachable!("rendered above") };
        let images = burn::tensor::TensorData::new(values[..2 * 3 * 16 * 16].to_vec(), [2, 3, 16, 16]);
        let features = trainer.teacher.backbone.forward(Tensor::from_data(images, &Default::default()));
        let features: Vec<f32> = features.into_data().to_vec().expect("f32");
        for (found, expected) in features.iter().zip(expected["teacher_features"].as_array().expect("a list")) {
            assert!((f64::from(*found) - expected.as_f64().expect("a number")).abs() < 1e-5);
        }
        let report = trainer.train(batch());
        for (name, expected) in expected["metrics"].as_object().expect("metrics") {
            let (found, expected) = (report.metrics[name], expected.as_f64().expect("a number"));
            assert!((found - expected).abs() < 1e-4 * expected.abs().max(1e-2), "{name}: {found} {expected}");
        }
        // Written again, it is of today's version and the same.
        let temporary = tempfile::tempdir().expect("a folder");
        state.snapshot().save(temporary.path(), "a", None).expect("saves");
        assert_eq!(Checkpoint::load(temporary.path(), "a").expect("loads"), state);
    }
}
