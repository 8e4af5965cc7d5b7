//! PCA whitening of embeddings, as SSCD has it (Pizzi et al. 2022): rotated onto the principal axes of the set, each divided
//! by its standard deviation, and scaled to unit length again.
//!
//! It is fitted on the pool alone, never on what the pool is compared with. The map is written beside the tables it was
//! used for, so that other embeddings can be carried into the same space.

use crate::input::Vectors;
use crate::{CurateError, Result};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field};
use faiss::vector_transform::{PCAMatrixImpl, VectorTransform};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, TableWriter};
use lapidary_schemas::tables::{self, WHITENING_FILE};
use std::sync::Arc;

/// Whitening is the eigenvalues to this power.
const EIGEN_POWER: f32 = -0.5;

/// All vectors, carried to `dim` values by a map fitted on the first `fitted_on` of them, and of unit length.
///
/// # Errors
/// When there are fewer vectors or values than `dim`, or FAISS refuses.
pub(crate) fn whitened(vectors: &Vectors, fitted_on: usize, dim: usize, run: &mut StageRun) -> Result<Vectors> {
    if dim > vectors.dim || dim > fitted_on {
        let text = format!(
            "curate.whiten_dim is {dim}, but {fitted_on} embeddings of {} values are there\nhint: lower it",
            vectors.dim
        );
        return Err(PipelineError::Usage(text).into());
    }
    let mut pca = PCAMatrixImpl::new(vectors.dim as u32, dim as u32, EIGEN_POWER, false)
        .map_err(CurateError::faiss("making a PCA"))?;
    let train = &vectors.values[..fitted_on * vectors.dim];
    pca.train(fitted_on, train).map_err(CurateError::faiss("fitting a PCA"))?;
    write_map(&pca, vectors.dim, dim, run)?;
    let mut values = applied(&pca, &vectors.values, vectors.dim, dim);
    for vector in values.chunks_exact_mut(dim) {
        let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
        vector.iter_mut().for_each(|value| *value /= norm);
    }
    Ok(Vectors { dim, values })
}

/// Vectors of `from` values carried to `to` values.
fn applied(pca: &PCAMatrixImpl, values: &[f32], from: usize, to: usize) -> Vec<f32> {
    let mut carried = pca.apply_noalloc(values);
    let count = values.len() / from * to;
    assert!(carried.is_empty() && carried.capacity() >= count, "faiss 0.13 leaves the length at 0: see below");
    #[expect(unsafe_code, reason = "faiss 0.13.0 fills the vector that it returns, but does not set its length")]
    // SAFETY: the capacity is there, and FAISS has written `count` values into it.
    unsafe {
        carried.set_len(count);
    }
    carried
}

/// Writes the map: row 0 is what the zero vector becomes, row `i + 1` what axis `i` adds to it.
fn write_map(pca: &PCAMatrixImpl, from: usize, to: usize, run: &mut StageRun) -> Result<()> {
    let mut axes = vec![0f32; (from + 1) * from];
    (0..from).for_each(|axis| axes[(axis + 1) * from + axis] = 1.0);
    let mut rows = applied(pca, &axes, from, to);
    let (bias, columns) = rows.split_at_mut(to);
    columns.chunks_exact_mut(to).for_each(|row| row.iter_mut().zip(&*bias).for_each(|(value, b)| *value -= b));
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let list = FixedSizeListArray::try_new(item, to as i32, Arc::new(Float32Array::from(rows)), None)
        .map_err(|e| PipelineError::Internal(e.to_string()))?;
    let numbers: UInt32Array = (0..=from as u32).map(Some).collect();
    let schema = tables::whitening(to);
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(numbers) as ArrayRef, Arc::new(list)])
        .map_err(|e| PipelineError::Internal(e.to_string()))?;
    let mut table = TableWriter::create(&run.path(WHITENING_FILE), schema)?;
    table.write(&batch)?;
    run.note_table(WHITENING_FILE, table.finish()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applied_is_the_map_of_each_vector() {
        // Two axes of different spread: whitening to two values makes both variances equal.
        let values: Vec<f32> =
            (0..400).flat_map(|i| [((i * 37) % 101) as f32, 5.0 + 0.1 * ((i * 53) % 97) as f32]).collect();
        let mut pca = PCAMatrixImpl::new(2, 2, EIGEN_POWER, false).expect("a PCA");
        pca.train(400, &values).expect("fits");
        let carried = applied(&pca, &values, 2, 2);
        // FAISS divides by the root of the scatter, not of the variance: the length is 1 over the vectors.
        for axis in 0..2 {
            let of = || carried.iter().skip(axis).step_by(2);
            let (sum, square) = (of().sum::<f32>(), of().map(|v| v * v).sum::<f32>());
            assert!(sum.abs() < 1e-3 && (square - 1.0).abs() < 0.05, "axis {axis}: {sum} {square}");
        }
    }
}
