//! Position embeddings at another grid, in both modes.

use super::{assert_near, on_device, on_host, part, read};
use crate::model::{HostTensor, resize_matrix};
use burn::tensor::Tensor;
use burn_flex::Flex;
use lapidary_schemas::config::PositionResize;

#[test]
fn grids_are_resized_as_the_references_resize_them() {
    let golden = part(&read("parts.safetensors"), "position.");
    for (from, to) in [(14, 6), (14, 30), (37, 16)] {
        let grid: Tensor<Flex, 2> = on_device(&golden[&format!("{from}.grid")]);
        for (mode, name) in [(PositionResize::Offset, "offset"), (PositionResize::Antialiased, "antialiased")] {
            let matrix = HostTensor { shape: vec![to * to, from * from], values: resize_matrix(from, to, mode) };
            let resized = on_device::<Flex, 2>(&matrix).matmul(grid.clone());
            let name = format!("{from}.{to}.{name}");
            assert_near(&name, &on_host(resized), &golden[&name].values, 1e-6);
        }
    }
}
