//! The trainer: one step after another, generic over the backend.
//!
//! A step: teacher forward on the globals; student forward once for each resolution; one head call; losses; backward; clip;
//! AdamW; the teacher follows. All state that makes a run is in a [`Checkpoint`]; the plan's position is the step itself,
//! and no other randomness exists.

use crate::checkpoint::Checkpoint;
use crate::model::{Network, host_values, load, snapshot};
use crate::objective::{Features, Objective, Weighted, build};
use crate::optimise::{AdamW, Schedule, StepSchedule, follow};
use crate::{Result, TrainError};
use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::loader::{Batch, ViewGroup};
use lapidary_schemas::Config;
use lapidary_schemas::config::ViewKind;
use std::collections::BTreeMap;
use std::path::Path;

/// A run at work.
pub struct Trainer<B: AutodiffBackend> {
    student: Network<B>,
    teacher: Network<B::InnerBackend>,
    objective: Weighted<B>,
    optimiser: AdamW<B::InnerBackend>,
    schedule: Schedule,
    clip_norm: f64,
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
    /// # Errors
    /// [`TrainError::NotFinite`] when the loss is no number.
    pub fn train(&mut self, batch: Batch) -> Result<StepReport> {
        let schedule = self.schedule.at(self.step);
        let features = self.features(batch);
        let loss = self.objective.loss(&features, &self.student, &self.teacher, &schedule);
        drop(features);
        let total = loss.total;
        let gradients = total.backward();
        let stepped = self.optimiser.step::<B, _>(self.student.clone(), &gradients, &schedule, self.clip_norm);
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

    /// The features of a batch's views: each network sees each resolution once.
    fn features(&self, batch: Batch) -> Features<B> {
        let images = batch.ids.len();
        let teacher = self.objective.needs_teacher().then(|| {
            let globals = batch.groups.iter().filter(|group| group.kind == ViewKind::Global);
            let pixels: Vec<_> = globals.map(|group| self.pixels::<B::InnerBackend>(group, images)).collect();
            self.teacher.backbone.forward(Tensor::cat(pixels, 0))
        });
        let mut by_size: BTreeMap<usize, Vec<ViewGroup>> = BTreeMap::new();
        for group in batch.groups {
            by_size.entry(group.size_px).or_default().push(group);
        }
        let mut student = BTreeMap::new();
        for groups in by_size.into_values() {
            let pixels: Vec<_> = groups.iter().map(|group| self.pixels::<B>(group, images)).collect();
            let seen = self.student.backbone.forward(Tensor::cat(pixels, 0));
            let dim = seen.dims()[1];
            let mut first = 0;
            for group in &groups {
                let rows = group.views * images;
                student.insert(group.kind, seen.clone().slice([first..first + rows, 0..dim]));
                first += rows;
            }
        }
        Features { batch: images, student, teacher }
    }

    fn pixels<A: Backend<Device = B::Device>>(&self, group: &ViewGroup, images: usize) -> Tensor<A, 4> {
        let shape = [group.views * images, 3, group.size_px, group.size_px];
        Tensor::from_data(TensorData::new(group.pixels.clone(), shape), &self.device)
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
