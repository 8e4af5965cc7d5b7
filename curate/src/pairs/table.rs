//! The table of pairs, written and read, and what lies beside it for the next search: the images that were compared,
//! how often their keypoints occur, and which images the index holds.

use super::{Affine, ByScore, Fit, Occurrences, Overlap, Pair};
use crate::Result;
use crate::fingerprints::Dihedral;
use crate::input::Image;
use crate::input::columns::{BatchLimits, LIMITS, batches, f32s, texts, u32s, u64s, write_batches, write_table};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float32Array, Float32Builder, ListArray, ListBuilder, RecordBatch,
    StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::Float32Type;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, Table, TableWriter, WrittenTable, column};
use lapidary_schemas::CopyKind;
use lapidary_schemas::tables::{self, INDEXED_FILE, PAIRS_FILE, RARITY_FILE};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

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

/// Pairs that are written at a time.
const BATCH: usize = 1 << 16;

/// Writes the pairs, which come with the strongest first.
pub(crate) fn write_pairs(
    run: &mut StageRun,
    images: &[Image],
    pairs: impl Iterator<Item = Result<ByScore>>,
) -> Result<()> {
    let mut table = TableWriter::create(&run.path(PAIRS_FILE), tables::pairs())?;
    let mut batch: Vec<Pair> = Vec::with_capacity(BATCH);
    let mut pairs = pairs.peekable();
    // A table without rows still has its columns.
    loop {
        batch.clear();
        for pair in pairs.by_ref().take(BATCH) {
            batch.push(pair?.0);
        }
        let rows = RecordBatch::try_new(tables::pairs(), pair_columns(images, &batch));
        table.write(&rows.map_err(|e| PipelineError::Internal(e.to_string()))?)?;
        if pairs.peek().is_none() {
            break;
        }
    }
    run.note_table(PAIRS_FILE, table.finish()?);
    Ok(())
}

fn pair_columns(images: &[Image], pairs: &[Pair]) -> Vec<ArrayRef> {
    let mut maps = ListBuilder::new(Float32Builder::new());
    for pair in pairs {
        maps.append_option(pair.fit.map(|fit| fit.map.0.map(Some)));
    }
    // Keypoints of an image are counted in 32 bits.
    let fit = |f: fn(&Fit) -> usize| u32s(pairs.iter().map(|pair| pair.fit.as_ref().map(|fit| f(fit) as u32)));
    let overlap = |f: fn(&Overlap) -> f32| f32s(pairs.iter().map(|pair| pair.overlap.as_ref().map(f)));
    vec![
        u64s(pairs.iter().map(|pair| Some(images[pair.a].id.0))),
        u64s(pairs.iter().map(|pair| Some(images[pair.b].id.0))),
        texts(pairs.iter().map(|pair| Some(images[pair.a].path.as_str()))),
        texts(pairs.iter().map(|pair| Some(images[pair.b].path.as_str()))),
        f32s(pairs.iter().map(|pair| Some(pair.score))),
        texts(pairs.iter().map(|pair| Some(pair.kind.code()))),
        f32s(pairs.iter().map(|pair| pair.similarity)),
        u32s(pairs.iter().map(|pair| pair.hash_distance_bits)),
        texts(pairs.iter().map(|pair| pair.dihedral.map(Dihedral::code))),
        f32s(pairs.iter().map(|pair| pair.correlation)),
        fit(|fit| fit.inliers),
        f32s(pairs.iter().map(|pair| pair.fit.map(|fit| fit.rare))),
        fit(|fit| fit.visible.0),
        fit(|fit| fit.visible.1),
        overlap(|overlap| overlap.covered_back),
        overlap(|overlap| overlap.covered),
        overlap(|overlap| overlap.agreement),
        overlap(|overlap| overlap.correlation),
        Arc::new(maps.finish()),
    ]
}

/// Writes how often keypoints occur elsewhere, of the images that have any.
pub(crate) fn write_rarity(run: &mut StageRun, images: &[Image], occurrences: &Occurrences) -> Result<()> {
    let written = write_rarity_within(&run.path(RARITY_FILE), images, occurrences, LIMITS)?;
    run.note_table(RARITY_FILE, written);
    Ok(())
}

