//! Checkpoints of version 1: names and shapes as burn has them, converted to today's.

use crate::model::{HostTensor, to_disk};
use std::collections::BTreeMap;

/// The tensors of a version-1 checkpoint under today's names, in today's shapes.
pub(super) fn converted(tensors: BTreeMap<String, HostTensor>) -> BTreeMap<String, HostTensor> {
    let shapes: BTreeMap<String, Vec<usize>> = tensors
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("student.")?.to_owned(), tensor.shape.clone())))
        .collect();
    let convert = |(name, tensor): (String, HostTensor)| {
        let HostTensor { shape, values } = tensor;
        let (prefix, rest) = name.split_once('.').unwrap_or(("", &name));
        match prefix {
            "student" | "teacher" => {
                let rest = renamed(rest);
                (format!("{prefix}.{rest}"), to_disk(&rest, &shape, values))
            }
            "adamw" => {
                // Moments were flat: they have their parameter's shape now.
                let (kind, parameter) = rest.split_once('.').unwrap_or(("", rest));
                let shape = shapes.get(parameter).filter(|_| kind != "steps").cloned().unwrap_or(shape);
                let parameter = renamed(parameter);
                (format!("{prefix}.{kind}.{parameter}"), to_disk(&parameter, &shape, values))
            }
            _ => (name, HostTensor { shape, values }),
        }
    };
    tensors.into_iter().map(convert).collect()
}

/// Today's name of a parameter.
fn renamed(name: &str) -> String {
    let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
    if let Some(last) = parts.last_mut() {
        // LayerNorm's and BatchNorm's; there was no LayerScale.
        match last.as_str() {
            "gamma" => "weight".clone_into(last),
            "beta" => "bias".clone_into(last),
            _ => {}
        }
    }
    match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["head", "mlp", layer, parameter] => format!("head.mlp.{layer}.linear.{parameter}"),
        ["projector", module, parameter] => {
            let (kind, number) = module.split_at(2);
            let layer = number.parse::<usize>().unwrap_or(1).saturating_sub(1);
            let kind = if kind == "bn" { "norm" } else { "linear" };
            format!("projector.{layer}.{kind}.{parameter}")
        }
        _ => parts.join("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_todays() {
        for (old, new) in [
            ("backbone.blocks.0.norm1.gamma", "backbone.blocks.0.norm1.weight"),
            ("backbone.norm.beta", "backbone.norm.bias"),
            ("head.mlp.2.bias", "head.mlp.2.linear.bias"),
            ("head.last_layer.weight_v", "head.last_layer.weight_v"),
            ("projector.fc1.weight", "projector.0.linear.weight"),
            ("projector.bn2.gamma", "projector.1.norm.weight"),
        ] {
            assert_eq!(renamed(old), new);
        }
    }
}
