//! What is known of every image of a source, in memory: some 40 bytes an image and its row in the shards.
//!
//! A catalog is of the manifests that it was read from; it is read anew when a page is opened after they have changed.

use super::map::Map;
use crate::Result;
use arrow::array::{Array, Float32Array, Int64Array, StringArray, UInt32Array, UInt64Array};
use lapidary_pipeline::stage::{Layout, Table, column, read_manifest, require_manifest};
use lapidary_pipeline::{ImageStore, Pictures, plan};
use lapidary_schemas::tables::{DECISIONS_FILE, SUBSET_FILE};
use lapidary_schemas::{Digest, ImageId};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a value is missing.
pub(super) const NONE: u32 = u32::MAX;
/// Rows a batch.
const ROWS: usize = 65_536;
/// What the reason of an image is where nothing was decided.
const UNDECIDED: &str = "not curated";

/// An image, as filters see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub(super) id: ImageId,
    /// Index into [`Catalog::reasons`].
    pub(super) reason: u32,
    /// Finest cluster, or [`NONE`].
    pub(super) cluster: u32,
    /// Index into [`Catalog::classes`], or [`NONE`].
    pub(super) class: u32,
    /// Place in the ranking, or [`NONE`].
    pub(super) rank: u32,
    /// The evidence of a dropped copy, 0 to 1; not a number where there is none.
    pub(super) score: f32,
    /// What a copy is a copy of; 0 where it is none.
    pub(super) duplicate_of: u64,
}

/// A source.
pub(super) struct Catalog {
    pub(super) source: String,
    /// In the order of `decisions`: the ranked, then the dropped.
    pub(super) rows: Vec<Row>,
    pub(super) row_of: HashMap<ImageId, u32>,
    pub(super) reasons: Vec<String>,
    pub(super) classes: Vec<String>,
    pub(super) pictures: Pictures,
    /// For each subset whether it holds each row.
    pub(super) subsets: BTreeMap<String, Vec<bool>>,
    layout: Layout,
    key: Vec<Digest>,
    maps: Mutex<HashMap<String, Arc<Map>>>,
}

impl Catalog {
    fn open(layout: &Layout, source: &str, key: Vec<Digest>) -> Result<Self> {
        let images = layout.images(source);
        let ingested = require_manifest(&images, "ingested images", "run `lapidary ingest --data DIR` first")?;
        let pictures = Pictures::new(ImageStore::open(&images)?);
        let mut catalog = Self {
            source: source.to_owned(),
            rows: Vec::new(),
            row_of: HashMap::new(),
            reasons: Vec::new(),
            classes: serde_json::from_value(ingested.facts["classes"].clone()).unwrap_or_default(),
            pictures,
            subsets: BTreeMap::new(),
            layout: layout.clone(),
            key,
            maps: Mutex::default(),
        };
        let decisions = layout.ranking(source).join(DECISIONS_FILE);
        if decisions.is_file() {
            catalog.read_decisions(&decisions)?;
        } else {
            catalog.reasons.push(UNDECIDED.to_owned());
            let row =
                |id| Row { id, reason: 0, cluster: NONE, class: NONE, rank: NONE, score: f32::NAN, duplicate_of: 0 };
            catalog.rows = catalog.pictures.store().infos().iter().map(|info| row(info.id)).collect();
        }
        catalog.row_of = catalog.rows.iter().enumerate().map(|(index, row)| (row.id, index as u32)).collect();
        catalog.read_labels(&images)?;
        catalog.read_subsets()?;
        Ok(catalog)
    }

    fn read_decisions(&mut self, path: &Path) -> Result<()> {
        let columns = ["image_id", "rank", "reason", "leaf", "duplicate_of", "score"];
        for batch in Table::open(path, &columns, ROWS)? {
            let batch = batch?;
            let u32s = |name: &str| column::<UInt32Array>(&batch, name);
            let u64s = |name: &str| column::<UInt64Array>(&batch, name);
            let (ids, ranks, leaves, duplicates) =
                (u64s("image_id")?, u32s("rank")?, u32s("leaf")?, u64s("duplicate_of")?);
            let (reasons, scores): (&StringArray, &Float32Array) =
                (column(&batch, "reason")?, column(&batch, "score")?);
            for row in 0..batch.num_rows() {
                let id = ImageId(ids.value(row));
                // The images may have been ingested anew since.
                if !self.pictures.has(id) {
                    continue;
                }
                let code = reasons.value(row);
                let reason = self.reasons.iter().position(|known| known == code).unwrap_or_else(|| {
                    self.reasons.push(code.to_owned());
                    self.reasons.len() - 1
                });
                let u32_of = |array: &UInt32Array| if array.is_valid(row) { array.value(row) } else { NONE };
                self.rows.push(Row {
                    id,
                    reason: reason as u32,
                    cluster: u32_of(leaves),
                    class: NONE,
                    rank: u32_of(ranks),
                    score: if scores.is_valid(row) { scores.value(row) } else { f32::NAN },
                    duplicate_of: if duplicates.is_valid(row) { duplicates.value(row) } else { 0 },
                });
            }
        }
        Ok(())
    }

