//! What the curation reads, and how it writes tables.
//!
//! In come the folders of `images` and `embeddings`; out go [`Image`]s sorted by id, and their [`Vectors`] row for row,
//! whitened where that is configured. Nothing here knows of copies, clusters or ranks.

mod alignment;
pub(crate) mod columns;
mod images;
mod kept;
mod vectors;
mod whitening;

pub(crate) use alignment::Alignment;
pub use images::Image;
pub(crate) use images::{IMAGES_MAX, index_of, read_images, refuse_more_than};
pub(crate) use kept::{read_kept, write_kept};
pub use vectors::Vectors;
pub(crate) use vectors::{dot, embeddings_of_shard, read_embeddings, read_embeddings_of};
pub(crate) use whitening::Whitening;
