//! Writing the `images` shards, row group by row group. How they are read is [`crate::ImageStore`]'s business.
//!
//! Image bytes lie uncompressed in pages of about an image each, with a page index, so that fetching a row reads that row.

use crate::decode::DecodeRule;
use crate::sources::Annotation;
use crate::stage::{TableWriter, WrittenTable, column, table_properties};
use crate::{PipelineError, Result};
use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanBuilder, Float32Builder, Int64Array, Int64Builder,
    ListBuilder, RecordBatch, StringArray, StructArray, StructBuilder, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, SchemaRef};
use lapidary_schemas::config::IngestConfig;
use lapidary_schemas::tables::{self, annotation_fields, image_fields};
use lapidary_schemas::{Digest, ImageId};
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A row of `images`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns are documented once, in lapidary_schemas::tables::images")]
pub struct ImageRow {
    pub id: ImageId,
    pub digest: Digest,
    pub bytes: Vec<u8>,
    pub path: String,
    pub width: u32,
    pub height: u32,
    pub format: &'static str,
    pub split: String,
    pub source: String,
    pub url: Option<String>,
    pub license: Option<String>,
    pub annotations: Option<Vec<Annotation>>,
    pub labels: Option<Vec<i64>>,
    pub label: Option<i64>,
    pub phash: u64,
}

/// What was written.
#[derive(Debug, Default, Clone)]
pub struct Written {
    /// Images.
    pub images: u64,
    /// Bytes of images.
    pub bytes: u64,
    /// Images a split.
    pub by_split: BTreeMap<String, u64>,
}

/// A shard that is whole.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedShard {
    /// Its file.
    pub name: String,
    /// Its rows, length and digest.
    pub table: WrittenTable,
    /// What is in it.
    pub facts: ShardFacts,
}

/// What is in a shard.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardFacts {
    /// Bytes of images.
    pub bytes: u64,
    /// Images a split.
    pub by_split: BTreeMap<String, u64>,
    /// The last image's id.
    pub last_id: Option<ImageId>,
}

impl ShardFacts {
    fn add(&mut self, batch: &RecordBatch, bytes: u64) -> Result<()> {
        self.bytes += bytes;
        for split in column::<StringArray>(batch, "split")?.iter().flatten() {
            *self.by_split.entry(split.to_owned()).or_default() += 1;
        }
        self.last_id =
            column::<UInt64Array>(batch, "image_id")?.values().last().map(|id| ImageId(*id)).or(self.last_id);
        Ok(())
    }
}

/// Writes `part-*.parquet`, a shard after the other.
#[derive(Debug)]
pub struct ImageShards {
    folder: PathBuf,
    schema: SchemaRef,
    row_group_bytes: u64,
    shard_bytes: u64,
    table: Option<TableWriter>,
    bytes_in_row_group: u64,
    in_shard: ShardFacts,
    finished: Vec<FinishedShard>,
    /// The number of the shard being written.
    number: usize,
    written: Written,
}

