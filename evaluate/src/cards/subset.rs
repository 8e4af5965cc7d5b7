//! A subset that was exported, with what its card says of it.

use crate::Result;
use lapidary_pipeline::plan::subset_ids;
use lapidary_pipeline::stage::{Layout, is_outside, read_manifest, require_manifest};
use lapidary_pipeline::{LicenceCount, licence_counts};
use lapidary_schemas::{ImageId, Manifest};
use std::collections::HashSet;
use std::path::PathBuf;

/// What a subset may be exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Shards.
    Parquet,
    /// Files by split and class.
    Folder,
    /// A folder of files for each split, and `annotations/`.
    Coco,
}

impl Format {
    const ALL: [Self; 3] = [Self::Parquet, Self::Folder, Self::Coco];

    /// As `lapidary cut --export` names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Folder => "folder",
            Self::Coco => "coco",
        }
    }
}

/// An export of a subset.
#[derive(Debug)]
pub(super) struct Exported {
    pub(super) source: String,
    pub(super) subset: String,
    pub(super) format: Format,
    pub(super) folder: PathBuf,
    pub(super) export: Manifest,
    pub(super) cut: Manifest,
    pub(super) images: PathBuf,
    pub(super) ingested: Manifest,
    pub(super) ids: HashSet<ImageId>,
    pub(super) licences: Vec<LicenceCount>,
    pub(super) classes: Vec<String>,
}

impl Exported {
    /// The exports of a subset that are there.
    ///
    /// # Errors
    /// When the subset or its images are not there.
    pub(super) fn all(layout: &Layout, source: &str, subset: &str) -> Result<Vec<Self>> {
        let (images, folder) = (layout.images(source), layout.subset(source, subset));
        let ingested = require_manifest(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
        let cut = require_manifest(&folder, "subset", "run `lapidary cut --size N` first")?;
        let ids: HashSet<ImageId> = subset_ids(&folder)?.into_iter().collect();
        let licences = licence_counts(&images, &ids)?;
        let classes: Vec<String> = serde_json::from_value(ingested.facts["classes"].clone()).unwrap_or_default();
        let found = Format::ALL.into_iter().filter_map(|format| {
            let folder = layout.subset(source, &format!("{subset}.{}", format.name()));
            let export = read_manifest(&folder).ok()?;
            Some(Self {
                source: source.to_owned(),
                subset: subset.to_owned(),
                format,
                folder,
                export,
                cut: cut.clone(),
                images: images.clone(),
                ingested: ingested.clone(),
                ids: ids.clone(),
                licences: licences.clone(),
                classes: classes.clone(),
            })
        });
        Ok(found.collect())
    }

    /// The name that the set goes by.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.source, self.subset)
    }

    /// The address that the source was ingested from.
    pub(super) fn address(&self) -> Option<&str> {
        self.ingested.inputs.keys().map(String::as_str).find(|name| is_outside(name))
    }

    /// What it is, in a sentence or two.
    pub(super) fn description(&self) -> String {
        format!(
            "{} images of `{}`, the first of a ranking of {} that stay when copies are dropped, even over clusters of their \
             embeddings. Cut by Lapidary {}.",
            self.ids.len(),
            self.source,
            self.cut.facts["ranked"],
            self.export.lapidary,
        )
    }
}
