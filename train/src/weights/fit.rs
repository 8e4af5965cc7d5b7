//! Weights made ready to start a backbone of a configuration: positions resized, everything else as it is.

use super::Weights;
use super::shapes::shapes;
use crate::model::{HostTensor, resize_matrix};
use crate::{Result, TrainError};
use lapidary_schemas::config::{ModelConfig, PositionResize, Positions};
use std::collections::BTreeMap;

/// So many mismatches are named.
const NAMED_MAX: usize = 6;

/// What a backbone of `model` starts from: the weights, with their position embedding resized on the host, by the mode that
/// they were made with, to the grid of `model`. The mask token is among them where the weights have one.
///
/// # Errors
/// [`TrainError::Weights`] names each tensor that is missing or of another shape, and the settings that the weights need.
pub fn fit(weights: &Weights, model: &ModelConfig) -> Result<BTreeMap<String, HostTensor>> {
    let model = model.resolved();
    let own = &weights.model;
    let mut tensors = weights.tensors.clone();
    let mut faults = Vec::new();
    if own.heads != model.heads {
        faults.push(format!("the weights have {} attention heads; {} were expected", own.heads, model.heads));
    }
    if own.positions != model.positions {
        faults.push(format!("the weights have {} positions; {} were expected", said(own), said(&model)));
    }
    if own.feed_forward != model.feed_forward {
        faults.push(format!(
            "the weights' feed-forward networks are {:?}; {:?} was expected",
            own.feed_forward, model.feed_forward
        ));
    }
    let expected = shapes(&model);
    let grids = (own.grid(), model.grid());
    if let Some(positions) = tensors.get_mut("pos_embed")
        && own.dim == model.dim
        && grids.0 != grids.1
    {
        *positions = resized(positions, grids, weights.position_resize);
    }
    // What lies outside the blocks says most, so it comes first.
    let is_in_block = |(name, _): &(&String, &Vec<usize>)| name.starts_with("blocks.");
    let outside = expected.iter().filter(|entry| !is_in_block(entry));
    for (name, shape) in outside.chain(expected.iter().filter(is_in_block)) {
        match tensors.get(name) {
            Some(tensor) if tensor.shape == *shape => {}
            Some(tensor) => faults.push(format!("`{name}` has shape {:?}; {shape:?} was expected", tensor.shape)),
            None => faults.push(format!("`{name}` of shape {shape:?} is missing")),
        }
    }
    for name in tensors.keys().filter(|name| !expected.contains_key(*name) && *name != "mask_token") {
        faults.push(format!("`{name}` has no place in the network"));
    }
    if faults.is_empty() {
        if own.norm_epsilon != model.norm_epsilon {
            let (made, here) = (own.norm_epsilon, model.norm_epsilon);
            tracing::warn!("the weights were made with model.norm_epsilon = {made:e}, not {here:e}");
        }
        if own.positions == Positions::Learned && weights.position_resize != model.position_resize {
            let (made, here) = (weights.position_resize, model.position_resize);
            tracing::warn!("the weights were made with model.position_resize = {made:?}, not {here:?}");
        }
        return Ok(tensors);
    }
    let more = faults.len().saturating_sub(NAMED_MAX);
    faults.truncate(NAMED_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let detail =
        format!("they do not fit the network: {}{more}\nhint: these weights need {}", faults.join("; "), settings(own));
    Err(TrainError::Weights { path: weights.path.clone(), detail })
}

fn said(model: &ModelConfig) -> &'static str {
    match model.positions {
        Positions::Learned => "learned",
        Positions::Rope => "rope",
    }
}

/// The settings of a network, as `--set` takes them.
fn settings(model: &ModelConfig) -> String {
    let text = serde_json::to_value(model).unwrap_or_default();
    let value = |key: &str| match &text[key] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let keys =
        ["dim", "depth", "heads", "patch_px", "mlp_ratio", "feed_forward", "layer_scale", "registers", "positions"];
    keys.map(|key| format!("model.{key}={}", value(key))).join(" ")
}

/// A position embedding for another grid; the class token's row stays.
fn resized(positions: &HostTensor, (from, to): (usize, usize), mode: PositionResize) -> HostTensor {
    let dim = positions.shape[2];
    let (class, grid) = positions.values.split_at(dim);
    let matrix = resize_matrix(from, to, mode);
    let mut values = class.to_vec();
    for row in matrix.chunks_exact(from * from) {
        let mut sums = vec![0f64; dim];
        for (weight, place) in row.iter().zip(grid.chunks_exact(dim)).filter(|(weight, _)| **weight != 0.0) {
            sums.iter_mut().zip(place).for_each(|(sum, value)| *sum += f64::from(*weight) * f64::from(*value));
        }
        values.extend(sums.into_iter().map(|sum| sum as f32));
    }
    HostTensor { shape: vec![1, 1 + to * to, dim], values }
}
