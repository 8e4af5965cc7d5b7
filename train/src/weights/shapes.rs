//! The shapes that a backbone's parameters have on disk, by name: PyTorch's order, a Linear `[out, in]`.

use lapidary_schemas::config::{FeedForward, ModelConfig, Positions};
use std::collections::BTreeMap;

/// The shape of every parameter of a backbone, but the mask token's, which only some objectives have.
pub(crate) fn shapes(model: &ModelConfig) -> BTreeMap<String, Vec<usize>> {
    let (dim, patch, grid, hidden) = (model.dim, model.patch_px, model.grid(), model.hidden());
    let mut shapes = BTreeMap::from([
        ("cls_token".to_owned(), vec![1, 1, dim]),
        ("patch_embed.proj.weight".to_owned(), vec![dim, 3, patch, patch]),
        ("patch_embed.proj.bias".to_owned(), vec![dim]),
        ("norm.weight".to_owned(), vec![dim]),
        ("norm.bias".to_owned(), vec![dim]),
    ]);
    if model.positions == Positions::Learned {
        shapes.insert("pos_embed".to_owned(), vec![1, 1 + grid * grid, dim]);
    }
    if model.registers > 0 {
        shapes.insert("reg_token".to_owned(), vec![1, model.registers, dim]);
    }
    let packed = if model.feed_forward == FeedForward::Swiglu { 2 * hidden } else { hidden };
    for block in 0..model.depth {
        let mut add = |name: &str, shape: Vec<usize>| drop(shapes.insert(format!("blocks.{block}.{name}"), shape));
        for norm in ["norm1", "norm2"] {
            add(&format!("{norm}.weight"), vec![dim]);
            add(&format!("{norm}.bias"), vec![dim]);
        }
        for (layer, outputs, inputs) in
            [("attn.qkv", 3 * dim, dim), ("attn.proj", dim, dim), ("mlp.fc1", packed, dim), ("mlp.fc2", dim, hidden)]
        {
            add(&format!("{layer}.weight"), vec![outputs, inputs]);
            add(&format!("{layer}.bias"), vec![outputs]);
        }
        if model.layer_scale > 0.0 {
            add("ls1.gamma", vec![dim]);
            add("ls2.gamma", vec![dim]);
        }
    }
    shapes
}
