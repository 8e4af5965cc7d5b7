//! Where each image of a subset comes from and under which licence: what licences with attribution ask to be told.

use super::subset::{Exported, Format};
use crate::Result;
use arrow::array::{Array, AsArray, Int64Array, StringArray, StructArray, UInt64Array};
use lapidary_pipeline::sources::part_of_name;
use lapidary_pipeline::stage::{Layout, column, write_synced};
use lapidary_pipeline::{PipelineError, ShardRows};
use lapidary_schemas::ImageId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

const COLUMNS: [&str; 9] = ["image_id", "image", "split", "source", "url", "license", "digest", "format", "label"];
/// Rows a batch: images come with their bytes.
const ROWS: usize = 64;

/// What was told of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributed {
    /// Images.
    pub(super) images: u64,
    /// The formats of their files: `jpeg`, `png`, ...
    pub(super) formats: BTreeSet<String>,
}

/// Writes a row for each image, in the order of the shards. Of an export as files it has two columns more: `file`, where the image
/// lies in the export, and `class`.
///
/// # Errors
/// When a shard cannot be read or the file cannot be written.
pub(super) fn write(export: &Exported, path: &Path) -> Result<Attributed> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let failed = |e: csv::Error| PipelineError::format(path, e);
    let mut placed = (export.format != Format::Parquet).then(|| Placed::of(export));
    let headings = ["image_id", "path", "split", "source", "url", "license"];
    let more = if placed.is_some() { &["file", "class"][..] } else { &[] };
    table.write_record(headings.iter().chain(more)).map_err(failed)?;
    let mut attributed = Attributed::default();
    for shard in Layout::shards(&export.images)? {
        for batch in ShardRows::open_columns(&shard, &COLUMNS, ROWS)? {
            let batch = batch?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let labels: &Int64Array = column(&batch, "label")?;
            let images: &StructArray = column(&batch, "image")?;
            let paths = images.column_by_name("path").map(|paths| paths.as_string::<i32>());
            let texts = ["split", "source", "url", "license"].map(|name| column::<StringArray>(&batch, name));
            let texts = texts.into_iter().collect::<Result<Vec<_>, _>>()?;
            let [digests, formats] = ["digest", "format"].map(|name| column::<StringArray>(&batch, name));
            let (digests, formats) = (digests?, formats?);
            for row in (0..batch.num_rows()).filter(|row| export.ids.contains(&ImageId(ids.value(*row)))) {
                let text =
                    |array: &StringArray| if array.is_valid(row) { array.value(row).to_owned() } else { String::new() };
                let id = ImageId(ids.value(row)).to_string();
                let source_path = paths.map(text).unwrap_or_default();
                let more = placed.as_mut().map(|placed| {
                    let class = labels.is_valid(row).then(|| export.classes.get(labels.value(row) as usize)).flatten();
                    [
                        placed.take(digests.value(row), &text(texts[0]), &source_path, &id),
                        class.cloned().unwrap_or_default(),
                    ]
                });
                let head = [id, source_path].into_iter().chain(texts.iter().map(|array| text(array)));
                table.write_record(head.chain(more.into_iter().flatten())).map_err(failed)?;
                attributed.images += 1;
                attributed.formats.insert(text(formats));
            }
        }
    }
    let bytes = table.into_inner().map_err(|e| PipelineError::format(path, e))?;
    write_synced(path, &bytes)?;
    Ok(attributed)
}

/// The files of an export that are not told of yet, by the digest of their bytes, which tells which image each is.
struct Placed {
    by_digest: HashMap<String, Vec<String>>,
}

impl Placed {
    fn of(export: &Exported) -> Self {
        let files: BTreeMap<&String, &str> =
            export.export.outputs.iter().map(|(file, output)| (file, output.digest.0.as_str())).collect();
        let mut by_digest: HashMap<String, Vec<String>> = HashMap::new();
        for (file, digest) in files {
            by_digest.entry(digest.to_owned()).or_default().push(file.clone());
        }
        Self { by_digest }
    }

    /// The file of an image. Of several with the same bytes it is the one of its split and of its name, or of its id, if one is.
    fn take(&mut self, digest: &str, split: &str, path: &str, id: &str) -> String {
        let Some(files) = self.by_digest.get_mut(digest).filter(|files| !files.is_empty()) else {
            return String::new();
        };
        let (folder, name) = (format!("{}/", part_of_name(split)), path.rsplit('/').next().unwrap_or_default());
        let fits = |file: &String| {
            let own = file.rsplit('/').next().unwrap_or_default();
            (file.starts_with(&folder), own.starts_with(id), own == name)
        };
        let best = (0..files.len()).max_by_key(|at| (fits(&files[*at]), std::cmp::Reverse(*at))).unwrap_or(0);
        files.remove(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_files_with_the_same_bytes_each_image_has_its_own() {
        let files = ["test/cat/a.jpg", "train/cat/00aa.jpeg", "train/cat/a.jpg"].map(str::to_owned).to_vec();
        let mut placed = Placed { by_digest: HashMap::from([("d".to_owned(), files)]) };
        assert_eq!(placed.take("d", "train", "x/a.jpg", "00bb"), "train/cat/a.jpg");
        assert_eq!(placed.take("d", "train", "y/a.jpg", "00aa"), "train/cat/00aa.jpeg");
        assert_eq!(placed.take("d", "train", "a.jpg", "00cc"), "test/cat/a.jpg");
        assert_eq!(placed.take("d", "train", "a.jpg", "00dd"), "");
        assert_eq!(placed.take("e", "train", "a.jpg", "00dd"), "");
    }
}
