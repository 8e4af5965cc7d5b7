//! Writing the `images` shards, row group by row group. How they are read is [`crate::ImageStore`]'s business.
//!
//! Image bytes lie uncompressed in pages of about an image each, with a page index, so that fetching a row reads that row.
//! Rows are put into columns a part at a time, so that no column grows beyond what its offsets can address.

use crate::decode::DecodeRule;
use crate::stage::{TableWriter, WrittenTable, column, table_properties};
use crate::{PipelineError, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanBuilder, Float32Builder, Int64Array, Int64Builder,
    ListArray, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray, StructBuilder, UInt32Array,
    UInt64Array, new_null_array,
};
use arrow::datatypes::{DataType, Field, SchemaRef};
use lapidary_schemas::config::IngestConfig;
use lapidary_schemas::tables::{self, LAPIDARY_KEY, annotation_fields, image_fields};
use lapidary_schemas::{Digest, ImageId};
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of rows that are put into columns at once, and the most that a column's 32-bit offsets can address.
const BATCH_BYTES: u64 = 512 << 20;
const COLUMN_BYTES_MAX: u64 = i32::MAX as u64;

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
    pub notes: Notes,
    pub labels: Option<Vec<i64>>,
    pub label: Option<i64>,
    pub phash: u64,
}

/// What a source says of an image, in its own words where there are some.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notes {
    /// Objects in it; none when the source has no annotations for it.
    pub annotations: Option<Vec<Annotation>>,
    /// Its own record.
    pub record: Option<String>,
    /// Annotations that are no objects with a box.
    pub records: Vec<String>,
}

/// An object in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// The source's category id.
    pub category_id: i64,
    /// x, y, width, height in pixels.
    pub bbox_px: [f32; 4],
    /// Area in square pixels.
    pub area_px: f32,
    /// The annotation stands for a crowd.
    pub iscrowd: bool,
    /// The object as the source wrote it.
    pub record: Option<String>,
}

impl ImageRow {
    /// Bytes that the row takes in columns of bytes and text, about.
    fn column_bytes(&self) -> u64 {
        let annotations =
            self.notes.annotations.iter().flatten().map(|a| a.record.as_ref().map_or(0, String::len) + 64);
        let records = self.notes.records.iter().map(String::len);
        let texts = self.path.len() + self.notes.record.as_ref().map_or(0, String::len) + 256;
        (self.bytes.len() + texts + annotations.sum::<usize>() + records.sum::<usize>()) as u64
    }
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
    /// Rows of more bytes than this go into several batches.
    batch_bytes: u64,
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
            batch_bytes: BATCH_BYTES,
            written: Written::default(),
        })
    }

    /// Writes into each shard what the category ids of its annotations mean.
    pub fn with_categories(mut self, category_ids: &[i64], categories: &[Value], licenses: &[Value]) -> Self {
        let said = json!({"category_ids": category_ids, "categories": categories, "licenses": licenses});
        let mut metadata = self.schema.metadata().clone();
        metadata.insert(LAPIDARY_KEY.to_owned(), said.to_string());
        self.schema = Arc::new(self.schema.as_ref().clone().with_metadata(metadata));
        self
    }

    /// The schema of the shards.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Numbers the shards from this one on.
    pub fn after(self, number: usize) -> Self {
        Self { number, ..self }
    }

    /// The name of the shard being written.
    fn name(&self) -> String {
        shard_name(self.number)
    }

    /// Appends rows, sorted by id over all calls.
    ///
    /// # Errors
    /// When the disk refuses, or a single row is larger than a column can be.
    pub fn write(&mut self, rows: Vec<ImageRow>) -> Result<()> {
        let mut part: Vec<ImageRow> = Vec::with_capacity(rows.len());
        let mut part_bytes = 0;
        for row in rows {
            let bytes = row.column_bytes();
            if bytes > COLUMN_BYTES_MAX {
                return Err(PipelineError::format(
                    &row.path,
                    format!("{bytes} bytes in one row: more than a column holds"),
                ));
            }
            if part_bytes + bytes > self.batch_bytes && !part.is_empty() {
                self.write_part(std::mem::take(&mut part))?;
                part_bytes = 0;
            }
            part_bytes += bytes;
            part.push(row);
        }
        self.write_part(part)
    }

    fn write_part(&mut self, rows: Vec<ImageRow>) -> Result<()> {
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

    /// Numbers the next shard, unless one is being written.
    pub fn begin(&mut self, number: usize) {
        if self.table.is_none() {
            self.number = number;
        }
    }

    /// Ends the shard being written, also when there are no rows for it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn end_shard_or_empty(&mut self) -> Result<()> {
        if self.table.is_some() { self.end_shard() } else { self.write_empty() }
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

/// The name of the shard of a number.
pub fn shard_name(number: usize) -> String {
    format!("part-{number:05}.parquet")
}

/// The number in a shard's name; none when it is the name of something else.
pub fn shard_number(name: &str) -> Option<usize> {
    name.strip_prefix("part-")?.strip_suffix(".parquet")?.parse().ok()
}

/// `rows` with the columns of `schema`: those that it lacks, as tables of older versions do, become null.
///
/// # Errors
/// When a column is of another type.
pub fn with_all_columns(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => with_all_fields(column, field),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| PipelineError::Internal(e.to_string()))
}

