//! The forward pass of a piece: each network sees each resolution once, by itself or all of them together.

use super::pass::{Pass, Size};
use crate::draws::StepDraws;
use crate::model::{Seen, Tokens, Vit, map_named};
use crate::objective::{Features, Needs, Views};
use crate::operators::{Operators, TrainBackend};
use crate::share::BatchShare;
use crate::upload::Loaded;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use lapidary_pipeline::loader::{Batch, ViewGroup};
use lapidary_schemas::config::ViewKind;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a piece's passes share.
pub(crate) struct Inputs<'a, B: Backend> {
    pub(crate) loaded: &'a Loaded<B>,
    /// Those of the batch's images that features are of: the rank's own.
    pub(crate) share: &'a BatchShare<B>,
    pub(crate) draws: &'a StepDraws,
    pub(crate) needs: &'a Needs,
    /// The rank's.
    pub(crate) device: &'a B::Device,
    /// Whether the views of all sizes go through a network together.
    pub(crate) packed: bool,
}

// Derived, these would ask the same of the backend.
impl<B: Backend> Copy for Inputs<'_, B> {}
impl<B: Backend> Clone for Inputs<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<'a, B: Operators> Inputs<'a, B> {
    /// The batch.
    pub(super) fn batch(&self) -> &'a Batch {
        self.loaded.batch()
    }

    /// Groups of the kinds that are read, by size, as places in the batch's list.
    fn by_size(&self, kinds: &[ViewKind]) -> Vec<Vec<usize>> {
        let mut sizes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, group) in self.batch().groups.iter().enumerate().filter(|(_, group)| kinds.contains(&group.kind)) {
            sizes.entry(group.size_px).or_default().push(place);
        }
        sizes.into_values().collect()
    }

    /// The same as passes of a network: one over all sizes, or one over each.
    fn passes(&self, kinds: &[ViewKind]) -> Vec<Vec<Vec<usize>>> {
        let sizes = self.by_size(kinds);
        if self.packed && !sizes.is_empty() { vec![sizes] } else { sizes.into_iter().map(|size| vec![size]).collect() }
    }

    fn group(&self, place: usize) -> &'a ViewGroup {
        &self.batch().groups[place]
    }

    /// The masks of the share's images in a group, `[views * images * patches]`; empty where its views are not masked.
    fn masks(&self, place: usize) -> Vec<u8> {
        let (mask, images) = (self.draws.mask(place), self.share.images());
        let patches = mask.len() / (self.group(place).views * self.batch().ids.len());
        let of_view = |of_view: &[u8]| of_view[images.start * patches..images.end * patches].to_vec();
        mask.chunks_exact((patches * self.batch().ids.len()).max(1)).flat_map(of_view).collect()
    }

    /// Whether an objective reads the patches of these views.
    pub(super) fn reads_patches(&self, places: &[usize]) -> bool {
        self.needs.patches && places.iter().any(|place| self.group(*place).kind == ViewKind::Global)
    }

    /// The views of some images of some groups of one size, shape `[views * images, 3, size_px, size_px]`, group by group.
    pub(super) fn pixels(&self, places: &[usize], images: &Range<usize>) -> Tensor<B, 4> {
        Tensor::cat(places.iter().map(|place| self.loaded.views(*place, images, self.device)).collect(), 0)
    }
}

/// Networks without a gradient that see views beside the student.
pub(crate) struct Teachers<'a, B: Backend> {
    /// The student's moving average.
    pub(crate) teacher: Option<&'a Vit<B>>,
    /// A teacher given as weights; it sees the global views.
    pub(crate) frozen: Option<&'a Vit<B>>,
    /// An earlier teacher; it sees the global views.
    pub(crate) anchor: Option<&'a Vit<B>>,
}

impl<B: Operators> Teachers<'_, B> {
    /// None of them: when the student alone is computed again.
    pub(crate) const NONE: Self = Self { teacher: None, frozen: None, anchor: None };
}

/// What a piece remembers for its backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remembered {
    /// Nothing: it is to be computed again.
    Nothing,
    /// The graph of all operations.
    Graph,
    /// Each block's input alone; the rest of a block is computed again.
    BlockInputs,
}

/// Some of a batch's images on their way through the backbone.
pub(crate) struct Piece<B: TrainBackend> {
    pub(super) images: Range<usize>,
    /// The student with leaves of its own, so that pieces share no graph.
    pub(super) student: Vit<B>,
    /// The student's passes over its views.
    pub(super) passes: Vec<Pass<B>>,
    teacher: Vec<OfGroup<B::InnerBackend>>,
    frozen: Vec<OfGroup<B::InnerBackend>>,
    anchor: Vec<OfGroup<B::InnerBackend>>,
}

/// A group, as its place in the batch's list, and its tokens.
type OfGroup<B> = (usize, Tokens<B>);

