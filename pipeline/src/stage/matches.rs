//! Which image a person means: by its id or the beginning of it, its path in the source or the end of that, its path on disk,
//! or the id that its source gave it. What fits more exactly goes first; what fits several images equally well is refused
//! with all of them.

use super::{Layout, column, read_manifest, read_table};
use crate::{PipelineError, Result};
use arrow::array::{Array, RecordBatch, StringArray, StructArray, UInt64Array};
use lapidary_schemas::ImageId;
use lapidary_schemas::tables::REJECTS_FILE;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The column of the id that an image had in its source; sources without ids, and shards of older versions, have none.
const SOURCE_ID: &str = "source_image_id";
/// Matches that a refusal lists.
const LISTED: usize = 20;

/// What a name means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// An ingested image.
    Image(ImageId),
    /// An input that was rejected, by its path.
    Reject { path: String, reason: String, detail: String },
}

/// How a name fits an image, the more exact first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Id,
    Path,
    PathOnDisk,
    SourceId,
    EndOfPath,
    FileStem,
    BeginningOfId,
}

/// A name as given, in the forms that it can fit in.
#[derive(Debug)]
struct Query {
    /// Without `./` before it.
    name: String,
    /// 1 to 16 hexadecimal digits in lower case.
    digits: Option<String>,
    /// The path inside the source, when the name is a file on disk inside one of its folders.
    on_disk: Option<String>,
}

