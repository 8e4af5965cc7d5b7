//! The vectors of a Parquet table's column `embedding`: lists, or lists of one length, of f16, f32 or f64.

use crate::{PipelineError, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Schema};
use std::ops::Range;
use std::path::Path;

/// The column that holds the vectors.
pub(super) const COLUMN: &str = "embedding";

/// Vectors row by row.
#[derive(Debug)]
pub(super) struct VectorRows {
    values: Vec<f32>,
    /// Where each row's values lie; none where it is null.
    rows: Vec<Option<Range<usize>>>,
}

impl VectorRows {
    /// Vectors of `dim` values each, one after the other.
    pub(super) fn of_matrix(values: Vec<f32>, dim: usize) -> Self {
        let rows = (0..values.len() / dim.max(1)).map(|row| Some(row * dim..(row + 1) * dim)).collect();
        Self { values, rows }
    }

    /// The values of each row.
    pub(super) fn iter(&self) -> impl Iterator<Item = Option<&[f32]>> {
        self.rows.iter().map(|row| self.values.get(row.clone()?))
    }
}

/// Holds that a table has a column of vectors.
///
/// # Errors
/// When it has none, or one of another type.
pub(super) fn require_vectors(path: &Path, schema: &Schema) -> Result<()> {
    let Ok(field) = schema.field_with_name(COLUMN) else {
        return Err(PipelineError::format(path, format!("it has no column `{COLUMN}`")));
    };
    let is_read = match field.data_type() {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            matches!(item.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64)
        }
        _ => false,
    };
    let wrong = || format!("its column `{COLUMN}` is {}, not a list of f16, f32 or f64", field.data_type());
    if is_read { Ok(()) } else { Err(PipelineError::format(path, wrong())) }
}

/// The vectors of a batch; a value that is null is not a number.
///
/// # Errors
/// When the batch lacks them.
pub(super) fn vectors_of(path: &Path, batch: &RecordBatch) -> Result<VectorRows> {
    let format = |detail: &dyn std::fmt::Display| PipelineError::format(path, detail);
    let column = batch.column_by_name(COLUMN).ok_or_else(|| format(&format!("it has no column `{COLUMN}`")))?;
    let (values, ranges) = lists_of(column).ok_or_else(|| format(&format!("its `{COLUMN}` are no lists")))?;
    let values = cast(&values, &DataType::Float32).map_err(|e| format(&e))?;
    let values = values.as_primitive_opt::<Float32Type>().ok_or_else(|| format(&"its vectors are no numbers"))?;
    let values = values.iter().map(|value| value.unwrap_or(f32::NAN)).collect();
    let rows = ranges.into_iter().enumerate().map(|(row, range)| column.is_valid(row).then_some(range)).collect();
    Ok(VectorRows { values, rows })
}

/// The values of a column of lists, and where each row's lie among them.
fn lists_of(column: &ArrayRef) -> Option<(ArrayRef, Vec<Range<usize>>)> {
    if let Some(lists) = column.as_fixed_size_list_opt() {
        let dim = usize::try_from(lists.value_length()).ok()?;
        let range = |row: usize| row * dim..(row + 1) * dim;
        // The values of a slice are those of its rows alone.
        let values = lists.values().slice(lists.offset() * dim, lists.len() * dim);
        return Some((values, (0..lists.len()).map(range).collect()));
    }
    if let Some(lists) = column.as_list_opt::<i32>() {
        let ranges = lists.offsets().windows(2).map(|ends| ends[0] as usize..ends[1] as usize);
        return Some((lists.values().clone(), ranges.collect()));
    }
    let lists = column.as_list_opt::<i64>()?;
    let ranges = lists.offsets().windows(2).map(|ends| ends[0] as usize..ends[1] as usize);
    Some((lists.values().clone(), ranges.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{FixedSizeListArray, ListArray};
    use arrow::datatypes::{Field, Float64Type};
    use std::sync::Arc;

    fn rows(column: ArrayRef) -> Vec<Option<Vec<f32>>> {
        let schema = Arc::new(Schema::new(vec![Field::new(COLUMN, column.data_type().clone(), true)]));
        require_vectors(Path::new("f"), &schema).expect("lists of floats");
        let batch = RecordBatch::try_new(schema, vec![column]).expect("a batch");
        vectors_of(Path::new("f"), &batch).expect("reads").iter().map(|row| row.map(<[f32]>::to_vec)).collect()
    }

    #[test]
    fn lists_of_every_float_give_their_rows() {
        let lists = vec![Some(vec![Some(1.0), Some(2.0)]), None, Some(vec![Some(3.0), Some(-0.5)])];
        let expected = vec![Some(vec![1.0, 2.0]), None, Some(vec![3.0, -0.5])];
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(lists.clone(), 2));
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists));
        for kind in [DataType::Float16, DataType::Float32, DataType::Float64] {
            let item = Arc::new(Field::new("item", kind, true));
            for (column, to) in [
                (&fixed, DataType::FixedSizeList(item.clone(), 2)),
                (&list, DataType::List(item.clone())),
                (&list, DataType::LargeList(item.clone())),
            ] {
                assert_eq!(rows(cast(column, &to).expect("casts")), expected, "{to}");
            }
        }
        assert_eq!(rows(fixed.slice(2, 1)), expected[2..]);
        assert_eq!(rows(list.slice(1, 2)), expected[1..]);
    }

    #[test]
    fn a_null_among_the_values_is_no_number_and_other_columns_are_named() {
        let list: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(1.0), None])]));
        assert!(rows(list)[0].as_ref().expect("a row")[1].is_nan());
        let of = |name: &str, kind: DataType| {
            let schema = Schema::new(vec![Field::new(name, kind, true)]);
            require_vectors(Path::new("f"), &schema).expect_err("it is refused").to_string()
        };
        assert!(of("vector", DataType::Float32).contains("no column `embedding`"));
        assert!(of(COLUMN, DataType::Float32).contains("is Float32, not a list"));
        assert!(of(COLUMN, DataType::new_list(DataType::Int32, true)).contains("not a list of f16"));
    }
}
