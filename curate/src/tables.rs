//! Writing the curation's tables: pairs, duplicates, clusters, centroids, decisions.
//!
//! Tables with a column of text, bytes or lists are written in batches: Arrow counts the bytes of such a column in 31 bits.

use crate::Result;
use crate::clusters::Level;
use crate::decisions::Decision;
use crate::duplicates::Member;
use crate::evidence::Pair;
use crate::fingerprint::Turn;
use crate::input::Image;
use crate::local::Fit;
use crate::overlap::Overlap;
use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeListArray, Float32Array, Float32Builder, ListBuilder, RecordBatch, StringArray,
    StringBuilder, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, SchemaRef};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, TableWriter, WrittenTable};
use lapidary_schemas::tables::{
    self, CLUSTERS_FILE, CURATED_FILE, DECISIONS_FILE, DUPLICATES_FILE, INDEXED_FILE, PAIRS_FILE, RARITY_FILE,
};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Writes a table whose columns are all of fixed width.
fn write(run: &mut StageRun, name: &str, schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<()> {
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|e| PipelineError::Internal(e.to_string()))?;
    let mut table = TableWriter::create(&run.path(name), schema)?;
    table.write(&batch)?;
    run.note_table(name, table.finish()?);
    Ok(())
}

/// What a batch holds at most; a row that alone is larger has a batch of its own.
#[derive(Debug, Clone, Copy)]
struct BatchLimits {
    rows: usize,
    bytes: usize,
}

/// A row group's rows, so that batches change nothing in the file; and half of what 31 bits count.
const LIMITS: BatchLimits = BatchLimits { rows: 1 << 20, bytes: 1 << 30 };

/// Cuts `rows` rows into batches, given the bytes of variable width in each row.
fn batches(rows: usize, bytes_of: impl Fn(usize) -> usize, limits: BatchLimits) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut first, mut bytes) = (0, 0usize);
    for row in 0..rows {
        let more = bytes_of(row);
        if row > first && (row - first == limits.rows || bytes.saturating_add(more) > limits.bytes) {
            batches.push(first..row);
            (first, bytes) = (row, 0);
        }
        bytes = bytes.saturating_add(more);
    }
    // A table without rows still has its columns.
    batches.push(first..rows);
    batches
}

/// Writes a table batch by batch; `columns` makes those of some rows.
fn write_batches(
    path: &Path,
    schema: &SchemaRef,
    batches: Vec<Range<usize>>,
    columns: impl Fn(Range<usize>) -> Vec<ArrayRef>,
) -> Result<WrittenTable> {
    let mut table = TableWriter::create(path, schema.clone())?;
    for rows in batches {
        let batch = RecordBatch::try_new(schema.clone(), columns(rows));
        table.write(&batch.map_err(|e| PipelineError::Internal(e.to_string()))?)?;
    }
    Ok(table.finish()?)
}

fn u32s(values: impl Iterator<Item = Option<u32>>) -> ArrayRef {
    Arc::new(values.collect::<UInt32Array>())
}

fn u64s(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.collect::<UInt64Array>())
}