impl Query {
    fn new(name: &str, roots: &[PathBuf]) -> Self {
        let digits = name.to_ascii_lowercase();
        let is_id = (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let absolute = Path::new(name).canonicalize().ok().filter(|path| path.is_file());
        let inside = |root: &PathBuf| absolute.as_ref()?.strip_prefix(root).ok().map(Path::to_owned);
        let on_disk = roots.iter().find_map(inside).map(|path| path.to_string_lossy().into_owned());
        let mut plain = name;
        while let Some(rest) = plain.strip_prefix("./") {
            plain = rest;
        }
        Self { name: plain.to_owned(), digits: is_id.then_some(digits), on_disk }
    }

    fn fit(&self, id: ImageId, path: &str, source_id: Option<&str>) -> Option<Fit> {
        let digits = self.digits.as_ref();
        if digits.is_some_and(|digits| digits.len() == 16 && *digits == id.to_string()) {
            return Some(Fit::Id);
        }
        self.fit_of_path(path)
            .into_iter()
            .chain((source_id == Some(&self.name)).then_some(Fit::SourceId))
            .min()
            .or_else(|| digits.is_some_and(|digits| id.to_string().starts_with(digits)).then_some(Fit::BeginningOfId))
    }

    fn fit_of_path(&self, path: &str) -> Option<Fit> {
        let name = &self.name;
        let ends_with = |whole: &str, end: &str| {
            !end.is_empty() && (whole == end || whole.strip_suffix(end).is_some_and(|before| before.ends_with('/')))
        };
        let file = path.rsplit('/').next().unwrap_or(path);
        if path == name {
            Some(Fit::Path)
        } else if self.on_disk.as_ref().is_some_and(|on_disk| ends_with(on_disk, path) || ends_with(path, on_disk)) {
            Some(Fit::PathOnDisk)
        } else if ends_with(path, name) {
            Some(Fit::EndOfPath)
        } else {
            file.rsplit_once('.').is_some_and(|(stem, _)| stem == name).then_some(Fit::FileStem)
        }
    }
}

/// What `name` means in a source.
///
/// # Errors
/// [`PipelineError::Usage`] when nothing fits, or several fit equally well; each is then listed.
pub(super) fn find(layout: &Layout, source: &str, name: &str) -> Result<Found> {
    let images = layout.images(source);
    let roots = read_manifest(&images).map(|manifest| manifest.inputs.into_keys().map(PathBuf::from).collect());
    let query = Query::new(name, &roots.unwrap_or_else(|_| Vec::new()));
    let mut best: Option<Fit> = None;
    let mut matches: Vec<(String, Found)> = Vec::new();
    let mut note = |fit: Option<Fit>, path: &str, found: Found| {
        let Some(fit) = fit.filter(|fit| best.is_none_or(|best| *fit <= best)) else { return };
        if best != Some(fit) {
            best = Some(fit);
            matches.clear();
        }
        // A reject beside an image of the same path is another entry for it.
        if !(matches!(found, Found::Reject { .. }) && matches.iter().any(|(other, _)| other == path)) {
            matches.push((path.to_owned(), found));
        }
    };
    each_image(&images, &mut |id, path, source_id| note(query.fit(id, path, source_id), path, Found::Image(id)))?;
    for batch in read_table(&images.join(REJECTS_FILE), &["path", "reason", "detail"])? {
        let texts = |name: &str| column::<StringArray>(&batch, name);
        let (paths, reasons, details) = (texts("path")?, texts("reason")?, texts("detail")?);
        for row in 0..batch.num_rows() {
            let path = paths.value(row);
            let fit = query.fit_of_path(path);
            if fit.is_some() {
                let (reason, detail) = (reasons.value(row).to_owned(), details.value(row).to_owned());
                note(fit, path, Found::Reject { path: path.to_owned(), reason, detail });
            }
        }
    }
    match matches.len() {
        0 => Err(PipelineError::Usage(format!(
            "source `{source}` has no image `{name}`\n\
             hint: give the file's name or the end of its path, a path on disk, or the image's id"
        ))),
        1 => Ok(matches.swap_remove(0).1),
        _ => Err(ambiguous(source, name, &matches)),
    }
}

fn ambiguous(source: &str, name: &str, matches: &[(String, Found)]) -> PipelineError {
    let line = |(path, found): &(String, Found)| match found {
        Found::Image(id) => format!("\n  {id}  {path}"),
        Found::Reject { reason, .. } => format!("\n  rejected ({reason})  {path}"),
    };
    let mut text = format!("`{name}` is {} of source `{source}`:", matches.len());
    text.extend(matches.iter().take(LISTED).map(line));
    if matches.len() > LISTED {
        text.push_str(&format!("\n  and {} more", matches.len() - LISTED));
    }
    text.push_str("\nhint: give more of the path, or the id");
    PipelineError::Usage(text)
}

/// Id, path in the source and id in the source of every image, without the bytes beside them.
pub(crate) fn each_image(images: &Path, visit: &mut dyn FnMut(ImageId, &str, Option<&str>)) -> Result<()> {
    for shard in Layout::shards(images)? {
        let format = |e: &dyn std::fmt::Display| PipelineError::format(&shard, e);
        let file = File::open(&shard).map_err(PipelineError::io("open", &shard))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| format(&e))?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["image_id", "image.path", SOURCE_ID]);
        for batch in builder.with_projection(mask).build().map_err(|e| format(&e))? {
            let batch: RecordBatch = batch.map_err(|e| format(&e))?;
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let image: &StructArray = column(&batch, "image")?;
            let paths = image.column_by_name("path").and_then(|paths| paths.as_any().downcast_ref::<StringArray>());
            let paths = paths.ok_or_else(|| format(&"`image.path` is no text"))?;
            let source_ids = batch.column_by_name(SOURCE_ID).and_then(|ids| ids.as_any().downcast_ref::<StringArray>());
            for row in 0..batch.num_rows() {
                let source_id = source_ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row));
                visit(ImageId(ids.value(row)), paths.value(row), source_id);
            }
        }
    }
    Ok(())
}

