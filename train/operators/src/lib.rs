//! Operators of a Vision Transformer and its optimiser that are worth more than a chain of a backend's own: one trait that
//! extends a backend, each with an explicit backward.
//!
//! `reference` states each one plainly in burn's operations; that is what a backend has that brings nothing of its own, and
//! what tests hold the others to. `flex` has them for the CPU, `cube` for GPUs, `autodiff` gives them gradients. Shapes are
//! `[rows, width]` unless said otherwise; any layout is taken, what comes out is contiguous.

pub mod adapters;
mod autodiff;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub mod check;
mod collective;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cube;
mod flex;
#[cfg(all(feature = "fusion", any(feature = "cuda", feature = "wgpu")))]
mod fusion;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
mod packing;
mod reference;
mod stream;
#[cfg(test)]
mod tests;
mod threads;

pub use collective::{Alone, Collective, Ranks, collectives, standardise_over_ranks, sum_over_ranks};
pub use flex::exp;
#[cfg(all(feature = "fusion", feature = "cuda"))]
pub use fusion::FusedCuda;
#[cfg(all(feature = "fusion", feature = "wgpu"))]
pub use fusion::FusedWgpu;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub use gpu::{Gpu, GpuDevice, GpuTensor};
pub use packing::{Group, Packing};
pub use stream::Stream;
pub use threads::on_one_thread;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{Int, Tensor, TensorPrimitive};

/// A tensor as a backend has it.
type Float<B> = FloatTensor<B>;

/// A backend with these operators. The methods are of primitives; the functions of this module are of tensors.
pub trait Operators: Backend {
    /// Whether tensors lie in the memory of the processor, so that what is not an operator is best done there.
    const ON_HOST: bool = false;

    /// The backend without gradients: itself where it has none.
    type Inner: Operators<Inner = Self::Inner, Device = Self::Device>;

    /// The sum of all ranks' tensors, whose gradient goes to each rank as it is; see [`sum_over_ranks`].
    fn sum_of_ranks(share: Float<Self>, ranks: &Ranks<Self::Inner>) -> Float<Self>;

    /// See [`standardise_over_ranks`].
    fn standardise_columns_of_ranks(
        x: Float<Self>,
        all_rows: usize,
        epsilon: f64,
        ranks: &Ranks<Self::Inner>,
    ) -> Float<Self>;

    /// The ends of several ranks on these devices, in their order; see [`collectives`].
    fn collectives(devices: &[Self::Device]) -> Vec<Ranks<Self::Inner>> {
        collective::threads::<Self::Inner>(devices)
    }

    /// `x w + b`; see [`linear`].
    fn linear_map(x: Float<Self>, weight: Float<Self>, bias: Option<Float<Self>>) -> Float<Self> {
        reference::linear::<Self>(x, weight, bias)
    }

    /// The gradients of x, of the weight and of the bias.
    fn linear_map_backward(
        x: Float<Self>,
        weight: Float<Self>,
        gradient: Float<Self>,
        wanted: [bool; 3],
    ) -> [Option<Float<Self>>; 3] {
        reference::linear_backward::<Self>(x, weight, gradient, wanted)
    }

    /// See [`gelu`].
    fn exact_gelu(x: Float<Self>) -> Float<Self> {
        reference::gelu::<Self>(x)
    }

    /// The gradient of x.
    fn exact_gelu_backward(x: Float<Self>, gradient: Float<Self>) -> Float<Self> {
        reference::gelu_backward::<Self>(x, gradient)
    }

    /// Normalised rows, and each row's mean and inverse deviation `[rows, 2]`; see [`layer_norm`].
    fn normalise_rows(x: Float<Self>, scale: Float<Self>, shift: Float<Self>, epsilon: f64) -> [Float<Self>; 2] {
        reference::layer_norm::<Self>(x, scale, shift, epsilon)
    }

    /// The gradients of x, of the scale and of the shift.
    fn normalise_rows_backward(
        x: Float<Self>,
        scale: Float<Self>,
        statistics: Float<Self>,
        gradient: Float<Self>,
    ) -> [Float<Self>; 3] {
        reference::layer_norm_backward::<Self>(x, scale, statistics, gradient)
    }

    /// Standardised columns, and each column's mean and inverse deviation `[2, width]`; see [`standardise`].
    fn standardise_columns(x: Float<Self>, epsilon: f64) -> [Float<Self>; 2] {
        reference::standardise::<Self>(x, epsilon)
    }

    /// The gradient of x.
    fn standardise_columns_backward(x: Float<Self>, statistics: Float<Self>, gradient: Float<Self>) -> Float<Self> {
        reference::standardise_backward::<Self>(x, statistics, gradient)
    }

