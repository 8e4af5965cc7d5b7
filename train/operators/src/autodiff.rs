//! The operators with gradients: forward and backward are those of the backend below. The optimiser's have none, and are called
//! below alone.

use super::{Float, Operators, Packing, Ranks, collective};
use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::IntTensor;

/// Hands each parent that has a gradient what was found of it.
fn register<B: Operators, const N: usize>(
    gradients: &mut Gradients,
    parents: [Option<NodeId>; N],
    found: [Option<Float<B>>; N],
) {
    for (parent, gradient) in parents.into_iter().zip(found) {
        if let (Some(parent), Some(gradient)) = (parent, gradient) {
            gradients.register::<B>(parent, gradient);
        }
    }
}

#[derive(Debug)]
struct Linear;

impl<B: Operators> Backward<B, 3> for Linear {
    /// x and the weight.
    type State = [Float<B>; 2];

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [x, weight] = ops.state;
        let wanted = [0, 1, 2].map(|index| ops.parents[index].is_some());
        let found = B::linear_map_backward(x, weight, gradient, wanted);
        register::<B, 3>(gradients, ops.parents.map(|parent| parent.map(|node| node.id)), found);
    }
}

/// A linear map that has no bias.
#[derive(Debug)]
struct Product;

impl<B: Operators> Backward<B, 2> for Product {
    type State = [Float<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [x, weight] = ops.state;
        let wanted = [ops.parents[0].is_some(), ops.parents[1].is_some(), false];
        let [of_x, of_weight, _] = B::linear_map_backward(x, weight, gradient, wanted);
        register::<B, 2>(gradients, ops.parents.map(|parent| parent.map(|node| node.id)), [of_x, of_weight]);
    }
}

#[derive(Debug)]
struct Gelu;

impl<B: Operators> Backward<B, 1> for Gelu {
    type State = Float<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let x = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| B::exact_gelu_backward(x, gradient));
    }
}

#[derive(Debug)]
struct LayerNorm;

impl<B: Operators> Backward<B, 3> for LayerNorm {
    /// x, the scale and the statistics.
    type State = [Float<B>; 3];

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [x, scale, statistics] = ops.state;
        let found = B::normalise_rows_backward(x, scale, statistics, gradient);
        register::<B, 3>(gradients, ops.parents.map(|parent| parent.map(|node| node.id)), found.map(Some));
    }
}

#[derive(Debug)]
struct Standardise;

impl<B: Operators> Backward<B, 1> for Standardise {
    /// x and the statistics.
    type State = [Float<B>; 2];

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x, statistics] = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::standardise_columns_backward(x, statistics, gradient)
        });
    }
}

#[derive(Debug)]
struct Attention;

impl<B: Operators> Backward<B, 1> for Attention {
    /// Queries, keys and values; what came out; the logs of the softmaxes' sums; the packing and the heads.
    type State = ([Float<B>; 3], Packing, usize);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let ([qkv, output, log_sums], packing, heads) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::self_attention_backward(qkv, (&packing, heads), output, log_sums, gradient)
        });
    }
}

/// A branch added without a scale.
#[derive(Debug)]
struct KeptResidual;

impl<B: Operators> Backward<B, 2> for KeptResidual {
    /// What each image keeps.
    type State = Option<Float<B>>;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (of_branch, _) = B::scaled_residual_backward(None, None, ops.state, gradient.clone());
        let found = [Some(gradient), Some(of_branch)];
        register::<B, 2>(gradients, ops.parents.map(|parent| parent.map(|node| node.id)), found);
    }
}

#[derive(Debug)]
struct ScaledResidual;

impl<B: Operators> Backward<B, 3> for ScaledResidual {
    /// The branch, the scale, and what each image keeps.
    type State = ([Float<B>; 2], Option<Float<B>>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let ([branch, scale], keep) = ops.state;
        let (of_branch, of_scale) = B::scaled_residual_backward(Some(branch), Some(scale), keep, gradient.clone());
        let found = [Some(gradient), Some(of_branch), of_scale];
        register::<B, 3>(gradients, ops.parents.map(|parent| parent.map(|node| node.id)), found);
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl<B: Operators> Backward<B, 1> for CrossEntropy {
    /// Logits, targets, the logs of the softmaxes' sums; and the temperature.
    type State = ([Float<B>; 3], f64);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let ([logits, targets, log_sums], temperature) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::row_cross_entropy_backward(logits, targets, log_sums, gradient, temperature)
        });
    }
}

/// A sum over ranks of which every rank computes the same.
#[derive(Debug)]
struct SumOfRanks;

impl<B: Operators> Backward<B, 1> for SumOfRanks {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| gradient);
    }
}

#[derive(Debug)]
struct StandardiseOfRanks;

impl<B: Operators<Inner = B>> Backward<B, 1> for StandardiseOfRanks {
    /// What came out with each column's inverse deviation, the rows of all ranks, and the ranks.
    type State = ([Float<B>; 2], usize, Ranks<B>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (standardised, all_rows, ranks) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            collective::standardised_backward::<B>(standardised, gradient, all_rows, &ranks)
        });
    }
}

impl<B: Operators<Inner = B>, C: CheckpointStrategy> Operators for Autodiff<B, C> {
    type Inner = B;