/// The paths of some images, and the ids that they had in their source.
pub(super) fn names_of(images: &Path, ids: &[ImageId]) -> Result<BTreeMap<ImageId, (String, Option<String>)>> {
    let mut found = BTreeMap::new();
    each_image(images, &mut |id, path, source_id| {
        if ids.contains(&id) {
            found.insert(id, (path.to_owned(), source_id.map(str::to_owned)));
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::TableWriter;
    use arrow::array::ArrayRef;
    use arrow::datatypes::{DataType, Field, Schema};
    use lapidary_schemas::tables;
    use std::sync::Arc;

    /// A source of these images (id, path, id in the source) and rejected paths.
    fn source_of(images: &[(u64, &str, Option<&str>)], rejected: &[&str]) -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(folder.path());
        let at = layout.images("s");
        std::fs::create_dir_all(&at).expect("creates");
        let texts = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
        let path = Arc::new(Field::new("path", DataType::Utf8, true));
        let image = StructArray::from(vec![(path, texts(images.iter().map(|(_, path, _)| Some(*path)).collect()))]);
        let schema = Arc::new(Schema::new(vec![
            Field::new("image_id", DataType::UInt64, false),
            Field::new("image", image.data_type().clone(), true),
            Field::new(SOURCE_ID, DataType::Utf8, true),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(images.iter().map(|(id, _, _)| Some(*id)).collect::<UInt64Array>()),
            Arc::new(image),
            texts(images.iter().map(|(_, _, source_id)| *source_id).collect()),
        ];
        let write = |name: &str, schema: Arc<Schema>, columns: Vec<ArrayRef>| {
            let mut table = TableWriter::create(&at.join(name), schema.clone()).expect("creates");
            table.write(&RecordBatch::try_new(schema, columns).expect("fits")).expect("writes");
            table.finish().expect("finishes");
        };
        write("part-00000.parquet", schema, columns);
        let all = |text: &'static str| texts(vec![Some(text); rejected.len()]);
        let offsets = Arc::new(arrow::array::Int64Array::from(vec![None; rejected.len()])) as ArrayRef;
        let paths = texts(rejected.iter().copied().map(Some).collect());
        write(REJECTS_FILE, tables::rejects(), vec![paths, offsets, all("truncated"), all("cut")]);
        (folder, layout)
    }

    #[test]
    fn an_image_is_found_by_whatever_is_at_hand() {
        let images = [
            (0x1390_0000_0000_00aa, "train/cats/a.jpg", Some("139")),
            (0xbeef_0000_0000_0001, "train/dogs/b.jpg", Some("77")),
            (0xbeef_0000_0000_0002, "val/dogs/c.jpg", None),
        ];
        let (_folder, layout) = source_of(&images, &["train/dogs/d.jpg"]);
        let found = |name: &str| find(&layout, "s", name).unwrap_or_else(|error| panic!("{name}: {error}"));
        for name in
            ["13900000000000aa", "train/cats/a.jpg", "./train/cats/a.jpg", "a.jpg", "cats/a.jpg", "a", "139", "1390"]
        {
            assert_eq!(found(name), Found::Image(ImageId(images[0].0)), "{name}");
        }
        assert_eq!(found("BEEF000000000002"), Found::Image(ImageId(images[2].0)));
        assert!(matches!(found("d.jpg"), Found::Reject { path, .. } if path == "train/dogs/d.jpg"));
    }

    #[test]
    fn what_fits_several_lists_them_and_what_fits_none_says_what_to_give() {
        let images =
            [(0xbeef_0001 << 32, "x/a.jpg", None), (0xbeef_0002 << 32, "y/a.jpg", None), (3, "a.jpg.png", None)];
        let (_folder, layout) = source_of(&images, &["z/a.jpg", "x/a.jpg"]);
        let refused = |name: &str| {
            let error = find(&layout, "s", name).expect_err("it is refused");
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        let told = refused("a.jpg");
        assert!(told.contains("`a.jpg` is 3 of source `s`") && told.contains("beef000200000000  y/a.jpg"), "{told}");
        assert!(told.contains("rejected (truncated)  z/a.jpg"), "{told}");
        assert!(refused("beef").contains("x/a.jpg"));
        assert!(refused("/a.jpg").contains("no image"));
        assert!(refused("jpg").contains("no image"), "an end of a name is no end of a path");
        assert!(refused("").contains("no image"));
        assert_eq!(find(&layout, "s", "x/a.jpg").expect("an exact path"), Found::Image(ImageId(images[0].0)));
    }
}
