//! Extending a finished run: `lapidary pretrain --run NAME --extend-steps M` trains a run of N steps for M more.
//!
//! The run keeps its settings, its weights, its optimiser's state and its metrics; schedules are those of a run of N + M
//! steps, from step N on. So the learning rate and the weight decay step back from their ends to where a run of N + M steps
//! has them (with N = M: half-way), and the teacher's momentum from 1; the teacher's temperature, a function of the epoch,
//! and a last layer that is free stay as they are; a warm-up that is longer than N steps goes on. The extension is trained
//! beside the finished run, which is in its place until the new one is whole, and is then kept as `NAME~KEY`.

use crate::checkpoint::{Checkpoint, FINAL};
use crate::pretrain::{CHECKPOINTS, METRICS_FILE, RUNNING_KEYS};
use crate::{Result, TrainError};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, require_manifest, write_synced};
use lapidary_schemas::{Config, Digest, Manifest};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The key under which a manifest's configuration says after how many steps the run was extended.
pub(crate) const EXTENDED_AFTER: &str = "extended_after";

/// A finished run that is to be extended.
#[derive(Debug, Clone)]
pub(crate) struct Extension {
    folder: PathBuf,
    manifest: Manifest,
    /// Steps that it has done.
    steps: usize,
}

impl Extension {
    /// Looks a finished run up.
    ///
    /// # Errors
    /// When there is none of the name, or it does not say how many steps it did.
    pub(crate) fn open(layout: &Layout, source: &str, run: &str) -> Result<Self> {
        let folder = layout.run(source, run);
        let hint = "run `lapidary pretrain` first; a run that was cut off resumes by the command that began it";
        let manifest = require_manifest(&folder, "finished run", hint)?;
        let steps = manifest.facts["steps"].as_u64().map(|steps| steps as usize);
        let steps = steps.ok_or_else(|| PipelineError::format(&folder, "its manifest does not say its steps"))?;
        Ok(Self { folder, manifest, steps })
    }

    /// The run's settings with `more` steps, and what does not change results as it is `given`.
    ///
    /// # Errors
    /// [`PipelineError::Usage`] when `given` changes a setting of the run.
    pub(crate) fn config(&self, given: &Config, more: usize) -> Result<Config> {
        if more == 0 {
            return Err(PipelineError::Usage("--extend-steps = 0 must be at least 1".to_owned()).into());
        }
        let mut config = Config {
            seed: self.section("seed")?,
            model: self.section("model")?,
            objective: self.section("objective")?,
            pretrain: self.section("pretrain")?,
            ..given.clone()
        };
        // The same weights may lie elsewhere by now; the checkpoint knows them by their digest.
        if !given.objective.distill_from.is_empty() {
            config.objective.distill_from.clone_from(&given.objective.distill_from);
        }
        let resolved = |config: &Config| Config { model: config.model.resolved(), ..config.clone() };
        let changed = changed_keys(&resolved(given), &resolved(&config));
        if !changed.is_empty() {
            return Err(PipelineError::Usage(format!(
                "{} differs from that of the run, which an extension keeps\nhint: train a new run from its weights \
                 instead, with pretrain.init_from",
                changed.join(", ")
            ))
            .into());
        }
        let (mut pretrain, given) = (json!(config.pretrain), json!(given.pretrain));
        // What the run itself started from is in its weights.
        for key in RUNNING_KEYS.into_iter().filter(|key| *key != "init_from") {
            pretrain[key] = given[key].clone();
        }
        config.pretrain = serde_json::from_value(pretrain).map_err(|e| PipelineError::format(&self.folder, e))?;
        config.pretrain.steps = self.steps + more;
        Ok(config)
    }

