//! t-SNE (van der Maaten and Hinton 2008), exact: every pair counts, so that memory and time grow with the square of the rows
//! (2,000 rows: 64 MB and some seconds). Schedule and constants are scikit-learn's exact method's, which tests hold it to.

use rayon::prelude::*;

/// Rows at most.
pub(super) const ROWS_MAX: usize = 2000;
const PERPLEXITY: f64 = 30.0;
const STEPS: usize = 1000;
/// Steps with probabilities exaggerated, and by how much.
const EXAGGERATED: (usize, f64) = (250, 12.0);
const LEAST: f64 = f64::EPSILON;

/// Places of rows `[rows, dim]` on a plane, `[rows, 2]`, from a start of that shape. With fewer than four rows the start itself.
pub(super) fn tsne(values: &[f32], dim: usize, start: &[f64]) -> Vec<f64> {
    let rows = values.len() / dim;
    if rows < 4 {
        return start.to_vec();
    }
    let perplexity = PERPLEXITY.min((rows - 1) as f64 / 3.0);
    descend(&joint_probabilities(values, dim, perplexity), start)
}

/// How likely each pair is, `[rows, rows]`: symmetric, of sum 1.
fn joint_probabilities(values: &[f32], dim: usize, perplexity: f64) -> Vec<f64> {
    let rows = values.len() / dim;
    let row = |index: usize| &values[index * dim..][..dim];
    let conditional: Vec<Vec<f64>> = (0..rows)
        .into_par_iter()
        .map(|i| {
            let distance = |j: usize| row(i).iter().zip(row(j)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            conditional_probabilities(&(0..rows).map(distance).collect::<Vec<f64>>(), i, perplexity)
        })
        .collect();
    let mut joint = vec![0f64; rows * rows];
    for (i, row) in joint.chunks_exact_mut(rows).enumerate() {
        row.iter_mut().enumerate().for_each(|(j, pair)| *pair = conditional[i][j] + conditional[j][i]);
    }
    let sum = joint.iter().sum::<f64>().max(LEAST);
    for (index, pair) in joint.iter_mut().enumerate() {
        *pair = if index % (rows + 1) == 0 { 0.0 } else { (*pair / sum).max(LEAST) };
    }
    joint
}

/// How likely a row takes each other for its neighbour: a Gaussian as wide as gives the perplexity, found by bisection.
fn conditional_probabilities(squared_distances: &[f64], own: usize, perplexity: f64) -> Vec<f64> {
    let (mut precision, mut low, mut high) = (1.0, f64::NEG_INFINITY, f64::INFINITY);
    let mut found = Vec::new();
    for _ in 0..100 {
        let weight = |(j, distance): (usize, &f64)| if j == own { 0.0 } else { (-distance * precision).exp() };
        found = squared_distances.iter().enumerate().map(weight).collect::<Vec<f64>>();
        let sum = found.iter().sum::<f64>();
        let sum = if sum == 0.0 { 1e-8 } else { sum };
        found.iter_mut().for_each(|weight| *weight /= sum);
        let mean_distance = found.iter().zip(squared_distances).map(|(p, distance)| p * distance).sum::<f64>();
        let excess = sum.ln() + precision * mean_distance - perplexity.ln();
        if excess.abs() <= 1e-5 {
            break;
        }
        if excess > 0.0 {
            low = precision;
            precision = if high.is_infinite() { precision * 2.0 } else { (precision + high) / 2.0 };
        } else {
            high = precision;
            precision = if low.is_infinite() { precision / 2.0 } else { (precision + low) / 2.0 };
        }
    }
    found
}

/// Gradient descent, at first with the probabilities exaggerated.
fn descend(joint: &[f64], start: &[f64]) -> Vec<f64> {
    let rate = (start.len() as f64 / 2.0 / EXAGGERATED.1 / 4.0).max(50.0);
    let mut early = Descent::new(start);
    (0..EXAGGERATED.0).for_each(|_| early.step(joint, EXAGGERATED.1, 0.5, rate));
    let mut late = Descent::new(&early.places);
    (EXAGGERATED.0..STEPS).for_each(|_| late.step(joint, 1.0, 0.8, rate));
    late.places
}

/// Gradient descent with momentum and a gain for each coordinate.
struct Descent {
    places: Vec<f64>,
    update: Vec<f64>,
    gains: Vec<f64>,
}

impl Descent {
    fn new(start: &[f64]) -> Self {
        Self { places: start.to_vec(), update: vec![0.0; start.len()], gains: vec![1.0; start.len()] }
    }

    fn step(&mut self, joint: &[f64], exaggeration: f64, momentum: f64, rate: f64) {
        let gradient = gradient(joint, &self.places, exaggeration);
        for (index, gradient) in gradient.into_iter().enumerate() {
            let (update, gain) = (&mut self.update[index], &mut self.gains[index]);
            *gain = (if *update * gradient < 0.0 { *gain + 0.2 } else { *gain * 0.8 }).max(0.01);
            *update = momentum * *update - rate * *gain * gradient;
            self.places[index] += *update;
        }
    }
}

/// How near two places are: Student's t with one degree of freedom.
fn nearness(places: &[f64], i: usize, j: usize) -> f64 {
    let (across, down) = (places[2 * i] - places[2 * j], places[2 * i + 1] - places[2 * j + 1]);
    1.0 / (1.0 + across * across + down * down)
}

/// The sum of all pairs' nearness, each pair twice.
fn total_nearness(places: &[f64]) -> f64 {
    let rows = places.len() / 2;
    let of_row = |i: usize| (0..rows).filter(|j| *j != i).map(|j| nearness(places, i, j)).sum::<f64>();
    // Summed in the rows' order, whatever the number of threads.
    (0..rows).into_par_iter().map(of_row).collect::<Vec<f64>>().iter().sum()
}

/// The gradient of the divergence of the places' nearness from the probabilities.
fn gradient(joint: &[f64], places: &[f64], exaggeration: f64) -> Vec<f64> {
    let rows = places.len() / 2;
    let total = total_nearness(places);
    let of_row = |i: usize| {
        let (mut across, mut down) = (0.0, 0.0);
        for j in (0..rows).filter(|j| *j != i) {
            let near = nearness(places, i, j);
            let force = (exaggeration * joint[i * rows + j] - (near / total).max(LEAST)) * near;
            across += force * (places[2 * i] - places[2 * j]);
            down += force * (places[2 * i + 1] - places[2 * j + 1]);
        }
        [4.0 * across, 4.0 * down]
    };
    (0..rows).into_par_iter().map(of_row).collect::<Vec<[f64; 2]>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::{agree, golden, numbers, wave};

    fn divergence(joint: &[f64], places: &[f64]) -> f64 {
        let (rows, total) = (places.len() / 2, total_nearness(places));
        let pairs = (0..rows).flat_map(|i| (0..rows).filter(move |j| *j != i).map(move |j| (i, j)));
        pairs
            .map(|(i, j)| {
                joint[i * rows + j] * (joint[i * rows + j] / (nearness(places, i, j) / total).max(LEAST)).ln()
            })
            .sum()
    }

    #[test]
    fn probabilities_gradient_and_the_divergence_in_the_end_are_scikit_learns() {
        let golden = &golden()["tsne"];
        let joint = joint_probabilities(&wave(60 * 5, 0.3), 5, 12.0);
        agree("joint", &joint[..300], &numbers(&golden["joint"]), 1e-7);
        assert!((joint.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let start: Vec<f64> = wave(120, 0.7).iter().map(|v| f64::from(*v)).collect();
        let expected = golden["divergence"].as_f64().expect("a number");
        assert!((divergence(&joint, &start) - expected).abs() < 1e-5);
        agree("gradient", &gradient(&joint, &start, 1.0), &numbers(&golden["gradient"]), 1e-6);
        let mut descent = Descent::new(&start);
        (0..6).for_each(|_| descent.step(&joint, 12.0, 0.5, 50.0));
        agree("descended", &descent.places, &numbers(&golden["descended"]), 1e-3);
        let places = descend(&joint, &start.iter().map(|v| v * 1e-4).collect::<Vec<_>>());
        let (found, expected) = (divergence(&joint, &places), golden["final_divergence"].as_f64().expect("a number"));
        // 1,000 steps magnify rounding: scikit-learn itself ends between 0.29 and 0.41 when the start is off by 1e-5.
        assert!((found / expected - 1.0).abs() < 0.4, "{found} against {expected}");
    }

    #[test]
    fn clusters_stay_apart_and_few_or_equal_rows_have_places() {
        let values: Vec<f32> = (0..40).flat_map(|i| [(i % 2) as f32 * 9.0, (i as f32).sin() * 0.1, 0.0]).collect();
        let start: Vec<f64> = wave(80, 0.7).iter().map(|v| f64::from(*v) * 1e-4).collect();
        let places = tsne(&values, 3, &start);
        let middle = |class: usize| {
            let of = (0..40).filter(|i| i % 2 == class).map(|i| places[2 * i]).sum::<f64>();
            let down = (0..40).filter(|i| i % 2 == class).map(|i| places[2 * i + 1]).sum::<f64>();
            (of / 20.0, down / 20.0)
        };
        let ((ax, ay), (bx, by)) = (middle(0), middle(1));
        let apart = (ax - bx).hypot(ay - by);
        let spread = (0..40).step_by(2).map(|i| (places[2 * i] - ax).hypot(places[2 * i + 1] - ay)).fold(0.0, f64::max);
        assert!(apart > 2.0 * spread, "{apart} apart, {spread} wide");
        assert_eq!(tsne(&values[..9], 3, &start[..6]), start[..6]);
        assert!(tsne(&[1.0; 30], 3, &start[..20]).iter().all(|place| place.is_finite()));
    }
}