    /// What each token attends to, `[rows, dim]`, and the logs of the softmaxes' sums, `[heads * rows]`, sequence by sequence
    /// and in each head by head; see [`packed_attention`].
    fn self_attention(qkv: Float<Self>, packing: &Packing, heads: usize) -> [Float<Self>; 2] {
        reference::attention::<Self>(qkv, packing, heads)
    }

    /// The gradient of queries, keys and values.
    fn self_attention_backward(
        qkv: Float<Self>,
        packing_and_heads: (&Packing, usize),
        output: Float<Self>,
        log_sums: Float<Self>,
        gradient: Float<Self>,
    ) -> Float<Self> {
        reference::attention_backward::<Self>(qkv, packing_and_heads, output, log_sums, gradient)
    }

    /// `tokens + branch * scale * keep`; see `residual`.
    fn scaled_residual(
        tokens: Float<Self>,
        branch: Float<Self>,
        scale: Option<Float<Self>>,
        keep: Option<Float<Self>>,
    ) -> Float<Self> {
        reference::residual::<Self>(tokens, branch, scale, keep)
    }

    /// The gradients of the branch and of the scale, where there is one; that of the tokens is the output's.
    fn scaled_residual_backward(
        branch: Option<Float<Self>>,
        scale: Option<Float<Self>>,
        keep: Option<Float<Self>>,
        gradient: Float<Self>,
    ) -> (Float<Self>, Option<Float<Self>>) {
        reference::residual_backward::<Self>(branch, scale, keep, gradient)
    }

    /// The cross-entropy of each row, `[rows]`, and the log of each softmax's sum, `[rows]`; see [`soft_cross_entropy`].
    fn row_cross_entropy(logits: Float<Self>, targets: Float<Self>, temperature: f64) -> [Float<Self>; 2] {
        reference::cross_entropy::<Self>(logits, targets, temperature)
    }

    /// The gradient of the logits.
    fn row_cross_entropy_backward(
        logits: Float<Self>,
        targets: Float<Self>,
        log_sums: Float<Self>,
        gradient: Float<Self>,
        temperature: f64,
    ) -> Float<Self> {
        reference::cross_entropy_backward::<Self>(logits, targets, log_sums, gradient, temperature)
    }

    /// All of them after a step; see [`AdamwStep`].
    fn adamw(values: AdamwValues<Self>, step: &AdamwStep) -> AdamwState<Self> {
        reference::adamw::<Self>(values, step)
    }

    /// Bytes as numbers, four of each word, the lowest first; see [`unpack_bytes`].
    fn bytes_of_words(words: IntTensor<Self>) -> Float<Self> {
        reference::bytes_of_words::<Self>(words)
    }

    /// The sum of the squares of all values, shape `[1]`.
    fn sum_of_squares(x: Float<Self>) -> Float<Self> {
        reference::sum_of_squares::<Self>(x)
    }

    /// See [`clip_divisor`].
    fn clip_divisor(square: Float<Self>, norm_max: f64) -> Float<Self> {
        reference::clip_divisor::<Self>(square, norm_max)
    }

    /// `old * momentum + new * (1 - momentum)`.
    fn moving_average(old: Float<Self>, new: Float<Self>, momentum: f64) -> Float<Self> {
        reference::moving_average::<Self>(old, new, momentum)
    }
}

/// A backend with gradients and these operators, below them too.
pub trait TrainBackend:
    AutodiffBackend<InnerBackend: Operators<Inner = <Self as AutodiffBackend>::InnerBackend>>
    + Operators<Inner = <Self as AutodiffBackend>::InnerBackend>
{
}

impl<B> TrainBackend for B where
    B: AutodiffBackend<InnerBackend: Operators<Inner = <B as AutodiffBackend>::InnerBackend>>
        + Operators<Inner = <B as AutodiffBackend>::InnerBackend>
{
}

/// A parameter with what follows it, all of one shape.
#[derive(Debug)]
pub struct AdamwState<B: Backend> {
    /// The parameter.
    pub value: Float<B>,
    /// The moving mean of the gradients.
    pub mean: Float<B>,
    /// The moving mean of their squares.
    pub square: Float<B>,
    /// The teacher's parameter, where there is a teacher that has it: the moving average of `value`.
    pub average: Option<Float<B>>,
}

/// What a step of AdamW reads, all of one shape but for the divisor.
#[derive(Debug)]
pub struct AdamwValues<B: Backend> {
    /// What is changed.
    pub state: AdamwState<B>,
    /// The parameter's gradient.
    pub gradient: Float<B>,
    /// What the gradient is divided by, shape `[1]`; none means 1.
    pub divisor: Option<Float<B>>,
}

