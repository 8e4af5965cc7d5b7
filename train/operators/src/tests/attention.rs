//! Attention, of batches and of packed sequences, against softmax of all scores.

use super::{Cpu, close, differentiated, holds, host, leaves};
use crate::{Group, Packing, attention, float, packed_attention, reference};
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

/// Softmax of scores times values, head by head, of one sequence after another of a batch.
fn plain_attention<B: Backend>(qkv: Tensor<B, 3>, heads: usize) -> Tensor<B, 3> {
    let [q, k, v] = reference::split::<B>(float(qkv), heads);
    reference::joined(softmax(q.matmul(k.swap_dims(2, 3)), 3).matmul(v))
}

/// The same of packed sequences, as one sequence under a mask: scores between tokens of different ones are far below all.
fn masked_attention<B: Backend>(qkv: Tensor<B, 2>, packing: &Packing, heads: usize) -> Tensor<B, 2> {
    let [rows, all] = qkv.dims();
    let sequence_of = |(range, group): (std::ops::Range<usize>, Group)| {
        range.clone().map(move |row| (range.start, (row - range.start) / group.tokens))
    };
    let of_rows: Vec<_> = packing.ranges().flat_map(sequence_of).collect();
    let entry = |at: usize| if of_rows[at / rows] == of_rows[at % rows] { 0.0 } else { -1e30 };
    let mask = TensorData::new((0..rows * rows).map(entry).collect::<Vec<f64>>(), [1, 1, rows, rows]);
    let mask = Tensor::<B, 4>::from_data(mask, (&qkv.device(), DType::F64)).cast(qkv.dtype());
    let [q, k, v] = reference::split::<B>(float(qkv.reshape([1, rows, all])), heads);
    reference::joined(softmax(q.matmul(k.swap_dims(2, 3)) + mask, 3).matmul(v)).flatten(0, 1)
}

fn packing(groups: &[[usize; 2]]) -> Packing {
    Packing::new(groups.iter().map(|&[sequences, tokens]| Group { sequences, tokens }))
}

#[test]
fn packed_attention_is_attention_under_a_block_diagonal_mask() {
    let packings: [(&[[usize; 2]], usize, usize); 5] = [
        (&[[1, 1]], 1, 4),
        (&[[3, 37], [2, 197]], 2, 16),
        (&[[5, 1], [2, 37], [0, 9], [1, 65]], 3, 8),
        (&[[2, 20], [3, 9]], 3, 12),
        (&[[1, 130], [2, 3], [2, 64]], 1, 64),
    ];
    for (groups, heads, width) in packings {
        let (packing, all) = (packing(groups), 3 * heads * width);
        let shape = [packing.rows(), all];
        holds(
            &format!("packed attention of {groups:?}"),
            &[&shape],
            |x| packed_attention(x[0].clone().reshape(shape), &packing, heads),
            |x| masked_attention(x[0].clone().reshape(shape), &packing, heads),
        );
    }
}

/// Each sequence is computed by itself, so these are the same operations.
#[test]
fn sequences_packed_have_the_bits_of_calls_of_their_own() {
    let (packing, heads, dim) = (packing(&[[5, 1], [1, 197], [3, 37]]), 2, 24);
    let shape = [packing.rows(), 3 * dim];
    let leaves = || leaves(&[&shape], DType::F32);
    let packed = differentiated(&leaves(), |x| packed_attention(x[0].clone().reshape(shape), &packing, heads));
    let apart = differentiated(&leaves(), |x| {
        let qkv = x[0].clone().reshape(shape);
        let of_group = |(rows, Group { sequences, tokens })| {
            let of_group = qkv.clone().slice([rows]).reshape([sequences, tokens, 3 * dim]);
            attention(of_group, heads).flatten::<2>(0, 1)
        };
        Tensor::cat(packing.ranges().map(of_group).collect(), 0)
    });
    assert_eq!(packed, apart);
}

#[test]
fn attention_is_softmax_of_all_scores_at_any_number_of_tokens() {
    for (batch, tokens, heads, width) in
        [(1, 1, 1, 4), (2, 5, 3, 2), (2, 37, 2, 32), (1, 65, 3, 32), (2, 197, 2, 16), (1, 130, 1, 64)]
    {
        let shape = [batch, tokens, 3 * heads * width];
        holds(
            "attention",
            &[&shape],
            |x| attention(x[0].clone().reshape(shape), heads),
            |x| plain_attention(x[0].clone().reshape(shape), heads),
        );
    }
}

#[test]
fn attention_of_a_thousand_tokens_agrees() {
    let shape = [1, 1025, 3 * 32];
    let found = differentiated(&leaves(&[&shape], DType::F32), |x| attention(x[0].clone().reshape(shape), 2));
    let expected = differentiated(&leaves(&[&shape], DType::F32), |x| plain_attention(x[0].clone().reshape(shape), 2));
    for (found, expected) in found.iter().zip(&expected) {
        close("attention", found, expected, 1e-5);
    }
}

#[test]
fn an_image_among_others_is_read_where_it_lies() {
    holds(
        "attention of an image among others",
        &[&[3, 5, 24]],
        |x| attention(x[0].clone().reshape([3, 5, 24]).slice([1..2, 0..5, 0..24]), 2),
        |x| plain_attention(x[0].clone().reshape([3, 5, 24]).slice([1..2, 0..5, 0..24]), 2),
    );
}

#[test]
fn large_scores_overflow_nowhere() {
    let qkv = Tensor::<Cpu, 3>::full([1, 3, 12], 1e4, &Default::default()).require_grad();
    let mixed = attention(qkv.clone(), 2);
    let gradients = mixed.clone().sum().backward();
    assert!(host(mixed).iter().all(|value| (value - 1e4).abs() < 1.0));
    assert!(host(qkv.grad(&gradients).expect("a leaf")).iter().all(|value| value.is_finite()));
}