impl<B: TrainBackend> Piece<B> {
    /// Shows the student, and those of its teachers that are given, their views.
    pub(crate) fn forward(
        student: &Vit<B>,
        teachers: &Teachers<'_, B::InnerBackend>,
        inputs: Inputs<'_, B::InnerBackend>,
        images: Range<usize>,
        remembered: Remembered,
    ) -> Self {
        let student = map_named(student.clone(), |(_, _, leaf): Seen<'_, B>| leaf);
        let of_teacher = |teacher: Option<&Vit<B::InnerBackend>>, kinds: &[ViewKind]| {
            let mut groups = Vec::new();
            let Some(teacher) = teacher else { return groups };
            for sizes in inputs.passes(kinds) {
                let pixels = sizes.iter().map(|places| inputs.pixels(places, &images)).collect();
                let patches: Vec<bool> = sizes.iter().map(|places| inputs.reads_patches(places)).collect();
                let tokens = teacher.tokens_of_sizes(pixels, &Default::default(), &patches);
                for (places, tokens) in sizes.iter().zip(&tokens) {
                    groups.extend(split(tokens, places, inputs.batch(), images.len()));
                }
            }
            groups
        };
        let teacher = of_teacher(teachers.teacher, &inputs.needs.teacher);
        let frozen = of_teacher(teachers.frozen, &[ViewKind::Global]);
        let anchor = of_teacher(teachers.anchor, &[ViewKind::Global]);
        let see = |sizes: Vec<Vec<usize>>| Pass::see(&student, inputs, sizes, &images, remembered);
        let passes = inputs.passes(&inputs.needs.student).into_iter().map(see).collect();
        Self { images, student, passes, teacher, frozen, anchor }
    }
}

/// Tokens of several groups, group by group.
fn split<B: Operators>(tokens: &Tokens<B>, places: &[usize], batch: &Batch, images: usize) -> Vec<OfGroup<B>> {
    let mut first = 0;
    let of_group = |place: &usize| {
        let rows = first..first + batch.groups[*place].views * images;
        first = rows.end;
        let patches = tokens.patches.as_ref().map(|patches| patches.clone().slice([rows.clone()]));
        (*place, Tokens { class: tokens.class.clone().slice([rows]), patches })
    };
    places.iter().map(of_group).collect()
}

/// The features of all pieces of a share, in the order of the batch; the student's as leaves that gradients are asked for.
pub(crate) fn join<B: TrainBackend>(pieces: &[Piece<B>], inputs: Inputs<'_, B::InnerBackend>) -> Features<B> {
    let batch = inputs.share.images().len();
    let student: Vec<Vec<OfGroup<B::InnerBackend>>> = pieces
        .iter()
        .map(|piece| {
            let of_size = |size: &Size<B>| {
                let Tokens { class, patches } = size.tokens.clone();
                let tokens = Tokens { class: class.inner(), patches: patches.map(Tensor::inner) };
                split(&tokens, &size.places, inputs.batch(), piece.images.len())
            };
            piece.passes.iter().flat_map(|pass| &pass.sizes).flat_map(of_size).collect()
        })
        .collect();
    let of_teacher = |groups: fn(&Piece<B>) -> &Vec<OfGroup<B::InnerBackend>>| {
        joined(pieces.iter().map(|piece| groups(piece).clone()).collect(), pieces, inputs)
    };
    let leaf = |views: Views<B::InnerBackend>| {
        let Views { kind, size_px, views, class, patches, mask } = views;
        Views {
            class: Tensor::from_inner(class).require_grad(),
            patches: patches.map(|patches| Tensor::from_inner(patches).require_grad()),
            kind,
            size_px,
            views,
            mask,
        }
    };
    Features {
        batch,
        student: joined(student, pieces, inputs).into_iter().map(leaf).collect(),
        teacher: of_teacher(|piece| &piece.teacher),
        frozen: of_teacher(|piece| &piece.frozen),
        anchor: of_teacher(|piece| &piece.anchor),
    }
}

/// Each group's tokens of all pieces, in the order of the plan.
fn joined<A: TrainBackend>(
    mut of_pieces: Vec<Vec<OfGroup<A::InnerBackend>>>,
    pieces: &[Piece<A>],
    inputs: Inputs<'_, A::InnerBackend>,
) -> Vec<Views<A::InnerBackend>> {
    of_pieces.iter_mut().for_each(|groups| groups.sort_by_key(|(place, _)| *place));
    let counts: Vec<usize> = pieces.iter().map(|piece| piece.images.len()).collect();
    let Some(first) = of_pieces.first() else { return Vec::new() };
    let of_group = |index: usize| {
        let place = first[index].0;
        let group = inputs.group(place);
        let class = of_pieces.iter().map(|groups| groups[index].1.class.clone());
        let of_piece = |groups: &Vec<OfGroup<A::InnerBackend>>| groups[index].1.patches.clone();
        let patches: Option<Vec<_>> = of_pieces.iter().map(of_piece).collect();
        Views {
            kind: group.kind,
            size_px: group.size_px,
            views: group.views,
            class: join_rows(class, &counts, group.views),
            patches: patches.map(|patches| join_tokens(patches, &counts, group.views)),
            mask: inputs.masks(place),
        }
    };
    (0..first.len()).map(of_group).collect()
}

/// Rows of pieces, `[views * images, dim]` each, as `[views * batch, dim]`.
fn join_rows<B: Operators>(parts: impl Iterator<Item = Tensor<B, 2>>, counts: &[usize], views: usize) -> Tensor<B, 2> {
    let split = |(rows, images): (Tensor<B, 2>, &usize)| {
        let dim = rows.dims()[1];
        rows.reshape([views, *images, dim])
    };
    let joined = Tensor::cat(parts.zip(counts).map(split).collect(), 1);
    let [views, images, dim] = joined.dims();
    joined.reshape([views * images, dim])
}

/// The same for patch tokens, `[views * images, patches, dim]` each.
fn join_tokens<B: Operators>(parts: Vec<Tensor<B, 3>>, counts: &[usize], views: usize) -> Tensor<B, 3> {
    let [_, patches, dim] = parts[0].dims();
    let rows = parts.into_iter().map(|part| {
        let rows = part.dims()[0];
        part.reshape([rows, patches * dim])
    });
    let joined = join_rows(rows, counts, views);
    let rows = joined.dims()[0];
    joined.reshape([rows, patches, dim])
}
