//! Embeddings made elsewhere: `lapidary embed --from FILE` takes the vectors of a Parquet table or an `.npy` matrix.
//!
//! What they are of is said by ids or paths, in the table or in one beside the matrix; a matrix alone is of the images in
//! the order of their ids, when the counts agree. Curation compares every image, so an image without a vector is an
//! error that names it; rows set aside (of no image here, not finite, zero, null) are counted in the manifest.

mod gather;
mod keys;
mod npy;
mod vectors;

pub use npy::Npy;

use super::encoder::embedding_batch;
use super::weights_file::encoder_name;
use crate::ingest::sources::{check_name, text_of_path};
use crate::stage::{
    Layout, Opened, Outcome, Previous, Progress, StageRun, StageSpec, Table, TableWriter, column, digest_of_file,
    read_manifest, require_manifest,
};
use crate::{PipelineError, Result, interrupt};
use arrow::array::UInt64Array;
use gather::{Batch, Gathered, gather};
use keys::{Images, Key, count_images, key_column, keys_of};
use lapidary_schemas::{Digest, Manifest, Rows, tables};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vectors::{COLUMN, VectorRows, require_vectors, vectors_of};

/// Rows that are read or written at once.
const BATCH_ROWS: usize = 1024;
/// Names of encoders that are Lapidary's own.
const BUILT_IN: &str = "descriptor";

/// Vectors made elsewhere.
#[derive(Debug, Clone, Default)]
pub struct VectorFile {
    /// The file: `.parquet` or `.npy`.
    pub from: PathBuf,
    /// Ids or paths of the rows of an `.npy` file: a Parquet table.
    pub ids: Option<PathBuf>,
    /// What their encoder is called; by default the file's stem and the first digits of its digest.
    pub encoder_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Parquet,
    Npy,
}

/// Takes a file's vectors as the embeddings `OUT/SOURCE/embeddings/ENCODER` of all images of a source.
///
/// # Errors
/// [`PipelineError::Usage`] for arguments that do not go together; [`PipelineError::Format`] when the file is no table or
/// matrix of vectors, when these differ in length, or when an image has two or none.
pub fn embed_from(
    layout: &Layout,
    source: &str,
    file: &VectorFile,
    dry_run: bool,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let kind = kind_of(file)?;
    let images = layout.images(source);
    let manifest = require_manifest(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
    let (address, digest) = address_of(&file.from)?;
    let name = name_of(file)?;
    let mut inputs = BTreeMap::from([(layout.name_of(&images), manifest.digest.clone()), (address, digest.clone())]);
    if let Some(ids) = &file.ids {
        let (address, digest) = address_of(ids)?;
        inputs.insert(address, digest);
    }
    let folder = layout.embeddings(source, &name);
    refuse_other_encoders(&folder, &name)?;
    let spec = StageSpec {
        stage: "embed",
        version: 2,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"encoder": name, "encoder_digest": digest, "from": true, "with_ids": file.ids.is_some()}),
        inputs,
        resumable: true,
        previous: Previous::Replaced,
    };
    let scratch = folder.parent().unwrap_or(&layout.out).to_owned();
    // Before the stage begins, so that a file which is refused leaves nothing unfinished.
    let is_to_do = !dry_run && spec.up_to_date().is_none();
    let gathered = is_to_do.then(|| read(file, kind, &images, &scratch)).transpose()?;
    match spec.open(dry_run)? {
        Opened::UpToDate(manifest) => Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(run) => {
            let (gathered, by) = match gathered {
                Some(gathered) => gathered,
                None => read(file, kind, &images, &scratch)?,
            };
            let about = About { name: &name, digest: &digest, by, file };
            let manifest = write(layout, &manifest, &Layout::shards(&images)?, &gathered, &about, run)?;
            Ok((Outcome::Ran, folder, Some(manifest)))
        }
    }
}

