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
