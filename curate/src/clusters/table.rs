//! The tables of clusters and of their centroids.

use super::Level;
use crate::Result;
use crate::input::Image;
use crate::input::columns::{f32s, u32s, u64s, write_table};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array};
use arrow::datatypes::{DataType, Field};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::StageRun;
use lapidary_schemas::tables::{self, CLUSTERS_FILE};
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
    write_table(run, &tables::centroids_file(number + 1), tables::centroids(dim), columns)
}
