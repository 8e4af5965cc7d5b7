//! Embedding: images into vectors, by the built-in descriptor or by weights, which `lapidary-train` reads.

mod descriptor;
mod encoder;
mod weights_file;

pub use descriptor::{Descriptor, describe};
pub use encoder::{Encoder, embed};
pub use weights_file::{WEIGHTS_FILES, encoder_name, weights_file};
