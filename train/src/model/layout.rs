//! Between memory and disk: a matrix is `[inputs, outputs]` in memory and `[outputs, inputs]` on disk, the patch projection
//! `[3 * p * p, dim]` in memory and a convolution's kernel `[dim, 3, p, p]` on disk. On disk names and shapes are PyTorch's.

use super::HostTensor;

/// The shape on disk of a parameter whose shape in memory is `shape`.
pub(crate) fn disk_shape(name: &str, shape: &[usize]) -> Vec<usize> {
    match *shape {
        [inputs, outputs] if name.ends_with("patch_embed.proj.weight") => {
            let patch = (inputs / 3).isqrt();
            vec![outputs, 3, patch, patch]
        }
        [inputs, outputs] => vec![outputs, inputs],
        _ => shape.to_vec(),
    }
}

/// A parameter as it is written.
pub(crate) fn to_disk(name: &str, shape: &[usize], values: Vec<f32>) -> HostTensor {
    let values = match *shape {
        [inputs, outputs] => transposed(&values, inputs, outputs),
        _ => values,
    };
    HostTensor { shape: disk_shape(name, shape), values }
}

/// A parameter's values in memory, from what was read.
///
/// # Errors
/// Names what is missing or of another shape, with the shape that was expected.
pub(crate) fn from_disk(name: &str, shape: &[usize], tensor: Option<&HostTensor>) -> Result<Vec<f32>, String> {
    let expected = disk_shape(name, shape);
    match tensor {
        Some(tensor) if tensor.shape == expected => Ok(match *shape {
            [inputs, outputs] => transposed(&tensor.values, outputs, inputs),
            _ => tensor.values.clone(),
        }),
        Some(tensor) => Err(format!("tensor `{name}` has shape {:?}, expected {expected:?}", tensor.shape)),
        None => Err(format!("tensor `{name}` of shape {expected:?} is missing")),
    }
}

/// A matrix of `rows` rows, transposed.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut turned = vec![0f32; values.len()];
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for r in row..(row + TILE).min(rows) {
                for c in column..(column + TILE).min(columns) {
                    turned[c * rows + r] = values[r * columns + c];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_matrices_are_transposed() {
        let values: Vec<f32> = (0..48 * 5).map(|i| i as f32).collect();
        for (name, shape, on_disk) in [
            ("blocks.0.attn.qkv.weight", vec![48, 5], vec![5, 48]),
            ("patch_embed.proj.weight", vec![48, 5], vec![5, 3, 4, 4]),
            ("cls_token", vec![1, 1, 240], vec![1, 1, 240]),
        ] {
            let written = to_disk(name, &shape, values.clone());
            assert_eq!(written.shape, on_disk);
            assert_eq!(from_disk(name, &shape, Some(&written)).as_ref(), Ok(&values));
        }
        assert_eq!(to_disk("w", &[48, 5], values).values[1], 5.0);
        let fault = from_disk("w", &[2, 3], Some(&HostTensor { shape: vec![2, 3], values: vec![0.0; 6] }));
        assert_eq!(fault, Err("tensor `w` has shape [2, 3], expected [3, 2]".to_owned()));
    }
}