fn write_rarity_within(
    path: &Path,
    images: &[Image],
    occurrences: &Occurrences,
    limits: BatchLimits,
) -> Result<WrittenTable> {
    let counted = images.iter().enumerate().map(|(index, image)| (image, occurrences.of(index)));
    let rows: Vec<(&Image, &[u8])> = counted.filter(|(_, counts)| !counts.is_empty()).collect();
    let batches = batches(rows.len(), |row| rows[row].1.len(), limits);
    write_batches(path, &tables::rarity(), batches, |range| {
        let rows = &rows[range];
        let counts: BinaryArray = rows.iter().map(|(_, counts)| Some(*counts)).collect();
        vec![u64s(rows.iter().map(|(image, _)| Some(image.id.0))), Arc::new(counts)]
    })
}

/// Writes which images an index holds.
pub(crate) fn write_indexed(run: &mut StageRun, ids: impl Iterator<Item = u64>) -> Result<()> {
    write_table(run, INDEXED_FILE, tables::indexed(), vec![u64s(ids.map(Some))])
}

/// Reads the pairs of a folder with at least that score between images that `index_of` has, by their indices and sorted
/// by them.
///
/// # Errors
/// When the table cannot be read.
pub(crate) fn read_pairs(folder: &Path, index_of: &HashMap<u64, usize>, score_min: f32) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for batch in Table::open(&folder.join(PAIRS_FILE), PAIR_COLUMNS, BATCH)? {
        let batch = batch?;
        pairs_of_batch(&batch, index_of, &mut pairs)?;
        // The table has the strongest first.
        let scores: &Float32Array = column(&batch, "score")?;
        if scores.values().last().is_some_and(|least| *least < score_min) {
            break;
        }
    }
    pairs.retain(|pair| pair.score >= score_min);
    pairs.sort_unstable_by_key(|pair| (pair.a, pair.b));
    Ok(pairs)
}

fn pairs_of_batch(batch: &RecordBatch, index_of: &HashMap<u64, usize>, pairs: &mut Vec<Pair>) -> Result<()> {
    let id = |name: &str| column::<UInt64Array>(batch, name);
    let f32s = |name: &str| column::<Float32Array>(batch, name);
    let u32s = |name: &str| column::<UInt32Array>(batch, name);
    let text = |name: &str| column::<StringArray>(batch, name);
    let (a, b, scores, kinds, dihedrals) = (id("a")?, id("b")?, f32s("score")?, text("kind")?, text("turn")?);
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
            dihedral: dihedrals.is_valid(row).then(|| dihedrals.value(row)).and_then(Dihedral::from_code),
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

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::stage::read_table;
    use lapidary_schemas::ImageId;

    #[test]
    fn a_table_of_many_small_batches_is_the_table_of_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let images: Vec<Image> = (0..300).map(|i| Image { id: ImageId(i * 31), ..Image::default() }).collect();
        let counts: Vec<Vec<u8>> = (0..300).map(|i| vec![i as u8; i % 7 * 40]).collect();
        let read = |name: &str, limits: BatchLimits| -> Vec<(u64, Vec<u8>)> {
            let path = folder.path().join(name);
            write_rarity_within(&path, &images, &Occurrences::Known(counts.clone()), limits).expect("writes");
            let mut rows = Vec::new();
            for batch in read_table(&path, &[]).expect("reads") {
                let (ids, counts): (&UInt64Array, &BinaryArray) =
                    (column(&batch, "image_id").expect("ids"), column(&batch, "met").expect("counts"));
                rows.extend(
                    ids.values().iter().zip(counts.iter()).map(|(id, counts)| (*id, counts.expect("some").to_vec())),
                );
            }
            rows
        };
        let whole = read("whole", LIMITS);
        assert_eq!(whole.len(), counts.iter().filter(|counts| !counts.is_empty()).count());
        assert_eq!(read("bytes", BatchLimits { rows: 1000, bytes: 500 }), whole);
        assert_eq!(read("rows", BatchLimits { rows: 7, bytes: 1 << 30 }), whole);
    }
}
