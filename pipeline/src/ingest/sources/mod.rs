//! Sources: where images come from. Each lists its inputs as entries that can be fetched in any order.
//!
//! A listing holds no image bytes. Whatever lies in a table or archive, which can only be read in its own order, is spooled
//! to a file beside the shards first, so that shards can be sorted by image id in bounded memory.

mod coco;
mod folder;
pub mod json_text;
mod listing;
mod names;
mod open;
mod parquet;
mod splits;
mod spool;
mod tree;

pub use coco::{Coco, Unread, read_records};
pub use folder::ImageFolder;
pub use listing::{Entry, Listing, Loose, Object, Place, Reject};
pub use names::{check_name, default_name, name_of_part, part_of_name, path_of_text, text_of_path};
pub use open::{LayoutChoice, Options, listing_digest_of_address, open_source};
pub use parquet::ParquetFiles;
pub use spool::{Fetcher, Span, Spool};
pub use tree::{Tree, TreeFile};

use crate::Result;
use lapidary_schemas::{Digest, ImageId};
use std::path::Path;

/// A folder of images in one of the layouts that we read.
pub trait Source: Send + Sync {
    /// The layout's name, for a reader.
    fn layout(&self) -> &'static str;
    /// What lies in the folder.
    fn tree(&self) -> &Tree;
    /// Lists all inputs. `spool` is a file that the source may fill with bytes of its own.
    ///
    /// # Errors
    /// When the folder or its annotations cannot be read.
    fn list(&self, spool: &Path) -> Result<Listing>;

    /// The folder.
    fn root(&self) -> &Path {
        self.tree().root()
    }

    /// The folder as manifests name it: absolute, without links, and the same for no other folder; a URL without credentials.
    fn address(&self) -> String {
        self.tree().address()
    }

    /// A digest of names, lengths and times of the source's files: changes when a file may have.
    ///
    /// # Errors
    /// When the folder cannot be walked.
    fn listing_digest(&self) -> Result<Digest> {
        Ok(self.tree().digest())
    }
}

/// The id of an image: the first 8 bytes of BLAKE3 over source name, a zero byte, and path in the source.
pub fn image_id(source: &str, path: &str) -> ImageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(source.as_bytes()).update(&[0]).update(path.as_bytes());
    let mut first = [0u8; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    ImageId(u64::from_be_bytes(first))
}

/// Extensions of images: those that Pillow opens and those that some other program would, so that what we cannot read is
/// rejected with a reason. Formats of films, documents and measurements are left out.
const IMAGE_EXTENSIONS: &[&str] = &[
    "apng", "avif", "avifs", "blp", "bmp", "bw", "cr2", "cr3", "cur", "dcx", "dds", "dib", "dng", "emf", "eps", "exr",
    "flc", "fli", "ftc", "ftu", "gbr", "gif", "heic", "heif", "hif", "icb", "icns", "ico", "iim", "im", "j2c", "j2k",
    "jfif", "jif", "jp2", "jpc", "jpe", "jpeg", "jpf", "jpg", "jpx", "jxl", "mpo", "msp", "nef", "arw", "orf", "rw2",
    "pbm", "pcd", "pcx", "pfm", "pgm", "png", "pnm", "ppm", "psd", "pxr", "qoi", "ras", "rgb", "rgba", "sgi", "svg",
    "tga", "tif", "tiff", "vda", "vst", "webp", "wmf", "xbm", "xpm",
];

/// Extensions of Parquet tables.
const TABLE_EXTENSIONS: &[&str] = &["parquet", "pq"];

/// Whether a name's extension is an image's.
fn is_image_name(name: &str) -> bool {
    has_extension(name, IMAGE_EXTENSIONS)
}

fn has_extension(name: &str, extensions: &[&str]) -> bool {
    let found = Path::new(name).extension().and_then(|e| e.to_str());
    found.is_some_and(|found| extensions.iter().any(|e| found.eq_ignore_ascii_case(e)))
}

/// Whether bytes begin as an image's do, whatever their file is called.
fn begins_as_image(bytes: &[u8]) -> bool {
    let at = |place: usize, magic: &[u8]| bytes.get(place..).is_some_and(|rest| rest.starts_with(magic));
    const FIRST: &[&[u8]] = &[
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF87a",
        b"GIF89a",
        b"II*\0",
        b"MM\0*",
        b"\0\0\0\x0cjP  ",
        b"\0\0\0\x0cJXL ",
        b"\xff\x4f\xff\x51",
    ];
    let brand = [&b"avif"[..], b"avis", b"heic", b"heix", b"mif1", b"msf1"];
    FIRST.iter().any(|magic| at(0, magic))
        || (at(0, b"RIFF") && at(8, b"WEBP"))
        || (at(0, b"BM") && bytes.get(14..18).is_some_and(|size| matches!(size[0], 12 | 40 | 52 | 56 | 64 | 108 | 124)))
        || (at(4, b"ftyp") && brand.iter().any(|brand| at(8, brand)))
}