/// A step of AdamW (Loshchilov and Hutter 2019), with scalars folded:
/// mean = beta_1 mean + (1 - beta_1) g, square = beta_2 square + (1 - beta_2) g^2, where g is the gradient over its divisor;
/// value = value * `keep` - `rate` * mean / (sqrt(square) * `inverse_deviation` + `epsilon`);
/// then average = `momentum` average + (1 - `momentum`) value.
#[derive(Debug, Clone, Copy)]
pub struct AdamwStep {
    /// What the mean keeps.
    pub beta_1: f64,
    /// What the squares' mean keeps.
    pub beta_2: f64,
    /// 1 less the learning rate times the weight decay.
    pub keep: f64,
    /// The learning rate over 1 - beta_1^t.
    pub rate: f64,
    /// 1 over the root of 1 - beta_2^t.
    pub inverse_deviation: f64,
    /// Added to the root of the squares.
    pub epsilon: f64,
    /// What the average keeps.
    pub momentum: f64,
}

fn float<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Float<B> {
    tensor.into_primitive().tensor()
}

fn tensor<B: Backend, const D: usize>(primitive: Float<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// A linear map of the last dimension: `x w + b`.
///
/// # Shapes
/// - x: `[..., inputs]`; weight: `[inputs, outputs]`; bias: `[outputs]`
/// - returns: `[..., outputs]`
pub fn linear<B: Operators, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, D> {
    let mut shape = x.dims();
    let (inputs, rows) = (shape[D - 1], shape[..D - 1].iter().product::<usize>());
    shape[D - 1] = weight.dims()[1];
    let mapped = B::linear_map(float(x.reshape([rows, inputs])), float(weight), bias.map(float));
    tensor::<B, 2>(mapped).reshape(shape)
}

/// GELU (Hendrycks and Gimpel 2016) by the normal distribution itself, not its tanh form.
pub fn gelu<B: Operators, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    tensor(B::exact_gelu(float(x)))
}