fn f32s(values: impl Iterator<Item = Option<f32>>) -> ArrayRef {
    Arc::new(values.collect::<Float32Array>())
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// Writes the pairs, the strongest first.
pub(crate) fn write_pairs(run: &mut StageRun, images: &[Image], pairs: &[Pair]) -> Result<()> {
    let mut sorted: Vec<&Pair> = pairs.iter().collect();
    sorted.sort_by(|x, y| y.score.total_cmp(&x.score).then((x.a, x.b).cmp(&(y.a, y.b))));
    let bytes_of = |row: usize| images[sorted[row].a].path.len().max(images[sorted[row].b].path.len());
    let batches = batches(sorted.len(), bytes_of, LIMITS);
    let columns = |rows: Range<usize>| pair_columns(images, &sorted[rows]);
    let written = write_batches(&run.path(PAIRS_FILE), &tables::pairs(), batches, columns)?;
    run.note_table(PAIRS_FILE, written);
    Ok(())
}

fn pair_columns(images: &[Image], pairs: &[&Pair]) -> Vec<ArrayRef> {
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
        texts(pairs.iter().map(|pair| pair.turn.map(Turn::code))),
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

/// Writes which images were compared, and what tells whether they are still the same.
pub(crate) fn write_curated(run: &mut StageRun, images: &[Image]) -> Result<()> {
    let ids = u64s(images.iter().map(|image| Some(image.id.0)));
    let digests = u64s(images.iter().map(|image| Some(image.digest_prefix())));
    write(run, CURATED_FILE, tables::curated(), vec![ids, digests])
}

/// Writes how often keypoints were met, of the images that have any.
pub(crate) fn write_rarity(run: &mut StageRun, images: &[Image], met: &[Vec<u8>]) -> Result<()> {
    let written = write_rarity_within(&run.path(RARITY_FILE), images, met, LIMITS)?;
    run.note_table(RARITY_FILE, written);
    Ok(())
}

fn write_rarity_within(path: &Path, images: &[Image], met: &[Vec<u8>], limits: BatchLimits) -> Result<WrittenTable> {
    let rows: Vec<(&Image, &Vec<u8>)> = images.iter().zip(met).filter(|(_, met)| !met.is_empty()).collect();
    let batches = batches(rows.len(), |row| rows[row].1.len(), limits);
    write_batches(path, &tables::rarity(), batches, |range| {
        let rows = &rows[range];
        let counts: BinaryArray = rows.iter().map(|(_, met)| Some(met)).collect();
        vec![u64s(rows.iter().map(|(image, _)| Some(image.id.0))), Arc::new(counts)]
    })
}

/// Writes which images an index holds.
pub(crate) fn write_indexed(run: &mut StageRun, ids: impl Iterator<Item = u64>) -> Result<()> {
    write(run, INDEXED_FILE, tables::indexed(), vec![u64s(ids.map(Some))])
}

/// Writes the members of groups.
pub(crate) fn write_duplicates(run: &mut StageRun, images: &[Image], members: &[Member], pairs: &[Pair]) -> Result<()> {
    let id = |index: usize| Some(images[index].id.0);
    let batches = batches(members.len(), |row| images[members[row].image].path.len(), LIMITS);
    let written = write_batches(&run.path(DUPLICATES_FILE), &tables::duplicates(), batches, |rows| {
        let members = &members[rows];
        vec![
            u64s(members.iter().map(|m| id(m.image))),
            texts(members.iter().map(|m| Some(images[m.image].path.as_str()))),
            u32s(members.iter().map(|m| Some(m.group))),
            u64s(members.iter().map(|m| id(m.representative))),
            texts(members.iter().map(|m| Some(m.kind.code()))),
            f32s(members.iter().map(|m| Some(pairs[m.pair].score))),
            u64s(members.iter().map(|m| id(m.neighbour))),
            u64s(members.iter().map(|m| m.contaminates.and_then(id))),
        ]
    })?;
    run.note_table(DUPLICATES_FILE, written);
    Ok(())
}

/// Writes each kept image's cluster at each level, and the centroids of each level.
pub(crate) fn write_clusters(run: &mut StageRun, images: &[Image], kept: &[usize], levels: &[Level]) -> Result<()> {
    let mut columns = vec![u64s(kept.iter().map(|index| Some(images[*index].id.0)))];
    // A point's cluster at the current level, found through its cluster at the level below.
    let mut of_image: Vec<u32> = (0..kept.len() as u32).collect();
    let mut images_in: Vec<u32> = vec![1; kept.len()];
    for (number, level) in levels.iter().enumerate() {
        let distances = of_image.iter().map(|point| Some(level.distances[*point as usize]));
        let distances = f32s(distances);
        of_image.iter_mut().for_each(|point| *point = level.assignment[*point as usize]);
        columns.push(u32s(of_image.iter().map(|cluster| Some(*cluster))));
        columns.push(distances);
        let mut counts = vec![0u32; level.centroids.len()];
        for (point, cluster) in level.assignment.iter().enumerate() {
            counts[*cluster as usize] += images_in[point];
        }
        images_in = counts;
        write_centroids(run, number, level, levels.get(number + 1), &images_in)?;
    }
    write(run, CLUSTERS_FILE, tables::clusters(levels.len()), columns)
}

fn write_centroids(
    run: &mut StageRun,
    number: usize,
    level: &Level,
    above: Option<&Level>,
    images_in: &[u32],
) -> Result<()> {
    let (count, dim) = (level.centroids.len(), level.centroids.dim);
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = Arc::new(Float32Array::from(level.centroids.values.clone()));
    let centroids = FixedSizeListArray::try_new(item, dim as i32, values, None)
        .map_err(|e| PipelineError::Internal(e.to_string()))?;
    let columns = vec![
        u32s((0..count as u32).map(Some)),
        u32s((0..count).map(|cluster| above.map(|above| above.assignment[cluster]))),
        u32s(images_in.iter().map(|images| Some(*images))),
        Arc::new(centroids) as ArrayRef,
    ];
    write(run, &tables::centroids_file(number + 1), tables::centroids(dim), columns)
}

/// Writes a row for every image: the ranked by rank, then the excluded by id.
pub(crate) fn write_decisions(run: &mut StageRun, decisions: &[Decision]) -> Result<()> {
    let batches = batches(decisions.len(), |row| decisions[row].detail.as_ref().map_or(0, String::len), LIMITS);
    let written = write_batches(&run.path(DECISIONS_FILE), &tables::decisions(), batches, |rows| {
        let decisions = &decisions[rows];
        let mut issues = ListBuilder::new(StringBuilder::new());
        for decision in decisions {
            issues.append_value(decision.issues.iter().map(|issue| Some(issue.code())));
        }
        vec![
            u64s(decisions.iter().map(|d| Some(d.image.0))),
            u32s(decisions.iter().map(|d| d.rank)),
            texts(decisions.iter().map(|d| Some(d.reason.code()))),
            u32s(decisions.iter().map(|d| d.place.map(|place| place.leaf))),
            u32s(decisions.iter().map(|d| d.place.map(|place| place.position))),
            u64s(decisions.iter().map(|d| d.duplicate_of.map(|id| id.0))),
            f32s(decisions.iter().map(|d| d.score)),
            u64s(decisions.iter().map(|d| d.neighbour.map(|id| id.0))),
            texts(decisions.iter().map(|d| d.detail.as_deref())),
            Arc::new(issues.finish()),
        ]
    })?;
    run.note_table(DECISIONS_FILE, written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::stage::{column, read_table};
    use lapidary_schemas::ImageId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_hold_every_row_once_and_keep_to_their_limits(
            bytes in prop::collection::vec(0usize..50, 0..200), rows in 1usize..40, limit in 1usize..120
        ) {
            let limits = BatchLimits { rows, bytes: limit };
            let batches = batches(bytes.len(), |row| bytes[row], limits);
            let covered: Vec<usize> = batches.iter().cloned().flatten().collect();
            prop_assert_eq!(covered, (0..bytes.len()).collect::<Vec<_>>());
            for batch in batches {
                prop_assert!(batch.len() <= rows);
                prop_assert!(batch.len() <= 1 || bytes[batch].iter().sum::<usize>() <= limit);
            }
        }
    }

    #[test]
    fn a_table_of_many_small_batches_is_the_table_of_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let images: Vec<Image> = (0..300).map(|i| Image { id: ImageId(i * 31), ..Image::default() }).collect();
        let met: Vec<Vec<u8>> = (0..300).map(|i| vec![i as u8; i % 7 * 40]).collect();
        let read = |name: &str, limits: BatchLimits| -> Vec<(u64, Vec<u8>)> {
            let path = folder.path().join(name);
            write_rarity_within(&path, &images, &met, limits).expect("writes");
            let mut rows = Vec::new();
            for batch in read_table(&path, &[]).expect("reads") {
                let (ids, met): (&UInt64Array, &BinaryArray) =
                    (column(&batch, "image_id").expect("ids"), column(&batch, "met").expect("counts"));
                rows.extend(ids.values().iter().zip(met.iter()).map(|(id, met)| (*id, met.expect("some").to_vec())));
            }
            rows
        };
        let whole = read("whole", LIMITS);
        assert_eq!(whole.len(), met.iter().filter(|met| !met.is_empty()).count());
        assert_eq!(read("bytes", BatchLimits { rows: 1000, bytes: 500 }), whole);
        assert_eq!(read("rows", BatchLimits { rows: 7, bytes: 1 << 30 }), whole);
    }

    #[test]
    fn text_of_more_than_two_gib_is_cut_where_31_bits_still_count_it() {
        let batches = batches(2_200, |_| 1 << 20, LIMITS);
        assert_eq!(batches, [0..1024, 1024..2048, 2048..2200]);
    }
}
