//! A scaled branch added to the tokens.

use super::{contiguous, from_values, reused, unwritten, values};
use crate::threads::{for_chunks, for_chunks_of_two};
use burn::tensor::TensorData;
use burn_flex::FlexTensor;
use multiversion::multiversion;

/// Images, tokens and channels.
fn sizes(tensor: &FlexTensor) -> [usize; 3] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1], shape[2]]
}

/// The values of what may be there.
fn of_option(tensor: &Option<FlexTensor>) -> Option<&[f32]> {
    tensor.as_ref().map(values)
}

pub(super) fn forward(
    tokens: FlexTensor,
    branch: FlexTensor,
    scale: Option<FlexTensor>,
    keep: Option<FlexTensor>,
) -> FlexTensor {
    let [batch, count, dim] = sizes(&tokens);
    let [tokens, mut branch] = [tokens, branch].map(contiguous);
    let (scale, keep) = (scale.map(contiguous), keep.map(contiguous));
    let (tokens, scale, keep) = (values(&tokens), of_option(&scale), of_option(&keep));
    let image = count * dim;
    if batch * image == 0 {
        return branch;
    }
    let add = |index: usize, branch: &mut [f32]| {
        let keep = keep.map_or(1.0, |keep| keep[index]);
        add_scaled(&tokens[index * image..][..image], branch, scale, keep);
    };
    if let Some(values) = reused(&mut branch) {
        for_chunks(values, image, add);
        return branch;
    }
    let mut copy = values(&branch).to_vec();
    for_chunks(&mut copy, image, add);
    from_values(copy, [batch, count, dim])
}

pub(super) fn backward(
    branch: Option<FlexTensor>,
    scale: Option<FlexTensor>,
    keep: Option<FlexTensor>,
    gradient: FlexTensor,
) -> (FlexTensor, Option<FlexTensor>) {
    let [batch, count, dim] = sizes(&gradient);
    let gradient = contiguous(gradient);
    let (branch, scale, keep) = (branch.map(contiguous), scale.map(contiguous), keep.map(contiguous));
    let (gradient, branch) = (values(&gradient), of_option(&branch));
    let (scale, keep) = (of_option(&scale), of_option(&keep));
    let image = count * dim;
    let mut of_branch = unwritten(batch * image);
    // Each image's own sums, added up in order.
    let mut sums = vec![0f32; batch * dim];
    if batch * image > 0 {
        for_chunks_of_two((&mut of_branch, image), (&mut sums, dim), |index, of_branch, sums| {
            let range = index * image..(index + 1) * image;
            let keep = keep.map_or(1.0, |keep| keep[index]);
            slope(&gradient[range.clone()], branch.map(|branch| &branch[range]), scale, keep, of_branch, sums);
        });
    }
    let of_scale = scale.map(|_| {
        let mut total = vec![0f32; dim];
        for sums in sums.chunks_exact(dim.max(1)) {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        from_values(total, [dim])
    });
    (FlexTensor::from_data(TensorData::new(of_branch, [batch, count, dim])), of_scale)
}

/// Turns an image's branch into the sum.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn add_scaled(tokens: &[f32], branch: &mut [f32], scale: Option<&[f32]>, keep: f32) {
    let Some(scale) = scale else {
        return branch.iter_mut().zip(tokens).for_each(|(branch, token)| *branch = *branch * keep + token);
    };
    for (tokens, branch) in tokens.chunks_exact(scale.len()).zip(branch.chunks_exact_mut(scale.len())) {
        for ((branch, token), scale) in branch.iter_mut().zip(tokens).zip(scale) {
            *branch = *branch * scale * keep + token;
        }
    }
}

/// An image's gradient of the branch, and what it adds to that of the scale.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq+fma", "x86_64+avx2+fma"))]
fn slope(
    gradient: &[f32],
    branch: Option<&[f32]>,
    scale: Option<&[f32]>,
    keep: f32,
    of_branch: &mut [f32],
    sums: &mut [f32],
) {
    let Some(scale) = scale else {
        return of_branch.iter_mut().zip(gradient).for_each(|(of_branch, gradient)| *of_branch = gradient * keep);
    };
    let dim = scale.len();
    for (gradient, of_branch) in gradient.chunks_exact(dim).zip(of_branch.chunks_exact_mut(dim)) {
        for ((of_branch, gradient), scale) in of_branch.iter_mut().zip(gradient).zip(scale) {
            *of_branch = gradient * scale * keep;
        }
    }
    for (gradient, branch) in gradient.chunks_exact(dim).zip(branch.unwrap_or_default().chunks_exact(dim)) {
        for ((sum, gradient), branch) in sums.iter_mut().zip(gradient).zip(branch) {
            *sum += gradient * branch * keep;
        }
    }
}
