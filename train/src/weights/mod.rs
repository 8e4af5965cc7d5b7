//! Weights from elsewhere: whatever a Vision Transformer's weights are called and however they are kept, here they become
//! tensors of our names in PyTorch's shapes, with the network that they are of.
//!
//! Nothing in a file is run, nothing is allocated that does not lie in it, and what is ambiguous is refused by name: a tensor
//! that is taken for another would train on in silence.

mod archive;
mod assemble;
mod blob;
mod described;
mod detect;
mod fit;
mod globals;
mod infer;
mod names;
mod pickle;
mod raw;
mod safetensors;
mod shapes;
#[cfg(test)]
mod tests;
mod torch;

pub(crate) use detect::ABOUT;
pub use fit::fit;
pub use names::Layout;
pub(crate) use names::Naming;
pub(crate) use shapes::shapes;

use crate::model::HostTensor;
use crate::{Result, TrainError};
use blob::{Blob, le32};
use lapidary_pipeline::{PipelineError, WEIGHTS_FILES, weights_file};
use lapidary_schemas::config::{ModelConfig, PositionResize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const ZIP: u32 = 0x0403_4b50;
/// How `torch.save` began before it wrote archives: a pickle of protocol 2 of a number of 10 bytes.
const LEGACY: u32 = 0x0a8a_0280;

/// A backbone's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// The file that they were read from.
    pub path: PathBuf,
    /// The network that they are of.
    pub model: ModelConfig,
    /// Tensors of our names, in PyTorch's shapes.
    pub tensors: BTreeMap<String, HostTensor>,
    /// Whose names they had.
    pub layout: Layout,
    /// How positions were resized when they were made.
    pub position_resize: PositionResize,
    /// Names in the file that were passed over: heads, optimisers, other networks.
    pub ignored: Vec<String>,
    /// What the file does not tell and was assumed, in words.
    pub notes: Vec<String>,
}

/// Reads a backbone's weights: a file (`.safetensors`, `.pth`, `.pt`, `.bin`) or a folder that holds one, with the `config.json`
/// beside it.
///
/// # Errors
/// [`TrainError::Weights`] names what is wrong with the file and, of a tensor, what was expected.
pub fn read(path: &Path) -> Result<Weights> {
    let path = file_of(path)?;
    let blob = Blob::open(&path).map_err(PipelineError::io("open", &path))?;
    parse(&path, blob).map_err(|detail| TrainError::Weights { path: path.clone(), detail })
}

fn parse(path: &Path, blob: Blob) -> Result<Weights, String> {
    let magic = blob.read(0, blob.len().min(4))?;
    let file = if le32(&magic, 0) == Some(ZIP) {
        torch::open(blob)?
    } else if le32(&magic, 0) == Some(LEGACY) {
        return Err("it is of PyTorch's format from before version 1.6, which only running it would read\nhint: \
                    `torch.save(torch.load(PATH, weights_only=True), NEW_PATH)` writes it anew"
            .to_owned());
    } else {
        safetensors::open(blob)?
    };
    let described = described::read(path.parent().unwrap_or(Path::new(".")))?;
    let mut found = detect::detect(&file)?;
    let model = match own_model(&file.about)? {
        Some(model) => model,
        None => infer::infer(&file, &mut found, &described)?,
    };
    let (tensors, ignored) = assemble::assemble(&file, &found, &model)?;
    Ok(Weights {
        path: path.to_owned(),
        position_resize: model.position_resize,
        model,
        tensors,
        layout: found.layout,
        ignored,
        notes: found.notes,
    })
}

/// The network that a file of ours says it is of; none when it is nobody's or says nothing.
fn own_model(about: &BTreeMap<String, String>) -> Result<Option<ModelConfig>, String> {
    let Some(text) = about.get(ABOUT) else { return Ok(None) };
    let about: Value = serde_json::from_str(text).map_err(|e| format!("it says of itself what cannot be read: {e}"))?;
    match &about["model"] {
        Value::Null => Ok(None),
        model => {
            let model: ModelConfig = serde_json::from_value(model.clone())
                .map_err(|e| format!("it says of itself what cannot be read: {e}"))?;
            check_sizes(&model)?;
            Ok(Some(model))
        }
    }
}

/// Sizes that a network can have: what shapes are computed from must not overflow.
fn check_sizes(model: &ModelConfig) -> Result<(), String> {
    let sizes = [model.dim, model.depth, model.heads, model.mlp_ratio, model.patch_px, model.image_px];
    if sizes.iter().any(|size| *size == 0 || *size > 1 << 16) || model.registers > 1 << 16 || model.depth > 1000 {
        return Err("it says of itself sizes that no network has".to_owned());
    }
    Ok(())
}

/// The file of weights that a path names.
fn file_of(path: &Path) -> Result<PathBuf> {
    let fault = |detail: String| TrainError::Weights { path: path.to_owned(), detail };
    if path.join("model.safetensors.index.json").is_file() || path.join("pytorch_model.bin.index.json").is_file() {
        let hint =
            "hint: `AutoModel.from_pretrained(FOLDER).save_pretrained(NEW, max_shard_size=\"100GB\")` joins them";
        return Err(fault(format!("its weights are spread over several files\n{hint}")));
    }
    weights_file(path).ok_or_else(|| match path.is_dir() {
        true => fault(format!("it holds none of {}", WEIGHTS_FILES.join(", "))),
        false => fault("there is no such file or folder".to_owned()),
    })
}
