//! What a step's tensors say of a run's health, on the host: entropies, prototypes in use, spread and rank of features.
//! spec/objectives.md names the symptoms; [`super::names`] says what each number is, [`super::verdict`] what follows from it.

use super::names;
use super::ranks::{ROWS_MAX, centred_rank, lidar, rankme};
use nalgebra::DMatrix;
use std::collections::BTreeMap;

/// A matrix of a step, row by row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Values a row.
    pub width: usize,
    /// `[rows, width]`.
    pub values: Vec<f32>,
}

impl Rows {
    /// Rows of `width` values.
    pub fn new(width: usize, values: Vec<f32>) -> Self {
        Self { width, values }
    }

    fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// Eigenvalues of other values are not found.
    fn is_finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }

    /// The first images of each view, `ROWS_MAX` rows at most in all.
    fn bounded(&self, views: usize) -> DMatrix<f64> {
        let images = self.len() / views;
        let kept = images.min((ROWS_MAX / views).max(1));
        DMatrix::from_fn(views * kept, self.width, |row, column| {
            f64::from(self.row(row / kept * images + row % kept)[column])
        })
    }
}

/// What a step saw. What its objective does not have is left out.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Images in the batch.
    pub batch: usize,
    /// The teacher's distributions over prototypes, `[globals * batch, K]`, view by view.
    pub teacher: Option<Rows>,
    /// The student's log-distributions, `[views * batch, K]`, the global views first; those beyond are not read.
    pub student: Option<Rows>,
    /// The teacher's centre, `[1, K]`.
    pub center: Option<Rows>,
    /// Class features of the student's views of full size, `[views * batch, width]`.
    pub features: Option<Rows>,
    /// Barlow Twins' embeddings of two views, `[2 * batch, width]`.
    pub embeddings: Option<Rows>,
    /// DINO's loss.
    pub loss_dino: Option<f64>,
}

/// Measures what a step saw, by the names of [`names`].
pub fn measure(seen: &Seen) -> BTreeMap<&'static str, f64> {
    let mut found = BTreeMap::new();
    if seen.batch == 0 {
        return found;
    }
    if let Some(teacher) = seen.teacher.as_ref().filter(|teacher| teacher.width > 1) {
        of_teacher(teacher, &mut found);
        let ln_k = (teacher.width as f64).ln();
        found.extend(seen.loss_dino.map(|loss| (names::LOSS_OVER_LN_K, loss / ln_k)));
        if let Some(student) = seen.student.as_ref().filter(|student| student.len() >= teacher.len()) {
            found.insert(names::AGREEMENT, agreement(teacher, student));
            found.extend(kl(teacher, student, seen.batch).map(|kl| (names::KL_TEACHER_STUDENT, kl)));
        }
    }
    if let Some(center) = &seen.center {
        let square: f64 = center.values.iter().map(|v| f64::from(*v).powi(2)).sum();
        found.insert(names::CENTER_NORM, square.sqrt());
    }
    if let Some(features) = seen.features.as_ref().filter(|rows| rows.len() > 1 && rows.is_finite()) {
        let views = (features.len() / seen.batch).max(1);
        let rows = features.bounded(views);
        found.insert(names::FEATURE_STD, feature_std(features));
        found.insert(names::RANKME, rankme(&rows));
        if views > 1 && seen.batch > 1 {
            found.insert(names::LIDAR, lidar(&rows, views));
        }
    }
    let is_pair = |rows: &&Rows| rows.len() == 2 * seen.batch && rows.width > 1 && rows.is_finite();
    if let Some(embeddings) = seen.embeddings.as_ref().filter(is_pair) {
        let (diagonal, off) = cross_correlation(embeddings, seen.batch);
        found.insert(names::BARLOW_DIAGONAL_MEAN, diagonal);
        found.insert(names::BARLOW_OFF_DIAGONAL_RMS, off);
        found.insert(names::EMBEDDING_RANK, centred_rank(&embeddings.bounded(2)));
    }
    found
}

