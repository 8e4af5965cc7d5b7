//! Which column holds the labels, and what its values are called.
//!
//! The column that the `huggingface` metadata calls a ClassLabel is taken, else one of a usual name. Integers of any width are
//! indices into the metadata's names, or without names are called by their numbers; text, dictionaries and booleans are names.
//! -1 and null are no label. Over several files one name is one class.

use super::bytes::as_text;
use super::tables::features;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema};
use std::collections::HashMap;

/// Names that a label column usually has, the likeliest first.
const USUAL_NAMES: &[&str] = &["label", "labels", "fine_label", "class", "category", "target", "cls"];

/// A column of labels and the names of its indices.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LabelColumn {
    pub(super) name: String,
    pub(super) names: Option<Vec<String>>,
}

/// The column of labels of a table, if it has one; others that look like it are named in the log.
pub(super) fn label_column(schema: &Schema, shown: &str) -> Option<LabelColumn> {
    let features = features(schema);
    let names_of = |column: &str| -> Option<Vec<String>> {
        let names = features.as_ref()?.get(column)?.get("names")?.as_array()?;
        names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let is_class = |column: &str| features.as_ref().is_some_and(|f| f[column]["_type"] == "ClassLabel");
    let usual = |column: &str| USUAL_NAMES.iter().position(|name| name == &column);
    let mut columns: Vec<(bool, usize, &str)> = schema
        .fields()
        .iter()
        .map(|field| (!is_class(field.name()), usual(field.name()).unwrap_or(usize::MAX), field.name().as_str()))
        .filter(|(no_class, usual, _)| !no_class || *usual < usize::MAX)
        .collect();
    columns.sort_unstable();
    let readable = |name: &str| schema.field_with_name(name).is_ok_and(|field| holds_labels(field.data_type()));
    let found = columns.iter().position(|(_, _, name)| readable(name)).map(|at| columns.remove(at).2);
    // Our own shards have both columns, and both are read.
    let not_read: Vec<&str> =
        columns.iter().map(|(_, _, name)| *name).filter(|name| *name != "labels" || found.is_none()).collect();
    if !not_read.is_empty() {
        tracing::info!("`{shown}`: labels in {} are not read", not_read.join(", "));
    }
    found.map(|name| LabelColumn { name: name.to_owned(), names: names_of(name).filter(|names| !names.is_empty()) })
}

fn holds_labels(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => holds_labels(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean => true,
        kind => kind.is_integer() || kind.is_floating(),
    }
}

/// What a row says of its class.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Label {
    None,
    Number(i64),
    Name(String),
    /// No class can be meant by it: the value.
    Odd(String),
}

/// The labels of a batch.
pub(super) fn labels_of(column: &ArrayRef) -> Vec<Label> {
    let rows = 0..column.len();
    if *column.data_type() == DataType::Boolean {
        let flags = column.as_boolean();
        return rows
            .map(|row| if flags.is_valid(row) { Label::Name(flags.value(row).to_string()) } else { Label::None })
            .collect();
    }
    if let Some(text) = as_text(column) {
        let text = text.as_string::<i32>();
        let of_row = |row| match text.is_valid(row) {
            true if !text.value(row).is_empty() => Label::Name(text.value(row).to_owned()),
            _ => Label::None,
        };
        return rows.map(of_row).collect();
    }
    let whole = cast(column, &DataType::Int64).ok();
    let whole = whole.as_ref().and_then(|whole| whole.as_primitive_opt::<Int64Type>());
    let float = cast(column, &DataType::Float64).ok();
    let float = float.as_ref().and_then(|float| float.as_primitive_opt::<Float64Type>());
    let of_row = |row: usize| {
        let value = float.filter(|f| f.is_valid(row)).map(|f| f.value(row));
        match (whole.filter(|w| w.is_valid(row)).map(|w| w.value(row)), value) {
            (Some(-1), Some(-1.0)) => Label::None,
            (Some(number), Some(value)) if value.fract() == 0.0 => Label::Number(number),
            (_, Some(value)) if !value.is_nan() => Label::Odd(value.to_string()),
            _ => Label::None,
        }
    };
    rows.map(of_row).collect()
}

/// The classes of all files: a provisional index for each name, until all are known.
#[derive(Debug, Default)]
pub(super) struct Classes {
    names: Vec<String>,
    indices: HashMap<String, i64>,
    /// So many of the first are declared by metadata, and keep their order.
    declared: usize,
}

impl Classes {
    /// The provisional index of a name.
    pub(super) fn index_of(&mut self, name: &str) -> i64 {
        if let Some(index) = self.indices.get(name) {
            return *index;
        }
        let index = self.names.len() as i64;
        self.names.push(name.to_owned());
        self.indices.insert(name.to_owned(), index);
        index
    }

    /// Takes in the names that a file declares; those of several files follow each other.
    pub(super) fn declare(&mut self, names: &[String]) {
        for name in names {
            if !self.indices.contains_key(name) && self.declared == self.names.len() {
                self.declared += 1;
            }
            self.index_of(name);
        }
    }

    /// The provisional index of a row's label.
    ///
    /// # Errors
    /// The value, when no class can be meant by it.
    pub(super) fn label(&mut self, label: &Label, names: Option<&[String]>) -> Result<Option<i64>, String> {
        match (label, names) {
            (Label::None, _) => Ok(None),
            (Label::Number(number), Some(names)) => {
                let name = usize::try_from(*number).ok().and_then(|index| names.get(index));
                let name = name.ok_or_else(|| format!("label {number} of {} classes", names.len()))?;
                Ok(Some(self.index_of(name)))
            }
            (Label::Number(number), None) => Ok(Some(self.index_of(&number.to_string()))),
            (Label::Name(name), _) => Ok(Some(self.index_of(name))),
            (Label::Odd(value), _) => Err(format!("label {value}")),
        }
    }