    fn read_labels(&mut self, images: &Path) -> Result<()> {
        for shard in Layout::shards(images)? {
            for batch in Table::open(&shard, &["image_id", "label"], ROWS)? {
                let batch = batch?;
                let (ids, labels): (&UInt64Array, &Int64Array) =
                    (column(&batch, "image_id")?, column(&batch, "label")?);
                for row in (0..batch.num_rows()).filter(|row| labels.is_valid(*row)) {
                    let class = u32::try_from(labels.value(row)).unwrap_or(NONE);
                    if let Some(index) = self.row_of.get(&ImageId(ids.value(row))) {
                        self.rows[*index as usize].class = class;
                    }
                }
            }
        }
        Ok(())
    }

    fn read_subsets(&mut self) -> Result<()> {
        let folder = self.layout.out.join(&self.source).join("subsets");
        for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.')
                || !entry.path().join(SUBSET_FILE).is_file()
                || read_manifest(&entry.path()).is_err()
            {
                continue;
            }
            let mut holds = vec![false; self.rows.len()];
            for id in plan::subset_ids(&entry.path())? {
                if let Some(index) = self.row_of.get(&id) {
                    holds[*index as usize] = true;
                }
            }
            self.subsets.insert(name, holds);
        }
        Ok(())
    }

    /// The maps that there are, by name.
    pub(super) fn map_names(&self) -> Vec<String> {
        Map::names(&self.layout, &self.source)
    }

    /// A map, made when it is first wanted.
    ///
    /// # Errors
    /// When there is no such map, or its table cannot be read.
    pub(super) fn map(&self, name: &str) -> Result<Arc<Map>> {
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = maps.get(name) {
            return Ok(Arc::clone(map));
        }
        let map = Arc::new(Map::read(&self.layout, &self.source, name, &self.row_of)?);
        maps.insert(name.to_owned(), Arc::clone(&map));
        Ok(map)
    }
}

/// The sources that were opened.
pub(super) struct Catalogs {
    pub(super) layout: Layout,
    open: Mutex<HashMap<String, Arc<Catalog>>>,
}

impl Catalogs {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, open: Mutex::default() }
    }

    /// A source as it was last read.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub(super) fn get(&self, source: &str) -> Result<Arc<Catalog>> {
        let found = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(source).map(Arc::clone);
        found.map_or_else(|| self.fresh(source), Ok)
    }

    /// A source as it is now.
    ///
    /// # Errors
    /// As [`Catalogs::get`].
    pub(super) fn fresh(&self, source: &str) -> Result<Arc<Catalog>> {
        let key = self.key(source);
        // Held while it is read, so that several requests read it once.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(catalog) = open.get(source).filter(|catalog| catalog.key == key) {
            return Ok(Arc::clone(catalog));
        }
        let catalog = Arc::new(Catalog::open(&self.layout, source, key)?);
        open.insert(source.to_owned(), Arc::clone(&catalog));
        Ok(catalog)
    }

    /// The digests of what a catalog is read from.
    fn key(&self, source: &str) -> Vec<Digest> {
        let subsets = self.layout.out.join(source).join("subsets");
        let mut folders = vec![self.layout.images(source), self.layout.ranking(source)];
        let entries = std::fs::read_dir(subsets).into_iter().flatten().filter_map(|entry| entry.ok());
        let mut cut: Vec<_> = entries.map(|entry| entry.path()).collect();
        cut.sort();
        folders.extend(cut);
        folders.iter().filter_map(|folder| read_manifest(folder).ok()).map(|manifest| manifest.digest).collect()
    }
}
