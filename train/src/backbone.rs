//! A backbone by what names it: a file of weights, a folder that holds one, a finished run of the source, or of another one as
//! `SOURCE/RUN`. What a run starts
//! from, what images are embedded with, what is exported.

use crate::finished_run::{FinishedRun, Tensors};
use crate::model::{DescriptorHead, Vit, load};
use crate::operators::Operators;
use crate::weights::{self, Layout as Names, Weights};
use crate::{Result, TrainError};
use lapidary_pipeline::sources::text_of_path;
use lapidary_pipeline::stage::{Layout, digest_of_file};
use lapidary_pipeline::{PipelineError, encoder_name, weights_file};
use lapidary_schemas::{Digest, Manifest};
use std::path::Path;

/// A backbone with what its users are stamped with.
#[derive(Debug, Clone)]
pub struct Backbone {
    /// What embeddings by it are called: the run's name, or the file's with digits of its digest.
    pub name: String,
    /// The run's digest, or the file's.
    pub digest: Digest,
    /// As manifests name their inputs: the run's folder under `OUT`, or the file's address.
    pub input: String,
    /// Its tensors and its network.
    pub weights: Weights,
    /// The tensors of the head that makes descriptors of its tokens, of a run that was trained for one (SSCD).
    pub descriptor: Option<Tensors>,
    /// The manifest of a run.
    pub manifest: Option<Manifest>,
}

impl Backbone {
    /// Opens what `named` names, of a run the teacher's backbone where it has one.
    ///
    /// # Errors
    /// When nothing has that name, both a file and a run have it, or it cannot be read.
    pub fn open(layout: &Layout, source: &str, named: &str) -> Result<Self> {
        let path = Path::new(named);
        let of_other = named.split_once('/').filter(|(source, run)| layout.run(source, run).is_dir());
        let (source, run) = of_other.unwrap_or((source, named));
        let is_run = !run.contains('/') && layout.run(source, run).is_dir();
        match (path.exists(), is_run) {
            (true, true) => Err(PipelineError::Usage(format!(
                "`{run}` is a run of `{source}` and a file or folder\nhint: `./{named}` is the latter"
            ))
            .into()),
            (true, false) => Self::of_file(path),
            (false, false) if looks_like_a_file(path) => {
                Err(TrainError::Weights { path: path.to_owned(), detail: "there is no such file or folder".to_owned() })
            }
            (false, _) => Self::of_run(layout, FinishedRun::open(layout, source, run)?),
        }
    }

    /// The network with these weights.
    ///
    /// # Errors
    /// When the tensors are not the network's.
    pub fn vit<B: Operators>(&self, device: &B::Device) -> Result<Vit<B>> {
        let tensors = &self.weights.tensors;
        load(Vit::new(&self.weights.model, tensors.contains_key("mask_token"), device), tensors, device)
            .map_err(|detail| TrainError::Weights { path: self.weights.path.clone(), detail })
    }

    /// The head that makes descriptors, where there is one, and their width.
    ///
    /// # Errors
    /// When the tensors are not the head's.
    pub fn descriptor_head<B: Operators>(&self, device: &B::Device) -> Result<Option<(DescriptorHead<B>, usize)>> {
        let Some(tensors) = &self.descriptor else { return Ok(None) };
        let width = tensors.get("linear.bias").map_or(0, |bias| bias.values.len());
        let head = load(DescriptorHead::new(self.weights.model.dim, width, device), tensors, device);
        let fault = |detail| TrainError::Weights { path: self.weights.path.clone(), detail };
        Ok(Some((head.map_err(fault)?, width)))
    }

    /// Opens a file of weights, or a folder that holds one.
    ///
    /// # Errors
    /// As [`weights::read`].
    pub fn of_file(path: &Path) -> Result<Self> {
        let weights = weights::read(path)?;
        for note in &weights.notes {
            tracing::info!("`{}`: {note}", weights.path.display());
        }
        let file = weights_file(path).unwrap_or_else(|| path.to_owned());
        let address = file.canonicalize().map_err(PipelineError::io("open", &file))?;
        let (name, digest) = (encoder_name(&text_of(&file)?)?, digest_of_file(&file)?.0);
        Ok(Self { name, digest, input: text_of_path(&address), weights, descriptor: None, manifest: None })
    }

    fn of_run(layout: &Layout, run: FinishedRun) -> Result<Self> {
        let (tensors, descriptor) = run.weights()?;
        let weights = Weights {
            path: run.folder.clone(),
            tensors,
            layout: Names::Lapidary,
            position_resize: run.model.position_resize,
            model: run.model,
            ignored: Vec::new(),
            notes: Vec::new(),
        };
        let digest = run.manifest.digest.clone();
        let input = layout.name_of(&run.folder);
        Ok(Self { name: run.name, digest, input, weights, descriptor, manifest: Some(run.manifest) })
    }
}

/// Whether a name that nothing has was meant as a file's.
fn looks_like_a_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    path.components().count() > 1 || extension.is_some_and(|e| ["safetensors", "pth", "pt", "bin"].contains(&e))
}

fn text_of(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    Ok(text.ok_or_else(|| PipelineError::Usage(format!("`{}` is no UTF-8; rename the file", path.display())))?)
}
