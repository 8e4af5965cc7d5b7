//! `metrics.jsonl`: a line a step, in order, each step once, however often the run was cut off.

use crate::Result;
use crate::health::names::PEAK_MEMORY_MIB;
use crate::trainer::StepReport;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{peak_memory_mib, write_synced};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The metrics of a run at work.
pub(crate) struct Metrics {
    path: PathBuf,
    file: File,
    /// The line of the last step that was taken, without its times.
    pub(crate) last: Value,
}

/// What a step took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    /// Seconds, waiting included.
    pub(crate) secs: f64,
    /// Seconds of waiting for data.
    pub(crate) waited_secs: f64,
}

impl Metrics {
    /// Opens the file to go on with step `first_step`: lines of it and of later steps are left out, and what is no line, as a
    /// kill leaves one. The file is whole at every moment: its successor is renamed over it.
    pub(crate) fn open(path: &Path, first_step: usize) -> Result<Self> {
        let found = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(PipelineError::io("read", path))?,
        };
        let (mut kept, mut last, mut next_step) = (Vec::with_capacity(found.len()), Value::Null, 0);
        for line in found.split(|byte| *byte == b'\n') {
            let Ok(value) = serde_json::from_slice::<Value>(line) else { continue };
            let step = value["step"].as_u64().map(|step| step as usize);
            if step.is_some_and(|step| step >= next_step && step < first_step) {
                kept.extend_from_slice(line);
                kept.push(b'\n');
                next_step = step.unwrap_or(0) + 1;
                last = if value["skipped"] == true { last } else { without_times(value) };
            }
        }
        if kept != found {
            write_synced(path, &kept)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(PipelineError::io("open", path))?;
        Ok(Self { path: path.to_owned(), file, last })
    }

    /// Appends the line of a step, and returns it.
    pub(crate) fn write(
        &mut self,
        step: usize,
        epoch: usize,
        report: &StepReport,
        batch: usize,
        took: Took,
    ) -> Result<Value> {
        let mut line = json!({
            "step": step,
            "epoch": epoch,
            "loss": report.loss,
            "learning_rate": report.schedule.learning_rate,
            "weight_decay": report.schedule.weight_decay,
            "momentum": report.schedule.momentum,
            "teacher_temperature": report.schedule.teacher_temperature,
        });
        for (name, value) in &report.metrics {
            line[name] = json!(value);
        }
        if report.skipped {
            line["skipped"] = json!(true);
        } else {
            self.last = line.clone();
        }
        line["images_per_sec"] = json!(batch as f64 / took.secs.max(1e-9));
        line["data_wait_secs"] = json!(took.waited_secs);
        line["step_secs"] = json!(took.secs);
        line[PEAK_MEMORY_MIB] = json!(peak_memory_mib());
        // In one write: what is read meanwhile ends with a whole line.
        let text = format!("{line}\n");
        self.file.write_all(text.as_bytes()).map_err(PipelineError::io("write", &self.path))?;
        Ok(line)
    }

    /// Makes the lines so far last through a power cut: before a checkpoint that is beyond them is written.
    pub(crate) fn sync(&self) -> Result<()> {
        Ok(self.file.sync_data().map_err(PipelineError::io("sync", &self.path))?)
    }
}

fn without_times(mut line: Value) -> Value {
    if let Some(fields) = line.as_object_mut() {
        ["images_per_sec", "data_wait_secs", "step_secs", PEAK_MEMORY_MIB]
            .iter()
            .for_each(|name| drop(fields.remove(*name)));
    }
    line
}

/// Time spent, the first steps aside: they fill the loader's channel and compile kernels.
#[derive(Default)]
pub(crate) struct Clock {
    steps: usize,
    waited_secs: f64,
    secs: f64,
}

const WARM_UP_STEPS: usize = 3;

impl Clock {
    pub(crate) fn note(&mut self, step: usize, took: Took) {
        if step >= WARM_UP_STEPS {
            self.steps += 1;
            self.waited_secs += took.waited_secs;
            self.secs += took.secs;
        }
    }

    pub(crate) fn steps_per_sec(&self) -> f64 {
        self.steps as f64 / self.secs.max(1e-9)
    }

    pub(crate) fn wait_share(&self) -> f64 {
        self.waited_secs / self.secs.max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimise::StepSchedule;
    use std::collections::BTreeMap;
    use std::os::unix::fs::MetadataExt;

    fn report(loss: f64) -> StepReport {
        let schedule = StepSchedule {
            learning_rate: 0.1,
            weight_decay: 0.0,
            momentum: 0.9,
            teacher_temperature: 0.04,
            freeze_last_layer: false,
            gram_share: 0.0,
        };
        StepReport {
            schedule,
            loss,
            metrics: BTreeMap::from([("gradient_norm".to_owned(), 1.0)]),
            skipped: !loss.is_finite(),
            secs: BTreeMap::new(),
        }
    }

    const TOOK: Took = Took { secs: 1.0, waited_secs: 0.1 };

    fn steps(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).expect("reads");
        text.lines()
            .map(|l| serde_json::from_str::<Value>(l).expect("JSON")["step"].as_u64().expect("a step"))
            .collect()
    }

    #[test]
    fn a_file_that_a_kill_has_cut_goes_on_step_by_step_and_is_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).expect("opens");
        for step in 0..6 {
            metrics.write(step, 0, &report(step as f64), 8, TOOK).expect("writes");
        }
        let whole = std::fs::read(&path).expect("reads");
        // A kill in the middle of a line, with bytes that are no text.
        std::fs::write(&path, [&whole[..], b"{\"step\": 6, \"lo\xff\xfe"].concat()).expect("writes");
        // The name that is being read keeps its bytes: a power cut while it is opened loses nothing.
        let before = File::open(&path).expect("opens");
        let inode = before.metadata().expect("is there").ino();
        let mut metrics = Metrics::open(&path, 4).expect("opens");
        assert_eq!(steps(&path), [0, 1, 2, 3]);
        assert_eq!(metrics.last["step"], 3);
        assert_ne!(path.metadata().expect("is there").ino(), inode, "another file was renamed over it");
        assert!(before.metadata().expect("is there").len() > whole.len() as u64, "the old one was never cut");
        for step in 4..8 {
            metrics.write(step, 0, &report(step as f64), 8, TOOK).expect("writes");
        }
        metrics.sync().expect("syncs");
        assert_eq!(steps(&path), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_skipped_step_is_marked_and_is_not_the_last_that_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path, 0).expect("opens");
        metrics.write(0, 0, &report(2.5), 8, TOOK).expect("writes");
        metrics.write(1, 0, &report(f64::NAN), 8, TOOK).expect("writes");
        let text = std::fs::read_to_string(&path).expect("reads");
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        assert_eq!((&lines[1]["skipped"], &lines[1]["loss"]), (&json!(true), &Value::Null));
        assert!(lines[0].get("skipped").is_none());
        assert!(lines[0][PEAK_MEMORY_MIB].as_f64().expect("of this process") > 1.0);
        assert_eq!(metrics.last["loss"], 2.5);
        assert_eq!(Metrics::open(&path, 2).expect("opens").last, metrics.last);
    }
}