    fn section<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        let section = self.manifest.config[key].clone();
        Ok(serde_json::from_value(section).map_err(|e| PipelineError::format(&self.folder, format!("{key}: {e}")))?)
    }

    /// The plan that the run was trained on, by its name.
    ///
    /// # Errors
    /// When its manifest names none.
    pub(crate) fn plan(&self, layout: &Layout, source: &str) -> Result<String> {
        let prefix = format!("{}/", layout.name_of(&layout.plan(source, "")).trim_end_matches('/'));
        let plan = self.manifest.inputs.keys().find_map(|name| name.strip_prefix(&prefix));
        let plan = plan.ok_or_else(|| PipelineError::format(&self.folder, "its manifest names no plan"))?;
        Ok(plan.to_owned())
    }

    /// Refuses to go on with an input that was made again since, unless a plan is named.
    ///
    /// # Errors
    /// [`PipelineError::Usage`] with its name.
    pub(crate) fn check_input(&self, name: &str, digest: &Digest) -> Result<()> {
        match self.manifest.inputs.get(name) {
            Some(before) if before != digest => Err(PipelineError::Usage(format!(
                "`{name}` is not what the run was trained on: it was made again since\n\
                 hint: name a plan with --plan to extend the run on what is there now"
            ))
            .into()),
            _ => Ok(()),
        }
    }

    /// After how many steps the run was extended: before, and now.
    pub(crate) fn history(&self) -> Value {
        let mut history = self.manifest.config[EXTENDED_AFTER].as_array().cloned().unwrap_or_default();
        history.push(json!(self.steps));
        Value::Array(history)
    }

    /// Copies the run's metrics to a folder, and reads its state. A copy: what is appended to must not be the run's own file.
    ///
    /// # Errors
    /// When its checkpoint is damaged, or the disk refuses.
    pub(crate) fn begin(&self, folder: &Path) -> Result<Checkpoint> {
        let metrics = self.folder.join(METRICS_FILE);
        let lines = std::fs::read(&metrics).map_err(PipelineError::io("read", &metrics))?;
        write_synced(&folder.join(METRICS_FILE), &lines)?;
        let checkpoints = self.folder.join(CHECKPOINTS);
        let checkpoint = Checkpoint::load(&checkpoints, FINAL)?;
        if checkpoint.step != self.steps {
            let detail = format!("it is of step {}, but the run did {}", checkpoint.step, self.steps);
            return Err(TrainError::Checkpoint { path: checkpoints, detail });
        }
        Ok(checkpoint)
    }
}

/// The keys of `given` that are neither the run's nor the default's, so that someone has set them.
fn changed_keys(given: &Config, run: &Config) -> Vec<String> {
    let default = Config { model: Config::default().model.resolved(), ..Config::default() };
    let sections = |config: &Config| {
        json!({
            "seed": config.seed, "model": config.model, "objective": config.objective, "pretrain": config.pretrain,
        })
    };
    let (given, run, default) = (sections(given), sections(run), sections(&default));
    let mut changed = Vec::new();
    for (section, values) in given.as_object().into_iter().flatten() {
        let Some(table) = values.as_object() else {
            if *values != run[section] && *values != default[section] {
                changed.push(section.clone());
            }
            continue;
        };
        for (key, value) in table {
            let runs_on = section == "pretrain" && (key == "steps" || RUNNING_KEYS.contains(&key.as_str()));
            if !runs_on && *value != run[section][key] && *value != default[section][key] {
                changed.push(format!("{section}.{key}"));
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_and_differs_is_refused() {
        let mut run = Config::default();
        run.pretrain.base_learning_rate = 1e-3;
        run.pretrain.steps = 10;
        assert_eq!(changed_keys(&Config::default(), &run), Vec::<String>::new());
        let mut given = run.clone();
        (given.pretrain.checkpoint_steps, given.pretrain.keep_last) = (7, 9);
        given.pretrain.steps = 0;
        assert_eq!(changed_keys(&given, &run), Vec::<String>::new());
        (given.seed, given.pretrain.base_learning_rate, given.model.depth) = (77, 2e-3, 3);
        assert_eq!(changed_keys(&given, &run), ["seed", "model.depth", "pretrain.base_learning_rate"]);
    }
}
