//! The frozen teacher that a run is distilled from: `objective.distill_from`.
//!
//! Whatever weights `pretrain.init_from` reads can teach, of any width, depth and patch. The teacher sees the crops that the
//! student sees, normalised as ImageNet's, so its patches must tile the global views.

use crate::backbone::Backbone;
use crate::model::Vit;
use crate::objective::distill::queue_rows;
use crate::operators::Operators;
use crate::{Result, TrainError};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::sources::path_of_text;
use lapidary_pipeline::stage::Layout;
use lapidary_schemas::config::{ObjectiveConfig, ObjectiveKind, PlanConfig, ViewKind};
use lapidary_schemas::{Config, Digest};

/// A teacher's weights on the host.
#[derive(Debug, Clone)]
pub(crate) struct FrozenTeacher(Backbone);

impl FrozenTeacher {
    /// The teacher of a configuration; none when its objective has none. The views are those of the plan.
    ///
    /// # Errors
    /// [`PipelineError::Usage`] names the key and what is wrong with what it names.
    pub(crate) fn of(layout: &Layout, source: &str, config: &Config) -> Result<Option<Self>> {
        let (objective, views) = (&config.objective, &config.plan.views);
        if objective.kind != ObjectiveKind::Distillation {
            return Ok(None);
        }
        let named = &objective.distill_from;
        let fault = |detail: String| {
            let hint = match detail.contains("hint:") {
                true => "",
                false => "\nhint: a file or folder of weights, or the name of a finished run of the source",
            };
            TrainError::from(PipelineError::Usage(format!("objective.distill_from = `{named}`: {detail}{hint}")))
        };
        let backbone = Backbone::open(layout, source, named).map_err(|error| fault(error.to_string()))?;
        let model = &backbone.weights.model;
        if objective.distill_dim != 0 && objective.distill_dim != model.dim {
            let (given, own) = (objective.distill_dim, model.dim);
            return Err(fault(format!(
                "its features have {own} values, but objective.distill_dim = {given}\nhint: leave that key at 0"
            )));
        }
        for view in views.iter().filter(|view| view.kind == ViewKind::Global && view.count > 0) {
            let (side, patch, own) = (usize::from(view.size_px), model.patch_px, config.model.patch_px);
            if !side.is_multiple_of(patch) {
                let both = least_common_multiple(patch, own);
                return Err(fault(format!(
                    "its patches of {patch} px do not tile the plan's global views of {side} px, which teacher and student \
                     both see\nhint: plan global views of a multiple of {both} px (plan.view, size_px)"
                )));
            }
        }
        Ok(Some(Self(backbone)))
    }