    /// The names in their order, and for each provisional index its place there. Declared names keep theirs; numbers are
    /// sorted as numbers, other names as text.
    pub(super) fn finish(self) -> (Vec<String>, Vec<i64>) {
        let mut order: Vec<usize> = (self.declared..self.names.len()).collect();
        let number = |index: &usize| self.names[*index].parse::<i64>().ok();
        if order.iter().all(|index| number(index).is_some()) {
            order.sort_by_key(number);
        } else {
            order.sort_by(|a, b| self.names[*a].cmp(&self.names[*b]));
        }
        let order: Vec<usize> = (0..self.declared).chain(order).collect();
        let mut places = vec![0; order.len()];
        for (place, index) in order.iter().enumerate() {
            places[*index] = place as i64;
        }
        (order.iter().map(|index| self.names[*index].clone()).collect(), places)
    }
}

/// The names that a schema's metadata gives a column's indices.
#[cfg(test)]
pub(super) fn metadata(column: &str, names: &[&str]) -> HashMap<String, String> {
    let feature = serde_json::json!({"info": {"features": {column: {"names": names, "_type": "ClassLabel"}}}});
    HashMap::from([("huggingface".to_owned(), feature.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, DictionaryArray, Float32Array, Int8Array, Int32Array, LargeStringArray, StringArray, UInt8Array,
        UInt64Array,
    };
    use arrow::datatypes::{Field, Int32Type};
    use std::sync::Arc;

    #[test]
    fn labels_of_every_type_are_read() {
        let number = |values: &[i64]| {
            values.iter().map(|v| if *v == -1 { Label::None } else { Label::Number(*v) }).collect::<Vec<_>>()
        };
        let ints: [ArrayRef; 4] = [
            Arc::new(Int8Array::from(vec![0, -1, 2])),
            Arc::new(Int32Array::from(vec![Some(0), None, Some(2)])),
            Arc::new(Float32Array::from(vec![Some(0.0), None, Some(2.0)])),
            Arc::new(DictionaryArray::<Int32Type>::new(
                Int32Array::from(vec![Some(1), None, Some(0)]),
                Arc::new(Int8Array::from(vec![2, 0])),
            )),
        ];
        for array in ints {
            assert_eq!(labels_of(&array), number(&[0, -1, 2]), "{}", array.data_type());
        }
        assert_eq!(labels_of(&(Arc::new(UInt8Array::from(vec![200])) as ArrayRef)), number(&[200]));
        let texts: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec![Some("cat"), None, Some("")])),
            Arc::new(LargeStringArray::from(vec![Some("cat"), None, None])),
            Arc::new(vec![Some("cat"), None, None].into_iter().collect::<DictionaryArray<Int32Type>>()),
        ];
        for array in texts {
            assert_eq!(
                labels_of(&array),
                [Label::Name("cat".to_owned()), Label::None, Label::None],
                "{}",
                array.data_type()
            );
        }
        assert_eq!(
            labels_of(&(Arc::new(BooleanArray::from(vec![true])) as ArrayRef)),
            [Label::Name("true".to_owned())]
        );
        assert!(matches!(labels_of(&(Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef))[..], [Label::Odd(_)]));
        assert!(matches!(labels_of(&(Arc::new(Float32Array::from(vec![1.5])) as ArrayRef))[..], [Label::Odd(_)]));
    }

    #[test]
    fn classes_are_ordered_and_one_name_is_one_class() {
        let words = ["cat", "dog"].map(str::to_owned);
        let mut classes = Classes::default();
        classes.declare(&words);
        classes.declare(&["dog", "eel"].map(str::to_owned));
        assert_eq!(classes.label(&Label::Number(0), Some(&["dog".to_owned()])), Ok(Some(1)));
        assert!(classes.label(&Label::Number(2), Some(&words)).is_err());
        assert!(classes.label(&Label::Number(-2), Some(&words)).is_err());
        assert_eq!(classes.label(&Label::None, Some(&words)), Ok(None));
        assert_eq!(classes.finish(), (["cat", "dog", "eel"].map(str::to_owned).to_vec(), vec![0, 1, 2]));
        let mut numbers = Classes::default();
        for number in [10, 2, 2, 0] {
            numbers.label(&Label::Number(number), None).expect("a number");
        }
        assert_eq!(numbers.finish(), (["0", "2", "10"].map(str::to_owned).to_vec(), vec![2, 1, 0]));
    }

    #[test]
    fn the_column_is_the_class_label_or_has_a_usual_name() {
        let field = |name: &str, kind| Field::new(name, kind, true);
        let schema = |fields: Vec<Field>, metadata| Schema::new_with_metadata(fields, metadata);
        let of = |schema: &Schema| label_column(schema, "x").map(|found| (found.name, found.names.map(|n| n.len())));
        let both = vec![field("label", DataType::Int64), field("breed", DataType::Int16)];
        assert_eq!(of(&schema(both.clone(), metadata("breed", &["a", "b"]))), Some(("breed".to_owned(), Some(2))));
        assert_eq!(of(&schema(both, HashMap::new())), Some(("label".to_owned(), None)));
        assert_eq!(of(&schema(vec![field("caption", DataType::Utf8)], HashMap::new())), None);
    }
}