impl ImageShards {
    /// Starts the shards of a folder.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create(folder: &Path, classes: &[String], config: &IngestConfig) -> Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            schema: DecodeRule::from(config).mark(tables::images(classes)),
            row_group_bytes: config.row_group_mib << 20,
            shard_bytes: config.shard_mib << 20,
            table: None,
            bytes_in_row_group: 0,
            in_shard: ShardFacts::default(),
            finished: Vec::new(),
            number: 0,
            written: Written::default(),
        })
    }

    /// Numbers the shards from this one on.
    pub fn after(self, number: usize) -> Self {
        Self { number, ..self }
    }

    /// The name of the shard being written.
    fn name(&self) -> String {
        format!("part-{:05}.parquet", self.number)
    }

    /// Appends rows, sorted by id over all calls.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, rows: Vec<ImageRow>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let bytes: u64 = rows.iter().map(|row| row.bytes.len() as u64).sum();
        let batch = batch_of_rows(&self.schema, &rows)?;
        drop(rows);
        self.write_batch(&batch, bytes)
    }

    /// Appends rows of other shards of the same schema that hold `bytes` of images.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_batch(&mut self, batch: &RecordBatch, bytes: u64) -> Result<()> {
        if self.table.is_none() {
            let path = self.folder.join(self.name());
            self.table = Some(TableWriter::create_with(&path, self.schema.clone(), shard_properties())?);
        }
        let table = self.table.as_mut().expect("made above");
        table.write(batch)?;
        self.bytes_in_row_group += bytes;
        self.in_shard.add(batch, bytes)?;
        if self.bytes_in_row_group >= self.row_group_bytes {
            table.end_row_group()?;
            self.bytes_in_row_group = 0;
        }
        if self.in_shard.bytes >= self.shard_bytes { self.end_shard() } else { Ok(()) }
    }

    /// Ends the shard being written, if there is one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn end_shard(&mut self) -> Result<()> {
        if let Some(table) = self.table.take() {
            let (name, facts) = (self.name(), std::mem::take(&mut self.in_shard));
            let table = table.finish()?;
            self.written.images += table.rows;
            self.written.bytes += facts.bytes;
            for (split, images) in &facts.by_split {
                *self.written.by_split.entry(split.clone()).or_default() += images;
            }
            self.finished.push(FinishedShard { name, table, facts });
            self.number += 1;
        }
        self.bytes_in_row_group = 0;
        Ok(())
    }

    /// The shards that were ended since this was asked last.
    pub fn take_finished(&mut self) -> Vec<FinishedShard> {
        std::mem::take(&mut self.finished)
    }

    /// Writes a shard without rows, so that the schema is there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_empty(&mut self) -> Result<()> {
        let empty = RecordBatch::new_empty(self.schema.clone());
        self.write_batch(&empty, 0)?;
        self.end_shard()
    }

    /// Ends the last shard; an empty one is written when there were no rows.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self, mut note: impl FnMut(&str, WrittenTable)) -> Result<Written> {
        self.end_shard()?;
        if self.number == 0 {
            self.write_empty()?;
        }
        for shard in self.take_finished() {
            note(&shard.name, shard.table);
        }
        Ok(self.written)
    }
}

fn shard_properties() -> WriterProperties {
    let bytes = ColumnPath::from(vec!["image".to_owned(), "bytes".to_owned()]);
    table_properties()
        .set_data_page_size_limit(64 << 10)
        // The limit is looked at after this many values: few, so that a page holds about one photograph.
        .set_write_batch_size(4)
        .set_column_compression(bytes.clone(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(bytes.clone(), false)
        .set_column_statistics_enabled(bytes, EnabledStatistics::None)
        .build()
}

fn batch_of_rows(schema: &SchemaRef, rows: &[ImageRow]) -> Result<RecordBatch> {
    let text =
        |f: &dyn Fn(&ImageRow) -> Option<&str>| -> ArrayRef { Arc::new(rows.iter().map(f).collect::<StringArray>()) };
    let mut bytes = BinaryBuilder::with_capacity(rows.len(), rows.iter().map(|r| r.bytes.len()).sum());
    for row in rows {
        bytes.append_value(&row.bytes);
    }
    let image = StructArray::new(image_fields(), vec![Arc::new(bytes.finish()), text(&|r| Some(&r.path))], None);
    let mut labels = ListBuilder::new(Int64Builder::new());
    for row in rows {
        labels.append_option(row.labels.as_ref().map(|l| l.iter().map(|v| Some(*v))));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| Some(r.id.0)).collect::<UInt64Array>()),
        text(&|r| Some(&r.digest.0)),
        Arc::new(image),
        Arc::new(rows.iter().map(|r| Some(r.width)).collect::<UInt32Array>()),
        Arc::new(rows.iter().map(|r| Some(r.height)).collect::<UInt32Array>()),
        text(&|r| Some(r.format)),
        text(&|r| Some(&r.split)),
        text(&|r| Some(&r.source)),
        text(&|r| r.url.as_deref()),
        text(&|r| r.license.as_deref()),
        annotations_array(rows),
        Arc::new(labels.finish()),
        Arc::new(rows.iter().map(|r| r.label).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.phash)).collect::<UInt64Array>()),
    ];
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| PipelineError::Internal(e.to_string()))
}

