//! The nearest centroid of each point, through FAISS, so many points at a time.

use crate::input::Vectors;
use crate::{CurateError, Result};
use faiss::Index;
use faiss::index::flat::FlatIndexImpl;
use lapidary_pipeline::interrupt;

/// Points a call to FAISS assigns; between calls an interrupt is noticed.
const ASSIGNED: usize = 65_536;

/// The nearest centroid of each point and the distance to it.
pub(crate) fn assign(points: &Vectors, centroids: &Vectors) -> Result<(Vec<u32>, Vec<f32>)> {
    let mut index = FlatIndexImpl::new_l2(points.dim as u32).map_err(CurateError::faiss("making a flat index"))?;
    index.add(&centroids.values).map_err(CurateError::faiss("adding centroids"))?;
    let (clusters, mut distances) = assign_squared(points, &mut index)?;
    distances.iter_mut().for_each(|distance| *distance = distance.sqrt());
    Ok((clusters, distances))
}

/// The nearest centroid of an index to each point, and the squared distance to it.
pub(crate) fn assign_squared(points: &Vectors, index: &mut FlatIndexImpl) -> Result<(Vec<u32>, Vec<f32>)> {
    let (mut clusters, mut distances) = (Vec::with_capacity(points.len()), Vec::with_capacity(points.len()));
    for queries in points.values.chunks(ASSIGNED * points.dim.max(1)) {
        interrupt::check()?;
        let found = index.search(queries, 1).map_err(CurateError::faiss("assigning points"))?;
        clusters.extend(found.labels.iter().map(|label| label.get().unwrap_or(0) as u32));
        // Rounding can make them negative.
        distances.extend(found.distances.iter().map(|squared| squared.max(0.0)));
    }
    Ok((clusters, distances))
}
