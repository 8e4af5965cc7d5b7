//! The bytes and the paths of a column of pictures, whichever of Arrow's types it has.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

/// A batch's pictures.
pub(super) struct Pictures {
    len: usize,
    bytes: Option<ArrayRef>,
    paths: Option<ArrayRef>,
}

/// A column's pictures; none when it has a type that holds none.
pub(super) fn pictures_of(column: &ArrayRef) -> Option<Pictures> {
    let len = column.len();
    if let Some(image) = column.as_struct_opt() {
        // A row that is null as a whole has fields that need not be.
        let valid = |field: &ArrayRef| -> ArrayRef {
            match image.nulls() {
                Some(nulls) if nulls.null_count() > 0 => {
                    let mask = arrow::array::BooleanArray::new(!nulls.inner(), None);
                    arrow::compute::nullif(field, &mask).unwrap_or_else(|_| field.clone())
                }
                _ => field.clone(),
            }
        };
        let bytes = image.column_by_name("bytes").filter(|bytes| is_bytes(bytes.data_type())).map(valid);
        let paths = image.column_by_name("path").and_then(as_text).map(|paths| valid(&paths));
        return (bytes.is_some() || paths.is_some()).then_some(Pictures { len, bytes, paths });
    }
    if is_bytes(column.data_type()) {
        return Some(Pictures { len, bytes: Some(column.clone()), paths: None });
    }
    as_text(column).map(|paths| Pictures { len, bytes: None, paths: Some(paths) })
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// A column of text, also of a dictionary of texts, as Utf8.
pub(super) fn as_text(column: &ArrayRef) -> Option<ArrayRef> {
    let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match column.data_type() {
        kind if is_text(kind) => cast(column, &DataType::Utf8).ok(),
        DataType::Dictionary(_, values) if is_text(values) => cast(column, &DataType::Utf8).ok(),
        _ => None,
    }
}

impl Pictures {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The bytes of a row, if it has any.
    pub(super) fn bytes(&self, row: usize) -> Option<&[u8]> {
        let bytes = self.bytes.as_ref().filter(|bytes| bytes.is_valid(row))?;
        match bytes.data_type() {
            DataType::Binary => Some(bytes.as_binary::<i32>().value(row)),
            DataType::LargeBinary => Some(bytes.as_binary::<i64>().value(row)),
            _ => bytes.as_binary_view_opt().map(|bytes| bytes.value(row)),
        }
    }

    /// The path of a row, if it has one.
    pub(super) fn path(&self, row: usize) -> Option<&str> {
        let paths = self.paths.as_ref().filter(|paths| paths.is_valid(row))?;
        paths.as_string_opt::<i32>().map(|paths| paths.value(row))
    }
}
