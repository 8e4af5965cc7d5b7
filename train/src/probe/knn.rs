//! The weighted k-NN probe (Wu et al. 2018; facebookresearch/dino eval_knn.py): cosine similarity, votes
//! exp(similarity / temperature) of the k nearest train images, the class of most votes is the answer.
//!
//! Predictions are the reference's (tests/golden/probes.py). What differs or is left out:
//! - ties: between neighbours the earlier image is nearer, between classes the lower index wins; `topk` and `sort` of PyTorch
//!   promise neither;
//! - classes: as many as the probe names; the reference has 1000 written in, and fails on a label above;
//! - test images: any number; the reference works in a hundred chunks and fails on fewer than 100 images;
//! - k above the number of train images is clipped to it (the caller says so); the reference fails;
//! - top-5: only classes with a vote are answers; the reference counts the first min(5, k) classes, without votes too.

use super::{Accuracy, Features, Neighbours};
use crate::operators::Operators;

/// Top-1 and top-5 of the probe; features must be of unit length.
pub fn probe<B: Operators>(
    train: &Features,
    test: &Features,
    classes: usize,
    k: usize,
    temperature: f64,
    device: &B::Device,
) -> Accuracy {
    let neighbours = Neighbours::find::<B>(train, test, k, device);
    accuracy(&neighbours, (&train.classes, &test.classes), classes, k, temperature)
}

/// The same from neighbours found before, of which the nearest k vote.
///
/// # Shapes
/// - labels: of the bank's images and of the queries
pub fn accuracy(
    neighbours: &Neighbours,
    (labels, truth): (&[u32], &[u32]),
    classes: usize,
    k: usize,
    temperature: f64,
) -> Accuracy {
    let mut accuracy = Accuracy::default();
    for (query, truth) in truth.iter().enumerate() {
        accuracy.count_votes(&votes(neighbours.of(query), labels, classes, k, temperature), *truth);
    }
    accuracy
}

/// The class of most votes for each query, of equal ones the lowest.
pub fn predictions(neighbours: &Neighbours, labels: &[u32], classes: usize, k: usize, temperature: f64) -> Vec<u32> {
    let of_query = |query| {
        let votes = votes(neighbours.of(query), labels, classes, k, temperature);
        (0..classes).fold(0, |best, class| if votes[class] > votes[best] { class } else { best }) as u32
    };
    (0..neighbours.len()).map(of_query).collect()
}

/// The votes of the nearest k for each class, shape `[classes]`.
fn votes(nearest: &[(f32, u32)], labels: &[u32], classes: usize, k: usize, temperature: f64) -> Vec<f64> {
    let mut votes = vec![0f64; classes];
    for (similarity, index) in nearest.iter().take(k) {
        votes[labels[*index as usize] as usize] += (f64::from(*similarity) / temperature).exp();
    }
    votes
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use serde_json::Value;

    fn vote(similarities: &[f32], labels: &[u32], classes: usize, k: usize, temperature: f64) -> Vec<f64> {
        let bank = Features { dim: 1, values: similarities.to_vec(), classes: labels.to_vec() };
        let query = Features { dim: 1, values: vec![1.0], classes: vec![0] };
        let neighbours = Neighbours::find::<Flex>(&bank, &query, k, &Default::default());
        votes(neighbours.of(0), labels, classes, k, temperature)
    }

    /// As tests/golden/probes.py makes its features: a wave, and a class's own direction added.
    fn features(rows: usize, width: usize, classes: usize, phase: f64, apart: f64) -> Features {
        let values = (0..rows * width).map(|i| {
            let (x, class) = (i as f64, (i / width * 7 + i / width / 3) % classes);
            let wave = (1.7 * x + phase).sin() + 0.8 * (0.013 * x * x * phase).sin();
            (wave + apart * ((class * width + i % width) as f64).sin()) as f32
        });
        let values = values.collect();
        Features { dim: width, values, classes: (0..rows).map(|i| ((i * 7 + i / 3) % classes) as u32).collect() }
    }

    #[test]
    fn predictions_are_eval_knns_for_every_k_from_one_pass() {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/probes.json")).expect("probes.py");
        let bank = features(400, 16, 7, 0.3, 0.5).normalised();
        let queries = features(150, 16, 7, 1.1, 0.5).normalised();
        let golden = golden["knn"].as_object().expect("by k");
        let most = golden.keys().map(|k| k.parse().expect("a number")).max().expect("some");
        let neighbours = Neighbours::find_by::<Flex>(&bank, &queries, most, (37, 53), &Default::default());
        for (k, expected) in golden {
            let k: usize = k.parse().expect("a number");
            let predicted = predictions(&neighbours, &bank.classes, 7, k, 0.07);
            assert_eq!(Value::from(predicted), expected["predictions"], "k = {k}");
            let accuracy = accuracy(&neighbours, (&bank.classes, &queries.classes), 7, k, 0.07);
            assert_eq!(accuracy.first, expected["correct"], "k = {k}");
        }
    }

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
