//! Writing the curation's tables: pairs, duplicates, clusters, centroids, decisions.

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
use lapidary_pipeline::stage::{StageRun, TableWriter};
use lapidary_schemas::tables::{
    self, CLUSTERS_FILE, CURATED_FILE, DECISIONS_FILE, DUPLICATES_FILE, INDEXED_FILE, PAIRS_FILE, RARITY_FILE,
};
use std::sync::Arc;

fn write(run: &mut StageRun, name: &str, schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<()> {
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|e| PipelineError::Internal(e.to_string()))?;
    let mut table = TableWriter::create(&run.path(name), schema)?;
    table.write(&batch)?;
    run.note_table(name, table.finish()?);
    Ok(())
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
    let mut maps = ListBuilder::new(Float32Builder::new());
    for pair in &sorted {
        maps.append_option(pair.fit.map(|fit| fit.map.0.map(Some)));
    }
    let fit = |f: fn(&Fit) -> usize| u32s(sorted.iter().map(|pair| pair.fit.as_ref().map(|fit| f(fit) as u32)));
    let overlap = |f: fn(&Overlap) -> f32| f32s(sorted.iter().map(|pair| pair.overlap.as_ref().map(f)));
    let columns: Vec<ArrayRef> = vec![
        u64s(sorted.iter().map(|pair| Some(images[pair.a].id.0))),
        u64s(sorted.iter().map(|pair| Some(images[pair.b].id.0))),
        texts(sorted.iter().map(|pair| Some(images[pair.a].path.as_str()))),
        texts(sorted.iter().map(|pair| Some(images[pair.b].path.as_str()))),
        f32s(sorted.iter().map(|pair| Some(pair.score))),
        texts(sorted.iter().map(|pair| Some(pair.kind.code()))),
        f32s(sorted.iter().map(|pair| pair.similarity)),
        u32s(sorted.iter().map(|pair| pair.hash_distance_bits)),
        texts(sorted.iter().map(|pair| pair.turn.map(Turn::code))),
        f32s(sorted.iter().map(|pair| pair.correlation)),
        fit(|fit| fit.inliers),
        f32s(sorted.iter().map(|pair| pair.fit.map(|fit| fit.rare))),
        fit(|fit| fit.visible.0),
        fit(|fit| fit.visible.1),
        overlap(|overlap| overlap.covered_back),
        overlap(|overlap| overlap.covered),
        overlap(|overlap| overlap.agreement),
        overlap(|overlap| overlap.correlation),
        Arc::new(maps.finish()),
    ];
    write(run, PAIRS_FILE, tables::pairs(), columns)
}

/// Writes which images were compared, and what tells whether they are still the same.
pub(crate) fn write_curated(run: &mut StageRun, images: &[Image]) -> Result<()> {
    let ids = u64s(images.iter().map(|image| Some(image.id.0)));
    let digests = u64s(images.iter().map(|image| Some(image.digest_prefix())));
    write(run, CURATED_FILE, tables::curated(), vec![ids, digests])
}

/// Writes how often keypoints were met, of the images that have any.
pub(crate) fn write_rarity(run: &mut StageRun, images: &[Image], met: &[Vec<u8>]) -> Result<()> {
    let rows = || images.iter().zip(met).filter(|(_, met)| !met.is_empty());
    let columns = vec![
        u64s(rows().map(|(image, _)| Some(image.id.0))),
        Arc::new(rows().map(|(_, met)| Some(met)).collect::<BinaryArray>()) as ArrayRef,
    ];
    write(run, RARITY_FILE, tables::rarity(), columns)
}

/// Writes which images an index holds.
pub(crate) fn write_indexed(run: &mut StageRun, ids: impl Iterator<Item = u64>) -> Result<()> {
    write(run, INDEXED_FILE, tables::indexed(), vec![u64s(ids.map(Some))])
}

/// Writes the members of groups.
pub(crate) fn write_duplicates(run: &mut StageRun, images: &[Image], members: &[Member], pairs: &[Pair]) -> Result<()> {
    let id = |index: usize| Some(images[index].id.0);
    let columns = vec![
        u64s(members.iter().map(|m| id(m.image))),
        texts(members.iter().map(|m| Some(images[m.image].path.as_str()))),
        u32s(members.iter().map(|m| Some(m.group))),
        u64s(members.iter().map(|m| id(m.representative))),
        texts(members.iter().map(|m| Some(m.kind.code()))),
        f32s(members.iter().map(|m| Some(pairs[m.pair].score))),
        u64s(members.iter().map(|m| id(m.neighbour))),
        u64s(members.iter().map(|m| m.contaminates.and_then(id))),
    ];
    write(run, DUPLICATES_FILE, tables::duplicates(), columns)
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
    let mut issues = ListBuilder::new(StringBuilder::new());
    for decision in decisions {
        issues.append_value(decision.issues.iter().map(|issue| Some(issue.code())));
    }
    let columns: Vec<ArrayRef> = vec![
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
    ];
    write(run, DECISIONS_FILE, tables::decisions(), columns)
}
