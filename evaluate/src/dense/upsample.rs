//! Scores of patches at pixels: bilinear interpolation as PyTorch has it (`interpolate`, align_corners=False).

/// The two nearest of `from` places along a line for each of `to`, and the share of the second.
fn line(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    (0..to)
        .map(|at| {
            let place = ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
            let first = (place as usize).min(from - 1);
            (first, (first + 1).min(from - 1), (place - first as f64) as f32)
        })
        .collect()
}

/// Values at another size.
///
/// # Shapes
/// - values: `[rows, columns, channels]`
/// - returns: `[to.0, to.1, channels]`
pub(crate) fn upsampled(values: &[f32], (rows, columns): (usize, usize), to: (usize, usize)) -> Vec<f32> {
    let channels = values.len() / (rows * columns);
    let across = line(columns, to.1);
    let mut out = Vec::with_capacity(to.0 * to.1 * channels);
    let mut row = vec![0f32; columns * channels];
    for (above, below, share) in line(rows, to.0) {
        let width = columns * channels;
        let pair = values[above * width..][..width].iter().zip(&values[below * width..][..width]);
        row.iter_mut().zip(pair).for_each(|(mixed, (a, b))| *mixed = a + share * (b - a));
        for (left, right, share) in &across {
            let pair = row[left * channels..][..channels].iter().zip(&row[right * channels..][..channels]);
            out.extend(pair.map(|(a, b)| a + share * (b - a)));
        }
    }
    out
}

/// The channel of the greatest value at each place, the first of equal ones.
pub(crate) fn greatest(values: &[f32], channels: usize) -> Vec<u16> {
    let greatest =
        |values: &[f32]| (1..channels).fold(0, |best, c| if values[c] > values[best] { c } else { best }) as u16;
    values.chunks_exact(channels).map(greatest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::{agree, golden, numbers, wave};

    #[test]
    fn values_are_pytorchs_whatever_the_channels() {
        let values = wave(20, 0.3);
        let expected = numbers(&golden()["upsampled"]);
        let found = upsampled(&values, (4, 5), (12, 20));
        agree("upsampled", &found.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), &expected, 1e-6);
        let both: Vec<f32> = values.iter().flat_map(|value| [*value, -value]).collect();
        let both = upsampled(&both, (4, 5), (12, 20));
        assert!(both.chunks_exact(2).zip(&found).all(|(pair, value)| pair == [*value, -value]));
        assert_eq!(upsampled(&values, (4, 5), (4, 5)), values);
        assert_eq!(greatest(&[1.0, 3.0, 3.0, 0.0, -1.0, -2.0], 3), [1, 0]);
    }
}
