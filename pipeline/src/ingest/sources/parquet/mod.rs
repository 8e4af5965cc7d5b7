//! Parquet files with a column of pictures, as Hugging Face `datasets` writes them and as others do.
//!
//! Rows are spooled to one file in their own order and then fetched in the order of image ids; a row with a path and no bytes
//! is the file beside the table. What cannot be read of a file is rejected by its rows and ends nothing.

mod bytes;
mod labels;
mod own;
mod tables;

pub(super) use tables::{Found, Tables, find_tables};

use super::coco::{Categories, folder_of};
use super::folder::image_paths;
use super::names::normal_form;
use super::splits::split_of_table;
use super::{Entry, Listing, Place, Reject, Source, Spool, Tree, path_of_text, text_of_path};
use crate::{PipelineError, Result};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use arrow::array::RecordBatch;
use bytes::{Pictures, pictures_of};
use labels::{Classes, Label, LabelColumn, label_column, labels_of};
use lapidary_schemas::RejectReason;
use own::Own;
use serde_json::json;
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use tables::guarded;

/// Most rows and about the most bytes that are read at once.
const BATCH_ROWS: usize = 256;
const BATCH_BYTES: i64 = 64 << 20;

/// A folder of Parquet files.
#[derive(Debug)]
pub struct ParquetFiles {
    tree: Tree,
    tables: Tables,
}

/// A listing in the making.
struct Reading<'a> {
    tree: &'a Tree,
    listing: Listing,
    spool: Spool,
    classes: Classes,
    categories: Categories,
    /// Image files that rows name.
    used: HashSet<String>,
}

/// A table of pictures.
struct PictureTable<'a> {
    path: &'a str,
    column: &'a str,
    label: Option<LabelColumn>,
    own: Option<Own>,
    split: u32,
}

impl ParquetFiles {
    /// The pictures of a tree's tables.
    pub(super) fn new(tree: Tree, tables: Tables) -> Self {
        Self { tree, tables }
    }
}

impl Source for ParquetFiles {
    fn layout(&self) -> &'static str {
        "Parquet"
    }

    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn list(&self, spool: &Path) -> Result<Listing> {
        let mut reading = Reading {
            tree: &self.tree,
            listing: Listing { rejects: self.tree.faults().to_vec(), ..Listing::default() },
            spool: Spool::new(spool),
            classes: Classes::default(),
            categories: Categories::default(),
            used: HashSet::new(),
        };
        let mut not_read: Vec<&str> = Vec::new();
        for (path, found) in self.tables.all() {
            match found {
                Found::Pictures { column, .. } => reading.table(path, column)?,
                Found::Broken(detail) => {
                    reading.listing.rejects.push(Reject::new(path, RejectReason::Broken, detail));
                }
                Found::Lists(_) | Found::Nothing(_) => not_read.push(path),
            }
        }
        if !not_read.is_empty() {
            tracing::info!("not read, as no column holds an image a row: {}", not_read.join(", "));
        }
        for path in image_paths(&self.tree).into_iter().filter(|path| !reading.used.contains(*path)) {
            let detail = "an image file beside tables of images: `--layout folder` reads it";
            reading.listing.rejects.push(Reject::new(path, RejectReason::OtherLayout, detail));
        }
        reading.finish()
    }
}

