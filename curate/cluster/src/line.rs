//! A row of the result: what a manifest will say of a shard, and who made it in how long.

use crate::{ClusterError, Result};
use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lapidary_pipeline::stage::Shard;
use serde::Serialize;
use std::sync::{Arc, LazyLock};

/// A shard that was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ManifestLine {
    /// Its file's name.
    pub shard: String,
    /// Its rows, which are images.
    pub rows: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub digest: String,
    /// Seconds that making it took, whoever made it.
    pub secs: f64,
    /// The executor that returned the line.
    pub worker: String,
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let column = |name: &str, data: DataType| Field::new(name, data, false);
    Arc::new(Schema::new(vec![
        column("shard", DataType::Utf8),
        column("rows", DataType::UInt64),
        column("bytes", DataType::UInt64),
        column("digest", DataType::Utf8),
        column("secs", DataType::Float64),
        column("worker", DataType::Utf8),
    ]))
});

impl ManifestLine {
    /// What a shard's marker says.
    pub(crate) fn of(shard: Shard, worker: &str) -> Self {
        Self {
            shard: shard.name,
            rows: shard.table.rows,
            bytes: shard.table.bytes,
            digest: shard.table.digest.0,
            secs: shard.secs,
            worker: worker.to_owned(),
        }
    }

    /// The columns.
    pub fn schema() -> SchemaRef {
        SCHEMA.clone()
    }

    /// Lines as a batch of rows.
    ///
    /// # Errors
    /// Never with this schema; arrow cannot know that.
    pub fn batch(lines: &[Self]) -> Result<RecordBatch> {
        fn texts<'a>(lines: &'a [ManifestLine], of: impl Fn(&'a ManifestLine) -> &'a str) -> ArrayRef {
            Arc::new(StringArray::from_iter_values(lines.iter().map(of)))
        }
        fn numbers(lines: &[ManifestLine], of: impl Fn(&ManifestLine) -> u64) -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(lines.iter().map(of)))
        }
        let columns = vec![
            texts(lines, |line| &line.shard),
            numbers(lines, |line| line.rows),
            numbers(lines, |line| line.bytes),
            texts(lines, |line| &line.digest),
            Arc::new(Float64Array::from_iter_values(lines.iter().map(|line| line.secs))) as ArrayRef,
            texts(lines, |line| &line.worker),
        ];
        RecordBatch::try_new(Self::schema(), columns).map_err(|e| ClusterError::Format(e.to_string()))
    }

    /// The lines of batches, by the shards' names.
    ///
    /// # Errors
    /// When a column is not there or of another type, or a shard is there twice.
    pub fn from_batches(batches: &[RecordBatch]) -> Result<Vec<Self>> {
        let mut lines = Vec::new();
        for batch in batches {
            let (shards, digests, workers): (&StringArray, &StringArray, &StringArray) =
                (column(batch, "shard")?, column(batch, "digest")?, column(batch, "worker")?);
            let (rows, bytes): (&UInt64Array, &UInt64Array) = (column(batch, "rows")?, column(batch, "bytes")?);
            let secs: &Float64Array = column(batch, "secs")?;
            lines.extend((0..batch.num_rows()).map(|row| Self {
                shard: shards.value(row).to_owned(),
                rows: rows.value(row),
                bytes: bytes.value(row),
                digest: digests.value(row).to_owned(),
                secs: secs.value(row),
                worker: workers.value(row).to_owned(),
            }));
        }
        lines.sort_by(|a, b| a.shard.cmp(&b.shard));
        match lines.windows(2).find(|pair| pair[0].shard == pair[1].shard) {
            Some(pair) => Err(ClusterError::Format(format!("shard `{}` came twice", pair[0].shard))),
            None => Ok(lines),
        }
    }
}

/// A column by its name.
pub(crate) fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A> {
    let found = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref());
    found.ok_or_else(|| ClusterError::Format(format!("there is no column `{name}` of the right type")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn line(shard: &str) -> ManifestLine {
        let (digest, worker) = ("ab".to_owned(), "host:1".to_owned());
        ManifestLine { shard: shard.to_owned(), rows: 3, bytes: 70, digest, secs: 0.5, worker }
    }

    #[test]
    fn lines_come_back_in_order_and_none_twice() {
        let (a, b) = (line("part-00000.parquet"), line("part-00001.parquet"));
        let batches = [&b, &a].map(|line| ManifestLine::batch(std::slice::from_ref(line)).expect("a batch"));
        assert_eq!(ManifestLine::from_batches(&batches).expect("reads"), [a.clone(), b]);
        let twice = ManifestLine::batch(&[a.clone(), a]).expect("a batch");
        assert!(ManifestLine::from_batches(&[twice]).is_err());
        assert_eq!(ManifestLine::from_batches(&[]).expect("nothing"), []);
    }
}
