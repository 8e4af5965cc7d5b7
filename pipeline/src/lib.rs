//! Images in motion: the stage runtime, sources, ingest, shards, decoding, embeddings, augmentation plans, batches.
//!
//! Everything from a folder of files to a batch of pixels is here, and what all stages share: manifests, progress,
//! configuration, logs and the report kit. What to keep (`lapidary-curate`), what to learn (`lapidary-train`) and what was
//! learned (`lapidary-evaluate`) are decided elsewhere.

pub mod cli;
mod decode;
pub mod draw;
mod embed;
mod error;
mod images;
mod ingest;
pub mod pixels;
pub mod plan;
pub mod remote;
mod runtime;
pub mod stage;
pub mod upkeep;

pub use decode::{
    DecodeRule, Decoded, MAX_SIDE_PX, Undecodable, decode, decode_into, decode_reduced_into, decode_small_into,
};
pub use embed::{
    Descriptor, Encoder, Npy, VectorFile, WEIGHTS_FILES, describe, describe_raster, embed, embed_from, encoder_name,
    said_of_vectors, weights_file,
};
pub use error::{PipelineError, Result};
pub use images::{
    Annotation, Fetched, ImageInfo, ImageRow, ImageShards, ImageStore, LicenceCount, Notes, Pictures, ShardRows,
    Thumbnail, bytes_column, label_sets, labels_by_split, licence_counts, luma_of_image, phash, phash_with,
    shard_number, with_all_columns,
};
pub use ingest::{Checked, IngestOptions, check, ingest, refuse_too_many, sources, write_rejects};
pub use plan::loader;
pub use runtime::{Ranges, interrupt, keep_pages, keep_pages_for, random, report};
pub use stage::Layout;