impl Reading<'_> {
    /// Takes in a table, row group by row group.
    fn table(&mut self, path: &str, column: &str) -> Result<()> {
        let place = self.tree.place(path);
        let whole = self.tree.whole(path)?;
        let file = File::open(whole.path()).map_err(PipelineError::io("open", &place))?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
            .map_err(|e| PipelineError::format(&place, e))?;
        let schema = metadata.schema().clone();
        let label = label_column(&schema, path);
        let names = label.as_ref().and_then(|label| label.names.clone()).unwrap_or_default();
        self.classes.declare(&names);
        let own = own::own(&place, &schema, &names, &mut self.listing, &mut self.categories);
        let split = self.listing.split(&split_of_table(path));
        let mut columns: Vec<&str> = vec![column];
        columns.extend(label.iter().map(|label| label.name.as_str()));
        columns.extend(own.iter().flat_map(|_| Own::columns(&schema)));
        let roots: Vec<usize> = columns.iter().filter_map(|name| schema.index_of(name).ok()).collect();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let table = PictureTable { path, column, label, own, split };
        let mut row = 0;
        for group in 0..metadata.metadata().num_row_groups() {
            let info = metadata.metadata().row_group(group);
            let (rows, bytes) = (info.num_rows().max(0) as usize, info.total_byte_size().max(0));
            let mean = bytes / (rows as i64).max(1);
            let batch_rows = (BATCH_BYTES / mean.max(1)).clamp(1, BATCH_ROWS as i64) as usize;
            let mut done = 0;
            // Images much larger than the mean overflow a column of bytes: then row by row.
            for batch_rows in [batch_rows, 1] {
                let read = self.row_group(&table, &file, &metadata, &mask, (group, batch_rows), (row, &mut done));
                match read {
                    Err(PipelineError::Io { action, path, source }) => {
                        return Err(PipelineError::Io { action, path, source });
                    }
                    Err(error) if batch_rows == 1 => {
                        for lost in done..rows {
                            let name = format!("{path}#{}", row + lost);
                            let reject = Reject::new(name, RejectReason::Broken, &error).at((row + lost) as u64);
                            self.listing.rejects.push(reject);
                        }
                        break;
                    }
                    Err(_) => {}
                    Ok(()) => break,
                }
            }
            row += rows;
        }
        Ok(())
    }

    /// Takes in the rows of a row group from `done` on; its first row is row `first` of the file.
    fn row_group(
        &mut self,
        table: &PictureTable<'_>,
        file: &File,
        metadata: &ArrowReaderMetadata,
        mask: &ProjectionMask,
        (group, batch_rows): (usize, usize),
        (first, done): (usize, &mut usize),
    ) -> Result<()> {
        let place = self.tree.place(table.path);
        let file = file.try_clone().map_err(PipelineError::io("open", &place))?;
        let mut reader = guarded(&place, || {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
            let builder = builder.with_row_groups(vec![group]).with_projection(mask.clone());
            let builder = builder.with_offset(*done).with_batch_size(batch_rows);
            builder.build().map_err(|e| PipelineError::format(&place, e))
        })?;
        loop {
            let next = guarded(&place, || reader.next().transpose().map_err(|e| PipelineError::format(&place, e)))?;
            let Some(batch) = next else { return Ok(()) };
            self.batch(table, &batch, first + *done)?;
            *done += batch.num_rows();
        }
    }

    fn batch(&mut self, table: &PictureTable<'_>, batch: &RecordBatch, first: usize) -> Result<()> {
        let place = self.tree.place(table.path);
        let column = batch.column_by_name(table.column).and_then(pictures_of);
        let pictures =
            column.ok_or_else(|| PipelineError::format(place, format!("`{}` holds no images", table.column)))?;
        let labels = table.label.as_ref().and_then(|label| batch.column_by_name(&label.name)).map(labels_of);
        let names = table.label.as_ref().and_then(|label| label.names.as_deref());
        for row in 0..batch.num_rows() {
            let name = format!("{}#{}", table.path, first + row);
            let reject = |reason, detail: String| Reject::new(&name, reason, detail).at((first + row) as u64);
            let label = labels.as_ref().map_or(&Label::None, |labels| &labels[row]);
            let label = match self.classes.label(label, names) {
                Ok(label) => label,
                Err(detail) => {
                    self.listing.rejects.push(reject(RejectReason::BadLabel, detail));
                    continue;
                }
            };
            let place = match self.place(table.path, &pictures, row)? {
                Ok(place) => place,
                Err((reason, detail)) => {
                    self.listing.rejects.push(reject(reason, detail));
                    continue;
                }
            };
            let mut entry = Entry { label, ..Entry::new(name, place, table.split) };
            if let Some(own) = &table.own {
                let classes = &mut self.classes;
                let class_of = |name: &str| classes.index_of(name);
                own.complete(batch, row, &mut entry, &mut self.listing, &mut self.spool, class_of)?;
            }
            self.listing.entries.push(entry);
        }
        Ok(())
    }

    /// Where a row's picture lies: in the spool, or in a file beside the table.
    fn place(&mut self, table: &str, pictures: &Pictures, row: usize) -> Result<Result<Place, (RejectReason, String)>> {
        if let Some(bytes) = pictures.bytes(row) {
            return Ok(Ok(self.spool.image(bytes)?));
        }
        let Some(path) = pictures.path(row).filter(|path| !path.is_empty()) else {
            return Ok(Err((RejectReason::MissingFile, "the row holds neither bytes nor a path".to_owned())));
        };
        let text = text_of_path(Path::new(path));
        let beside = [folder_of(table), ""].into_iter().filter_map(|folder| normal_form(folder, &text));
        let beside: Vec<String> = beside.collect();
        let found = beside.iter().find(|path| self.tree.contains(path));
        Ok(match found {
            Some(found) => {
                self.used.insert(found.clone());
                Ok(Place::File(self.tree.root().join(path_of_text(found))))
            }
            None if beside.is_empty() => Err((RejectReason::PathEscapes, format!("the row names `{path}`"))),
            None => Err((RejectReason::MissingFile, format!("the row holds no bytes, and `{path}` is not there"))),
        })
    }

    /// Gives classes and categories their final places.
    fn finish(self) -> Result<Listing> {
        let Self { mut listing, spool, classes, mut categories, .. } = self;
        spool.finish()?;
        let (names, places) = classes.finish();
        categories.settle();
        let known: Vec<Option<i64>> = names.iter().map(|name| categories.id_of(name)).collect();
        let ours = known.iter().any(Option::is_some);
        let mut taken: HashSet<i64> = known.iter().flatten().copied().collect();
        let free = |taken: &mut HashSet<i64>, from: i64| (from..).find(|id| taken.insert(*id)).unwrap_or(i64::MAX);
        let ids: Vec<i64> = (0..).zip(&known).map(|(at, id)| id.unwrap_or_else(|| free(&mut taken, at))).collect();
        if ours {
            let (of_id, _, records) = categories.into_lists();
            let record = |(id, name): (&i64, &String)| {
                let known = of_id.iter().position(|known| known == id);
                known.map_or_else(|| json!({"id": id, "name": name}), |at| records[at].clone())
            };
            listing.categories = ids.iter().zip(&names).map(record).collect();
        }
        for entry in &mut listing.entries {
            let place = |provisional: i64| places[provisional as usize];
            entry.label = entry.label.map(place);
            entry.labels = entry.labels.take().map(|labels| {
                let mut labels: Vec<i64> = labels.into_iter().map(place).collect();
                labels.sort_unstable();
                labels
            });
            for object in entry.objects.iter_mut().flatten() {
                object.category_id = ids[place(object.category_id) as usize];
            }
        }
        (listing.classes, listing.category_ids) = (names, ids);
        Ok(listing)
    }
}

#[cfg(test)]
mod tests;
