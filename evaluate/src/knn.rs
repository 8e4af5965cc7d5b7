//! The weighted k-NN probe (Wu et al. 2018; facebookresearch/dino eval_knn.py): cosine similarity, votes
//! exp(similarity / temperature) of the k nearest train images. Ties between neighbours go to the earlier image, ties
//! between classes to the lower index.

use crate::features::Features;
use crate::scores::Accuracy;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

/// Test images a matrix product.
const QUERIES: usize = 256;

/// Top-1 and top-5 of the probe; features must be of unit length.
pub fn probe<B: Backend>(
    train: &Features,
    test: &Features,
    classes: usize,
    k: usize,
    temperature: f64,
    device: &B::Device,
) -> Accuracy {
    let bank: Tensor<B, 2> = Tensor::from_data(TensorData::new(train.values.clone(), [train.len(), train.dim]), device);
    let bank = bank.transpose();
    let mut accuracy = Accuracy::default();
    for (rows, truth) in test.values.chunks(QUERIES * test.dim).zip(test.classes.chunks(QUERIES)) {
        let queries: Tensor<B, 2> = Tensor::from_data(TensorData::new(rows.to_vec(), [truth.len(), test.dim]), device);
        let similarities = queries.matmul(bank.clone()).into_data().convert::<f32>();
        let similarities = similarities.to_vec::<f32>().expect("converted to f32 just before");
        let votes: Vec<Vec<f64>> = similarities
            .par_chunks_exact(train.len())
            .map(|row| vote(row, &train.classes, classes, k, temperature))
            .collect();
        votes.iter().zip(truth).for_each(|(votes, truth)| accuracy.count(votes, *truth));
    }
    accuracy
}

/// The votes of the k nearest for each class.
fn vote(similarities: &[f32], labels: &[u32], classes: usize, k: usize, temperature: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..similarities.len()).collect();
    let nearer = |a: &usize, b: &usize| similarities[*b].total_cmp(&similarities[*a]).then(a.cmp(b));
    let k = k.min(order.len());
    if k < order.len() {
        order.select_nth_unstable_by(k, nearer);
    }
    order.truncate(k);
    order.sort_unstable_by(nearer);
    let mut votes = vec![0f64; classes];
    for neighbour in order {
        votes[labels[neighbour] as usize] += (f64::from(similarities[neighbour]) / temperature).exp();
    }
    votes
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn near_images_outvote_many_far_ones() {
        let labels = [0, 0, 0, 1];
        let votes = vote(&[0.1, 0.1, 0.1, 0.9], &labels, 2, 4, 0.07);
        assert!(votes[1] > votes[0]);
        let votes = vote(&[0.5, 0.5, 0.1, 0.5], &labels, 2, 2, 0.07);
        assert_eq!(votes[1], 0.0, "ties go to the earlier image");
    }

    #[test]
    fn two_clear_classes_are_told_apart() {
        let angle = |i: usize, class: usize| (i as f32 * 0.01 + class as f32 * 1.5).sin_cos();
        let features = |offset: usize| {
            let both = (0..2).flat_map(|class| (0..10).map(move |i| (i + offset, class)));
            let values = both.clone().flat_map(|(i, class)| [angle(i, class).0, angle(i, class).1]).collect();
            Features { dim: 2, values, classes: both.map(|(_, class)| class as u32).collect() }
        };
        let accuracy = probe::<Flex>(&features(0), &features(3), 2, 5, 0.07, &Default::default());
        assert_eq!((accuracy.top1(), accuracy.tested), (1.0, 20));
    }
}
