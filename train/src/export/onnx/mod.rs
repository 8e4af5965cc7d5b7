//! A backbone as an ONNX model: images of a fixed size, any number of them; outputs `class` and `patches`. Written through a
//! small Protocol Buffers writer of our own, tensor by tensor.

mod graph;
mod network;
mod proto;

use super::About;
use super::safetensors::write_whole;
use crate::Result;
use crate::model::HostTensor;
use crate::weights::shapes;
use lapidary_schemas::config::ModelConfig;
use network::Network;
use proto::Message;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// The version of the operators: LayerNormalization is in it from 17 on.
const OPSET: i64 = 17;
/// The version of the format, which runtimes of 2022 and later read.
const IR_VERSION: i64 = 8;
/// A message holds less than this many bytes.
const MESSAGE_MAX_BYTES: u64 = 2 << 30;

/// Whether the network can be written.
pub(super) fn check(model: &ModelConfig) -> std::result::Result<(), String> {
    let values: u64 = shapes(model).values().map(|shape| shape.iter().map(|side| *side as u64).product::<u64>()).sum();
    // Besides the weights there is a few KiB a block.
    if 4 * values + (1 << 20) * (1 + model.depth as u64) >= MESSAGE_MAX_BYTES {
        return Err(format!(
            "its {values} weights take {} MiB, and an ONNX file holds less than 2048",
            (4 * values) >> 20
        ));
    }
    Ok(())
}

/// Writes the model.
pub(super) fn write(
    path: &Path,
    tensors: &BTreeMap<String, HostTensor>,
    model: &ModelConfig,
    about: &About,
) -> Result<()> {
    let graph = Network::build(tensors, model).graph;
    let (px, dim, grid) = (model.image_px, model.dim, model.grid());
    let tail = Message::default()
        .text(2, "backbone")
        .message(11, &graph::value("images", &[3, px, px]))
        .message(12, &graph::value("class", &[dim]))
        .message(12, &graph::value("patches", &[grid * grid, dim]));
    // Each constant's length is known before its numbers are written.
    let heads: Vec<Message> = graph
        .constants
        .iter()
        .map(|constant| {
            let len = constant.head.0.len() as u64 + constant.bytes;
            let mut head = Message::default().open(5, len);
            head.0.extend(&constant.head.0);
            head
        })
        .collect();
    let constants: u64 = graph.constants.iter().zip(&heads).map(|(c, head)| head.0.len() as u64 + c.bytes).sum();
    let len = graph.nodes.0.len() as u64 + constants + tail.0.len() as u64;
    let property = |key: &str, value: &str| Message::default().text(1, key).text(2, value);
    let head = Message::default()
        .int(1, IR_VERSION)
        .text(2, "lapidary")
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(8, &Message::default().text(1, "").int(2, OPSET))
        .message(14, &property("name", &about.name))
        .message(14, &property("digest", &about.digest))
        .open(7, len);
    write_whole(path, |file| {
        file.write_all(&head.0)?;
        file.write_all(&graph.nodes.0)?;
        for (constant, head) in graph.constants.iter().zip(&heads) {
            file.write_all(&head.0)?;
            constant.write(file)?;
        }
        file.write_all(&tail.0)
    })
}
