//! What a run's backbone starts from instead of drawn weights: `pretrain.init_from`.

use crate::Result;
use crate::backbone::Backbone;
use crate::model::HostTensor;
use crate::weights::fit;
use lapidary_pipeline::stage::Layout;
use lapidary_schemas::Digest;
use lapidary_schemas::config::ModelConfig;
use std::collections::BTreeMap;

/// Weights that fit a run's backbone.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// What they are called: a run's name, or a file's with digits of its digest.
    pub(crate) name: String,
    /// The input that they are to the stage, by name and digest.
    pub(crate) input: (String, Digest),
    /// The backbone's tensors.
    pub(crate) tensors: BTreeMap<String, HostTensor>,
}

impl Start {
    /// The weights that `named` names, resized to the positions of `model`; none when it is empty.
    ///
    /// # Errors
    /// When nothing has that name, or its shapes are not those of `model`.
    pub(crate) fn of(layout: &Layout, source: &str, named: &str, model: &ModelConfig) -> Result<Option<Self>> {
        if named.is_empty() {
            return Ok(None);
        }
        let backbone = Backbone::open(layout, source, named)?;
        let tensors = fit(&backbone.weights, model)?;
        Ok(Some(Self { name: backbone.name, input: (backbone.input, backbone.digest), tensors }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use crate::optimise::Schedule;
    use crate::trainer::Trainer;
    use crate::weights;
    use lapidary_schemas::Config;
    use lapidary_schemas::config::ObjectiveKind;
    use std::path::PathBuf;

    #[test]
    fn student_and_teacher_start_from_the_weights_and_heads_as_they_were_drawn() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/weights/timm");
        let given = weights::read(&folder).expect("reads");
        let mut config = Config { model: ModelConfig { image_px: 24, ..given.model.clone() }, ..Config::default() };
        config.objective.kind = ObjectiveKind::Dino;
        (config.objective.prototypes, config.objective.head_hidden, config.objective.head_bottleneck) = (8, 8, 4);
        let schedule = Schedule::new(&config.pretrain, &config.objective, 4, 4);
        let fresh = || Trainer::<Cpu>::new(&config, schedule.clone(), &Default::default());
        let tensors = fit(&given, &config.model).expect("fits");
        let drawn = fresh().checkpoint();
        let started = fresh().start_from(&tensors).expect("the backbone's shapes").checkpoint();
        assert_eq!(started.part("student.backbone."), tensors);
        assert_eq!(started.part("teacher.backbone."), tensors);
        assert_ne!(drawn.part("student.backbone."), tensors);
        assert_eq!(started.part("student.head."), drawn.part("student.head."));
        assert_eq!(started.part("teacher.head."), drawn.part("student.head."));
    }
}
