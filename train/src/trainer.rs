//! The trainer: one step after another, generic over the backend.
//!
//! A step: teacher forward on the globals, and whatever other network stands beside the student ([`fixed`]); student forward
//! once for each resolution, on a GPU on all of them together; each loss on the whole batch, and its backward pass to the features; backward through the
//! backbone; a look at loss and gradient norm; clip; optimiser; EMA. The backbone works on pieces of the batch (see
//! [`crate::pieces`]), the heads on all of it. Of several devices each is a rank with its share of the batch and a copy of the
//! run ([`ranks`]). All state that makes a run is in a checkpoint ([`state`]); the plan's position is the step itself, and what is drawn is a function of seed, step and image. A step
//! whose loss or gradient norm is not finite is skipped: it changes nothing but the counts. On a device that is waited for,
//! steps are taken [`ahead`] and read several at once.

use crate::checkpoint::Skipped;
use crate::draws::StepDraws;
use crate::frozen::FrozenVit;
use crate::health::look;
use crate::model::{HostTensor, Network, NetworkConfig, Vit, load, named_gradients, snapshot};
use crate::objective::masks::{Grid, MaskAmount, step_masks};
use crate::objective::{Needs, Pending, StepInput, Weighted, build, outputs};
use crate::operators::{Operators, TrainBackend};
use crate::optimise::{Gradients, Optimiser, Schedule, StepSchedule};
use crate::pieces::{FeatureGradients, Inputs, Piece, Remembered, Teachers, add_to, each, join};
use crate::upload::{Loaded, Uploader};
use crate::{Result, TrainError};
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use lapidary_pipeline::loader::Batch;
use lapidary_schemas::config::{Precision, ViewKind};
use lapidary_schemas::{Config, Digest};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

mod ahead;
mod fixed;
#[cfg(test)]
mod packed;
mod ranks;
#[cfg(test)]
mod resume;
mod scalars;
mod state;

use ahead::Ahead;
pub(crate) use ahead::SKIPPED_STOP;
use fixed::FixedNetworks;
use ranks::{Order, Rank, value_counts};
pub(crate) use scalars::Readings;
use scalars::{FEATURE_GRADIENT, LOSS, Scalars};

/// A run at work.
pub struct Trainer<B: TrainBackend> {
    student: Network<B>,
    teacher: Network<B::InnerBackend>,
    fixed: FixedNetworks<B::InnerBackend>,
    objective: Weighted<B>,
    optimiser: Optimiser<B::InnerBackend>,
    schedule: Schedule,
    config: Config,
    needs: Needs,
    device: B::Device,
    /// How a batch is cut, and the ranks' devices.
    uploader: Uploader<B::InnerBackend>,
    rank: Rank<B>,
    step: usize,
    skipped: Skipped,
    /// Steps whose scalars are read at once.
    metrics_steps: usize,
    /// Whether views of all sizes go through a network together.
    packed: bool,
    ahead: Option<Ahead<B>>,
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
    /// Seconds of the step's parts by the clock, as this thread saw them: `forward`, `losses` with their own backward passes,
    /// `backward`, `optimiser` with the moving average.
    pub secs: BTreeMap<&'static str, f64>,
}

/// A step as computed, before anything is changed by it.
pub(crate) struct Computed<B: TrainBackend> {
    pub(crate) schedule: StepSchedule,
    pub(crate) scalars: Scalars<B::InnerBackend>,
    pub(crate) gradients: Gradients<B::InnerBackend>,
    /// What the losses gave for a look at the run's health.
    pub(crate) outputs: BTreeMap<&'static str, Tensor<B::InnerBackend, 2>>,
    pending: Pending<B::InnerBackend>,
    clock: Clock,
}

/// What the parts of a step take.
struct Clock {
    last: Instant,
    secs: BTreeMap<&'static str, f64>,
}

impl Clock {
    fn start() -> Self {
        Self { last: Instant::now(), secs: BTreeMap::new() }
    }

    /// A part ends here.
    fn done(&mut self, part: &'static str) {
        self.secs.insert(part, self.last.elapsed().as_secs_f64());
        self.last = Instant::now();
    }
}

