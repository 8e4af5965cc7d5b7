//! PCA whitening of embeddings, as SSCD has it (Pizzi et al. 2022): rotated onto the principal axes of the set, each
//! divided by its standard deviation, and scaled to unit length again.
//!
//! It is fitted on the pool alone, never on what the pool is compared with. The map is written beside the tables it was
//! used for, so that other embeddings can be carried into the same space.

use crate::input::Vectors;
use crate::{CurateError, Result};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field};
use faiss::vector_transform::{PCAMatrixImpl, VectorTransform};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{StageRun, TableWriter, list_values, read_table};
use lapidary_schemas::tables::{self, WHITENING_FILE};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Whitening is the eigenvalues to this power.
const EIGEN_POWER: f32 = -0.5;

/// The map, and how to use it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Whitening {
    /// Values a vector has afterwards.
    dim: usize,
    /// What the zero vector is carried to.
    bias: Vec<f32>,
    /// What each value of a vector adds, one after the other.
    columns: Vec<f32>,
}

impl Whitening {
    /// Fits a map to `dim` values on the first `fitted_on` of the vectors.
    ///
    /// # Errors
    /// When there are fewer vectors or values than `dim`, or FAISS refuses.
    pub(crate) fn fit(vectors: &Vectors, fitted_on: usize, dim: usize) -> Result<Self> {
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
        let mut axes = vec![0f32; (vectors.dim + 1) * vectors.dim];
        (0..vectors.dim).for_each(|axis| axes[(axis + 1) * vectors.dim + axis] = 1.0);
        let mut bias = applied(&pca, &axes, vectors.dim, dim);
        let mut columns = bias.split_off(dim);
        columns.chunks_exact_mut(dim).for_each(|row| row.iter_mut().zip(&bias).for_each(|(value, b)| *value -= b));
        Ok(Self { dim, bias, columns })
    }

    /// All vectors, carried over and of unit length.
    ///
    /// # Errors
    /// When they are not of the length that the map was fitted on.
    pub(crate) fn apply(&self, vectors: &Vectors) -> Result<Vectors> {
        if self.columns.len() != vectors.dim * self.dim {
            let fitted = self.columns.len() / self.dim.max(1);
            return Err(CurateError::Mismatch(format!("whitening of {fitted} values, embeddings of {}", vectors.dim)));
        }
        let mut values = vec![0f32; vectors.len() * self.dim];
        values.par_chunks_exact_mut(self.dim).enumerate().for_each(|(row, carried)| {
            carried.copy_from_slice(&self.bias);
            for (value, column) in vectors.row(row).iter().zip(self.columns.chunks_exact(self.dim)) {
                carried.iter_mut().zip(column).for_each(|(sum, weight)| *sum += value * weight);
            }
            let norm = carried.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
            carried.iter_mut().for_each(|value| *value /= norm);
        });
        Ok(Vectors { dim: self.dim, values })
    }

    /// Writes the map beside the tables that it was used for.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn write(&self, run: &mut StageRun) -> Result<()> {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let rows = [&self.bias[..], &self.columns].concat();
        let numbers: UInt32Array = (0..(rows.len() / self.dim) as u32).map(Some).collect();
        let list = FixedSizeListArray::try_new(item, self.dim as i32, Arc::new(Float32Array::from(rows)), None)
            .map_err(|e| PipelineError::Internal(e.to_string()))?;
        let schema = tables::whitening(self.dim);
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(numbers) as ArrayRef, Arc::new(list)])
            .map_err(|e| PipelineError::Internal(e.to_string()))?;
        let mut table = TableWriter::create(&run.path(WHITENING_FILE), schema)?;
        table.write(&batch)?;
        run.note_table(WHITENING_FILE, table.finish()?);
        Ok(())
    }

    /// Reads a map that was written.
    ///
    /// # Errors
    /// When the file is not one.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let (mut dim, mut bias) = (0, Vec::new());
        for batch in read_table(path, &[])? {
            let (values, length) = list_values(&batch, "values")?;
            dim = length;
            bias.extend_from_slice(values);
        }
        if dim == 0 || bias.len() < dim {
            return Err(PipelineError::format(path, "it holds no map").into());
        }
        let columns = bias.split_off(dim);
        Ok(Self { dim, bias, columns })
    }
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
        let unit = Whitening::fit(&Vectors { dim: 2, values: values.clone() }, 400, 2).expect("fits");
        let unit = unit.apply(&Vectors { dim: 2, values: values.clone() }).expect("two values");
        for (by_map, by_faiss) in unit.values.chunks_exact(2).zip(carried.chunks_exact(2)) {
            let norm = by_faiss[0].hypot(by_faiss[1]);
            assert!(by_map.iter().zip(by_faiss).all(|(m, f)| (m - f / norm).abs() < 1e-3), "{by_map:?} {by_faiss:?}");
        }
        // FAISS divides by the root of the scatter, not of the variance: the length is 1 over the vectors.
        for axis in 0..2 {
            let of = || carried.iter().skip(axis).step_by(2);
            let (sum, square) = (of().sum::<f32>(), of().map(|v| v * v).sum::<f32>());
            assert!(sum.abs() < 1e-3 && (square - 1.0).abs() < 0.05, "axis {axis}: {sum} {square}");
        }
    }
}
