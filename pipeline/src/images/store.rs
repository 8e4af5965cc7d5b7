//! Reading images from shards: what is known of all of them, and the bytes of any.

use crate::decode::DecodeRule;
use crate::images::bytes_column;
use crate::stage::{Layout, Table, column};
use crate::{PipelineError, Result};
use arrow::array::{BinaryArray, UInt32Array, UInt64Array};
use lapidary_schemas::ImageId;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::metadata::PageIndexPolicy;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What is known of an image without reading its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its id.
    pub id: ImageId,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// The 64-bit DCT hash.
    pub phash: u64,
    /// Index of its shard.
    shard: u32,
    /// Row in the shard.
    row: u32,
}

impl ImageInfo {
    /// An image of this size that lies in no shard: enough to plan for.
    pub fn new(id: ImageId, width: u32, height: u32) -> Self {
        Self { id, width, height, phash: 0, shard: 0, row: 0 }
    }
}

/// Random access to the images of a folder. Holds 32 bytes an image and the shards' footers.
#[derive(Debug)]
pub struct ImageStore {
    shards: Vec<(PathBuf, ArrowReaderMetadata)>,
    infos: Vec<ImageInfo>,
    by_id: HashMap<ImageId, u32>,
    rule: DecodeRule,
}

impl ImageStore {
    /// Opens the shards of an `images` folder.
    ///
    /// # Errors
    /// When a shard cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut store = Self { shards: Vec::new(), infos: Vec::new(), by_id: HashMap::new(), rule: u64::MAX.into() };
        for (shard, path) in Layout::shards(folder)?.into_iter().enumerate() {
            let mut row = 0;
            for batch in Table::open(&path, &["image_id", "width", "height", "phash"], 65_536)? {
                let batch = batch?;
                let ids: &UInt64Array = column(&batch, "image_id")?;
                let widths: &UInt32Array = column(&batch, "width")?;
                let heights: &UInt32Array = column(&batch, "height")?;
                let hashes: &UInt64Array = column(&batch, "phash")?;
                for i in 0..batch.num_rows() {
                    let id = ImageId(ids.value(i));
                    store.by_id.insert(id, store.infos.len() as u32);
                    let (width, height, phash) = (widths.value(i), heights.value(i), hashes.value(i));
                    store.infos.push(ImageInfo { id, width, height, phash, shard: shard as u32, row });
                    row += 1;
                }
            }
            let file = File::open(&path).map_err(PipelineError::io("open", &path))?;
            let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
            let metadata = ArrowReaderMetadata::load(&file, options).map_err(|e| PipelineError::format(&path, e))?;
            store.rule = DecodeRule::of_schema(metadata.schema());
            store.shards.push((path, metadata));
        }
        Ok(store)
    }

    /// All images, by id.
    pub fn infos(&self) -> &[ImageInfo] {
        &self.infos
    }

    /// The rule that the images decode by.
    pub fn rule(&self) -> DecodeRule {
        self.rule
    }

    /// An image's row, if it is there.
    pub fn info(&self, id: ImageId) -> Option<&ImageInfo> {
        self.by_id.get(&id).map(|index| &self.infos[*index as usize])
    }

    /// The bytes of the images, in the order asked.
    ///
    /// # Errors
    /// When an image is not there or its shard cannot be read.
    pub fn fetch(&self, ids: &[ImageId]) -> Result<Fetched> {
        let mut wanted: Vec<(&ImageInfo, usize)> = Vec::with_capacity(ids.len());
        for (position, id) in ids.iter().enumerate() {
            let info = self
                .info(*id)
                .ok_or_else(|| PipelineError::Usage(format!("image {id} is not among the ingested images")))?;
            wanted.push((info, position));
        }
        wanted.sort_by_key(|(info, _)| (info.shard, info.row));
        let mut fetched = Fetched { columns: Vec::new(), places: vec![(0, 0); ids.len()] };
        for group in wanted.chunk_by(|(a, _), (b, _)| a.shard == b.shard) {
            self.fetch_from_shard(group, &mut fetched)?;
        }
        Ok(fetched)
    }

    fn fetch_from_shard(&self, wanted: &[(&ImageInfo, usize)], fetched: &mut Fetched) -> Result<()> {
        let (path, metadata) = &self.shards[wanted[0].0.shard as usize];
        let mut selectors = Vec::with_capacity(2 * wanted.len());
        let mut next = 0;
        for row in wanted.iter().map(|(info, _)| info.row as usize) {
            // The same image may be asked for twice.
            if row + 1 == next {
                continue;
            }
            selectors.push(RowSelector::skip(row - next));
            selectors.push(RowSelector::select(1));
            next = row + 1;
        }
        let file = File::open(path).map_err(PipelineError::io("open", path))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["image.bytes"]);
        let reader = builder
            .with_projection(mask)
            .with_row_selection(RowSelection::from(selectors))
            .with_batch_size(wanted.len())
            .build()
            .map_err(|e| PipelineError::format(path, e))?;
        let mut wanted = wanted.iter().peekable();
        for batch in reader {
            let batch = batch.map_err(|e| PipelineError::format(path, e))?;
            for row in 0..batch.num_rows() {
                let place = (fetched.columns.len(), row);
                let Some((info, position)) = wanted.next() else { break };
                fetched.places[*position] = place;
                while let Some((_, twin)) = wanted.next_if(|(next, _)| next.row == info.row) {
                    fetched.places[*twin] = place;
                }
            }
            fetched.columns.push(bytes_column(&batch)?.clone());
        }
        Ok(())
    }
}

/// The bytes of some images, as they lie in the columns that were read: none is copied.
#[derive(Debug)]
pub struct Fetched {
    columns: Vec<BinaryArray>,
    /// Column and row of each image.
    places: Vec<(usize, usize)>,
}

impl Fetched {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The bytes of the image that was asked for at this place.
    pub fn get(&self, index: usize) -> &[u8] {
        let (column, row) = self.places[index];
        self.columns[column].value(row)
    }
}