const GRADIENT_NORM: &str = "gradient_norm";
/// No gradient at the features is divided by less.
const LEAST_LENGTH: f64 = 1e-20;
/// Held while a step is computed: burn-autodiff 0.21 keeps one table of graphs for the whole process, and with a backward pass
/// beside another thread's forward pass gradients were seen that are off by a tenth of their norm. Forward passes beside each
/// other, and backward passes beside each other, were right in every run.
/// The ranks of a run are in it together: barriers keep their forward passes from their backward passes.
pub(crate) static GRAPHS: Mutex<()> = Mutex::new(());
/// Held by a rank while it computes blocks again.
static TURNS: Mutex<()> = Mutex::new(());

impl<B: TrainBackend> Trainer<B> {
    /// A run at its first step.
    pub fn new(config: &Config, schedule: Schedule, device: &B::Device) -> Self {
        let network = NetworkConfig::of(&config.model.resolved(), &config.objective);
        let student = Network::<B>::student(&network, config.seed, device).with_precision(config.pretrain.precision);
        let kinds: Vec<ViewKind> = config.plan.views.iter().map(|view| view.kind).collect();
        let objective = build(&config.objective, &kinds, device);
        let needs = objective.needs();
        let all = [ViewKind::Global, ViewKind::Local, ViewKind::Barlow];
        let uploader = Uploader {
            parts: config.pretrain.accumulate,
            // They are for the cores of a processor; a GPU is full with one.
            pieces: if B::InnerBackend::ON_HOST { config.pretrain.pieces } else { 1 },
            devices: vec![device.clone()],
            kinds: all.into_iter().filter(|kind| needs.reads(*kind)).collect(),
        };
        Self {
            teacher: Network::teacher_of(&student.valid()),
            student,
            fixed: FixedNetworks::default(),
            needs,
            objective,
            optimiser: Optimiser::new(&config.pretrain, network.model.depth),
            schedule,
            config: Config { model: network.model, ..config.clone() },
            device: device.clone(),
            uploader,
            rank: Rank::default(),
            step: 0,
            skipped: Skipped::default(),
            metrics_steps: config.pretrain.metrics_steps.max(1),
            packed: !B::InnerBackend::ON_HOST,
            ahead: None,
        }
    }

    /// Reads the scalars of so many steps at once, whatever is configured.
    pub fn set_metrics_steps(&mut self, steps: usize) {
        self.rank.end_others();
        self.metrics_steps = steps;
    }

    /// Sends views of all sizes through a network together, packed, or those of each size by themselves. A GPU does the first
    /// unasked, with fewer launches, the CPU the second. Losses and gradients are the same but for rounding.
    pub fn set_packed(&mut self, packed: bool) {
        self.rank.end_others();
        self.packed = packed;
    }

    /// The same run with its backbone's weights replaced before its first step, the student's and the teacher's.
    ///
    /// # Errors
    /// When a tensor is not of the backbone's shape.
    pub fn start_from(mut self, backbone: &BTreeMap<String, HostTensor>) -> Result<Self> {
        self.rank.end_others();
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
        self.rank.end_others();
        self.fixed.set_frozen(teacher.with_precision(self.config.pretrain.precision), digest);
        self
    }