fn entropy(row: impl Iterator<Item = f64>) -> f64 {
    row.filter(|q| *q > 0.0).map(|q| -q * q.ln()).sum()
}

fn of_teacher(teacher: &Rows, found: &mut BTreeMap<&'static str, f64>) {
    let (count, k) = (teacher.len() as f64, teacher.width as f64);
    let total: f64 = teacher.rows().map(|row| entropy(row.iter().map(|q| f64::from(*q)))).sum();
    let mut mean = vec![0f64; teacher.width];
    let mut chosen = vec![false; teacher.width];
    for row in teacher.rows() {
        mean.iter_mut().zip(row).for_each(|(mean, q)| *mean += f64::from(*q) / count);
        chosen[first_choice(row)] = true;
    }
    found.insert(names::TEACHER_ENTROPY, total / count);
    found.insert(names::TEACHER_ENTROPY_SHARE, total / count / k.ln());
    found.insert(names::PROTOTYPES_IN_USE, chosen.iter().filter(|chosen| **chosen).count() as f64 / k);
    found.insert(names::PROTOTYPES_PERPLEXITY, entropy(mean.into_iter()).exp());
}

/// The index of the greatest value, of equal ones the first.
fn first_choice(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, index| if row[index] > row[best] { index } else { best })
}

fn agreement(teacher: &Rows, student: &Rows) -> f64 {
    let both = teacher.rows().zip(student.rows());
    both.filter(|(t, s)| first_choice(t) == first_choice(s)).count() as f64 / teacher.len() as f64
}

/// Mean of sum q (ln q - ln p) over images and pairs of different global views; none of one view.
fn kl(teacher: &Rows, student: &Rows, batch: usize) -> Option<f64> {
    let globals = teacher.len() / batch;
    let (mut total, mut pairs) = (0.0, 0);
    for (t, s) in (0..globals).flat_map(|t| (0..globals).map(move |s| (t, s))).filter(|(t, s)| t != s) {
        for image in 0..batch {
            let (q, log_p) = (teacher.row(t * batch + image), student.row(s * batch + image));
            let terms = q.iter().zip(log_p).filter(|(q, _)| **q > 0.0);
            total += terms.map(|(q, log_p)| f64::from(*q) * (f64::from(*q).ln() - f64::from(*log_p))).sum::<f64>();
            pairs += 1;
        }
    }
    (pairs > 0).then(|| total / pairs as f64)
}

