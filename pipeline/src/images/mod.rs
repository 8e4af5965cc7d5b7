//! The table `images`: written shard by shard, read in order or by id, its 64-bit hash, and thumbnails of it.

mod labels;
mod licences;
mod phash;
mod pictures;
mod shard_rows;
mod shards;
mod store;

pub use labels::{label_sets, labels_by_split};
pub use licences::{LicenceCount, licence_counts};
pub use phash::{luma_of_image, phash, phash_with};
pub use pictures::{Pictures, Thumbnail};
pub use shard_rows::ShardRows;
pub use shards::{Annotation, ImageRow, ImageShards, Notes, bytes_column, shard_name, shard_number, with_all_columns};
pub(crate) use shards::{FinishedShard, ShardFacts};
pub use store::{Fetched, ImageInfo, ImageStore};