    /// The network that is trained.
    pub(crate) fn student(&self) -> &Network<B> {
        &self.student
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Steps that were skipped.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The backbone that the run is for, as it is now: the teacher's where there is one, else the student's.
    pub fn backbone(&self) -> FrozenVit<B::InnerBackend> {
        let vit = if self.needs.has_teacher() { self.teacher.backbone.clone() } else { self.student.valid().backbone };
        FrozenVit::new(vit.with_precision(Precision::F32), &self.config.model, &self.device)
    }

    /// The kinds of views that the objective reads.
    pub fn reads(&self) -> Vec<ViewKind> {
        self.uploader.kinds.clone()
    }

    /// What uploads batches for this run.
    pub(crate) fn uploader(&self) -> &Uploader<B::InnerBackend> {
        &self.uploader
    }

    /// Trains on a batch, unless its loss or its gradients are not finite.
    pub fn train(&mut self, batch: impl Into<Loaded<B::InnerBackend>>) -> StepReport {
        let batch = batch.into();
        let _failing = self.tell(|| Order::Train(batch.clone()));
        self.train_share(batch)
    }

    fn train_share(&mut self, batch: Loaded<B::InnerBackend>) -> StepReport {
        let images = batch.batch().ids.len();
        self.before_step();
        let Computed { schedule, scalars, gradients, outputs, pending, mut clock } = self.compute_share(batch);
        let readings = scalars.read();
        let skipped = !readings.is_finite();
        let is_look = self.is_look() && !skipped && self.rank.is_first();
        self.step += 1;
        self.skipped = self.skipped.and(skipped);
        let Readings { loss, mut metrics, feature_norms } = readings;
        if is_look {
            for (name, value) in
                look(&outputs, images, self.config.objective.student_temperature, metrics.get("loss_dino").copied())
            {
                metrics.entry(name.to_owned()).or_insert(value);
            }
        }
        if !skipped {
            self.take(gradients, &pending, &feature_norms, &schedule);
            clock.done("optimiser");
        }
        StepReport { schedule, loss, metrics, skipped, secs: clock.secs }
    }

    fn before_step(&mut self) {
        if self.needs.anchor {
            self.fixed.take_anchor(&self.teacher.backbone, &self.schedule, self.step);
        }
    }

    /// Changes the networks by a step's gradients, and remembers what was pending in it.
    fn take(
        &mut self,
        gradients: Gradients<B::InnerBackend>,
        pending: &Pending<B::InnerBackend>,
        feature_norms: &[f64],
        schedule: &StepSchedule,
    ) {
        self.objective.commit(pending, feature_norms);
        let teacher = self.needs.has_teacher().then(|| self.teacher.clone());
        let (student, teacher) = self.optimiser.step(self.student.clone(), teacher, gradients, schedule);
        self.student = student;
        if let Some(teacher) = teacher {
            self.teacher = teacher;
        }
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

    /// The loss and the gradients of a batch at the step at hand, which [`Trainer::train`] prepares by taking the anchor.
    pub(crate) fn compute(&self, batch: impl Into<Loaded<B::InnerBackend>>) -> Computed<B> {
        let batch = batch.into();
        let _failing = self.tell(|| Order::Compute(batch.clone()));
        self.compute_share(batch)
    }

    /// The same by this rank's share of the batch: the loss and the gradients are of all of it, on every rank.
    fn compute_share(&self, batch: Loaded<B::InnerBackend>) -> Computed<B> {
        let share = self.rank.share_of(batch.batch().ids.len());
        let loaded = self.uploader.upload(batch, self.rank.number()..self.rank.number() + 1);
        let batch = loaded.batch();
        let _alone = self.rank.is_first().then(|| GRAPHS.lock().unwrap_or_else(PoisonError::into_inner));
        share.barrier();
        let mut clock = Clock::start();
        let schedule = self.schedule.at(self.step);
        let mut draws = StepDraws::draw(&self.config.model, self.config.seed, self.step, batch);
        if let Some(amount) = self.needs.masks {
            self.mask(amount, batch, &mut draws);
        }
        let (device, packed) = (&self.device, self.packed);
        let inputs = Inputs { loaded: &loaded, share: &share, draws: &draws, needs: &self.needs, device, packed };
        let pretrain = &self.config.pretrain;
        let parts = self.uploader.cut(batch.ids.len(), self.rank.number());
        let kept = if pretrain.recompute_blocks { Remembered::BlockInputs } else { Remembered::Graph };
        let several = parts.len() > 1;
        let teachers = Teachers {
            teacher: self.needs.has_teacher().then_some(&self.teacher.backbone),
            frozen: self.fixed.frozen().filter(|_| self.needs.frozen),
            anchor: self.fixed.anchor().filter(|_| schedule.gram_share > 0.0),
        };
        let forward = |part: &[Range<usize>], teachers: &Teachers<'_, B::InnerBackend>, remembered| {
            each::<B::InnerBackend, _, _>(part, |images| {
                Piece::forward(&self.student.backbone, teachers, inputs, images.clone(), remembered)
            })
        };
        // Of several parts none keeps a graph: it would be in memory until the last one's features are there.
        let remembered = if several { Remembered::Nothing } else { kept };
        let pieces: Vec<Piece<B>> = parts.iter().flat_map(|part| forward(part, &teachers, remembered)).collect();
        let features = join(&pieces, inputs);
        clock.done("forward");

        let mut scalars: Vec<(&'static str, Tensor<B::InnerBackend, 1>)> = Vec::new();
        let mut total: Option<Tensor<B::InnerBackend, 1>> = None;
        let (mut gradients, mut pending, mut outputs) = (BTreeMap::new(), Pending::new(), BTreeMap::new());
        let mut of_features: Option<FeatureGradients<B::InnerBackend>> = None;
        let mut names = Vec::new();
        let (student, teacher) = (&self.student, &self.teacher);
        let step = StepInput { features: &features, share: &share, student, teacher, schedule: &schedule };
        if self.is_look() {
            let is_global = self.needs.student.contains(&ViewKind::Global);
            let kind = if is_global { ViewKind::Global } else { ViewKind::Barlow };
            outputs.insert(outputs::FEATURES, features.student_class(&[kind]).inner());
        }
        for (weight, part) in self.objective.parts(&schedule) {
            let loss = part.loss(&step);
            let weighted = loss.total * weight;
            share.barrier();
            let mut of_loss = weighted.backward();
            share.barrier();
            let own = FeatureGradients::take(&features, &mut of_loss);
            if let Some(square) = own.square() {
                names.push((part.name(), weight));
                scalars.push((FEATURE_GRADIENT, share.sum(square).sqrt()));
            }
            add_to(&mut gradients, named_gradients::<B, _>(&self.student, &of_loss));
            of_features = Some(of_features.map_or(own.clone(), |sum| sum.plus(own)));
            let value = loss.value * weight;
            total = Some(total.map_or(value.clone(), |sum| sum + value));
            scalars.extend(loss.metrics);
            pending.extend(loss.pending);
            outputs.extend(loss.outputs);
        }
        if self.is_look() {
            for (_, rows) in outputs.iter_mut().filter(|(name, _)| **name != outputs::CENTER) {
                *rows = share.gather(rows.clone());
            }
        }
        drop(features);
        let (total, mut of_features) = total.zip(of_features).expect("an objective has a part: made in build");
        // f16 loses values below 6e-8: on its way through the backbone the gradient has a length of 1.
        let length = (pretrain.precision == Precision::F16).then(|| of_features.square()).flatten();
        let length = length.map(|square| share.sum(square).sqrt().clamp_min(LEAST_LENGTH));
        if let Some(length) = &length {
            of_features = of_features.times(&length.clone().recip());
        }
        clock.done("losses");
        // Blocks that are computed again are forward and backward passes in turn: not beside another piece's (see GRAPHS).
        let backward = |pieces: &[Piece<B>]| {
            let of_piece = |piece: &Piece<B>| {
                let mut gradients = piece.backward(&of_features, inputs);
                if let Some(length) = &length {
                    gradients.values_mut().for_each(|gradient| *gradient = gradient.clone() * length.clone());
                }
                gradients
            };
            if pretrain.recompute_blocks {
                let _turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
                pieces.iter().map(of_piece).collect()
            } else {
                each::<B::InnerBackend, _, _>(pieces, of_piece)
            }
        };
        if several {
            drop(pieces);
            for part in &parts {
                let pieces = forward(part, &Teachers::NONE, kept);
                share.barrier();
                backward(&pieces).into_iter().for_each(|of_piece| add_to(&mut gradients, of_piece));
                share.barrier();
            }
        } else {
            backward(&pieces).into_iter().for_each(|of_piece| add_to(&mut gradients, of_piece));
            share.barrier();
        }
        let gradients = share.sum_of_gradients(gradients, || value_counts(&self.student), &self.device);
        clock.done("backward");
        let gradients = Gradients::of::<B, _>(&self.student, gradients);
        scalars.extend(gradients.norm_tensor().map(|norm| (GRADIENT_NORM, norm)));
        scalars.push((LOSS, total));
        let scalars = Scalars::new(scalars, names, &share);
        share.settle();
        Computed { schedule, scalars, gradients, outputs, pending, clock }
    }
}

#[cfg(test)]
pub(crate) mod tests;