/// The mean over dimensions of the standard deviation (of a sample) of L2-normalised rows, times the square root of their width
/// (Chen and He 2021).
fn feature_std(features: &Rows) -> f64 {
    let (count, width) = (features.len() as f64, features.width);
    let norms: Vec<f64> = features.rows().map(|row| square(row).sqrt().max(1e-12)).collect();
    let total: f64 = (0..width)
        .map(|column| {
            let values = || features.rows().zip(&norms).map(move |(row, norm)| f64::from(row[column]) / norm);
            let mean = values().sum::<f64>() / count;
            (values().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt()
        })
        .sum();
    total / width as f64 * (width as f64).sqrt()
}

fn square(row: &[f32]) -> f64 {
    row.iter().map(|value| f64::from(*value).powi(2)).sum()
}

/// Mean diagonal and RMS off-diagonal of the cross-correlation of two views' embeddings, each standardised over the batch as
/// the loss does (variance plus 1e-5).
fn cross_correlation(embeddings: &Rows, batch: usize) -> (f64, f64) {
    let width = embeddings.width;
    let standardised = |view: usize| {
        let mut rows =
            DMatrix::from_fn(batch, width, |row, column| f64::from(embeddings.row(view * batch + row)[column]));
        for mut column in rows.column_iter_mut() {
            let mean = column.mean();
            column.add_scalar_mut(-mean);
            let variance = column.norm_squared() / batch as f64;
            column /= (variance + 1e-5).sqrt();
        }
        rows
    };
    let (first, second) = (standardised(0), standardised(1));
    let diagonal: Vec<f64> =
        first.column_iter().zip(second.column_iter()).map(|(a, b)| a.dot(&b) / batch as f64).collect();
    // ||A^T B||^2 = <A A^T, B B^T>: the batch is smaller than the width, as a rule.
    let all = (&first * first.transpose()).dot(&(&second * second.transpose())) / (batch * batch) as f64;
    let on: f64 = diagonal.iter().map(|c| c * c).sum();
    let off = ((all - on).max(0.0) / (width * (width - 1)) as f64).sqrt();
    (diagonal.iter().sum::<f64>() / width as f64, off)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// As tests/golden/health.py makes its inputs.
    fn wave(rows: usize, width: usize, phase: f64) -> Rows {
        let value = |i: f64| (1.7 * i + phase).sin() + 0.8 * (0.013 * i * i * phase).sin();
        Rows::new(width, (0..rows * width).map(|i| value(i as f64) as f32).collect())
    }

    fn log_softmax(mut rows: Rows, scale: f64, is_log: bool) -> Rows {
        for row in rows.values.chunks_exact_mut(rows.width) {
            let total = row.iter().map(|v| (scale * f64::from(*v)).exp()).sum::<f64>().ln();
            for value in row {
                let log = scale * f64::from(*value) - total;
                *value = if is_log { log } else { log.exp() } as f32;
            }
        }
        rows
    }

    #[test]
    fn every_measure_is_numpys() {
        let golden: Value =
            serde_json::from_str(include_str!("../../../tests/golden/health.json")).expect("JSON of health.py");
        let mut compared = 0;
        for kind in ["dino", "features", "embeddings"] {
            for case in golden[kind].as_array().expect("cases") {
                let number = |name: &str| case[name].as_f64().expect("a number");
                let (batch, phase) = (number("batch") as usize, number("phase"));
                let mut seen = Seen { batch, ..Seen::default() };
                if kind == "dino" {
                    let k = number("k") as usize;
                    seen.teacher = Some(log_softmax(wave(2 * batch, k, phase), 3.0, false));
                    seen.student = Some(log_softmax(wave(3 * batch, k, phase + 0.5), 1.0, true));
                    seen.center = Some(wave(1, k, phase + 1.0));
                    seen.loss_dino = Some(2.5);
                } else {
                    let rows = Some(wave(2 * batch, number("width") as usize, phase));
                    if kind == "features" { seen.features = rows } else { seen.embeddings = rows }
                }
                let found = measure(&seen);
                let expected = case["expected"].as_object().expect("metrics");
                assert_eq!(found.len(), expected.len(), "{kind}: {found:?}");
                for (name, value) in found {
                    assert!(names::METRICS.iter().any(|(known, _)| *known == name), "{name} is documented");
                    let expected = expected[name].as_f64().expect("a number");
                    assert!(
                        (value - expected).abs() <= 1e-5 * expected.abs(),
                        "{kind}, {name}: {value}, not {expected}"
                    );
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 2 * 8 + 3 * 3 + 2 * 3);
    }

    #[test]
    fn a_point_and_one_prototype_are_what_they_are() {
        let features = Rows::new(4, [1.0, 2.0, -1.0, 0.5].repeat(6));
        let teacher = Rows::new(5, [0.0, 1.0, 0.0, 0.0, 0.0].repeat(6));
        let found = measure(&Seen { batch: 3, features: Some(features), teacher: Some(teacher), ..Seen::default() });
        assert!(found[names::FEATURE_STD] < 1e-6);
        assert!((found[names::RANKME] - 1.0).abs() < 1e-4);
        assert_eq!(found[names::TEACHER_ENTROPY], 0.0);
        assert_eq!((found[names::PROTOTYPES_IN_USE], found[names::PROTOTYPES_PERPLEXITY]), (0.2, 1.0));
        assert!(measure(&Seen::default()).is_empty());
    }
}
