//! The backward pass of a piece: from the gradients of the whole batch's features to those of the backbone's parameters.

use super::forward::{Inputs, Piece};
use super::pass::{Pass, Size, drawn};
use crate::model::{Tokens, named_gradients};
use crate::objective::Features;
use crate::operators::{Operators, TrainBackend, sum_of_squares};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::collections::BTreeMap;

/// The gradient of a group's features: of its class tokens and of its patches, where there are such.
#[derive(Debug, Clone)]
pub(crate) struct Gradient<B: Backend> {
    pub(crate) class: Option<Tensor<B, 2>>,
    pub(crate) patches: Option<Tensor<B, 3>>,
}

/// The gradients of the features of a batch, in the order of [`Features::student`].
#[derive(Debug, Clone)]
pub(crate) struct FeatureGradients<B: Backend> {
    pub(crate) groups: Vec<Gradient<B>>,
}

impl<B: Operators> FeatureGradients<B> {
    /// Takes what a loss's backward pass has left at the features.
    pub(crate) fn take<A: TrainBackend<InnerBackend = B>>(
        features: &Features<A>,
        gradients: &mut A::Gradients,
    ) -> Self {
        let groups = features.student.iter().map(|views| Gradient {
            class: views.class.grad_remove(gradients),
            patches: views.patches.as_ref().and_then(|patches| patches.grad_remove(gradients)),
        });
        Self { groups: groups.collect() }
    }

    /// The sum of the squares of all values, shape `[1]`; none when nothing has a gradient.
    pub(crate) fn square(&self) -> Option<Tensor<B, 1>> {
        // burn's own sum adds by atomics on a GPU, in another order each time.
        let squares = self.groups.iter().flat_map(|Gradient { class, patches }| {
            let class = class.as_ref().map(|class| sum_of_squares(class.clone().flatten(0, 1)));
            [class, patches.as_ref().map(|patches| sum_of_squares(patches.clone().flatten(0, 2)))]
        });
        squares.flatten().reduce(|sum, square| sum + square)
    }

    /// All of it times a factor of shape `[1]`.
    pub(crate) fn times(self, factor: &Tensor<B, 1>) -> Self {
        let groups = self.groups.into_iter().map(|Gradient { class, patches }| Gradient {
            class: class.map(|class| class * factor.clone().reshape([1, 1])),
            patches: patches.map(|patches| patches * factor.clone().reshape([1, 1, 1])),
        });
        Self { groups: groups.collect() }
    }

    /// The sum of two losses' gradients.
    pub(crate) fn plus(self, other: Self) -> Self {
        fn sum<B: Operators, const D: usize>(a: Option<Tensor<B, D>>, b: Option<Tensor<B, D>>) -> Option<Tensor<B, D>> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            }
        }
        let both = self.groups.into_iter().zip(other.groups);
        let groups = both.map(|(a, b)| Gradient { class: sum(a.class, b.class), patches: sum(a.patches, b.patches) });
        Self { groups: groups.collect() }
    }
}

/// Gradients by the parameter's name.
type Named<B> = BTreeMap<String, Tensor<B, 1>>;

/// Adds gradients to others.
pub(crate) fn add_to<B: Operators>(sums: &mut Named<B>, more: Named<B>) {
    for (name, gradient) in more {
        let sum = match sums.remove(&name) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        sums.insert(name, sum);
    }
}

impl<B: TrainBackend> Piece<B> {
    /// The backbone's gradients, given those of the features of all of the share's images.
    pub(crate) fn backward(
        &self,
        of_batch: &FeatureGradients<B::InnerBackend>,
        inputs: Inputs<'_, B::InnerBackend>,
    ) -> Named<B::InnerBackend> {
        // The order of the features: that of the plan.
        let sizes = self.passes.iter().flat_map(|pass| &pass.sizes);
        let mut places: Vec<usize> = sizes.flat_map(|size| size.places.iter().copied()).collect();
        places.sort_unstable();
        let mut sums = Named::new();
        let mut total: Option<Tensor<B, 1>> = None;
        for pass in &self.passes {
            let gradients = pass.sizes.iter().map(|size| self.of_size(size, &places, of_batch, inputs)).collect();
            if pass.block_inputs.is_empty() {
                let tokens = pass.sizes.iter().map(|size| size.tokens.clone());
                total = total.into_iter().chain(dot(tokens, gradients)).reduce(|sum, dot| sum + dot);
            } else {
                add_to(&mut sums, self.block_by_block(pass, gradients, inputs));
            }
        }
        if let Some(total) = total {
            add_to(&mut sums, named_gradients::<B, _>(&self.student, &total.backward()));
        }
        sums.into_iter().map(|(name, gradient)| (format!("backbone.{name}"), gradient)).collect()
    }

