//! Functions of single numbers and of rows of them, written so that loops over them become vector instructions.

/// e^x within 2 units in the last place; 0 below -87.3, and 2^127 times what is left above 88.
///
/// x = n ln 2 + r with |r| at most ln 2 / 2; e^r by its Taylor polynomial of degree 7, whose rest is below 1e-8; 2^n by its bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // ln 2 in two parts, the first of which has few bits, so that n times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Added and taken off again it rounds to a whole number, which stands in the lowest bits in between.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.3, 88.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let mut sum = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * r + coefficient;
    }
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let value = sum * f32::from_bits(power);
    if x < -87.3 { 0.0 } else { value }
}

/// The normal distribution's probability below x, and its density there.
///
/// The complement of the error function is e^(-z^2), which the density needs as well, times a polynomial of
/// t = 1 / (1 + 0.33 z) without a constant (the form of Abramowitz and Stegun 1964, 7.1.26); these coefficients minimise the
/// greatest relative error up to z = 9.5, which is 8e-8.
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    const COEFFICIENTS: [f32; 8] = [
        -0.135_928_84,
        0.462_688_4,
        -0.355_439_25,
        0.412_541_9,
        0.045_010_48,
        0.201_923_88,
        0.182_837_23,
        0.186_366_11,
    ];
    let magnitude = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.33 * magnitude);
    let mut sum = COEFFICIENTS[0];
    for coefficient in &COEFFICIENTS[1..] {
        sum = sum * t + coefficient;
    }
    let beyond = 0.5 * sum * t * bell;
    let below = if x < 0.0 { beyond } else { 1.0 - beyond };
    (below, bell * 0.398_942_3)
}

/// Sums side by side, so that a sum over a row is one of vectors.
pub(super) const LANES: usize = 16;

/// The sum of `f` over two rows.
#[inline(always)]
pub(super) fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| f(*a, *b)).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The largest value of a row.
#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let whole = row.chunks_exact(LANES);
    let rest = whole.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for values in whole {
        for lane in 0..LANES {
            lanes[lane] = if values[lane] > lanes[lane] { values[lane] } else { lanes[lane] };
        }
    }
    lanes.into_iter().fold(rest, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_within_two_units_of_the_last_place() {
        for step in -87_000..88_000 {
            let x = step as f32 / 1000.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 2.4e-7, "{x}: {found} {expected}");
        }
        assert_eq!(exp(-1e9), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(1e9).is_finite() && exp(f32::NAN).is_nan());
    }

    #[test]
    fn the_normal_distribution_is_within_its_error() {
        // Simpson's rule on the density, from far below.
        let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        let (mut below, width) = (0.0, 1e-3);
        for step in -9000..9000 {
            let x = f64::from(step) * width;
            let (found, found_density) = normal(x as f32);
            assert!((f64::from(found) - below).abs() < 2.5e-7, "{x}: {found} {below}");
            assert!((f64::from(found_density) - density(x)).abs() < 2e-7, "{x}");
            below += width / 6.0 * (density(x) + 4.0 * density(x + width / 2.0) + density(x + width));
        }
    }
}
