//! What every launch needs: contiguous inputs, room for outputs, and how many cubes of how many units.

use burn::tensor::{DType, Shape, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{Runtime, calculate_cube_count_elemwise};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;

/// Units of a cube that does the same to every value. Every GPU has room for as many.
const ELEMENTWISE_UNITS: u32 = 256;

/// The tensor with its values in a row, copied where they are not.
pub(super) fn contiguous<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    burn_cubecl::kernel::into_contiguous(tensor)
}

/// A contiguous tensor to be written over: the one given where nothing else holds its memory, else a copy.
pub(crate) fn writable<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let tensor = contiguous(tensor);
    if tensor.can_mut() && tensor.is_contiguous_buffer() { tensor } else { tensor.copy() }
}

/// Room for an output of the same type on the same device.
pub(super) fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: impl Into<Shape>) -> CubeTensor<R> {
    empty_of(like, shape, like.dtype)
}

/// Room for an output of another type on the same device.
pub(super) fn empty_of<R: CubeRuntime>(like: &CubeTensor<R>, shape: impl Into<Shape>, dtype: DType) -> CubeTensor<R> {
    empty_device_dtype(like.client.clone(), like.device.clone(), shape.into(), dtype)
}

/// How many neighbouring values of a contiguous tensor one unit takes: as many as one load can, where they divide the number of
/// values.
pub(super) fn vector_size<R: CubeRuntime>(tensor: &CubeTensor<R>) -> usize {
    let count = count(tensor);
    tensor.client.io_optimized_vector_sizes(tensor.dtype.size()).find(|size| count.is_multiple_of(*size)).unwrap_or(1)
}

/// The number of values.
pub(super) fn count<R: CubeRuntime>(tensor: &CubeTensor<R>) -> usize {
    tensor.shape().num_elements()
}

/// Cubes and units for one unit per `units`.
pub(super) fn elementwise<R: Runtime>(client: &ComputeClient<R>, units: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(ELEMENTWISE_UNITS);
    (calculate_cube_count_elemwise(client, units, dim), dim)
}

/// As many cubes as asked for, spread over the dimensions that a grid has: a kernel finds its own by `CUBE_POS`, and may be
/// called for some beyond.
pub(super) fn cubes<R: Runtime>(client: &ComputeClient<R>, cubes: usize) -> CubeCount {
    calculate_cube_count_elemwise(client, cubes, CubeDim::new_1d(1))
}

/// Units for a row of `width` values: a power of two, of which a sum in shared memory takes halves.
pub(super) fn units_for_row(width: usize) -> usize {
    width.div_ceil(4).next_power_of_two().clamp(32, 256)
}
