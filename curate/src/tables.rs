//! Writing the curation's tables: duplicates, clusters, centroids, decisions.

use crate::Result;
use crate::clusters::Level;
use crate::duplicates::Member;
use crate::input::Image;
use crate::tree::LeafPlace;
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, TableWriter};
use lapidary_schemas::DecisionReason;
use lapidary_schemas::tables::{self, CLUSTERS_FILE, DECISIONS_FILE, DUPLICATES_FILE};
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

pub(crate) fn write_duplicates(run: &mut StageRun, images: &[Image], members: &[Member]) -> Result<()> {
    let id = |index: usize| Some(images[index].id.0);
    let columns = vec![
        u64s(members.iter().map(|m| id(m.image))),
        u32s(members.iter().map(|m| Some(m.group))),
        u64s(members.iter().map(|m| id(m.representative))),
        Arc::new(members.iter().map(|m| Some(m.kind.code())).collect::<StringArray>()),
        f32s(members.iter().map(|m| Some(m.similarity))),
        u32s(members.iter().map(|m| Some(m.hash_distance_bits))),
        u64s(members.iter().map(|m| id(m.neighbour))),
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
    write(run, &format!("centroids-level-{}.parquet", number + 1), tables::centroids(dim), columns)
}

/// Writes a row for every image: the ranked by rank, then the excluded by id.
pub(crate) fn write_decisions(
    run: &mut StageRun,
    images: &[Image],
    members: &[Member],
    ranked: &[usize],
    places: &[Option<LeafPlace>],
) -> Result<()> {
    let dropped: Vec<&Member> = members.iter().filter(|m| m.image != m.representative).collect();
    let mut excluded = dropped.clone();
    excluded.sort_by_key(|member| images[member.image].id);
    if ranked.len() + excluded.len() != images.len() {
        let text = format!("{} ranked and {} excluded of {} images", ranked.len(), excluded.len(), images.len());
        return Err(PipelineError::Internal(text).into());
    }
    let count = ranked.len();
    let of_ranked = |f: &dyn Fn(usize, usize) -> Option<u32>| {
        let rows = ranked.iter().enumerate().map(|(rank, image)| f(rank, *image));
        u32s(rows.chain(std::iter::repeat_n(None, excluded.len())).collect::<Vec<_>>().into_iter())
    };
    let of_excluded =
        |f: &dyn Fn(&Member) -> u64| u64s(std::iter::repeat_n(None, count).chain(excluded.iter().map(|m| Some(f(m)))));
    let ids = ranked.iter().copied().chain(excluded.iter().map(|m| m.image));
    let reasons = std::iter::repeat_n(DecisionReason::Kept, count).chain(excluded.iter().map(|m| m.kind.decision()));
    let similarities = std::iter::repeat_n(None, count).chain(excluded.iter().map(|m| Some(m.similarity)));
    let columns = vec![
        u64s(ids.map(|index| Some(images[index].id.0))),
        of_ranked(&|rank, _| Some(rank as u32)),
        Arc::new(reasons.map(|reason| Some(reason.code())).collect::<StringArray>()) as ArrayRef,
        of_ranked(&|_, image| places[image].map(|place| place.leaf)),
        of_ranked(&|_, image| places[image].map(|place| place.position)),
        of_excluded(&|m| images[m.representative].id.0),
        f32s(similarities),
        of_excluded(&|m| images[m.neighbour].id.0),
    ];
    write(run, DECISIONS_FILE, tables::decisions(), columns)
}
