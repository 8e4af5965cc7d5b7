//! Verdicts in words, from the lines of `metrics.jsonl` alone: what goes wrong, since when, what was measured, what to change.
//!
//! A [`Watch`] is fed every line of a run in order, those of an earlier session included, so that a resumed run has the same
//! verdicts as one that was never cut off. A symptom must last before it is said (see [`thresholds`]), is said once, and its
//! end is said too.

use super::symptoms::{LookAt, Windows, look_at};
use lapidary_schemas::Config;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// When a symptom counts, and how long it must last.
pub mod thresholds {
    /// Looks in a row that a symptom must be seen at, or not seen at, before it is said.
    pub const LOOKS: usize = 3;
    /// Uniform: the teacher's entropy over ln K is above this ...
    pub const UNIFORM_ENTROPY_SHARE: f64 = 0.99;
    /// ... while KL(teacher || student) over ln K is below this: the student has nothing left to learn.
    pub const UNIFORM_KL_SHARE: f64 = 0.01;
    /// Few prototypes: the perplexity of the teacher's mean distribution is below this ...
    pub const PERPLEXITY_MIN: f64 = 2.0;
    /// ... or below this share of what the views and K allow, where that is more.
    pub const PERPLEXITY_SHARE_MIN: f64 = 0.005;
    /// A point: std of L2-normalised features x sqrt(width) is below this.
    pub const FEATURE_STD_MIN: f64 = 0.1;
    /// Few dimensions: RankMe is below this share of min(rows, width) ...
    pub const RANK_SHARE_MIN: f64 = 0.02;
    /// ... but no less than this: of one dimension and a little, however narrow the network ...
    pub const RANK_MIN: f64 = 1.5;
    /// ... or the cross-correlation's RMS off the diagonal is above this: the embeddings say one thing several times.
    pub const OFF_DIAGONAL_RMS_MAX: f64 = 0.6;
    /// Stuck: DINO's loss over ln K is this near to 1 ...
    pub const STUCK_WITHIN: f64 = 1e-3;
    /// ... for so many steps.
    pub const STUCK_STEPS: usize = 500;
    /// Diverging: the mean loss of a window is above so many times the lowest window's, and above the first's.
    pub const DIVERGING_RATIO: f64 = 2.0;
    /// Steps of a window: of losses, of the ratio of gradients, of waiting.
    pub const WINDOW_STEPS: usize = 100;
    /// Drowned: a window's median ratio of both losses' gradient norms is beyond this, either way.
    pub const GRADIENT_RATIO_MAX: f64 = 100.0;
    /// Waiting: a window's share of time that is spent waiting for data is above this.
    pub const DATA_WAIT_SHARE_MAX: f64 = 0.5;
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symptom {
    /// The teacher's distributions are uniform.
    Uniform,
    /// The teacher's distributions are all of one or few prototypes.
    FewPrototypes,
    /// All features are one.
    Point,
    /// Features or embeddings use few of their dimensions.
    FewDimensions,
    /// DINO's loss stays at ln K.
    Stuck,
    /// The loss grows.
    Diverging,
    /// One loss's gradient hides the other's.
    Drowned,
    /// Most time is spent waiting for data.
    Waiting,
}

impl Symptom {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Uniform,
        Self::FewPrototypes,
        Self::Point,
        Self::FewDimensions,
        Self::Stuck,
        Self::Diverging,
        Self::Drowned,
        Self::Waiting,
    ];

    /// Whether it is a collapse, which `--on-collapse stop` stops at.
    pub fn is_collapse(self) -> bool {
        matches!(self, Self::Uniform | Self::FewPrototypes | Self::Point | Self::FewDimensions)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Uniform => "collapsed to uniform",
            Self::FewPrototypes => "collapsed to few prototypes",
            Self::Point => "features collapsed to a point",
            Self::FewDimensions => "features collapsed to few dimensions",
            Self::Stuck => "loss stuck at ln K",
            Self::Diverging => "loss diverging",
            Self::Drowned => "one loss drowns the other",
            Self::Waiting => "waiting for data",
        }
    }

    /// What to change, by the names of the keys.
    fn hint(self) -> &'static str {
        match self {
            Self::Uniform => {
                "lower objective.teacher_temperature, or raise objective.center_momentum; a shorter teacher warm-up \
                 (objective.teacher_temperature_warmup_epochs) helps too"
            }
            Self::FewPrototypes => {
                "lower objective.center_momentum so that the centre follows faster, raise objective.teacher_temperature, or \
                 set objective.targets = \"sinkhorn\""
            }
            Self::Point => {
                "lower pretrain.base_learning_rate or lengthen pretrain.warmup_steps; objective.koleo_weight = 0.1 spreads \
                 features"
            }
            Self::FewDimensions => {
                "raise objective.barlow_off_diagonal or pretrain.batch where Barlow Twins is trained; \
                 objective.koleo_weight = 0.1 spreads features elsewhere"
            }
            Self::Stuck => {
                "lower objective.teacher_temperature, raise pretrain.base_learning_rate, or lower \
                 pretrain.freeze_last_layer_steps"
            }
            Self::Diverging => {
                "lower pretrain.base_learning_rate or pretrain.clip_norm, or lengthen pretrain.warmup_steps"
            }
            Self::Drowned => "set objective.barlow_balance = \"matched\", or objective.barlow_scale by hand",
            Self::Waiting => {
                "raise pretrain.loader_threads or pretrain.prefetch_batches, or set pretrain.scaled_decode = true"
            }
        }
    }
}

