//! Means, standard deviations, and Welch's interval of a difference of means (Welch 1947).

use serde::Serialize;

/// What is known of a number over runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The number of each run, in the order of the runs.
    pub values: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with n - 1; none of one run.
    pub deviation: Option<f64>,
}

impl Sample {
    /// Of one run at least.
    pub fn of(values: Vec<f64>) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        Self { values, mean, deviation }
    }

    /// The square of the mean's standard error, and the degrees of freedom.
    fn error(&self) -> Option<(f64, f64)> {
        let count = self.values.len() as f64;
        Some((self.deviation?.powi(2) / count, count - 1.0))
    }
}

/// Welch's 95 % interval of `a.mean - b.mean`; none where one of them is of one run.
pub(crate) fn welch_interval(a: &Sample, b: &Sample) -> Option<[f64; 2]> {
    let ((error_a, free_a), (error_b, free_b)) = (a.error()?, b.error()?);
    let (difference, sum) = (a.mean - b.mean, error_a + error_b);
    if sum == 0.0 {
        return Some([difference; 2]);
    }
    let freedom = sum * sum / (error_a * error_a / free_a + error_b * error_b / free_b);
    let reach = student_quantile(0.975, freedom) * sum.sqrt();
    Some([difference - reach, difference + reach])
}

/// The quantile of Student's t distribution, for shares above one half.
fn student_quantile(share: f64, freedom: f64) -> f64 {
    let below = |t: f64| 1.0 - 0.5 * incomplete_beta(freedom / (freedom + t * t), 0.5 * freedom, 0.5);
    let (mut low, mut high) = (0.0, 1.0);
    while below(high) < share && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if below(middle) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast below this; above, the symmetry helps.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let log_front = a * x.ln() + b * (1.0 - x).ln() - (ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)) - a.ln();
    let coefficient = |n: usize| {
        let m = (n / 2) as f64;
        if n == 0 {
            1.0
        } else if n.is_multiple_of(2) {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        }
    };
    // From the inside out: 1 / (1 + d1 / (1 + d2 / (1 + ...))).
    let tail = (1..400).rev().fold(1.0, |tail, n| 1.0 + coefficient(n) / tail);
    (log_front.exp() / tail).clamp(0.0, 1.0)
}

/// The logarithm of the gamma function, by Stirling's series after the argument is raised above 10.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // scipy.stats.t.ppf(0.975, df), scipy 1.17.1.
        for (freedom, expected) in [
            (1.0, 12.706_204_736_174_694),
            (2.0, 4.302_652_729_749_462),
            (2.5, 3.574_654_842_003_681_7),
            (4.0, 2.776_445_105_197_793_4),
            (30.0, 2.042_272_456_301_238),
            (1000.0, 1.962_339_080_826_408_3),
        ] {
            let found = student_quantile(0.975, freedom);
            assert!((found - expected).abs() < 1e-7 * expected, "{freedom}: {found}, {expected}");
        }
    }

    #[test]
    fn intervals_are_scipys() {
        // scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95), scipy 1.17.1.
        let (a, b) = (Sample::of(vec![0.412, 0.431, 0.405]), Sample::of(vec![0.389, 0.371, 0.392]));
        let [low, high] = welch_interval(&a, &b).expect("three each");
        assert!((low - WELCH_LOW).abs() < 1e-9 && (high - WELCH_HIGH).abs() < 1e-9, "{low} {high}");
        assert!((a.deviation.expect("three") - 0.013_453_624_047_073_7).abs() < 1e-12);
        assert_eq!(welch_interval(&a, &Sample::of(vec![0.4])), None, "of one run no spread is known");
        let same = Sample::of(vec![0.5, 0.5]);
        assert_eq!(welch_interval(&same, &same), Some([0.0, 0.0]));
    }

    const WELCH_LOW: f64 = 0.003_460_635_804_425_183;
    const WELCH_HIGH: f64 = 0.060_539_364_195_574_65;
}
