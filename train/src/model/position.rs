//! Resizing learned position embeddings to another grid (spec/pretraining.md 1.8), in the two modes that weights were trained
//! with: DINO's, with a scale whose numerator has 0.1 added and no antialiasing (facebookresearch/dino issue 8), and that of
//! DINOv2 with registers, to the size itself and antialiased. Both are bicubic, as PyTorch has it: with a = -0.75, antialiased
//! with a = -0.5. Being linear, each is a matrix.

use lapidary_schemas::config::PositionResize;

/// What DINO adds to the side of the new grid.
const OFFSET: f64 = 0.1;

/// The matrix, shape `[to * to, from * from]`, that resizes a grid of `from` squared embeddings to `to` squared.
pub(crate) fn resize_matrix(from: usize, to: usize, mode: PositionResize) -> Vec<f32> {
    let line = resize_line(from, to, mode);
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
fn resize_line(from: usize, to: usize, mode: PositionResize) -> Vec<Vec<f64>> {
    let (step, support) = match mode {
        PositionResize::Offset => (from as f64 / (to as f64 + OFFSET), 1.0),
        // Where the grid shrinks, the kernel is widened by as much.
        PositionResize::Antialiased => (from as f64 / to as f64, (from as f64 / to as f64).max(1.0)),
    };
    (0..to).map(|position| weights((position as f64 + 0.5) * step, from, support, mode)).collect()
}

/// Weights around a centre, in units of positions whose middles lie at 0.5, 1.5 and so on.
fn weights(centre: f64, from: usize, support: f64, mode: PositionResize) -> Vec<f64> {
    let mut weights = vec![0f64; from];
    let reach = (2.0 * support).ceil() as i64 + 1;
    let a = match mode {
        PositionResize::Offset => -0.75,
        PositionResize::Antialiased => -0.5,
    };
    let middle = (centre - 0.5).floor() as i64;
    for at in middle - reach..=middle + reach {
        let weight = cubic((at as f64 + 0.5 - centre).abs() / support, a);
        match mode {
            // Beyond the edge its value goes on.
            PositionResize::Offset => weights[at.clamp(0, from as i64 - 1) as usize] += weight,
            // Beyond the edge there is nothing, and what is left is normalised.
            PositionResize::Antialiased => {
                if let Some(slot) = usize::try_from(at).ok().and_then(|at| weights.get_mut(at)) {
                    *slot += weight;
                }
            }
        }
    }
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// Keys' cubic convolution kernel.
fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_the_same_grid_stays() {
        for mode in [PositionResize::Offset, PositionResize::Antialiased] {
            for (from, to) in [(14, 6), (14, 30), (8, 4), (2, 5), (37, 16)] {
                for row in resize_matrix(from, to, mode).chunks_exact(from * from) {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
        }
        let same = resize_matrix(3, 3, PositionResize::Antialiased);
        for (i, row) in same.chunks_exact(9).enumerate() {
            assert!(row.iter().enumerate().all(|(j, weight)| (weight - f32::from(u8::from(i == j))).abs() < 1e-6));
        }
    }
}