/// A symptom that was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What goes wrong.
    pub symptom: Symptom,
    /// The step that it was first seen at.
    pub since: usize,
    /// The step at which it had lasted long enough to be said.
    pub said_at: usize,
    /// What was measured then.
    pub measured: String,
    /// What to change.
    pub hint: String,
    /// The step from which it was no longer seen.
    pub recovered_at: Option<usize>,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { symptom, since, measured, hint, recovered_at, .. } = self;
        let (words, since) = (symptom.words(), grouped(*since));
        match recovered_at {
            None => write!(f, "{words} since step {since}: {measured}\nhint: {hint}"),
            Some(step) => {
                write!(f, "recovered at step {}: no longer {words}, as it was since step {since}", grouped(*step))
            }
        }
    }
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How long a symptom has been there, or gone.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// Looks in a row that differ from what was last said.
    looks: usize,
    /// The first of them.
    since: usize,
    /// It was said, and not that it has gone.
    is_said: bool,
}

/// Watches a run's metrics.
#[derive(Debug)]
pub struct Watch {
    expected: Expected,
    runs: [Run; Symptom::ALL.len()],
    windows: Windows,
    verdicts: Vec<Verdict>,
}

/// What a configuration lets expect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// The greatest perplexity of the teacher's mean distribution: a view has one prototype, as a rule.
    pub(super) perplexity_max: f64,
    /// The greatest rank of features.
    pub(super) rank_max: f64,
    /// ln K.
    pub(super) ln_k: f64,
    /// Steps before which nothing is a symptom: learning rate and temperature warm up, the last layer is frozen.
    pub(super) quiet_steps: usize,
}

impl Watch {
    /// A watch over a run of `steps` steps.
    pub fn new(config: &Config, steps: usize, steps_per_epoch: usize) -> Self {
        let (pretrain, objective) = (&config.pretrain, &config.objective);
        let of_epochs = |epochs: f64| (epochs * steps_per_epoch as f64).round() as usize;
        let or_steps = |epochs: f64, steps: usize| if epochs > 0.0 { of_epochs(epochs) } else { steps };
        let quiet = [
            or_steps(pretrain.warmup_epochs, pretrain.warmup_steps).min(steps / 2),
            or_steps(pretrain.freeze_last_layer_epochs, pretrain.freeze_last_layer_steps),
            of_epochs(f64::from(objective.teacher_temperature_warmup_epochs)).min(steps / 2),
        ];
        let rows = (2 * pretrain.batch).min(super::ranks::ROWS_MAX) as f64;
        let expected = Expected {
            perplexity_max: (objective.prototypes as f64).min((2 * pretrain.batch) as f64),
            rank_max: rows.min(config.model.dim as f64),
            ln_k: (objective.prototypes.max(2) as f64).ln(),
            quiet_steps: quiet.into_iter().max().unwrap_or(0),
        };
        Self { expected, runs: Default::default(), windows: Windows::default(), verdicts: Vec::new() }
    }

    /// Notes a line of `metrics.jsonl`; returns what is to be said now.
    pub fn note(&mut self, line: &Value) -> Vec<Verdict> {
        let Some(step) = line["step"].as_u64().map(|step| step as usize) else { return Vec::new() };
        if line["skipped"] == true {
            return Vec::new();
        }
        self.windows.note(line);
        if step < self.expected.quiet_steps {
            return Vec::new();
        }
        let mut said = Vec::new();
        for (index, symptom) in Symptom::ALL.into_iter().enumerate() {
            if let Some(look) = look_at(symptom, line, &self.windows, &self.expected) {
                said.extend(self.count(index, symptom, step, look));
            }
        }
        said
    }

    /// Counts a look, and says so when it changes what holds.
    fn count(&mut self, index: usize, symptom: Symptom, step: usize, look: LookAt) -> Option<Verdict> {
        let run = &mut self.runs[index];
        if look.is_seen == run.is_said {
            run.looks = 0;
            return None;
        }
        if run.looks == 0 {
            // An end is told from where it is seen.
            run.since = if look.is_seen { step.saturating_sub(look.lasted_steps) } else { step };
        }
        run.looks += 1;
        if run.looks < look.looks {
            return None;
        }
        run.looks = 0;
        run.is_said = look.is_seen;
        if !look.is_seen {
            let since = run.since;
            let verdict = self.verdicts.iter_mut().rev().find(|verdict| verdict.symptom == symptom)?;
            verdict.recovered_at = Some(since);
            return Some(verdict.clone());
        }
        let verdict = Verdict {
            symptom,
            since: run.since,
            said_at: step,
            measured: look.measured,
            hint: symptom.hint().to_owned(),
            recovered_at: None,
        };
        self.verdicts.push(verdict.clone());
        Some(verdict)
    }

    /// Everything that was said of the run, in order.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// The first collapse that has not gone, if any.
    pub fn collapse(&self) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| verdict.symptom.is_collapse() && verdict.recovered_at.is_none())
    }
}