fn annotations_array(rows: &[ImageRow]) -> ArrayRef {
    let bbox = ListBuilder::new(Float32Builder::new());
    let fields = annotation_fields();
    let objects = StructBuilder::new(
        fields.clone(),
        vec![
            Box::new(Int64Builder::new()),
            Box::new(bbox),
            Box::new(Float32Builder::new()),
            Box::new(BooleanBuilder::new()),
        ],
    );
    let mut list = ListBuilder::new(objects).with_field(Field::new("item", DataType::Struct(fields), true));
    for row in rows {
        let objects = list.values();
        for annotation in row.annotations.iter().flatten() {
            let types = "the builders were made with these types";
            objects.field_builder::<Int64Builder>(0).expect(types).append_value(annotation.category_id);
            let bbox = objects.field_builder::<ListBuilder<Float32Builder>>(1).expect(types);
            bbox.append_value(annotation.bbox_px.map(Some));
            objects.field_builder::<Float32Builder>(2).expect(types).append_value(annotation.area_px);
            objects.field_builder::<BooleanBuilder>(3).expect(types).append_value(annotation.iscrowd);
            objects.append(true);
        }
        list.append(row.annotations.is_some());
    }
    Arc::new(list.finish())
}

/// The bytes of each row of a batch of `images`.
///
/// # Errors
/// When the batch is not of that table.
pub fn bytes_column(batch: &RecordBatch) -> Result<&BinaryArray> {
    let image: &StructArray = column(batch, "image")?;
    image
        .column_by_name("bytes")
        .and_then(|bytes| bytes.as_binary_opt::<i32>())
        .ok_or_else(|| PipelineError::Internal("`image.bytes` is not binary".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_store::ImageStore;

    fn row(id: u64, bytes: usize) -> ImageRow {
        ImageRow {
            id: ImageId(id),
            digest: Digest("00".repeat(32)),
            bytes: vec![id as u8; bytes],
            path: format!("{id}.jpg"),
            width: 4,
            height: 3,
            format: "jpeg",
            split: "all".to_owned(),
            source: "test".to_owned(),
            url: None,
            license: None,
            annotations: id.is_multiple_of(2).then(|| {
                vec![Annotation { category_id: 1, bbox_px: [0.0, 1.0, 2.0, 3.0], area_px: 6.0, iscrowd: false }]
            }),
            labels: None,
            label: Some(0),
            phash: id,
        }
    }

    #[test]
    fn any_row_of_any_shard_is_fetched_in_the_order_asked() {
        let temporary = tempfile::tempdir().expect("a folder");
        let config = IngestConfig { row_group_mib: 0, shard_mib: 1, ..IngestConfig::default() };
        let mut shards = ImageShards::create(temporary.path(), &["a".to_owned()], &config).expect("creates");
        for chunk in (0..40u64).collect::<Vec<_>>().chunks(5) {
            shards.write(chunk.iter().map(|id| row(*id, 100_000 + *id as usize)).collect()).expect("writes");
        }
        let mut files = Vec::new();
        let written = shards.finish(|file, rows| files.push((file.to_owned(), rows))).expect("finishes");
        assert_eq!((written.images, written.by_split["all"]), (40, 40));
        assert!(files.len() > 2, "several shards: {files:?}");
        let store = ImageStore::open(temporary.path()).expect("opens");
        let ids = [39, 0, 17, 17, 3, 22].map(ImageId);
        let fetched = store.fetch(&ids).expect("fetches");
        for (i, id) in ids.iter().enumerate() {
            assert_eq!(fetched.get(i), vec![id.0 as u8; 100_000 + id.0 as usize]);
        }
        assert!(store.fetch(&[ImageId(99)]).is_err());
    }
}
