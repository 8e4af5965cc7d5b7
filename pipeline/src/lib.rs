//! Images in motion: the stage runtime, sources, ingest, shards, decoding, embeddings, augmentation plans, batches.
//!
//! Everything from a folder of files to a batch of pixels is here, and what all stages share: manifests, progress,
//! configuration, logs and the report kit. What to keep (`lapidary-curate`), what to learn (`lapidary-train`) and what was
//! learned (`lapidary-evaluate`) are decided elsewhere.

mod allocator;
mod caught;
mod check;
pub mod cli;
mod decode;
mod descriptor;
pub mod draw;
mod encode;
mod error;
mod fingerprint;
mod image_store;
mod images;
mod ingest;
pub mod interrupt;
mod labels;
pub mod loader;
mod pictures;
pub mod pixels;
pub mod plan;
pub mod random;
mod ranges;
pub mod report;
mod shard_rows;
pub mod sources;
pub mod stage;
pub mod upkeep;
mod weights_file;

pub use allocator::keep_pages;
pub use check::{Checked, check};
pub use decode::{
    DecodeRule, Decoded, MAX_SIDE_PX, Undecodable, decode, decode_into, decode_reduced_into, decode_small_into,
};
pub use descriptor::{Descriptor, describe};
pub use encode::{Encoder, embed};
pub use error::{PipelineError, Result};
pub use fingerprint::{luma_of_image, phash};
pub use image_store::{Fetched, ImageInfo, ImageStore};
pub use images::{Annotation, ImageRow, ImageShards, Notes, bytes_column, with_all_columns};
pub use ingest::{ingest, refuse_too_many, write_rejects};
pub use labels::labels_by_split;
pub use pictures::Pictures;
pub use ranges::Ranges;
pub use shard_rows::ShardRows;
pub use stage::Layout;
pub use weights_file::{WEIGHTS_FILES, encoder_name, weights_file};
