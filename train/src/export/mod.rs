//! Weights for elsewhere: a backbone as a folder that timm, transformers, DINOv2's code or an ONNX runtime opens.
//!
//! The same tensors give the same bytes. What a library cannot express is refused in words, before a file is written.

mod card;
mod classifier;
mod command;
mod dinov2;
mod onnx;
mod outgoing;
mod preprocess;
mod safetensors;
#[cfg(test)]
mod tests;
mod timm;
mod transformers;

pub use classifier::{CLASSIFIER_FILE, export_classifier};
pub use command::{default_folder, export_backbone};

use crate::model::HostTensor;
use crate::weights::shapes;
use crate::{Result, TrainError};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::write_synced;
use lapidary_schemas::config::ModelConfig;
use outgoing::Outgoing;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// For whom a backbone is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportTo {
    /// `timm.create_model("local-dir:FOLDER")`.
    Timm,
    /// `transformers.AutoModel.from_pretrained(FOLDER)`.
    Transformers,
    /// DINOv2's code, by its names.
    Dinov2,
    /// Lapidary's own names, with the network in the metadata.
    Safetensors,
    /// An ONNX runtime.
    Onnx,
}

impl ExportTo {
    /// Every target, by the name that `--to` takes.
    pub const ALL: &[(&str, Self)] = &[
        ("timm", Self::Timm),
        ("transformers", Self::Transformers),
        ("dinov2", Self::Dinov2),
        ("safetensors", Self::Safetensors),
        ("onnx", Self::Onnx),
    ];

    /// The name that `--to` takes.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, to)| *to == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for ExportTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
        found.map(|(_, to)| *to).ok_or_else(|| format!("`{text}` is none of {}", names.join(", ")))
    }
}

/// Where a backbone comes from, for its card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The run's name, or the file's.
    pub name: String,
    /// The run's digest, or the file's.
    pub digest: String,
    /// How it came to be, in a sentence.
    pub origin: String,
}

/// Writes a backbone into a folder and says which files it wrote, the weights first.
///
/// # Errors
/// [`TrainError::Model`] when the target cannot express the network, or the tensors are not its; when the disk refuses.
pub fn export(
    tensors: &BTreeMap<String, HostTensor>,
    model: &ModelConfig,
    to: ExportTo,
    folder: &Path,
    about: &About,
) -> Result<Vec<PathBuf>> {
    let refused = |detail: String| TrainError::Model(format!("cannot export to {}: {detail}", to.name()));
    check(tensors, model).map_err(refused)?;
    let out = Outgoing::new(tensors, model);
    let plan = match to {
        ExportTo::Timm => timm::plan(out),
        ExportTo::Transformers => transformers::plan(out),
        ExportTo::Dinov2 => dinov2::plan(out),
        ExportTo::Safetensors => own(out),
        ExportTo::Onnx => onnx::check(model).map(|()| Planned::default()),
    };
    let Planned { tensors: named, configs, metadata } = plan.map_err(refused)?;
    std::fs::create_dir_all(folder).map_err(PipelineError::io("create folder", folder))?;
    let mut written = Vec::new();
    if to == ExportTo::Onnx {
        let path = folder.join("model.onnx");
        onnx::write(&path, tensors, model, about)?;
        written.push(path);
    } else {
        let path = folder.join("model.safetensors");
        safetensors::write(&path, &named, &metadata)?;
        written.push(path);
    }
    for (name, value) in configs {
        let path = folder.join(name);
        let mut text = serde_json::to_vec_pretty(&value).map_err(|e| PipelineError::format(&path, e))?;
        text.push(b'\n');
        write_synced(&path, &text)?;
        written.push(path);
    }
    let path = folder.join("README.md");
    write_synced(&path, card::card(model, to, about).as_bytes())?;
    written.push(path);
    Ok(written)
}

/// What is to be written: tensors, JSON files by name, and the safetensors file's metadata.
#[derive(Debug, Default)]
struct Planned {
    tensors: BTreeMap<String, HostTensor>,
    configs: Vec<(&'static str, Value)>,
    metadata: BTreeMap<String, String>,
}

impl Planned {
    /// For a library that wants to know that tensors have PyTorch's shapes.
    fn pytorch(tensors: BTreeMap<String, HostTensor>, configs: Vec<(&'static str, Value)>) -> Self {
        Self { tensors, configs, metadata: BTreeMap::from([("format".to_owned(), "pt".to_owned())]) }
    }
}

/// Our own names, and the network beside them.
fn own(out: Outgoing) -> Result<Planned, String> {
    let about = json!({"format": "lapidary weights 1", "model": out.model});
    let mut planned = Planned::pytorch(out.tensors, Vec::new());
    planned.metadata.insert(crate::weights::ABOUT.to_owned(), about.to_string());
    Ok(planned)
}

/// The tensors must be the network's, all of them.
fn check(tensors: &BTreeMap<String, HostTensor>, model: &ModelConfig) -> Result<(), String> {
    let expected = shapes(model);
    for (name, shape) in &expected {
        match tensors.get(name) {
            Some(tensor) if tensor.shape == *shape => {}
            Some(tensor) => {
                return Err(format!("tensor `{name}` has shape {:?}; {shape:?} was expected", tensor.shape));
            }
            None => return Err(format!("tensor `{name}` of shape {shape:?} is missing")),
        }
    }
    match tensors.keys().find(|name| !expected.contains_key(*name) && *name != "mask_token") {
        Some(name) => Err(format!("tensor `{name}` has no place in the network")),
        None => Ok(()),
    }
}
