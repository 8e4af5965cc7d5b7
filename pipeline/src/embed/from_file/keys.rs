//! Which image a row is of: by the image's id, by its path in the source, or by the row's place.

use crate::stage::{Layout, each_image};
use crate::{PipelineError, Result};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, UInt64Type};
use lapidary_schemas::ImageId;
use std::collections::HashMap;
use std::path::Path;

/// Columns that name an image, the first that there is is taken.
const KEY_COLUMNS: [&str; 3] = ["image_id", "path", "file_name"];
/// Digits of an id as text.
const ID_DIGITS: usize = 16;

/// What a row says of its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// The image's id.
    Id(u64),
    /// Its path in the source.
    Path(String),
    /// Its place among the images by id.
    Place(usize),
    /// Nothing that can be an image's.
    None(String),
}

/// The column of a table that names images.
///
/// # Errors
/// When it has none, or one of a type that names none.
pub(super) fn key_column(path: &Path, schema: &Schema) -> Result<&'static str> {
    let Some(name) = KEY_COLUMNS.into_iter().find(|name| schema.column_with_name(name).is_some()) else {
        let columns = schema.fields().iter().take(12).map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        return Err(PipelineError::format(
            path,
            format!("it has no column `image_id`, `path` or `file_name`; its columns: {columns}"),
        ));
    };
    let kind = schema.field_with_name(name).map(|field| field.data_type().clone()).unwrap_or(DataType::Null);
    if is_text(&kind) || (name == "image_id" && kind == DataType::UInt64) {
        return Ok(name);
    }
    let wanted = if name == "image_id" { "UInt64, or text of 16 hexadecimal digits" } else { "text" };
    Err(PipelineError::format(path, format!("its column `{name}` is {kind}, not {wanted}")))
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// The keys of a batch, from the column that [`key_column`] found.
///
/// # Errors
/// When the column is not in the batch.
pub(super) fn keys_of(path: &Path, batch: &RecordBatch, name: &str) -> Result<Vec<Key>> {
    let format = |detail: &dyn std::fmt::Display| PipelineError::format(path, detail);
    let column = batch.column_by_name(name).ok_or_else(|| format(&format!("it has no column `{name}`")))?;
    if let Some(ids) = column.as_primitive_opt::<UInt64Type>() {
        let key = |id: Option<u64>| id.map_or_else(|| Key::None("null".to_owned()), Key::Id);
        return Ok(ids.iter().map(key).collect());
    }
    let texts: ArrayRef = cast(column, &DataType::Utf8).map_err(|e| format(&e))?;
    let texts = texts.as_string_opt::<i32>().ok_or_else(|| format(&format!("its column `{name}` is no text")))?;
    let key = |text: Option<&str>| match text {
        None => Key::None("null".to_owned()),
        Some(text) if name == "image_id" => key_of_id(text),
        Some(text) => Key::Path(text.strip_prefix("./").unwrap_or(text).to_owned()),
    };
    Ok(texts.iter().map(key).collect())
}

fn key_of_id(text: &str) -> Key {
    let is_id = text.len() == ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    let id = if is_id { text.parse::<ImageId>().ok() } else { None };
    id.map_or_else(|| Key::None(text.to_owned()), |id| Key::Id(id.0))
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{}", ImageId(*id)),
            Self::Path(path) => f.write_str(path),
            Self::Place(place) => write!(f, "row {place}"),
            Self::None(text) => f.write_str(text),
        }
    }
}

/// The images of a source, by id.
#[derive(Debug)]
pub(super) struct Images {
    ids: Vec<u64>,
    /// Places by path; empty where no key is a path.
    places: HashMap<String, usize>,
}

impl Images {
    /// Reads the ids, and where `with_paths` the paths, of all images.
    pub(super) fn read(folder: &Path, with_paths: bool) -> Result<Self> {
        let mut ids = Vec::new();
        let mut paths = HashMap::new();
        each_image(folder, &mut |id, path, _| {
            ids.push(id.0);
            if with_paths {
                paths.insert(path.to_owned(), id.0);
            }
        })?;
        ids.sort_unstable();
        let place = |(path, id): (String, u64)| ids.binary_search(&id).ok().map(|place| (path, place));
        let places = paths.into_iter().filter_map(place).collect();
        Ok(Self { ids, places })
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The place of the image that a key names.
    pub(super) fn place(&self, key: &Key) -> Option<usize> {
        match key {
            Key::Id(id) => self.place_of_id(*id),
            Key::Path(path) => self.places.get(path).copied(),
            Key::Place(place) => (*place < self.ids.len()).then_some(*place),
            Key::None(_) => None,
        }
    }

    pub(super) fn place_of_id(&self, id: u64) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// The paths of the images at some places, which ascend.
    pub(super) fn names(&self, folder: &Path, places: &[usize]) -> Result<Vec<String>> {
        let mut names = vec![String::new(); places.len()];
        each_image(folder, &mut |id, path, _| {
            let place = self.place_of_id(id.0).and_then(|place| places.binary_search(&place).ok());
            if let Some(name) = place.and_then(|place| names.get_mut(place)) {
                path.clone_into(name);
            }
        })?;
        Ok(names)
    }
}

/// The number of images in a folder of shards.
pub(super) fn count_images(folder: &Path) -> Result<u64> {
    let shards = Layout::shards(folder)?;
    shards.iter().map(|shard| Ok(crate::stage::Table::open(shard, &["image_id"], 1)?.rows())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray, UInt64Array};
    use arrow::datatypes::Field;
    use std::sync::Arc;

    fn batch(name: &str, column: ArrayRef) -> RecordBatch {
        let schema = Schema::new(vec![Field::new(name, column.data_type().clone(), true)]);
        RecordBatch::try_new(Arc::new(schema), vec![column]).expect("a batch")
    }

    fn keys(name: &str, column: ArrayRef) -> Result<Vec<Key>> {
        let batch = batch(name, column);
        let found = key_column(Path::new("f"), batch.schema_ref())?;
        keys_of(Path::new("f"), &batch, found)
    }

    #[test]
    fn ids_come_as_numbers_or_as_their_text_and_paths_as_text() {
        let ids = keys("image_id", Arc::new(UInt64Array::from(vec![Some(5), None]))).expect("numbers");
        assert_eq!(ids, [Key::Id(5), Key::None("null".to_owned())]);
        let texts = vec!["00000000000000ff", "ff", "+00000000000000f", "a.jpg"];
        let ids = keys("image_id", Arc::new(StringArray::from(texts))).expect("text");
        assert_eq!(ids[0], Key::Id(255));
        assert!(ids[1..].iter().all(|key| matches!(key, Key::None(_))), "{ids:?}");
        for name in ["path", "file_name"] {
            let paths = keys(name, Arc::new(StringArray::from(vec!["a/b.jpg", "./a/b.jpg"]))).expect("text");
            assert_eq!(paths, [Key::Path("a/b.jpg".to_owned()), Key::Path("a/b.jpg".to_owned())]);
        }
    }

    #[test]
    fn other_columns_and_types_are_named() {
        let wrong = |name, column| keys(name, column).expect_err("it is refused").to_string();
        assert!(wrong("image_id", Arc::new(Int64Array::from(vec![1]))).contains("`image_id` is Int64"));
        assert!(wrong("path", Arc::new(UInt64Array::from(vec![1]))).contains("`path` is UInt64, not text"));
        assert!(wrong("name", Arc::new(StringArray::from(vec!["a"]))).contains("its columns: name"));
    }
}