/// LayerNorm (Ba et al. 2016) over the last dimension.
///
/// # Shapes
/// - x: `[..., width]`; scale, shift: `[width]`
/// - returns: as x
pub fn layer_norm<B: Operators, const D: usize>(
    x: Tensor<B, D>,
    scale: Tensor<B, 1>,
    shift: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, D> {
    let shape = x.dims();
    let (width, rows) = (shape[D - 1], shape[..D - 1].iter().product::<usize>());
    let [normalised, _] = B::normalise_rows(float(x.reshape([rows, width])), float(scale), float(shift), epsilon);
    tensor::<B, 2>(normalised).reshape(shape)
}

/// Each column less its mean, over its standard deviation (biased): BatchNorm's normalisation (Ioffe and Szegedy 2015) by the
/// statistics of the batch, which Barlow Twins takes too.
///
/// # Shapes
/// - x: `[rows, width]`
/// - returns: as x
pub fn standardise<B: Operators>(x: Tensor<B, 2>, epsilon: f64) -> Tensor<B, 2> {
    let [standardised, _] = B::standardise_columns(float(x), epsilon);
    tensor(standardised)
}

/// Self-attention (Vaswani et al. 2017, eq. 1): softmax(q k' / sqrt(head width)) v in each head. The scores of all tokens are
/// never in memory at once.
///
/// # Shapes
/// - qkv: `[batch, tokens, 3 * dim]`, queries, keys and values side by side, each head by head
/// - returns: `[batch, tokens, dim]`, head by head
pub fn attention<B: Operators>(qkv: Tensor<B, 3>, heads: usize) -> Tensor<B, 3> {
    let [batch, tokens, all] = qkv.dims();
    let rows = qkv.reshape([batch * tokens, all]);
    packed_attention(rows, &Packing::batch(batch, tokens), heads).reshape([batch, tokens, all / 3])
}

/// The same of sequences of several lengths, each by itself, in one call.
///
/// # Shapes
/// - qkv: `[rows, 3 * dim]`, a row a token, as the packing has them
/// - returns: `[rows, dim]`
///
/// # Panics
/// When the packing is not of so many rows.
pub fn packed_attention<B: Operators>(qkv: Tensor<B, 2>, packing: &Packing, heads: usize) -> Tensor<B, 2> {
    assert_eq!(qkv.dims()[0], packing.rows(), "a packing is of all rows");
    let [mixed, _] = B::self_attention(float(qkv), packing, heads);
    tensor(mixed)
}

/// A branch added to the tokens, scaled by channel (LayerScale) and by image (stochastic depth).
///
/// # Shapes
/// - tokens, branch: `[batch, tokens, dim]`; scale: `[dim]`; keep: `[batch]`, of which no gradient is taken
/// - returns: as tokens
pub fn residual<B: Operators>(
    tokens: Tensor<B, 3>,
    branch: Tensor<B, 3>,
    scale: Option<Tensor<B, 1>>,
    keep: Option<Tensor<B, 1>>,
) -> Tensor<B, 3> {
    if scale.is_none() && keep.is_none() {
        return tokens + branch;
    }
    tensor(B::scaled_residual(float(tokens), float(branch), scale.map(float), keep.map(float)))
}

/// The cross-entropy of each row to its distribution: -sum of target * log softmax(logits / temperature).
///
/// # Shapes
/// - logits: `[rows, classes]`
/// - targets: `[targets, classes]`, of which row r of the logits has row r modulo their number; no gradient is taken of them
/// - returns: `[rows]`
pub fn soft_cross_entropy<B: Operators>(logits: Tensor<B, 2>, targets: Tensor<B, 2>, temperature: f64) -> Tensor<B, 1> {
    let [losses, _] = B::row_cross_entropy(float(logits), float(targets), temperature);
    tensor(losses)
}

/// A parameter, AdamW's moving means of it and its moving average, where it has one.
#[derive(Debug)]
pub struct Moving<B: Backend> {
    /// The parameter.
    pub value: Tensor<B, 1>,
    /// The moving mean of its gradients.
    pub mean: Tensor<B, 1>,
    /// The moving mean of their squares.
    pub square: Tensor<B, 1>,
    /// The teacher's parameter, where there is one.
    pub average: Option<Tensor<B, 1>>,
}

/// What a step of AdamW makes of them.
///
/// # Shapes
/// - all: `[count]`; divisor: `[1]`
pub fn adamw<B: Operators>(
    moving: Moving<B>,
    gradient: Tensor<B, 1>,
    divisor: Option<Tensor<B, 1>>,
    step: &AdamwStep,
) -> Moving<B> {
    let Moving { value, mean, square, average } = moving;
    let [value, mean, square] = [value, mean, square].map(float);
    let state = AdamwState { value, mean, square, average: average.map(float) };
    let values = AdamwValues { state, gradient: float(gradient), divisor: divisor.map(float) };
    let AdamwState { value, mean, square, average } = B::adamw(values, step);
    let [value, mean, square] = [value, mean, square].map(tensor);
    Moving { value, mean, square, average: average.map(tensor) }
}

/// The moving average of a parameter: `old * momentum + new * (1 - momentum)`.
pub fn moving_average<B: Operators>(old: Tensor<B, 1>, new: Tensor<B, 1>, momentum: f64) -> Tensor<B, 1> {
    tensor(B::moving_average(float(old), float(new), momentum))
}

/// Bytes four to a word, the first lowest, the last word filled with zeros: as they go to a device, a quarter of what floats are.
pub fn packed_bytes(bytes: impl Iterator<Item = u8>) -> Vec<i32> {
    let mut words = Vec::with_capacity(bytes.size_hint().0.div_ceil(4));
    let mut word = [0; 4];
    let mut filled = 0;
    for byte in bytes {
        word[filled] = byte;
        filled += 1;
        if filled == 4 {
            words.push(i32::from_le_bytes(std::mem::take(&mut word)));
            filled = 0;
        }
    }
    if filled > 0 {
        words.push(i32::from_le_bytes(word));
    }
    words
}

/// The bytes of [`packed_bytes`] as numbers of 0 to 255.
///
/// # Shapes
/// - words: `[words]`
/// - returns: `[4 * words]`
pub fn unpack_bytes<B: Operators>(words: Tensor<B, 1, Int>) -> Tensor<B, 1> {
    tensor(B::bytes_of_words(words.into_primitive()))
}

/// What clipping divides a gradient by, of the square of its norm: the norm and 1e-6 over the greatest norm, at least 1 (PyTorch's
/// `clip_grad_norm_`). What is not a number stays so.
///
/// # Shapes
/// - square: `[1]`; returns: the same
pub fn clip_divisor<B: Operators>(square: Tensor<B, 1>, norm_max: f64) -> Tensor<B, 1> {
    tensor(B::clip_divisor(float(square), norm_max))
}

/// The sum of the squares of all values, shape `[1]`.
pub fn sum_of_squares<B: Operators>(values: Tensor<B, 1>) -> Tensor<B, 1> {
    tensor(B::sum_of_squares(float(values)))
}