/// A list of structs with the fields that `field` has.
fn with_all_fields(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let other = || PipelineError::Internal(format!("column `{}` has type {}", field.name(), column.data_type()));
    let (Some(lists), DataType::List(item)) = (column.as_list_opt::<i32>(), field.data_type()) else {
        return Err(other());
    };
    let (Some(values), DataType::Struct(fields)) = (lists.values().as_struct_opt(), item.data_type()) else {
        return Err(other());
    };
    let of_field = |field: &Arc<Field>| match values.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => new_null_array(field.data_type(), values.len()),
    };
    let arrays: Vec<ArrayRef> = fields.iter().map(of_field).collect();
    let values = StructArray::try_new(fields.clone(), arrays, values.nulls().cloned()).map_err(|_| other())?;
    let list = ListArray::try_new(item.clone(), lists.offsets().clone(), Arc::new(values), lists.nulls().cloned());
    Ok(Arc::new(list.map_err(|_| other())?))
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
    let mut records = ListBuilder::new(StringBuilder::new());
    for row in rows {
        let texts = &row.notes.records;
        records.append_option((!texts.is_empty()).then(|| texts.iter().map(Some)));
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
        text(&|r| r.notes.record.as_deref()),
        Arc::new(records.finish()),
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
            Box::new(StringBuilder::new()),
        ],
    );
    let mut list = ListBuilder::new(objects).with_field(Field::new("item", DataType::Struct(fields), true));
    for row in rows {
        let objects = list.values();
        for annotation in row.notes.annotations.iter().flatten() {
            let types = "the builders were made with these types";
            objects.field_builder::<Int64Builder>(0).expect(types).append_value(annotation.category_id);
            let bbox = objects.field_builder::<ListBuilder<Float32Builder>>(1).expect(types);
            bbox.append_value(annotation.bbox_px.map(Some));
            objects.field_builder::<Float32Builder>(2).expect(types).append_value(annotation.area_px);
            objects.field_builder::<BooleanBuilder>(3).expect(types).append_value(annotation.iscrowd);
            objects.field_builder::<StringBuilder>(4).expect(types).append_option(annotation.record.as_deref());
            objects.append(true);
        }
        list.append(row.notes.annotations.is_some());
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
    use crate::images::ImageStore;

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
            notes: Notes {
                annotations: id.is_multiple_of(2).then(|| {
                    let (category_id, bbox_px, area_px) = (1, [0.0, 1.0, 2.0, 3.0], 6.0);
                    vec![Annotation { category_id, bbox_px, area_px, iscrowd: false, record: None }]
                }),
                record: Some(format!("{{\"id\": {id}}}")),
                records: Vec::new(),
            },
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

    proptest::proptest! {
        // What a column can address is 2 GiB; a small limit stands for it.
        #[test]
        fn rows_beyond_the_limit_go_into_several_batches(
            sizes in proptest::collection::vec(0usize..5000, 1..64), batch_bytes in 1u64..9000,
        ) {
            let temporary = tempfile::tempdir().expect("a folder");
            let mut shards = ImageShards::create(temporary.path(), &[], &IngestConfig::default()).expect("creates");
            shards.batch_bytes = batch_bytes;
            shards.write((0..).zip(&sizes).map(|(id, bytes)| row(id, *bytes)).collect()).expect("writes");
            let written = shards.finish(|_, _| ()).expect("finishes");
            proptest::prop_assert_eq!(written.images, sizes.len() as u64);
            let store = ImageStore::open(temporary.path()).expect("opens");
            let ids: Vec<ImageId> = (0..sizes.len() as u64).map(ImageId).collect();
            let fetched = store.fetch(&ids).expect("fetches");
            for (at, bytes) in sizes.iter().enumerate() {
                proptest::prop_assert_eq!(fetched.get(at), vec![at as u8; *bytes]);
            }
        }
    }

    #[test]
    fn no_batch_is_larger_than_the_limit_but_a_row_is() {
        let temporary = tempfile::tempdir().expect("a folder");
        let config = IngestConfig { row_group_mib: 0, ..IngestConfig::default() };
        let mut shards = ImageShards::create(temporary.path(), &[], &config).expect("creates");
        shards.batch_bytes = 10_000;
        shards
            .write([3000, 3000, 3000, 3000, 20_000, 100].into_iter().zip(0..).map(|(b, id)| row(id, b)).collect())
            .expect("writes");
        shards.finish(|_, _| ()).expect("finishes");
        // With row groups of no size each batch is one.
        let file = std::fs::File::open(temporary.path().join("part-00000.parquet")).expect("opens");
        let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&file).expect("reads");
        let rows: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(rows, [3, 1, 1, 1]);
    }

    #[test]
    fn tables_of_before_get_the_columns_that_they_lack() {
        let newest = batch_of_rows(&tables::images(&[]), &[row(1, 5), row(2, 5)]).expect("fits");
        // As version 3 had them: no records, of images or of annotations.
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for (field, column) in newest.schema().fields().iter().zip(newest.columns()) {
            match field.name().as_str() {
                "record" | "records" => {}
                "annotations" => {
                    let lists = column.as_list::<i32>();
                    let structs = lists.values().as_struct();
                    let mut fields: Vec<_> = structs.fields().iter().cloned().collect();
                    fields.pop();
                    let arrays = structs.columns()[..4].to_vec();
                    let structs = StructArray::new(fields.into(), arrays, structs.nulls().cloned());
                    let item = Arc::new(Field::new("item", structs.data_type().clone(), true));
                    let list = ListArray::new(item, lists.offsets().clone(), Arc::new(structs), lists.nulls().cloned());
                    columns.push(("annotations".to_owned(), Arc::new(list)));
                }
                name => columns.push((name.to_owned(), column.clone())),
            }
        }
        let older =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).expect("fits");
        let filled = with_all_columns(&older, &tables::images(&[])).expect("fills");
        assert_eq!(filled.schema().fields(), newest.schema().fields());
        assert!(filled.column_by_name("record").is_some_and(|column| column.null_count() == 2));
        let annotations = |batch: &RecordBatch| batch.column_by_name("annotations").expect("is there").slice(1, 1);
        assert_eq!(&annotations(&filled), &annotations(&newest));
    }
}
