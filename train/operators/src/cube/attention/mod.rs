//! Self-attention of packed sequences on GPUs, in two ways, and which of them is taken.
//!
//! The logs of the softmaxes' sums lie sequence by sequence, in each head by head: `[heads, tokens]`.

mod backward;
mod forward;
mod place;
mod products;
mod tiles;

use super::launch::{count, empty, empty_of};
use crate::packing::Packing;
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeRuntime, FloatElement, IntElement};

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attention {
    /// By tiles of scores in shared memory: one launch for all sequences, and three for their gradients.
    Tiles,
    /// By products of whole matrices of scores, group by group.
    Products,
}

/// Tokens from which on products of matrices are worth their launches.
const TOKENS_FOR_PRODUCTS: usize = 32;

impl Attention {
    /// By products where a GPU has units for them, unless all sequences are short, and where heads are too wide for tiles.
    pub(super) fn of<R: CubeRuntime>(qkv: &CubeTensor<R>, packing: &Packing, heads: usize) -> Self {
        let [_, all] = qkv.shape().dims();
        let has_units = !qkv.client.properties().features.matmul.cmma.is_empty();
        let is_wide = all / 3 / heads > tiles::WIDEST;
        if is_wide || (has_units && packing.longest() >= TOKENS_FOR_PRODUCTS) { Self::Products } else { Self::Tiles }
    }

    /// What each token attends to, `[rows, dim]`, and the logs of the softmaxes' sums, `[heads * rows]`, in f32.
    pub(crate) fn forward<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
        self,
        qkv: CubeTensor<R>,
        packing: &Packing,
        heads: usize,
    ) -> [CubeTensor<R>; 2] {
        let [rows, all] = qkv.shape().dims();
        if count(&qkv) == 0 {
            return [empty(&qkv, [rows, all / 3]), empty_of(&qkv, [heads * rows], DType::F32)];
        }
        match self {
            Self::Tiles => forward::forward(qkv, packing, heads),
            Self::Products => products::forward::<R, F, I, B>(qkv, packing, heads),
        }
    }

    /// The gradient of queries, keys and values, `[rows, 3 * dim]`.
    pub(crate) fn backward<R: CubeRuntime, F: FloatElement, I: IntElement, B: BoolElement>(
        self,
        qkv: CubeTensor<R>,
        (packing, heads): (&Packing, usize),
        output: CubeTensor<R>,
        log_sums: CubeTensor<R>,
        gradient: CubeTensor<R>,
    ) -> CubeTensor<R> {
        if count(&qkv) == 0 {
            return empty(&qkv, qkv.shape());
        }
        match self {
            Self::Tiles => backward::backward(qkv, (packing, heads), output, log_sums, gradient),
            Self::Products => products::backward::<R, F, I, B>(qkv, (packing, heads), output, log_sums, gradient),
        }
    }
}