    /// The gradient of the tokens that this piece has of a size, from that of the share's.
    fn of_size(
        &self,
        size: &Size<B>,
        places: &[usize],
        of_batch: &FeatureGradients<B::InnerBackend>,
        inputs: Inputs<'_, B::InnerBackend>,
    ) -> Gradient<B::InnerBackend> {
        let share = inputs.share.images();
        let groups: Vec<(usize, &Gradient<B::InnerBackend>)> = size
            .places
            .iter()
            .filter_map(|place| {
                let index = places.binary_search(place).ok()?;
                Some((inputs.batch().groups[*place].views, of_batch.groups.get(index)?))
            })
            .collect();
        let own = |rows: Tensor<B::InnerBackend, 2>, views: usize| {
            let width = rows.dims()[1];
            let images = self.images.start - share.start..self.images.end - share.start;
            let own = rows.reshape([views, share.len(), width]).slice([0..views, images.clone(), 0..width]);
            own.reshape([views * images.len(), width])
        };
        let zeros =
            |rows: usize, width: usize| Tensor::<B::InnerBackend, 2>::zeros([rows, width], &size.tokens.class.device());
        let dim = size.tokens.class.dims()[1];
        let count = self.images.len();
        let class = groups.iter().any(|(_, gradient)| gradient.class.is_some()).then(|| {
            let rows = groups.iter().map(|(views, gradient)| match &gradient.class {
                Some(class) => own(class.clone(), *views),
                None => zeros(views * count, dim),
            });
            Tensor::cat(rows.collect(), 0)
        });
        let patches = groups.iter().any(|(_, gradient)| gradient.patches.is_some()).then(|| {
            let tokens = size.tokens.patches.as_ref().map_or(0, |patches| patches.dims()[1]);
            let rows = groups.iter().map(|(views, gradient)| match &gradient.patches {
                Some(patches) => own(patches.clone().reshape([views * share.len(), tokens * dim]), *views),
                None => zeros(views * count, tokens * dim),
            });
            let rows = Tensor::cat(rows.collect(), 0);
            let views = rows.dims()[0];
            rows.reshape([views, tokens, dim])
        });
        Gradient { class, patches }
    }

    /// The gradients of a pass whose blocks' inputs are remembered: block after block from the last, each computed again.
    fn block_by_block(
        &self,
        pass: &Pass<B>,
        gradients: Vec<Gradient<B::InnerBackend>>,
        inputs: Inputs<'_, B::InnerBackend>,
    ) -> Named<B::InnerBackend> {
        let mut sums = Named::new();
        let pixels = pass.sizes.iter().map(|size| inputs.pixels(&size.places, &self.images));
        let pixels: Vec<_> = pixels.map(Tensor::<B, 4>::from_inner).collect();
        let draws = drawn(&self.student, inputs, &pass.sizes, &pixels, &self.images);
        let sequences = self.student.sequences(&pixels, &draws);
        let reads_patches: Vec<bool> = pass.sizes.iter().map(|size| size.tokens.patches.is_some()).collect();
        let leaf = |index: usize| Tensor::<B, 3>::from_inner(pass.block_inputs[index].clone()).require_grad();
        let mut collect = |loss: Tensor<B, 1>, leaf: Option<&Tensor<B, 3>>| {
            let mut gradients = loss.backward();
            let of_leaf = leaf.and_then(|leaf| leaf.grad_remove(&mut gradients));
            add_to(&mut sums, named_gradients::<B, _>(&self.student, &gradients));
            of_leaf
        };
        let depth = self.student.depth();
        let last = leaf(depth);
        let tokens = self.student.finish_sizes(last.clone(), &sequences, &reads_patches);
        let Some(loss) = dot(tokens.into_iter(), gradients) else { return sums };
        let mut of_tokens = collect(loss, Some(&last));
        for index in (0..depth).rev() {
            let Some(gradient) = of_tokens else { return sums };
            let input = leaf(index);
            let output = self.student.block(index, input.clone(), &sequences, &draws);
            of_tokens = collect((output * Tensor::from_inner(gradient)).sum(), Some(&input));
        }
        if let Some(gradient) = of_tokens {
            let tokens = self.student.embed_sizes(pixels, &draws);
            collect((tokens * Tensor::from_inner(gradient)).sum(), None);
        }
        sums
    }
}

/// The sum of the products of the tokens of some sizes and their gradients, whose gradient is that of the loss; none when there
/// is none.
fn dot<B: TrainBackend>(
    tokens: impl Iterator<Item = Tokens<B>>,
    gradients: Vec<Gradient<B::InnerBackend>>,
) -> Option<Tensor<B, 1>> {
    let of_size = |(tokens, gradient): (Tokens<B>, Gradient<B::InnerBackend>)| {
        let class = gradient.class.map(|gradient| (tokens.class * Tensor::from_inner(gradient)).sum());
        let patches = tokens.patches.zip(gradient.patches);
        let patches = patches.map(|(patches, gradient)| (patches * Tensor::from_inner(gradient)).sum());
        class.into_iter().chain(patches).reduce(|class, patches| class + patches)
    };
    tokens.zip(gradients).filter_map(of_size).reduce(|sum, dot| sum + dot)
}
