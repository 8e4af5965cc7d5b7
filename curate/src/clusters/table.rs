//! The tables of clusters and of their centroids.

use super::Level;
use super::hierarchy::Fitted;
use crate::Result;
use crate::input::columns::{f32s, u32s, u64s, write_table};
use crate::input::{Image, Vectors};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, column, list_values, read_table};
use lapidary_schemas::tables::{self, CLUSTERS_FILE, centroids_file};
use std::path::Path;
use std::sync::Arc;

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
    write_table(run, CLUSTERS_FILE, tables::clusters(levels.len()), columns)
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
    write_table(run, &centroids_file(number + 1), tables::centroids(dim), columns)
}

/// The finest cluster of each image of a folder's tree and its distance to the centroid, by id.
pub(super) fn read_leaves(folder: &Path) -> Result<impl Iterator<Item = (u64, u32, f32)>> {
    let mut leaves = Vec::new();
    for batch in read_table(&folder.join(CLUSTERS_FILE), &["image_id", "cluster_level_1", "distance_level_1"])? {
        let ids: &UInt64Array = column(&batch, "image_id")?;
        let (clusters, distances): (&UInt32Array, &Float32Array) =
            (column(&batch, "cluster_level_1")?, column(&batch, "distance_level_1")?);
        leaves.extend((0..ids.len()).map(|row| (ids.value(row), clusters.value(row), distances.value(row))));
    }
    Ok(leaves.into_iter())
}

/// The ids of the images of a folder's tree, sorted.
///
/// # Errors
/// When the table cannot be read.
pub(crate) fn read_ids(folder: &Path) -> Result<Vec<u64>> {
    Ok(read_leaves(folder)?.map(|(id, ..)| id).collect())
}

/// Reads a folder's tree: the ids of its images, sorted, and its levels, the finest first.
///
/// # Errors
/// When a table cannot be read.
pub(crate) fn read_tree(folder: &Path) -> Result<(Vec<u64>, Vec<Level>)> {
    let (mut ids, mut levels) = (Vec::new(), read_levels(folder)?);
    if let Some(finest) = levels.first_mut() {
        for (id, cluster, distance) in read_leaves(folder)? {
            ids.push(id);
            finest.assignment.push(cluster);
            finest.distances.push(distance);
        }
    }
    Ok((ids, levels))
}

/// The levels of a folder's tree, the finest without its points.
///
/// # Errors
/// When a table cannot be read.
pub(crate) fn read_levels(folder: &Path) -> Result<Vec<Level>> {
    let mut levels: Vec<Level> = Vec::new();
    // What the centroids of the level before belong to.
    let mut parents: Vec<u32> = Vec::new();
    let paths = (1..).map(|level| folder.join(centroids_file(level)));
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
        levels.push(Level { centroids, assignment, distances, fitted: Fitted::default() });
    }
    Ok(levels)
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}