    fn sum_of_ranks(share: Float<Self>, ranks: &Ranks<B>) -> Float<Self> {
        match SumOfRanks.prepare::<C>([share.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((), ranks.sum(share.primitive)),
            OpsKind::UnTracked(prep) => prep.finish(ranks.sum(share.primitive)),
        }
    }

    fn standardise_columns_of_ranks(x: Float<Self>, all_rows: usize, epsilon: f64, ranks: &Ranks<B>) -> Float<Self> {
        let [standardised, inverse] = collective::standardised::<B>(x.primitive, all_rows, epsilon, ranks);
        match StandardiseOfRanks.prepare::<C>([x.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(([standardised.clone(), inverse], all_rows, Ranks::clone(ranks)), standardised)
            }
            OpsKind::UnTracked(prep) => prep.finish(standardised),
        }
    }

    fn collectives(devices: &[Self::Device]) -> Vec<Ranks<B>> {
        B::collectives(devices)
    }

    fn linear_map(x: Float<Self>, weight: Float<Self>, bias: Option<Float<Self>>) -> Float<Self> {
        let Some(bias) = bias else {
            return match Product.prepare::<C>([x.node, weight.node]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => {
                    let mapped = B::linear_map(x.primitive.clone(), weight.primitive.clone(), None);
                    prep.finish([x.primitive, weight.primitive], mapped)
                }
                OpsKind::UnTracked(prep) => prep.finish(B::linear_map(x.primitive, weight.primitive, None)),
            };
        };
        match Linear.prepare::<C>([x.node, weight.node, bias.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let mapped = B::linear_map(x.primitive.clone(), weight.primitive.clone(), Some(bias.primitive));
                prep.finish([x.primitive, weight.primitive], mapped)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::linear_map(x.primitive, weight.primitive, Some(bias.primitive))),
        }
    }

    fn exact_gelu(x: Float<Self>) -> Float<Self> {
        match Gelu.prepare::<C>([x.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x.primitive.clone(), B::exact_gelu(x.primitive)),
            OpsKind::UnTracked(prep) => prep.finish(B::exact_gelu(x.primitive)),
        }
    }

    fn normalise_rows(x: Float<Self>, scale: Float<Self>, shift: Float<Self>, epsilon: f64) -> [Float<Self>; 2] {
        let [normalised, statistics] =
            B::normalise_rows(x.primitive.clone(), scale.primitive.clone(), shift.primitive, epsilon);
        let constant = <Self as AutodiffBackend>::from_inner(statistics.clone());
        let normalised = match LayerNorm.prepare::<C>([x.node, scale.node, shift.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([x.primitive, scale.primitive, statistics], normalised),
            OpsKind::UnTracked(prep) => prep.finish(normalised),
        };
        [normalised, constant]
    }

    fn standardise_columns(x: Float<Self>, epsilon: f64) -> [Float<Self>; 2] {
        let [standardised, statistics] = B::standardise_columns(x.primitive.clone(), epsilon);
        let constant = <Self as AutodiffBackend>::from_inner(statistics.clone());
        let standardised = match Standardise.prepare::<C>([x.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([x.primitive, statistics], standardised),
            OpsKind::UnTracked(prep) => prep.finish(standardised),
        };
        [standardised, constant]
    }

    fn self_attention(qkv: Float<Self>, packing: &Packing, heads: usize) -> [Float<Self>; 2] {
        let [mixed, log_sums] = B::self_attention(qkv.primitive.clone(), packing, heads);
        let constant = <Self as AutodiffBackend>::from_inner(log_sums.clone());
        let mixed = match Attention.prepare::<C>([qkv.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(([qkv.primitive, mixed.clone(), log_sums], packing.clone(), heads), mixed)
            }
            OpsKind::UnTracked(prep) => prep.finish(mixed),
        };
        [mixed, constant]
    }

    fn scaled_residual(
        tokens: Float<Self>,
        branch: Float<Self>,
        scale: Option<Float<Self>>,
        keep: Option<Float<Self>>,
    ) -> Float<Self> {
        let keep = keep.map(|keep| keep.primitive);
        let Some(scale) = scale else {
            let added = B::scaled_residual(tokens.primitive, branch.primitive, None, keep.clone());
            return match KeptResidual.prepare::<C>([tokens.node, branch.node]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(keep, added),
                OpsKind::UnTracked(prep) => prep.finish(added),
            };
        };
        let added =
            B::scaled_residual(tokens.primitive, branch.primitive.clone(), Some(scale.primitive.clone()), keep.clone());
        let nodes = [tokens.node, branch.node, scale.node];
        match ScaledResidual.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([branch.primitive, scale.primitive], keep), added),
            OpsKind::UnTracked(prep) => prep.finish(added),
        }
    }

    fn bytes_of_words(words: IntTensor<Self>) -> Float<Self> {
        <Self as AutodiffBackend>::from_inner(B::bytes_of_words(words))
    }

    fn row_cross_entropy(logits: Float<Self>, targets: Float<Self>, temperature: f64) -> [Float<Self>; 2] {
        let [losses, log_sums] = B::row_cross_entropy(logits.primitive.clone(), targets.primitive.clone(), temperature);
        let constant = <Self as AutodiffBackend>::from_inner(log_sums.clone());
        let losses = match CrossEntropy.prepare::<C>([logits.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(([logits.primitive, targets.primitive, log_sums], temperature), losses)
            }
            OpsKind::UnTracked(prep) => prep.finish(losses),
        };
        [losses, constant]
    }
}