/// What the file is, by its name; and that the arguments go together.
fn kind_of(file: &VectorFile) -> Result<FileKind> {
    let extension = file.from.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    match (extension.as_str(), &file.ids) {
        ("parquet" | "pq", None) => Ok(FileKind::Parquet),
        ("npy", _) => Ok(FileKind::Npy),
        ("parquet" | "pq", Some(_)) => Err(PipelineError::Usage(format!(
            "`{}` names the images of its vectors itself\nhint: --ids goes with an .npy file",
            file.from.display()
        ))),
        _ => Err(PipelineError::Usage(format!(
            "`{}` is neither .parquet nor .npy\nhint: --from takes a table with `image_id` or `path` and `embedding`, or a matrix",
            file.from.display()
        ))),
    }
}

/// A file's address, as manifests have it, and its digest.
fn address_of(file: &Path) -> Result<(String, Digest)> {
    let path = file.canonicalize().map_err(PipelineError::io("open", file))?;
    let (digest, _) = digest_of_file(&path)?;
    Ok((text_of_path(&path), digest))
}

fn name_of(file: &VectorFile) -> Result<String> {
    let Some(name) = &file.encoder_name else { return encoder_name(&file.from.to_string_lossy()) };
    check_name(name)?;
    if name == BUILT_IN {
        let text = format!("`{name}` is the built-in encoder's name\nhint: give these another with --encoder-name");
        return Err(PipelineError::Usage(text));
    }
    Ok(name.clone())
}

/// Embeddings that Lapidary made are not replaced by others of the same name.
fn refuse_other_encoders(folder: &Path, name: &str) -> Result<()> {
    match read_manifest(folder) {
        Ok(manifest) if manifest.config["from"] != json!(true) => Err(PipelineError::Usage(format!(
            "`{}` holds embeddings of an encoder `{name}` that Lapidary ran\nhint: give these another name with --encoder-name",
            folder.display()
        ))),
        _ => Ok(()),
    }
}

/// Reads the whole file, and says what names its images.
fn read(file: &VectorFile, kind: FileKind, images: &Path, scratch: &Path) -> Result<(Gathered, &'static str)> {
    match kind {
        FileKind::Parquet => read_parquet(&file.from, images, scratch),
        FileKind::Npy => read_npy(&file.from, file.ids.as_deref(), images, scratch),
    }
}

fn read_parquet(path: &Path, folder: &Path, scratch: &Path) -> Result<(Gathered, &'static str)> {
    let schema = Table::open(path, &[], 1)?.schema().clone();
    let key = key_column(path, &schema)?;
    require_vectors(path, &schema)?;
    let images = Images::read(folder, key != "image_id")?;
    let batches = Table::open(path, &[key, COLUMN], BATCH_ROWS)?.map(|batch| {
        let batch = batch?;
        Ok(Batch { keys: keys_of(path, &batch, key)?, vectors: vectors_of(path, &batch)? })
    });
    Ok((gather(path, folder, images, batches, scratch)?, key))
}

fn read_npy(path: &Path, ids: Option<&Path>, folder: &Path, scratch: &Path) -> Result<(Gathered, &'static str)> {
    let npy = Npy::open(path)?;
    let rows = npy.rows();
    let Some(ids) = ids else {
        let count = count_images(folder)?;
        if count != rows {
            return Err(PipelineError::Usage(format!(
                "`{}` has {rows} rows, and there are {count} images\n\
                 hint: --ids IDS.parquet says which image each row is of (`image_id` or `path`)",
                path.display()
            )));
        }
        let keys = (0..rows as usize).map(Key::Place);
        let gathered = gather(path, folder, Images::read(folder, false)?, batches(&npy, keys.map(Ok)), scratch)?;
        return Ok((gathered, "order"));
    };
    let table = Table::open(ids, &[], BATCH_ROWS)?;
    let key = key_column(ids, table.schema())?;
    if table.rows() != rows {
        return Err(PipelineError::Usage(format!(
            "`{}` has {rows} rows, and `{}` names {}\nhint: one id or path for each row, in their order",
            path.display(),
            ids.display(),
            table.rows()
        )));
    }
    let images = Images::read(folder, key != "image_id")?;
    let keys = Table::open(ids, &[key], BATCH_ROWS)?.flat_map(|batch| {
        match batch.and_then(|batch| keys_of(ids, &batch, key)) {
            Ok(keys) => keys.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        }
    });
    Ok((gather(path, folder, images, batches(&npy, keys), scratch)?, key))
}

