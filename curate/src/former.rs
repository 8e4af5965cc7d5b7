//! What an earlier curation found, for a new one to go on from: pairs, keypoints met, the index, and the tree.

use crate::assign::assign;
use crate::clusters::Level;
use crate::drift::Drift;
use crate::evidence::{Before, Pair};
use crate::fingerprint::Turn;
use crate::input::{Image, Vectors};
use crate::local::{Affine, Fit};
use crate::neighbours::Neighbours;
use crate::overlap::Overlap;
use crate::whitening::Whitening;
use crate::{CurateError, Result};
use arrow::array::{
    Array, AsArray, BinaryArray, Float32Array, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::Float32Type;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Table, column, list_values, read_table};
use lapidary_schemas::tables::{
    CLUSTERS_FILE, CURATED_FILE, INDEX_FILE, INDEXED_FILE, PAIRS_FILE, RARITY_FILE, WHITENING_FILE, centroids_file,
};
use lapidary_schemas::{CopyKind, Manifest};
use std::collections::HashMap;
use std::path::PathBuf;

/// Rows of the keypoints' counts read at a time: few, since Arrow counts their bytes in 31 bits.
const RARITY_ROWS: usize = 4096;
/// What is read of the pairs: not their paths.
const PAIR_COLUMNS: &[&str] = &[
    "a",
    "b",
    "score",
    "kind",
    "similarity",
    "hash_distance_bits",
    "turn",
    "correlation",
    "inliers",
    "rare",
    "visible_a",
    "visible_b",
    "covered_a",
    "covered_b",
    "agreement",
    "agreeing_correlation",
    "map",
];

/// An earlier curation of most of the images, or of some that have gone since.
#[derive(Debug)]
pub(crate) struct Former {
    pub(crate) manifest: Manifest,
    folder: PathBuf,
}

impl Former {
    pub(crate) fn new(manifest: Manifest, folder: PathBuf) -> Self {
        Self { manifest, folder }
    }

