//! An image of an export, and the file that it becomes.

use crate::Result;
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, StructArray, UInt32Array, UInt64Array};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, column};
use lapidary_schemas::ImageId;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Longest name of a file.
const NAME_BYTES_MAX: usize = 255;
/// Files that were written.
#[derive(Default)]
pub(super) struct Files(HashSet<PathBuf>);

impl Files {
    /// Writes an image into a folder of the export; the name that it got.
    pub(super) fn write(
        &mut self,
        run: &StageRun,
        folder: &Path,
        image: &ExportedImage,
        bytes: &[u8],
    ) -> Result<String> {
        let mut name = image.file_name();
        if !self.0.insert(folder.join(&name)) {
            name = format!("{}.{}", image.id, image.format);
            self.0.insert(folder.join(&name));
        }
        let path = run.path(&folder.join(&name).to_string_lossy());
        make_parent(&path)?;
        std::fs::write(&path, bytes).map_err(PipelineError::io("write", &path))?;
        Ok(name)
    }
}

/// A file's name from outside as one part of a path: it neither climbs nor hides.
pub(super) fn safe_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if matches!(c, '/' | '\\' | '\0') { '_' } else { c }).collect();
    if name.is_empty() || name.starts_with('.') { format!("_{name}") } else { name }
}

pub(super) fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    Ok(std::fs::create_dir_all(parent).map_err(PipelineError::io("create folder", parent))?)
}

pub(super) struct ExportedImage {
    pub(super) id: ImageId,
    pub(super) path: String,
    pub(super) split: String,
    pub(super) format: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) url: Option<String>,
    pub(super) license: Option<String>,
    pub(super) label: Option<i64>,
    pub(super) record: Option<String>,
}

impl ExportedImage {
    pub(super) fn read(rows: &RecordBatch, row: usize) -> Result<Self> {
        let text = |name: &str| -> Result<Option<String>> {
            let array: &StringArray = column(rows, name)?;
            Ok(array.is_valid(row).then(|| array.value(row).to_owned()))
        };
        let image: &StructArray = column(rows, "image")?;
        let path = image.column_by_name("path").map(|paths| paths.as_string::<i32>().value(row).to_owned());
        let label: &Int64Array = column(rows, "label")?;
        Ok(Self {
            id: ImageId(column::<UInt64Array>(rows, "image_id")?.value(row)),
            path: path.unwrap_or_default(),
            split: text("split")?.unwrap_or_default(),
            format: text("format")?.unwrap_or_default(),
            width: column::<UInt32Array>(rows, "width")?.value(row),
            height: column::<UInt32Array>(rows, "height")?.value(row),
            url: text("url")?,
            license: text("license")?,
            label: label.is_valid(row).then(|| label.value(row)),
            record: text("record")?,
        })
    }

    /// The file's own name where it has one that is an image's, else its id.
    pub(super) fn file_name(&self) -> String {
        match self.path.rsplit('/').next() {
            Some(name) if name.contains('.') && !name.contains('#') && name.len() < NAME_BYTES_MAX => safe_name(name),
            _ => format!("{}.{}", self.id, self.format),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_stay_inside() {
        for name in ["..", "../../etc", "/etc", ".hidden", "", "a/../../b", "a\\b"] {
            let safe = safe_name(name);
            let parts: Vec<_> = Path::new(&safe).components().collect();
            assert!(matches!(parts[..], [std::path::Component::Normal(_)]), "{name:?} became {safe:?}");
        }
        assert_eq!(safe_name("traffic light"), "traffic light");
    }
}
