//! What follows a run line by line: the watch over its health and its TensorBoard file, both made again from `metrics.jsonl`
//! when the run resumes.

use super::{Verdict, Watch};
use crate::tensorboard::{EVENTS_FILE, EventWriter};
use crate::{Result, TrainError};
use lapidary_pipeline::PipelineError;
use serde_json::Value;
use std::path::Path;

/// What to do when a run has collapsed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnCollapse {
    /// Say so, and train on.
    #[default]
    Warn,
    /// Write a checkpoint and stop.
    Stop,
}

impl std::str::FromStr for OnCollapse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "warn" => Ok(Self::Warn),
            "stop" => Ok(Self::Stop),
            _ => Err(format!("`{text}` is neither `warn` nor `stop`")),
        }
    }
}

/// Follows a run.
pub(crate) struct Monitor {
    watch: Watch,
    events: EventWriter,
    on_collapse: OnCollapse,
}

impl Monitor {
    /// Follows the run in `folder`, from the lines that its `metrics` have so far.
    pub(crate) fn open(folder: &Path, metrics: &Path, mut watch: Watch, on_collapse: OnCollapse) -> Result<Self> {
        let text = std::fs::read(metrics).map_err(PipelineError::io("read", metrics))?;
        let lines: Vec<Value> =
            text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        // What was said in an earlier session is not said again.
        lines.iter().for_each(|line| drop(watch.note(line)));
        let events = EventWriter::create(&folder.join(EVENTS_FILE), &lines)?;
        Ok(Self { watch, events, on_collapse })
    }

    /// Follows a step's line, and says what is to be said of it.
    pub(crate) fn note(&mut self, line: &Value) -> Result<()> {
        for verdict in self.watch.note(line) {
            match verdict.recovered_at {
                None => tracing::warn!("{verdict}"),
                Some(_) => tracing::info!("{verdict}"),
            }
        }
        self.events.write(line)
    }

    /// The collapse that the run is to stop at, as its error.
    pub(crate) fn stop(&self, step: usize) -> Option<TrainError> {
        let verdict = self.watch.collapse().filter(|_| self.on_collapse == OnCollapse::Stop)?;
        Some(TrainError::Collapsed { step, verdict: verdict.to_string() })
    }

    /// Everything that was said.
    pub(crate) fn verdicts(&self) -> &[Verdict] {
        self.watch.verdicts()
    }
}
