//! The spool: a file beside the shards that holds what a source can only read in its own order, the bytes of rows and the
//! texts of annotations, until they are fetched in the order of image ids.

use super::{Entry, Object, Place, Tree};
use crate::images::{Annotation, Notes};
use crate::remote::StoredSource;
use crate::{PipelineError, Result};
use lapidary_schemas::RejectReason;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest file that fits a column of bytes.
const IMAGE_BYTES_MAX: u64 = i32::MAX as u64 - 64;

/// A text in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub offset_bytes: u64,
    /// Length.
    pub len_bytes: u32,
    /// The first 8 bytes of its BLAKE3.
    pub digest: [u8; 8],
}

/// Fills the spool. The file is made with the first byte.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    writer: Option<BufWriter<File>>,
    offset_bytes: u64,
}

impl Spool {
    /// A spool that will lie at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), writer: None, offset_bytes: 0 }
    }

    /// Appends an input's bytes.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn image(&mut self, bytes: &[u8]) -> Result<Place> {
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        let offset_bytes = self.append(bytes)?;
        Ok(Place::Spool { offset_bytes, len_bytes: bytes.len() as u64, digest })
    }

    /// Appends an annotation's text.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn text(&mut self, text: &str) -> Result<Span> {
        let mut digest = [0; 8];
        digest.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
        let len_bytes = u32::try_from(text.len())
            .map_err(|_| PipelineError::format(&self.path, "an annotation of more than 4 GiB"))?;
        Ok(Span { offset_bytes: self.append(text.as_bytes())?, len_bytes, digest })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let file = File::create(&self.path).map_err(PipelineError::io("create", &self.path))?;
                self.writer.insert(BufWriter::with_capacity(1 << 20, file))
            }
        };
        writer.write_all(bytes).map_err(PipelineError::io("write", &self.path))?;
        let offset = self.offset_bytes;
        self.offset_bytes += bytes.len() as u64;
        Ok(offset)
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(self) -> Result<()> {
        let Some(mut writer) = self.writer else { return Ok(()) };
        writer.flush().map_err(PipelineError::io("write", &self.path))
    }
}

/// Fetches the bytes of an entry, and the texts of its annotations.
#[derive(Debug)]
pub struct Fetcher {
    spool: Option<File>,
    /// Where files are asked for whose bytes are not here.
    stored: Option<Arc<StoredSource>>,
}

impl Fetcher {
    /// A fetcher for a listing that was made with this spool.
    ///
    /// # Errors
    /// When the spool is there but cannot be opened.
    pub fn new(spool: &Path) -> Result<Self> {
        let spool = spool.exists().then(|| File::open(spool).map_err(PipelineError::io("open", spool))).transpose()?;
        Ok(Self { spool, stored: None })
    }

    /// The same for the files of a tree that may lie in a store.
    pub fn of(self, tree: &Tree) -> Self {
        Self { stored: tree.stored().cloned(), ..self }
    }

    /// Says which entries are fetched next, so that those in a store are on their way.
    pub fn want<'a>(&self, entries: impl Iterator<Item = &'a Entry>, max_bytes: u64) {
        let Some(stored) = &self.stored else { return };
        let fits = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.len() <= max_bytes.min(IMAGE_BYTES_MAX));
        let paths = entries.filter_map(|entry| match &entry.place {
            Place::File(path) if fits(path) => Some(path.as_path()),
            _ => None,
        });
        stored.prefetch(paths);
    }

    /// Ends the stage when a store went away while entries were fetched: what they say of it is no reason to reject them.
    ///
    /// # Errors
    /// What was heard of the store.
    pub fn refuse_failure(&self) -> Result<()> {
        self.stored.as_ref().map_or(Ok(()), |stored| stored.refuse_failure())
    }

    /// The bytes of an entry, unless there are more than `max_bytes`.
    ///
    /// # Errors
    /// The reject reason and what exactly was wrong.
    pub fn fetch(&self, entry: &Entry, max_bytes: u64) -> Result<Vec<u8>, (RejectReason, String)> {
        let too_many = |len: u64| (RejectReason::TooManyBytes, format!("{len} bytes"));
        let max_bytes = max_bytes.min(IMAGE_BYTES_MAX);
        let unreadable = |e: std::io::Error| (RejectReason::Unreadable, e.to_string());
        match &entry.place {
            Place::File(path) => {
                let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
                    std::io::ErrorKind::NotFound => (RejectReason::MissingFile, e.to_string()),
                    _ => unreadable(e),
                })?;
                if meta.len() > max_bytes {
                    return Err(too_many(meta.len()));
                }
                match &self.stored {
                    Some(stored) => stored.read(path),
                    None => std::fs::read(path).map_err(unreadable),
                }
            }
            Place::Spool { offset_bytes, len_bytes, digest: _ } => {
                if *len_bytes > max_bytes {
                    return Err(too_many(*len_bytes));
                }
                self.read(*offset_bytes, *len_bytes as usize).map_err(unreadable)
            }
        }
    }

    /// What the source says of an entry, in its own words.
    ///
    /// # Errors
    /// The reject reason and what exactly was wrong.
    pub fn notes(&self, entry: &Entry) -> Result<Notes, (RejectReason, String)> {
        let text = |span: &Span| self.text(span).map_err(|e| (RejectReason::Unreadable, format!("the spool: {e}")));
        let annotation = |object: &Object| -> Result<Annotation, (RejectReason, String)> {
            let texts = object.records.iter().map(text).collect::<Result<Vec<String>, _>>()?;
            let Object { category_id, bbox_px, area_px, iscrowd, records: _ } = *object;
            Ok(Annotation { category_id, bbox_px, area_px, iscrowd, record: merged(texts) })
        };
        let objects = entry.objects.as_ref();
        Ok(Notes {
            annotations: objects.map(|all| all.iter().map(annotation).collect::<Result<_, _>>()).transpose()?,
            record: entry.record.as_ref().map(text).transpose()?,
            records: entry.records.iter().map(|loose| text(&loose.record)).collect::<Result<_, _>>()?,
        })
    }

    fn text(&self, span: &Span) -> std::io::Result<String> {
        let bytes = self.read(span.offset_bytes, span.len_bytes as usize)?;
        String::from_utf8(bytes).map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e))
    }

    fn read(&self, offset_bytes: u64, len_bytes: usize) -> std::io::Result<Vec<u8>> {
        let spool = self.spool.as_ref().ok_or_else(|| std::io::Error::other("there is no spool"))?;
        let mut bytes = vec![0; len_bytes];
        spool.read_exact_at(&mut bytes, offset_bytes)?;
        Ok(bytes)
    }
}

/// One text with the fields of all: the first that says something of a field is kept.
fn merged(mut texts: Vec<String>) -> Option<String> {
    if texts.len() < 2 {
        return texts.pop();
    }
    let mut all = Map::new();
    for text in &texts {
        if let Ok(Value::Object(fields)) = serde_json::from_str(text) {
            for (key, value) in fields {
                all.entry(key).or_insert(value);
            }
        }
    }
    Some(Value::Object(all).to_string())
}
