//! What is curated: a source's images, with their fingerprints and embeddings, row for row.

use super::table::{read_fingerprints, read_measures};
use super::{Prints, Quality, usual_sizes};
use crate::input::{IMAGES_MAX, Image, Vectors, read_embeddings, read_images, refuse_more_than};
use crate::memory::Memory;
use crate::{CurateError, Result};
use lapidary_pipeline::stage::{Layout, require_manifest};
use lapidary_schemas::config::QualityConfig;
use lapidary_schemas::{Digest, QualityIssue};
use std::path::PathBuf;

/// Where a source's tables lie, and what they held when they were looked up.
#[derive(Debug, Clone)]
pub(crate) struct PoolFolders {
    pub(crate) images: PathBuf,
    pub(crate) fingerprints: PathBuf,
    pub(crate) embeddings: PathBuf,
    /// The digests of the three, in this order, by the names that manifests give their folders.
    digests: [(String, Digest); 3],
}

impl PoolFolders {
    /// The folders of a source.
    ///
    /// # Errors
    /// When one is not there, with the command that makes it, or was made of others.
    pub(crate) fn of(layout: &Layout, source: &str, encoder: &str) -> Result<Self> {
        let folders = [layout.images(source), layout.fingerprints(source), layout.embeddings(source, encoder)];
        let [images, fingerprints, embeddings] = &folders;
        let images_name = layout.name_of(images);
        let needed = [
            (images, "ingested images", format!("run `lapidary ingest --data DIR --name {source}`")),
            (fingerprints, "fingerprints", format!("run `lapidary fingerprint --source {source}`")),
            (embeddings, "embeddings", format!("run `lapidary embed --source {source}`")),
        ];
        let mut digests: Vec<(String, Digest)> = Vec::with_capacity(needed.len());
        for (folder, what, hint) in needed {
            let manifest = require_manifest(folder, what, &hint)?;
            if let Some(made_by) = manifest.facts["encoder"].as_str().filter(|made_by| *made_by != encoder) {
                let folder = folder.display();
                return Err(CurateError::Mismatch(format!("`{folder}` was made by `{made_by}`, not by `{encoder}`")));
            }
            // What was made of other images may have the same ids.
            let of_images = manifest.inputs.get(&images_name);
            if of_images.is_some_and(|digest| digests.first().map(|(_, images)| images) != Some(digest)) {
                let folder = folder.display();
                return Err(CurateError::Mismatch(format!("`{folder}` is stale, the images are others now: {hint}")));
            }
            digests.push((layout.name_of(folder), manifest.digest));
        }
        let digests = digests.try_into().expect("one for each of the three folders");
        let [images, fingerprints, embeddings] = folders;
        Ok(Self { images, fingerprints, embeddings, digests })
    }

    /// The digests of all three.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = (String, Digest)> {
        self.digests.iter().cloned()
    }

    /// The digest of the images.
    pub(crate) fn images_input(&self) -> (String, Digest) {
        self.digests[0].clone()
    }

    /// The digest of the fingerprints.
    pub(crate) fn fingerprints_input(&self) -> (String, Digest) {
        self.digests[1].clone()
    }

    /// The digest of the embeddings.
    pub(crate) fn embeddings_input(&self) -> (String, Digest) {
        self.digests[2].clone()
    }

    /// Reads all three, and reserves what images and embeddings take.
    ///
    /// # Errors
    /// When they do not belong together, or do not fit the configured memory.
    pub(crate) fn read(&self, quality: &QualityConfig, memory: &mut Memory) -> Result<Pool> {
        let images = read_images(&self.images)?;
        let vectors = self.read_vectors(&images)?;
        memory.reserve(images.len(), vectors.dim)?;
        let prints = read_fingerprints(&self.fingerprints, &images, memory)?;
        let measures = read_measures(&self.fingerprints, &images)?;
        let issues = issues_of(&images, &measures, quality);
        Ok(Pool { images, prints, issues, vectors })
    }

    /// Reads the embeddings alone.
    ///
    /// # Errors
    /// When they are of other images.
    pub(crate) fn read_embeddings(&self) -> Result<Vectors> {
        self.read_vectors(&read_images(&self.images)?)
    }

    fn read_vectors(&self, images: &[Image]) -> Result<Vectors> {
        read_embeddings(&self.embeddings, images)
    }
}

/// Images with what is known of them, row for row; embeddings may be missing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImageSet<'a> {
    pub(crate) images: &'a [Image],
    pub(crate) prints: &'a Prints,
    pub(crate) vectors: Option<&'a Vectors>,
}

/// Images, fingerprints and embeddings, row for row.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) images: Vec<Image>,
    pub(crate) prints: Prints,
    /// What is wrong with each image by itself, or beside the others of its source.
    pub(crate) issues: Vec<Vec<QualityIssue>>,
    pub(crate) vectors: Vectors,
}

impl Pool {
    /// The pool as pairs are looked for in it.
    pub(crate) fn image_set(&self) -> ImageSet<'_> {
        ImageSet { images: &self.images, prints: &self.prints, vectors: Some(&self.vectors) }
    }

    /// Takes out the images that have an issue which `config.drop` names.
    pub(crate) fn drop_low_quality(&mut self, config: &QualityConfig) {
        let stays: Vec<bool> = self.issues.iter().map(|issues| dropped_for(issues, config).is_none()).collect();
        let kept: Vec<usize> = (0..stays.len()).filter(|index| stays[*index]).collect();
        self.vectors.retain(&kept);
        retain_rows(&mut self.images, &stays);
        self.prints.retain(&stays);
        retain_rows(&mut self.issues, &stays);
    }

    /// Appends another source's images.
    ///
    /// # Errors
    /// When their embeddings have another length, or all are too many.
    pub(crate) fn append(mut self, other: Self, memory: &Memory) -> Result<Self> {
        if other.vectors.dim != self.vectors.dim {
            let (theirs, ours) = (other.vectors.dim, self.vectors.dim);
            return Err(CurateError::Mismatch(format!("embeddings of {theirs} values beside {ours}")));
        }
        refuse_more_than(IMAGES_MAX, self.images.len() + other.images.len())?;
        self.images.extend(other.images);
        self.issues.extend(other.issues);
        self.prints = self.prints.followed_by(other.prints, memory)?;
        self.vectors.values.extend(other.vectors.values);
        Ok(self)
    }
}

fn retain_rows<T>(rows: &mut Vec<T>, stays: &[bool]) {
    let mut stays = stays.iter();
    rows.retain(|_| stays.next().is_some_and(|stays| *stays));
}

/// The issues of each image of a source, sorted.
pub(crate) fn issues_of(images: &[Image], measures: &[Quality], config: &QualityConfig) -> Vec<Vec<QualityIssue>> {
    let size = |image: &Image| (image.pixels as f64).sqrt();
    let [least, most] = usual_sizes(&images.iter().map(size).collect::<Vec<f64>>(), config.odd_size_iqr);
    let of = |(image, quality): (&Image, &Quality)| {
        let mut issues = quality.issues(config);
        if !(least..=most).contains(&size(image)) {
            issues.push(QualityIssue::OddSize);
        }
        issues
    };
    images.iter().zip(measures).map(of).collect()
}

/// The issue for which an image is dropped, if it has one.
pub(crate) fn dropped_for(issues: &[QualityIssue], config: &QualityConfig) -> Option<QualityIssue> {
    issues.iter().copied().find(|issue| config.drop.contains(issue))
}
