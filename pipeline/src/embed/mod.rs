//! Embedding: images into vectors, by the built-in descriptor or by weights, which `lapidary-train` reads; or vectors that
//! were made elsewhere.

mod descriptor;
mod encoder;
mod from_file;
mod weights_file;

pub use descriptor::{Descriptor, describe, describe_raster};
pub use encoder::{Encoder, embed};
pub use from_file::{Npy, VectorFile, embed_from, said_of_vectors};
pub use weights_file::{WEIGHTS_FILES, encoder_name, weights_file};
