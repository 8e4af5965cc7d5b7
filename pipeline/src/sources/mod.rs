//! Sources: where images come from. Each lists its inputs as entries that can be fetched in any order.
//!
//! A listing holds no image bytes. Whatever lies in a table or archive, which can only be read in its own order, is spooled
//! to a file beside the shards first, so that shards can be sorted by image id in bounded memory.

mod coco;
mod folder;
mod parquet;

use crate::stage::digest_of_bytes;
use crate::{PipelineError, Result};
use lapidary_schemas::{Digest, ImageId, RejectReason};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A folder of images in one of the layouts that we read.
pub trait Source: Send + Sync {
    /// The layout's name, for a reader.
    fn layout(&self) -> &'static str;
    /// The folder.
    fn root(&self) -> &Path;
    /// Lists all inputs. `spool` is a file that the source may fill with bytes of its own.
    ///
    /// # Errors
    /// When the folder or its annotations cannot be read.
    fn list(&self, spool: &Path) -> Result<Listing>;

    /// A digest of names, lengths and times of the source's files: changes when a file may have.
    ///
    /// # Errors
    /// When the folder cannot be walked.
    fn listing_digest(&self) -> Result<Digest> {
        let mut text = String::new();
        for file in files_below(self.root())? {
            let meta = file.metadata().map_err(|e| PipelineError::format(file.path(), e))?;
            let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
            let nanos = modified.map_or(0, |d| d.as_nanos());
            text.push_str(&format!("{}\0{}\0{nanos}\n", file.path().display(), meta.len()));
        }
        Ok(digest_of_bytes(text.as_bytes()))
    }
}

/// What a source lists.
#[derive(Debug, Default)]
pub struct Listing {
    /// Inputs that can be fetched.
    pub entries: Vec<Entry>,
    /// Inputs that cannot, each with its reason.
    pub rejects: Vec<Reject>,
    /// Class names; labels are indices into them.
    pub classes: Vec<String>,
    /// Category id of each class, as annotations have it.
    pub category_ids: Vec<i64>,
    /// Split names; entries hold indices into them.
    pub splits: Vec<String>,
    /// License names; entries hold indices into them.
    pub licenses: Vec<String>,
    /// Annotations that name an unknown image or category.
    pub bad_annotations: u64,
}

/// An input that can be fetched.
#[derive(Debug)]
pub struct Entry {
    /// Its path in the source.
    pub path: String,
    /// Where its bytes lie.
    pub place: Place,
    /// Index into the listing's splits.
    pub split: u32,
    /// Where it can be had on the web.
    pub url: Option<String>,
    /// Index into the listing's licenses.
    pub license: Option<u32>,
    /// Objects in it; none when the source has no annotations for it.
    pub annotations: Option<Vec<Annotation>>,
    /// Its class, when the source names one.
    pub label: Option<i64>,
}

/// Where an input's bytes lie.
#[derive(Debug)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A part of the spool.
    Spool {
        /// First byte.
        offset_bytes: u64,
        /// Length.
        len_bytes: u64,
        /// The first half of their BLAKE3.
        digest: [u8; 16],
    },
}

/// An object in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// The source's category id.
    pub category_id: i64,
    /// x, y, width, height in pixels.
    pub bbox_px: [f32; 4],
    /// Area in square pixels.
    pub area_px: f32,
    /// The annotation stands for a crowd.
    pub iscrowd: bool,
}

/// An input that is set aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Its path in the source.
    pub path: String,
    /// Its place, if it lay in a table.
    pub offset_bytes: Option<i64>,
    /// Why.
    pub reason: RejectReason,
    /// What exactly was wrong.
    pub detail: String,
}

impl Reject {
    /// An input set aside for `reason`.
    pub fn new(path: impl Into<String>, reason: RejectReason, detail: impl ToString) -> Self {
        Self { path: path.into(), offset_bytes: None, reason, detail: detail.to_string() }
    }
}

impl Listing {
    /// The index of a split, added when new.
    pub fn split(&mut self, name: &str) -> u32 {
        index_of(&mut self.splits, name)
    }

    /// The index of a license, added when new.
    pub fn license(&mut self, name: &str) -> u32 {
        index_of(&mut self.licenses, name)
    }
}

