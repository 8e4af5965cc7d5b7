//! The weighted k-NN probe (Wu et al. 2018; facebookresearch/dino eval_knn.py): cosine similarity, votes
//! exp(similarity / temperature) of the k nearest train images. Ties between neighbours go to the earlier image, ties
//! between classes to the lower index. Only classes with a vote are answers, for top-5 too (the reference counts the first
//! min(5, k) classes).

use super::{Accuracy, Features};
use crate::operators::Operators;
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

/// Test images a matrix product.
const QUERIES: usize = 256;

/// Top-1 and top-5 of the probe; features must be of unit length.
pub fn probe<B: Operators>(
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
        votes.iter().zip(truth).for_each(|(votes, truth)| accuracy.count_votes(votes, *truth));
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
    #[test]
    fn with_one_neighbour_top_5_is_top_1_and_with_more_only_their_classes_count() {
        // Ten classes of two images each, so alike that neighbours are often of another class.
        let features = |shift: f32| {
            let angle = |i: usize| ((i % 10) as f32 * 0.3 + shift * ((i * 7) % 5) as f32).sin_cos();
            let values = (0..20).flat_map(|i| [angle(i).0, angle(i).1]).collect();
            Features { dim: 2, values, classes: (0..20).map(|i| i % 10).collect() }
        };
        let (train, test) = (features(0.0), features(0.17));
        let of = |k| probe::<Flex>(&train, &test, 10, k, 0.07, &Default::default());
        let one = of(1);
        assert_eq!(one.in_five, one.first);
        assert!(one.first > 0 && one.first < one.tested, "{one:?}");
        // All of the two nearest of an image are of one class or two: at most two are answers.
        assert!(of(2).in_five <= of(20).in_five && of(2).first <= of(2).in_five);
        assert!(of(1000) == of(20), "more neighbours than there are images");
    }
}
