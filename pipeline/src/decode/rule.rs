//! The rule by which bytes become pixels: chosen at ingest, kept in the schema of the shards, read from there by every
//! verb that decodes them again. So whatever ingest accepts decodes to the same pixels ever after.

use crate::{PipelineError, Result};
use arrow::datatypes::{Schema, SchemaRef};
use lapidary_schemas::config::{IccProfiles, IngestConfig};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// The key of the shards' schema that says that colour profiles are converted; absent where they are ignored.
const KEY: &str = "lapidary.icc";
const CONVERT: &str = "convert";

/// How bytes become pixels. A number alone is a limit of pixels, with profiles ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeRule {
    /// Images with more pixels are refused on their header, before memory is taken.
    pub max_pixels: u64,
    /// What becomes of an ICC profile.
    pub icc: IccProfiles,
}

impl From<u64> for DecodeRule {
    fn from(max_pixels: u64) -> Self {
        Self { max_pixels, icc: IccProfiles::Ignore }
    }
}

impl From<&IngestConfig> for DecodeRule {
    fn from(config: &IngestConfig) -> Self {
        Self { max_pixels: config.max_pixels, icc: config.icc }
    }
}

impl DecodeRule {
    /// The rule that a shard of images was ingested by; what was accepted then has no limit now.
    ///
    /// # Errors
    /// When the shard cannot be read.
    pub fn of_shard(shard: &Path) -> Result<Self> {
        let file = File::open(shard).map_err(PipelineError::io("open", shard))?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new());
        Ok(Self::of_schema(metadata.map_err(|e| PipelineError::format(shard, e))?.schema()))
    }

    /// The rule that a shard's schema holds.
    pub(crate) fn of_schema(schema: &Schema) -> Self {
        let converts = schema.metadata().get(KEY).is_some_and(|value| value == CONVERT);
        Self { max_pixels: u64::MAX, icc: if converts { IccProfiles::Convert } else { IccProfiles::Ignore } }
    }

    /// The schema of shards that are ingested by this rule.
    pub(crate) fn mark(self, schema: SchemaRef) -> SchemaRef {
        if self.icc == IccProfiles::Ignore {
            return schema;
        }
        let mut metadata = schema.metadata().clone();
        metadata.insert(KEY.to_owned(), CONVERT.to_owned());
        Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata))
    }
}