    /// The objective with what this teacher and the number of images decide where it has 0, and with a file by its whole path,
    /// so that a run finds it from any folder.
    pub(crate) fn resolved(&self, objective: &ObjectiveConfig, images: usize) -> ObjectiveConfig {
        let mut resolved = objective.clone();
        resolved.distill_dim = self.0.weights.model.dim;
        if resolved.distill_queue == 0 {
            resolved.distill_queue = queue_rows(images);
        }
        if self.0.manifest.is_none() {
            resolved.distill_from = path_of_text(&self.0.input).to_string_lossy().into_owned();
        }
        resolved
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// The digest of its weights.
    pub(crate) fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// The input that it is to the stage, by name and digest.
    pub(crate) fn input(&self) -> (String, Digest) {
        (self.0.input.clone(), self.0.digest.clone())
    }

    /// Its network.
    ///
    /// # Errors
    /// When its tensors are not its network's.
    pub(crate) fn vit<B: Operators>(&self, device: &B::Device) -> Result<Vit<B>> {
        self.0.vit(device)
    }
}

/// A configuration whose objective is as its frozen teacher, if it has one, decides (`objective.distill_dim`), whatever the views.
///
/// # Errors
/// When the teacher cannot be used, with the key that names it.
pub fn with_teacher(layout: &Layout, source: &str, config: Config) -> Result<Config> {
    let without_views = Config { plan: PlanConfig { views: Vec::new(), ..config.plan.clone() }, ..config.clone() };
    let teacher = FrozenTeacher::of(layout, source, &without_views)?;
    let objective = teacher.map_or(config.objective.clone(), |teacher| teacher.resolved(&config.objective, 0));
    Ok(Config { objective, ..config })
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut greatest, mut rest) = (a.max(1), b.max(1));
    while rest != 0 {
        (greatest, rest) = (rest, greatest % rest);
    }
    a / greatest * b
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::config::ViewSpec;
    use std::path::{Path, PathBuf};

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/weights").join(name)
    }

    fn config(from: &Path, side: u16) -> Config {
        let mut config = Config::default();
        config.objective.kind = ObjectiveKind::Distillation;
        config.objective.distill_from = from.to_str().expect("UTF-8").to_owned();
        config.plan.views = vec![ViewSpec { kind: ViewKind::Global, count: 2, size_px: side, ..ViewSpec::default() }];
        config
    }

    fn open(config: &Config) -> Result<Option<FrozenTeacher>> {
        FrozenTeacher::of(&Layout::new("nowhere"), "source", config)
    }

    fn refusal(config: &Config) -> String {
        let failure = lapidary_pipeline::cli::Failure::from(open(config).expect_err("it cannot teach"));
        assert_eq!(failure.exit_code, 2);
        failure.error.to_string()
    }

    #[test]
    fn a_teacher_decides_its_width_and_the_images_the_queue() {
        let given = config(&golden("timm"), 224);
        let teacher = open(&given).expect("opens").expect("one is named");
        let resolved = teacher.resolved(&given.objective, 648);
        let model = teacher.0.weights.model.clone();
        assert_eq!((resolved.distill_dim, resolved.distill_queue), (model.dim, 256));
        let path = Path::new(&resolved.distill_from);
        assert!(path.is_absolute() && path.is_file(), "{}", path.display());
        // What is resolved is found again, and is the same.
        let again = Config { objective: resolved.clone(), ..given.clone() };
        let again = open(&again).expect("opens").expect("one is named");
        assert_eq!((again.resolved(&resolved, 9), again.input()), (resolved, teacher.input()));
        let mut other = given;
        other.objective.kind = ObjectiveKind::Dino;
        assert!(open(&other).expect("nothing to open").is_none());
    }

    #[test]
    fn changed_weights_are_another_input() {
        let folder = tempfile::tempdir().expect("a folder");
        for entry in std::fs::read_dir(golden("timm")).expect("a folder").filter_map(|entry| entry.ok()) {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copies");
        }
        let given = config(folder.path(), 224);
        let before = open(&given).expect("opens").expect("one is named").input();
        let file = lapidary_pipeline::weights_file(folder.path()).expect("a file of weights");
        let mut bytes = std::fs::read(&file).expect("reads");
        let last = bytes.len() - 4;
        bytes[last] ^= 1;
        std::fs::write(&file, bytes).expect("writes");
        let after = open(&given).expect("opens").expect("one is named").input();
        assert!(before.0 == after.0 && before.1 != after.1, "{before:?} {after:?}");
    }

    #[test]
    fn what_cannot_teach_is_refused_by_the_key_with_a_hint() {
        let missing = refusal(&config(Path::new("no/such/file.pth"), 224));
        let no_run = refusal(&config(Path::new("no-such-run"), 224));
        let mut wide = config(&golden("timm"), 224);
        wide.objective.distill_dim = 999;
        let wide = refusal(&wide);
        let untiled = refusal(&config(&golden("timm"), 225));
        for (told, what) in [
            (&missing, "no such file"),
            (&no_run, "no-such-run"),
            (&wide, "objective.distill_dim = 999"),
            (&untiled, "global views of 225 px"),
        ] {
            assert!(told.contains("objective.distill_from = `") && told.contains(what), "{told}");
            assert_eq!(told.matches("hint:").count(), 1, "{told}");
        }
        assert!(untiled.contains("a multiple of"), "{untiled}");
        assert_eq!(least_common_multiple(14, 16), 112);
    }
}