fn index_of(names: &mut Vec<String>, name: &str) -> u32 {
    let found = names.iter().position(|known| known == name);
    found.unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    }) as u32
}

/// The id of an image: the first 8 bytes of BLAKE3 over source name, a zero byte, and path in the source.
pub fn image_id(source: &str, path: &str) -> ImageId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(source.as_bytes()).update(&[0]).update(path.as_bytes());
    let mut first = [0u8; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    ImageId(u64::from_be_bytes(first))
}

/// Opens a folder in the layout it has: COCO (an `annotations` folder of JSON), Hugging Face Parquet, or plain images.
///
/// # Errors
/// When the path is no folder.
pub fn open_source(root: &Path) -> Result<Box<dyn Source>> {
    let root = root.canonicalize().map_err(PipelineError::io("open", root))?;
    if !root.is_dir() {
        return Err(PipelineError::Usage(format!("`{}` is not a folder", root.display())));
    }
    if coco::is_coco(&root) {
        return Ok(Box::new(coco::Coco::new(root)));
    }
    if files_below(&root)?.iter().any(|file| has_extension(file.path(), &["parquet"])) {
        return Ok(Box::new(parquet::ParquetFiles::new(root)));
    }
    Ok(Box::new(folder::ImageFolder::new(root)))
}

/// The source at an address as manifests name it (its absolute path), if it is still there.
pub fn source_of_address(address: &str) -> Option<Box<dyn Source>> {
    let path = Path::new(address);
    path.is_absolute().then(|| open_source(path).ok()).flatten()
}

/// A source's name by default: its folder's name, with anything but letters, digits, `-`, `_` and `.` made `-`.
pub fn default_name(root: &Path) -> String {
    let absolute = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let name = absolute.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| "images".to_owned());
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    name.trim_start_matches('.').chars().map(allowed).collect()
}

/// Fetches the bytes of an entry.
#[derive(Debug)]
pub struct Fetcher {
    spool: Option<File>,
}

impl Fetcher {
    /// A fetcher for a listing that was made with this spool.
    ///
    /// # Errors
    /// When the spool is there but cannot be opened.
    pub fn new(spool: &Path) -> Result<Self> {
        let spool = spool.exists().then(|| File::open(spool).map_err(PipelineError::io("open", spool))).transpose()?;
        Ok(Self { spool })
    }

    /// The bytes of an entry, unless there are more than `max_bytes`.
    pub fn fetch(&self, entry: &Entry, max_bytes: u64) -> Result<Vec<u8>, (RejectReason, String)> {
        let too_many = |len: u64| (RejectReason::TooManyBytes, format!("{len} bytes"));
        match &entry.place {
            Place::File(path) => {
                let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
                    std::io::ErrorKind::NotFound => (RejectReason::MissingFile, e.to_string()),
                    _ => (RejectReason::Unreadable, e.to_string()),
                })?;
                if meta.len() > max_bytes {
                    return Err(too_many(meta.len()));
                }
                std::fs::read(path).map_err(|e| (RejectReason::Unreadable, e.to_string()))
            }
            Place::Spool { offset_bytes, len_bytes, digest: _ } => {
                if *len_bytes > max_bytes {
                    return Err(too_many(*len_bytes));
                }
                let mut bytes = vec![0; *len_bytes as usize];
                let spool = self.spool.as_ref().ok_or((RejectReason::Unreadable, "no spool".to_owned()))?;
                spool
                    .read_exact_at(&mut bytes, *offset_bytes)
                    .map_err(|e| (RejectReason::Unreadable, e.to_string()))?;
                Ok(bytes)
            }
        }
    }
}

/// All regular files below a folder that are not hidden, sorted by path.
fn files_below(root: &Path) -> Result<Vec<walkdir::DirEntry>> {
    let visible = |e: &walkdir::DirEntry| e.depth() == 0 || !e.file_name().to_string_lossy().starts_with('.');
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter().filter_entry(visible) {
        let entry = entry.map_err(|e| PipelineError::format(root, e))?;
        if entry.file_type().is_file() {
            files.push(entry);
        }
    }
    Ok(files)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().is_some_and(|found| extensions.iter().any(|e| found.eq_ignore_ascii_case(e)))
}

/// A path relative to the source's root, with `/` between its parts.
fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}
