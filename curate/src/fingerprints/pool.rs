//! What is curated: a source's images, with their fingerprints and embeddings, row for row.

use super::table::read_fingerprints;
use super::{Fingerprint, usual_sizes};
use crate::input::{IMAGES_MAX, Image, Vectors, read_embeddings, read_images, refuse_more_than};
use crate::{CurateError, Result};
use lapidary_pipeline::stage::{Layout, require_manifest};
use lapidary_schemas::config::QualityConfig;
use lapidary_schemas::{Digest, QualityIssue};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a source's tables lie.
#[derive(Debug, Clone)]
pub(crate) struct PoolFolders {
    images: PathBuf,
    fingerprints: PathBuf,
    embeddings: PathBuf,
}

impl PoolFolders {
    /// The folders of a source, and the digests of what they hold, by the names that manifests give them.
    ///
    /// # Errors
    /// When one is not there, with the command that makes it.
    pub(crate) fn of(layout: &Layout, source: &str, encoder: &str) -> Result<(Self, BTreeMap<String, Digest>)> {
        let folders = Self {
            images: layout.images(source),
            fingerprints: layout.fingerprints(source),
            embeddings: layout.embeddings(source, encoder),
        };
        let needed = [
            (&folders.images, "ingested images", format!("run `lapidary ingest --data DIR --name {source}`")),
            (&folders.fingerprints, "fingerprints", format!("run `lapidary fingerprint --source {source}`")),
            (&folders.embeddings, "embeddings", format!("run `lapidary embed --source {source}`")),
        ];
        let mut digests = BTreeMap::new();
        for (folder, what, hint) in needed {
            let manifest = require_manifest(folder, what, &hint)?;
            if let Some(made_by) = manifest.facts["encoder"].as_str().filter(|made_by| *made_by != encoder) {
                let folder = folder.display();
                return Err(CurateError::Mismatch(format!("`{folder}` was made by `{made_by}`, not by `{encoder}`")));
            }
            // What was made of other images may have the same ids.
            let of_images = manifest.inputs.get(&layout.name_of(&folders.images));
            if of_images.is_some_and(|digest| digests.get(&layout.name_of(&folders.images)) != Some(digest)) {
                let folder = folder.display();
                return Err(CurateError::Mismatch(format!("`{folder}` is stale, the images are others now: {hint}")));
            }
            digests.insert(layout.name_of(folder), manifest.digest);
        }
        Ok((folders, digests))
    }

    /// Reads all three.
    ///
    /// # Errors
    /// When they do not belong together.
    pub(crate) fn read(&self, quality: &QualityConfig) -> Result<Pool> {
        let images = read_images(&self.images)?;
        let prints = read_fingerprints(&self.fingerprints, &images)?;
        let vectors = self.read_vectors(&images)?;
        let issues = issues(&images, &prints, quality);
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
    pub(crate) prints: &'a [Fingerprint],
    pub(crate) vectors: Option<&'a Vectors>,
}

/// Images, fingerprints and embeddings, row for row.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) images: Vec<Image>,
    pub(crate) prints: Vec<Fingerprint>,
    /// What is wrong with each image by itself, or beside the others of its source.
    pub(crate) issues: Vec<Vec<QualityIssue>>,
    pub(crate) vectors: Vectors,
}

impl Pool {
    /// The pool as pairs are looked for in it.
    pub(crate) fn image_set(&self) -> ImageSet<'_> {
        ImageSet { images: &self.images, prints: &self.prints, vectors: Some(&self.vectors) }
    }

    /// Takes out the images that have an issue which `config.drop` names, and returns them with all their issues.
    pub(crate) fn take_low_quality(&mut self, config: &QualityConfig) -> Vec<(Image, Vec<QualityIssue>)> {
        let issues = std::mem::take(&mut self.issues);
        let stays: Vec<bool> = issues.iter().map(|of| !of.iter().any(|issue| config.drop.contains(issue))).collect();
        let kept: Vec<usize> = (0..stays.len()).filter(|index| stays[*index]).collect();
        self.vectors.retain(&kept);
        let mut place = stays.iter();
        self.prints.retain(|_| place.next().is_some_and(|stays| *stays));
        let mut taken = Vec::new();
        for ((image, issues), stays) in std::mem::take(&mut self.images).into_iter().zip(issues).zip(stays) {
            if stays {
                self.images.push(image);
                self.issues.push(issues);
            } else {
                taken.push((image, issues));
            }
        }
        taken
    }

    /// Appends another source's images.
    ///
    /// # Errors
    /// When their embeddings have another length, or all are too many.
    pub(crate) fn append(&mut self, other: Self) -> Result<()> {
        if other.vectors.dim != self.vectors.dim {
            let (theirs, ours) = (other.vectors.dim, self.vectors.dim);
            return Err(CurateError::Mismatch(format!("embeddings of {theirs} values beside {ours}")));
        }
        refuse_more_than(IMAGES_MAX, self.images.len() + other.images.len())?;
        self.images.extend(other.images);
        self.issues.extend(other.issues);
        self.prints.extend(other.prints);
        self.vectors.values.extend(other.vectors.values);
        Ok(())
    }
}

/// The issues of each image of a source, sorted.
fn issues(images: &[Image], prints: &[Fingerprint], config: &QualityConfig) -> Vec<Vec<QualityIssue>> {
    let size = |image: &Image| (image.pixels as f64).sqrt();
    let [least, most] = usual_sizes(&images.iter().map(size).collect::<Vec<f64>>(), config.odd_size_iqr);
    let of = |(image, print): (&Image, &Fingerprint)| {
        let mut issues = print.quality.issues(config);
        if !(least..=most).contains(&size(image)) {
            issues.push(QualityIssue::OddSize);
        }
        issues
    };
    images.iter().zip(prints).map(of).collect()
}
