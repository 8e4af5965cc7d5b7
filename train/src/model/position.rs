//! Resizing position embeddings as DINO does: bicubic with a = -0.75, no antialiasing, and a scale whose numerator has 0.1
//! added (spec/pretraining.md 1.8; facebookresearch/dino issue 8). Being linear, it is a matrix.

/// The matrix, shape `[to * to, from * from]`, that resizes a grid of `from` squared embeddings to `to` squared.
pub(super) fn resize_matrix(from: usize, to: usize) -> Vec<f32> {
    let line = resize_line(from, to);
    let mut matrix = vec![0f32; to * to * from * from];
    for y in 0..to {
        for x in 0..to {
            let row = &mut matrix[(y * to + x) * from * from..][..from * from];
            for (i, down) in line[y].iter().enumerate() {
                for (j, across) in line[x].iter().enumerate() {
                    row[i * from + j] = (down * across) as f32;
                }
            }
        }
    }
    matrix
}

/// Weights of the `from` positions for each of `to` positions along a line.
fn resize_line(from: usize, to: usize) -> Vec<Vec<f64>> {
    let step = from as f64 / (to as f64 + 0.1);
    (0..to)
        .map(|position| {
            let centre = (position as f64 + 0.5) * step - 0.5;
            let first = centre.floor();
            let mut weights = vec![0f64; from];
            for tap in -1..=2 {
                let at = first + f64::from(tap);
                let index = at.clamp(0.0, from as f64 - 1.0) as usize;
                weights[index] += cubic((centre - at).abs());
            }
            weights
        })
        .collect()
}

/// Keys' cubic convolution kernel with a = -0.75, as in PyTorch.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_constants_stay() {
        for (from, to) in [(14, 6), (14, 30), (8, 4), (2, 5)] {
            for row in resize_matrix(from, to).chunks_exact(from * from) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }
}
