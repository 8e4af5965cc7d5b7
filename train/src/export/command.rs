//! `lapidary export`: what a name names as a folder for another program, on request with an example of what it computes.

use super::{About, ExportTo, export, safetensors};
use crate::Result;
use crate::backbone::Backbone;
use crate::backend::{DeviceChoice, Program, run_on};
use crate::model::{Draws, HostTensor};
use crate::operators::{Operators, TrainBackend};
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::stage::Layout;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the network makes of drawn images: `class`, `patches` and the images' side `image_px`.
const EXAMPLE_FILE: &str = "example.safetensors";
/// Images of an example.
const EXAMPLE_IMAGES: usize = 2;

/// Where an export is written unless it is said: `OUT/SOURCE/exports/NAME/TARGET`.
pub fn default_folder(layout: &Layout, source: &str, backbone: &Backbone, to: ExportTo) -> PathBuf {
    layout.out.join(source).join("exports").join(&backbone.name).join(to.name())
}

/// Writes a backbone into a folder, with `example` also what it makes of drawn images, which other programs can be held
/// against: of images `[2, 3, image_px, image_px]` the value of flat index i is sin(0.37 i).
///
/// # Errors
/// As [`export`].
pub fn export_backbone(backbone: &Backbone, to: ExportTo, folder: &Path, example: bool) -> Result<Vec<PathBuf>> {
    let weights = &backbone.weights;
    let about = About { name: backbone.name.clone(), digest: backbone.digest.0.clone(), origin: origin(backbone) };
    let mut written = export(&weights.tensors, &weights.model, to, folder, &about)?;
    if example {
        let path = folder.join(EXAMPLE_FILE);
        let features = run_on(DeviceChoice::Cpu, Example { backbone })?;
        safetensors::write(&path, &features, &BTreeMap::new())?;
        written.push(path);
    }
    Ok(written)
}

/// How a backbone came to be, in a sentence.
fn origin(backbone: &Backbone) -> String {
    let Some(manifest) = &backbone.manifest else {
        return format!("Read from weights with {} names.", backbone.weights.layout.name());
    };
    let objective = manifest.config["objective"]["kind"].as_str().unwrap_or("an objective of its own");
    let steps = manifest.facts["steps"].as_u64().unwrap_or(0);
    format!("Self-supervised by Lapidary: {objective}, {steps} steps.")
}

struct Example<'a> {
    backbone: &'a Backbone,
}

impl Program for Example<'_> {
    type Output = BTreeMap<String, HostTensor>;

    fn run<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output> {
        features::<B::InnerBackend>(self.backbone, &device)
    }
}

fn features<B: Operators>(backbone: &Backbone, device: &B::Device) -> Result<BTreeMap<String, HostTensor>> {
    let (vit, px) = (backbone.vit::<B>(device)?, backbone.weights.model.image_px);
    let values: Vec<f32> = (0..EXAMPLE_IMAGES * 3 * px * px).map(|i| (i as f64 * 0.37).sin() as f32).collect();
    let images = Tensor::from_data(TensorData::new(values, [EXAMPLE_IMAGES, 3, px, px]), device);
    let tokens = vit.tokens(images, &Draws::default(), true);
    let host = |shape: Vec<usize>, data: TensorData| HostTensor {
        shape,
        values: data.convert::<f32>().to_vec().expect("converted to f32 just before"),
    };
    let class = host(tokens.class.dims().to_vec(), tokens.class.into_data());
    let mut found = BTreeMap::from([
        ("class".to_owned(), class),
        ("image_px".to_owned(), HostTensor { shape: vec![1], values: vec![px as f32] }),
    ]);
    if let Some(patches) = tokens.patches {
        found.insert("patches".to_owned(), host(patches.dims().to_vec(), patches.into_data()));
    }
    Ok(found)
}
