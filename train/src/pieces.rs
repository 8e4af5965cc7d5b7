//! Cutting a batch into pieces and taking them through the backbone side by side, each with a graph of its own.
//!
//! burn-flex runs most operators on one thread, so that a second core is best used by a second piece. Pieces get threads of
//! the system, not rayon's: the operators use rayon themselves.

use crate::augment::finish;
use crate::model::{Seen, Vit, map_named, named_gradients};
use crate::objective::Features;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::loader::{Batch, Pixels, ViewGroup};
use lapidary_pipeline::plan::View;
use lapidary_schemas::config::ViewKind;
use std::collections::BTreeMap;
use std::ops::Range;

/// `count` images cut into at most `pieces` ranges of nearly equal length.
pub(crate) fn ranges(count: usize, pieces: usize) -> Vec<Range<usize>> {
    let pieces = pieces.clamp(1, count);
    (0..pieces).map(|piece| count * piece / pieces..count * (piece + 1) / pieces).collect()
}

/// Maps on a thread for each item, in order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if let [one] = items {
        return vec![f(one)];
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| f(item))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Some of a batch's images on their way through the backbone.
pub(crate) struct Piece<B: AutodiffBackend> {
    images: Range<usize>,
    /// The student with leaves of its own, so that pieces share no graph.
    student: Vit<B>,
    /// Features of each kind, shape `[views * images.len(), dim]`.
    seen: BTreeMap<ViewKind, Tensor<B, 2>>,
    teacher: Option<Tensor<B::InnerBackend, 2>>,
}

impl<B: AutodiffBackend> Piece<B> {
    /// Shows the networks their views: each network sees each resolution once.
    pub(crate) fn forward(
        student: &Vit<B>,
        teacher: Option<&Vit<B::InnerBackend>>,
        batch: &Batch,
        images: Range<usize>,
        device: &B::Device,
    ) -> Self {
        let student = map_named(student.clone(), |(_, _, leaf): Seen<'_, B>| leaf);
        let teacher = teacher.map(|teacher| {
            let globals = batch.groups.iter().filter(|group| group.kind == ViewKind::Global);
            let pixels: Vec<_> = globals.map(|group| pixels::<B::InnerBackend>(group, &images, device)).collect();
            teacher.forward(Tensor::cat(pixels, 0))
        });
        let mut by_size: BTreeMap<usize, Vec<&ViewGroup>> = BTreeMap::new();
        for group in &batch.groups {
            by_size.entry(group.size_px).or_default().push(group);
        }
        let mut seen = BTreeMap::new();
        for groups in by_size.into_values() {
            let shown: Vec<_> = groups.iter().map(|group| pixels::<B>(group, &images, device)).collect();
            let features = student.forward(Tensor::cat(shown, 0));
            let dim = features.dims()[1];
            let mut first = 0;
            for group in &groups {
                let rows = group.views * images.len();
                seen.insert(group.kind, features.clone().slice([first..first + rows, 0..dim]));
                first += rows;
            }
        }
        Self { images, student, seen, teacher }
    }

    /// The backbone's gradients, given those of the whole batch's features.
    pub(crate) fn backward(
        &self,
        wanted: &BTreeMap<ViewKind, Tensor<B::InnerBackend, 2>>,
        images: usize,
    ) -> BTreeMap<String, Tensor<B::InnerBackend, 1>> {
        let mut dot: Option<Tensor<B, 1>> = None;
        for (kind, seen) in &self.seen {
            let Some(gradient) = wanted.get(kind) else { continue };
            let [rows, dim] = gradient.dims();
            let own = gradient
                .clone()
                .reshape([rows / images, images, dim])
                .slice([0..rows / images, self.images.clone(), 0..dim])
                .reshape(seen.dims());
            let part = (seen.clone() * Tensor::from_inner(own)).sum();
            dot = Some(dot.map_or(part.clone(), |sum| sum + part));
        }
        let Some(dot) = dot else { return BTreeMap::new() };
        let gradients = named_gradients::<B, _>(&self.student, &dot.backward());
        gradients.into_iter().map(|(name, gradient)| (format!("backbone.{name}"), gradient)).collect()
    }
}

/// The views of some images of a group, shape `[views * images, 3, size_px, size_px]`.
fn pixels<B: Backend>(group: &ViewGroup, images: &Range<usize>, device: &B::Device) -> Tensor<B, 4> {
    let plane = 3 * group.size_px * group.size_px;
    let shape = [group.views * images.len(), 3, group.size_px, group.size_px];
    match &group.pixels {
        Pixels::Rendered(values) => {
            Tensor::from_data(TensorData::new(of_images(values, group.views, plane, images).collect(), shape), device)
        }
        Pixels::Cropped(levels, rows) => {
            let levels = of_images(levels, group.views, plane, images).map(f32::from).collect();
            let rows: Vec<View> = of_images(rows, group.views, 1, images).collect();
            finish(Tensor::from_data(TensorData::new(levels, shape), device), &rows)
        }
    }
}

/// What belongs to some images, of values of shape `[views, batch, width]`.
fn of_images<'a, T: Copy>(
    values: &'a [T],
    views: usize,
    width: usize,
    images: &Range<usize>,
) -> impl Iterator<Item = T> + use<'a, T> {
    let range = images.start * width..images.end * width;
    values.chunks_exact(values.len() / views).flat_map(move |view| &view[range.clone()]).copied()
}

/// The features of all pieces, in the order of the batch, as leaves that gradients are asked for.
pub(crate) fn join<B: AutodiffBackend>(pieces: &[Piece<B>], images: usize) -> Features<B> {
    let kinds: Vec<ViewKind> = pieces[0].seen.keys().copied().collect();
    let student = kinds.into_iter().map(|kind| {
        let parts = pieces.iter().map(|piece| (piece.seen[&kind].clone().inner(), piece.images.len()));
        (kind, Tensor::from_inner(join_views(parts)).require_grad())
    });
    let teacher = pieces[0]
        .teacher
        .is_some()
        .then(|| join_views(pieces.iter().filter_map(|piece| Some((piece.teacher.clone()?, piece.images.len())))));
    Features { batch: images, student: student.collect(), teacher }
}

/// Features of pieces, `[views * images, dim]` each, as `[views * batch, dim]`.
fn join_views<B: Backend>(parts: impl Iterator<Item = (Tensor<B, 2>, usize)>) -> Tensor<B, 2> {
    let split = |(features, images): (Tensor<B, 2>, usize)| {
        let [rows, dim] = features.dims();
        features.reshape([rows / images, images, dim])
    };
    let joined = Tensor::cat(parts.map(split).collect(), 1);
    let [views, images, dim] = joined.dims();
    joined.reshape([views * images, dim])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once() {
        assert_eq!(ranges(7, 3), [0..2, 2..4, 4..7]);
        assert_eq!(ranges(2, 5), [0..1, 1..2]);
        assert_eq!(in_parallel(&ranges(7, 3), |range| range.len()), [2, 2, 3]);
    }
}
