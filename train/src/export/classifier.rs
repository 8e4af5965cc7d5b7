//! A backbone with a classifier on its class token: one file of weights by timm's names, and how timm makes the network.

use super::{Outgoing, Planned, check, own, safetensors, timm};
use crate::model::HostTensor;
use crate::{Result, TrainError};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::write_synced;
use lapidary_schemas::config::ModelConfig;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The weights of a classifier.
pub const CLASSIFIER_FILE: &str = "adapted.safetensors";
/// How timm makes its network.
const CONFIG_FILE: &str = "config.json";

/// Writes a classifier into a folder: `adapted.safetensors` and timm's `config.json`. A `head` of `head.weight` and `head.bias`
/// is timm's own; of another head the tensors are there, but timm makes no such network. Of a network that timm does not have,
/// the names are Lapidary's, and why is returned.
///
/// # Errors
/// When the tensors are not the network's, or the disk refuses.
pub fn export_classifier(
    tensors: &BTreeMap<String, HostTensor>,
    model: &ModelConfig,
    head: &BTreeMap<String, HostTensor>,
    classes: &[String],
    folder: &Path,
) -> Result<Option<String>> {
    let refused = |detail: String| TrainError::Model(format!("cannot write the adapted network: {detail}"));
    check(tensors, model).map_err(refused)?;
    let out = || Outgoing::new(tensors, model);
    let (planned, why_not_timm) = match timm::plan(out()) {
        Ok(planned) => (planned, None),
        Err(why) => (own(out()).map_err(refused)?, Some(why)),
    };
    let Planned { tensors: mut named, configs, metadata } = planned;
    named.extend(head.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
    safetensors::write(&folder.join(CLASSIFIER_FILE), &named, &metadata)?;
    for (_, mut config) in configs {
        config["num_classes"] = json!(classes.len());
        config["label_names"] = json!(classes);
        config["pretrained_cfg"]["num_classes"] = json!(classes.len());
        write_pretty(&folder.join(CONFIG_FILE), &config)?;
    }
    Ok(why_not_timm)
}

fn write_pretty(path: &Path, value: &Value) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| PipelineError::format(path, e))?;
    text.push(b'\n');
    Ok(write_synced(path, &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Vit, initialise, snapshot};
    use crate::weights;
    use burn_flex::Flex;

    #[test]
    fn the_backbone_reads_back_and_the_head_stands_beside_it() {
        let model = ModelConfig {
            name: String::new(),
            image_px: 16,
            patch_px: 4,
            dim: 32,
            depth: 2,
            heads: 4,
            mlp_ratio: 2,
            ..ModelConfig::default()
        };
        let vit: Vit<Flex> = initialise(Vit::new(&model, false, &Default::default()), 5);
        let tensors = snapshot(&vit);
        let tensor = |shape: &[usize]| HostTensor { shape: shape.to_vec(), values: vec![0.5; shape.iter().product()] };
        let head =
            BTreeMap::from([("head.weight".to_owned(), tensor(&[3, 32])), ("head.bias".to_owned(), tensor(&[3]))]);
        let classes = ["ant", "bee", "cat"].map(str::to_owned);
        let folder = tempfile::tempdir().expect("a folder");
        let note = export_classifier(&tensors, &model, &head, &classes, folder.path()).expect("writes");
        assert_eq!(note, None);
        let read = weights::read(&folder.path().join(CLASSIFIER_FILE)).expect("reads");
        assert_eq!(read.tensors, tensors);
        assert!(read.ignored.iter().any(|name| name == "head.weight"), "{:?}", read.ignored);
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder.path().join(CONFIG_FILE)).expect("reads")).expect("JSON");
        assert_eq!((&config["num_classes"], &config["label_names"][1]), (&json!(3), &json!("bee")));
        // timm has no such epsilon: our names then.
        let odd = ModelConfig { norm_epsilon: 1e-4, ..model };
        let why = export_classifier(&tensors, &odd, &head, &classes, folder.path()).expect("writes").expect("a reason");
        assert!(why.contains("epsilon"), "{why}");
        let read = weights::read(&folder.path().join(CLASSIFIER_FILE)).expect("reads");
        assert_eq!((read.model.norm_epsilon, &read.tensors), (1e-4, &tensors));
    }
}
