//! Newtypes for what must not be mixed up: an image's id and a digest of bytes.
//!
//! How they are computed is the pipeline's business; here is only what they are and how they are written.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The identity of an image: the first 8 bytes, big-endian, of BLAKE3 over source name and path in the source.
///
/// It depends on no order, and two exact copies under two paths stay two images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ImageId(pub u64);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for ImageId {
    type Err = std::num::ParseIntError;

    /// Reads 16 hexadecimal digits, as [`fmt::Display`] writes them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// A BLAKE3 digest (32 bytes), written as 64 hexadecimal digits wherever it is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

impl Digest {
    /// The first 12 digits: enough to tell digests apart for a reader.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(12)]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_id_reads_back_as_written() {
        let id = ImageId(0x00ab_cdef_0123_4567);
        assert_eq!(id.to_string(), "00abcdef01234567");
        assert_eq!(id.to_string().parse::<ImageId>().expect("hex"), id);
    }
}