/// The rows of a matrix in batches, each with its key.
fn batches(npy: &Npy, mut keys: impl Iterator<Item = Result<Key>>) -> impl Iterator<Item = Result<Batch>> {
    (0..npy.rows()).step_by(BATCH_ROWS).map(move |first| {
        let vectors = VectorRows::of_matrix(npy.read(first, BATCH_ROWS)?, npy.dim());
        let keys: Vec<Key> = keys.by_ref().take(BATCH_ROWS).collect::<Result<_>>()?;
        Ok(Batch { keys, vectors })
    })
}

/// What the manifest says of the vectors.
struct About<'a> {
    name: &'a str,
    digest: &'a Digest,
    /// What names the images: a column, or the order of the rows.
    by: &'static str,
    file: &'a VectorFile,
}

impl About<'_> {
    fn facts(&self, gathered: &Gathered, added: u64, shards: Value) -> Value {
        let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut from = json!(gathered.counts);
        from["file"] = json!(file_name(&self.file.from));
        from["ids"] = json!(self.file.ids.as_deref().map(file_name));
        from["by"] = json!(self.by);
        json!({"encoder": self.name, "dim": gathered.dim, "added": added, "from": from, "shards": shards})
    }
}

fn write(
    layout: &Layout,
    images: &Manifest,
    shards: &[PathBuf],
    gathered: &Gathered,
    about: &About<'_>,
    mut run: StageRun,
) -> Result<Manifest> {
    let dim = gathered.dim;
    let schema = tables::embeddings(dim, about.name, &about.digest.0);
    let make = |shard: &Path, to: &Path, progress: &Progress| {
        let mut table = TableWriter::create(to, schema.clone())?;
        for rows in Table::open(shard, &["image_id"], BATCH_ROWS)? {
            interrupt::check()?;
            let rows = rows?;
            let ids: &UInt64Array = column(&rows, "image_id")?;
            let mut vectors = Vec::with_capacity(ids.len() * dim);
            for id in ids.values() {
                gathered.append(*id, &mut vectors)?;
            }
            table.write(&embedding_batch(ids.clone(), vectors, dim, &schema)?)?;
            progress.add(ids.len() as u64);
        }
        Ok::<_, PipelineError>((table.finish()?, json!({})))
    };
    let shards = run.make_shards(layout, (images, shards), |_| Ok(json!({})), make)?;
    let counts = gathered.counts;
    if counts.of_images != shards.rows {
        let text = format!("{} vectors for {} images", counts.of_images, shards.rows);
        return Err(PipelineError::Internal(text));
    }
    let rows = Rows { input: counts.rows, output: counts.of_images, rejected: counts.set_aside() };
    let facts = about.facts(gathered, shards.added, run.facts_of_shards());
    run.finish(rows, facts, &[])
}

/// What became of the file's rows, for a reader.
pub fn said_of_vectors(manifest: &Manifest) -> String {
    let facts = &manifest.facts;
    let from = &facts["from"];
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let by = match from["by"].as_str() {
        Some("order") => "taken as the images in the order of their ids".to_owned(),
        by => format!("by `{}`", by.unwrap_or("?")),
    };
    format!(
        "{} rows of `{}`, {by}: {} of images, {} of no image here, {} not finite, {} zero, {} without a vector; \
         curate with --set embed.encoder={}",
        from["rows"],
        text(&from["file"]),
        from["of_images"],
        from["unknown"],
        from["not_finite"],
        from["zero"],
        from["null"],
        text(&facts["encoder"]),
    )
}