    /// Its whitening.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn whitening(&self) -> Result<Whitening> {
        Whitening::read(&self.folder.join(WHITENING_FILE))
    }

    /// The evidence it found, for images by their new indices; those from `references_from` on are references, whom it knew
    /// all.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(crate) fn evidence(&self, images: &[Image], references_from: usize) -> Result<Before> {
        let mut known: HashMap<u64, u64> = HashMap::new();
        for batch in read_table(&self.folder.join(CURATED_FILE), &[])? {
            let (ids, digests): (&UInt64Array, &UInt64Array) = (column(&batch, "image_id")?, column(&batch, "digest")?);
            known.extend(ids.values().iter().copied().zip(digests.values().iter().copied()));
        }
        // An image that was touched is a new one.
        let is_known = |image: &Image| known.get(&image.id.0) == Some(&image.digest_prefix());
        let is_new = |(index, image): (usize, &Image)| index < references_from && !is_known(image);
        let is_new: Vec<bool> = images.iter().enumerate().map(is_new).collect();
        let index_of: HashMap<u64, usize> =
            images.iter().enumerate().filter(|(i, _)| !is_new[*i]).map(|(i, image)| (image.id.0, i)).collect();
        let mut pairs = Vec::new();
        for batch in read_table(&self.folder.join(PAIRS_FILE), PAIR_COLUMNS)? {
            read_pairs(&batch, &index_of, &mut pairs)?;
        }
        let mut met = vec![Vec::new(); images.len()];
        let rarity = self.folder.join(RARITY_FILE);
        if rarity.is_file() {
            for batch in Table::open(&rarity, &[], RARITY_ROWS)? {
                let batch = batch?;
                let (ids, counts): (&UInt64Array, &BinaryArray) = (column(&batch, "image_id")?, column(&batch, "met")?);
                for (row, id) in ids.values().iter().enumerate() {
                    if let Some(index) = index_of.get(id) {
                        met[*index] = counts.value(row).to_vec();
                    }
                }
            }
        }
        Ok(Before { is_new, pairs, met })
    }

    /// Its index, with the vectors that it lacks added, and the image of each vector that it had; none when it searched
    /// exactly and wrote none. `is_new` are the images that it did not know as they are now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn neighbours<'a>(
        &self,
        images: &[Image],
        is_new: &[bool],
        vectors: &'a Vectors,
    ) -> Result<Option<(Neighbours<'a>, Vec<u64>)>> {
        let path = self.folder.join(INDEX_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let is_known = images.iter().enumerate().filter(|(index, _)| !is_new[*index]);
        let index_of: HashMap<u64, u32> = is_known.map(|(index, image)| (image.id.0, index as u32)).collect();
        let (mut labels, mut indexed) = (Vec::new(), Vec::new());
        for batch in read_table(&self.folder.join(INDEXED_FILE), &[])? {
            let ids: &UInt64Array = column(&batch, "image_id")?;
            labels.extend(ids.values().iter().map(|id| index_of.get(id).copied()));
            indexed.extend(ids.values().iter().map(|id| if index_of.contains_key(id) { *id } else { u64::MAX }));
        }
        Ok(Some((Neighbours::restore(vectors, &path, labels)?, indexed)))
    }

    /// Its tree with the images that are kept now, and which of them it did not hold before; those go to the nearest leaf.
    /// `images`, whether each `is_new`, and `vectors` are of the kept, in their order.
    ///
    /// # Errors
    /// When a table cannot be read, or is of other embeddings.
    pub(crate) fn tree(
        &self,
        images: &[&Image],
        is_new: &[bool],
        vectors: &Vectors,
    ) -> Result<(Vec<Level>, Vec<bool>)> {
        let mut leaf_of: HashMap<u64, (u32, f32)> = HashMap::new();
        for batch in read_table(&self.folder.join(CLUSTERS_FILE), &["image_id", "cluster_level_1", "distance_level_1"])?
        {
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let (leaves, distances): (&UInt32Array, &Float32Array) =
                (column(&batch, "cluster_level_1")?, column(&batch, "distance_level_1")?);
            let leaf = |row: usize| (ids.value(row), (leaves.value(row), distances.value(row)));
            leaf_of.extend((0..ids.len()).map(leaf));
        }
        let mut levels = self.levels()?;
        let Some(finest) = levels.first_mut() else { return Ok((levels, vec![true; images.len()])) };
        if finest.centroids.dim != vectors.dim {
            let (theirs, ours) = (finest.centroids.dim, vectors.dim);
            return Err(CurateError::Mismatch(format!("centroids of {theirs} values, embeddings of {ours}")));
        }
        let has_no_leaf = |i: &usize| is_new[*i] || !leaf_of.contains_key(&images[*i].id.0);
        let added: Vec<usize> = (0..images.len()).filter(has_no_leaf).collect();
        let (leaves, distances) = assign(&vectors.select(&added), &finest.centroids)?;
        leaf_of.extend(added.iter().zip(leaves.into_iter().zip(distances)).map(|(i, leaf)| (images[*i].id.0, leaf)));
        (finest.assignment, finest.distances) = images.iter().map(|image| leaf_of[&image.id.0]).unzip();
        let mut is_added = vec![false; images.len()];
        added.into_iter().for_each(|image| is_added[image] = true);
        Ok((levels, is_added))
    }

    /// The levels of its tree, the finest without its points.
    fn levels(&self) -> Result<Vec<Level>> {
        let mut levels: Vec<Level> = Vec::new();
        // What the centroids of the level before belong to.
        let mut parents: Vec<u32> = Vec::new();
        let paths = (1..).map(|level| self.folder.join(centroids_file(level)));
        for path in paths.take_while(|path| path.is_file()) {
            let (mut centroids, mut above) = (Vectors::default(), Vec::new());
            for batch in read_table(&path, &["parent", "centroid"])? {
                let (values, dim) = list_values(&batch, "centroid")?;
                centroids.dim = dim;
                centroids.values.extend_from_slice(values);
                above.extend(column::<UInt32Array>(&batch, "parent")?.iter().flatten());
            }
            let assignment = std::mem::replace(&mut parents, above);
            let distances = levels.last().map_or(Vec::new(), |below| {
                let pairs = assignment.iter().enumerate();
                pairs.map(|(i, parent)| distance(below.centroids.row(i), centroids.row(*parent as usize))).collect()
            });
            levels.push(Level { centroids, assignment, distances });
        }
        Ok(levels)
    }

    /// How well its tree fitted.
    pub(crate) fn drift(&self) -> Drift {
        serde_json::from_value(self.manifest.facts["tree"]["drift"].clone()).unwrap_or_default()
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

fn read_pairs(batch: &RecordBatch, index_of: &HashMap<u64, usize>, pairs: &mut Vec<Pair>) -> Result<()> {
    let id = |name: &str| column::<UInt64Array>(batch, name);
    let f32s = |name: &str| column::<Float32Array>(batch, name);
    let u32s = |name: &str| column::<UInt32Array>(batch, name);
    let text = |name: &str| column::<StringArray>(batch, name);
    let (a, b, scores, kinds, turns) = (id("a")?, id("b")?, f32s("score")?, text("kind")?, text("turn")?);
    let (similarities, bits, correlations) = (f32s("similarity")?, u32s("hash_distance_bits")?, f32s("correlation")?);
    let (inliers, rare, visible_a, visible_b) =
        (u32s("inliers")?, f32s("rare")?, u32s("visible_a")?, u32s("visible_b")?);
    let (covered_a, covered_b) = (f32s("covered_a")?, f32s("covered_b")?);
    let (agreements, agreeing) = (f32s("agreement")?, f32s("agreeing_correlation")?);
    let maps: &ListArray = column(batch, "map")?;
    for row in 0..batch.num_rows() {
        let (Some(a), Some(b)) = (index_of.get(&a.value(row)), index_of.get(&b.value(row))) else { continue };
        let kind = CopyKind::from_code(kinds.value(row))
            .ok_or_else(|| PipelineError::Internal(format!("no kind of evidence is called `{}`", kinds.value(row))))?;
        let map = maps.is_valid(row).then(|| {
            let values = maps.value(row);
            let values = values.as_primitive::<Float32Type>();
            Affine(std::array::from_fn(|i| values.value(i)))
        });
        pairs.push(Pair {
            score: scores.value(row),
            similarity: similarities.is_valid(row).then(|| similarities.value(row)),
            hash_distance_bits: bits.is_valid(row).then(|| bits.value(row)),
            turn: turns.is_valid(row).then(|| turns.value(row)).and_then(Turn::from_code),
            correlation: correlations.is_valid(row).then(|| correlations.value(row)),
            fit: map.map(|map| Fit {
                map,
                inliers: inliers.value(row) as usize,
                visible: (visible_a.value(row) as usize, visible_b.value(row) as usize),
                rare: rare.value(row),
            }),
            overlap: agreements.is_valid(row).then(|| Overlap {
                covered: covered_b.value(row),
                covered_back: covered_a.value(row),
                agreement: agreements.value(row),
                correlation: agreeing.value(row),
            }),
            ..Pair::new(*a, *b, kind)
        });
    }
    Ok(())
}
