//! Initial weights, as the references draw them (spec/pretraining.md 1.3, 1.4, 1.8).
//!
//! They are drawn on the host, each parameter from a stream keyed by its name, so that they are equal on every backend and
//! untouched by what else the network has.

use super::parameters::{Seen, map_named, shapes};
use crate::operators::Operators;
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::random::{Purpose, Rng, RngExt, keyed};
use lapidary_pipeline::stage::digest_of_bytes;

/// The distribution of a parameter's initial values.
#[derive(Debug, PartialEq)]
enum Law {
    /// As the module was made: LayerScale's value.
    Kept,
    Constant(f32),
    /// PyTorch's default for linear maps and convolutions: uniform within 1 / sqrt(inputs).
    Uniform(f32),
    /// Normal with this standard deviation. The references cut it at 2, which is 100 deviations.
    Normal(f32),
}

/// Draws the initial weights of a network from `seed`.
pub fn initialise<B: Operators, M: Module<B>>(module: M, seed: u64) -> M {
    initialise_those(module, seed, |_| true)
}

/// The same for the parameters that `those` names; the others stay.
pub(crate) fn initialise_those<B: Operators, M: Module<B>>(module: M, seed: u64, those: impl Fn(&str) -> bool) -> M {
    let shapes = shapes(&module);
    map_named(module, |(name, shape, tensor): Seen<'_, B>| {
        if !those(name) {
            return tensor;
        }
        // A linear map's inputs, for its weight and its bias.
        let weight = name.strip_suffix("bias").map(|linear| format!("{linear}weight"));
        let inputs = weight.and_then(|weight| shapes.get(&weight)).map_or(shape[0], |weight| weight[0]);
        let stream = u64::from_str_radix(&digest_of_bytes(name.as_bytes()).0[..16], 16).unwrap_or_default();
        let mut rng = keyed(seed, Purpose::Weights, stream, 0);
        let count: usize = shape.iter().product();
        let values: Vec<f32> = match law(name, inputs) {
            Law::Kept => return tensor,
            Law::Constant(value) => vec![value; count],
            Law::Uniform(bound) => (0..count).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0)).collect(),
            Law::Normal(deviation) => (0..count).map(|_| deviation * standard_normal(&mut rng)).collect(),
        };
        Tensor::from_data(TensorData::new(values, [count]), &tensor.device())
    })
}

/// The law of a parameter by its name. The patch projection, prototypes, projectors, SSCD's descriptor and the biases of
/// distillation's maps keep PyTorch's defaults; everything else is the references' own.
fn law(name: &str, inputs: usize) -> Law {
    let (module, parameter) = name.rsplit_once('.').unwrap_or(("", name));
    let of_norm = module.rsplit('.').next().is_some_and(|module| module.starts_with("norm"));
    let by_default =
        ["patch_embed.", "last_layer.", "projector.", "descriptor."].iter().any(|part| name.contains(part));
    // lightly-train draws the maps' weights and leaves their biases.
    let of_map = name.starts_with("distill_");
    match parameter {
        "gamma" => Law::Kept,
        // As microsoft/LoRA and peft have it: kaiming_uniform of a = sqrt 5 is PyTorch's default for linear maps.
        "weight" if module.ends_with(".lora_a") => Law::Uniform((inputs as f32).powf(-0.5)),
        "weight" if module.ends_with(".lora_b") => Law::Constant(0.0),
        "weight" if of_norm => Law::Constant(1.0),
        "bias" if of_norm => Law::Constant(0.0),
        "weight_g" => Law::Constant(1.0),
        "mask_token" => Law::Constant(0.0),
        "bias" if of_map => Law::Uniform((inputs as f32).powf(-0.5)),
        _ if by_default => Law::Uniform((inputs as f32).powf(-0.5)),
        "bias" => Law::Constant(0.0),
        _ => Law::Normal(0.02),
    }
}

/// A draw from the standard normal distribution (Box and Muller 1958).
fn standard_normal(rng: &mut impl Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_has_the_references_law() {
        for (name, inputs, expected) in [
            ("backbone.norm.weight", 8, Law::Constant(1.0)),
            ("backbone.blocks.0.norm1.bias", 8, Law::Constant(0.0)),
            ("head.mlp.0.norm.weight", 8, Law::Constant(1.0)),
            ("backbone.blocks.0.ls1.gamma", 8, Law::Kept),
            ("backbone.blocks.0.attn.qkv.weight", 8, Law::Normal(0.02)),
            ("backbone.blocks.0.attn.qkv.bias", 8, Law::Constant(0.0)),
            ("backbone.blocks.0.attn.lora.q.lora_a.weight", 16, Law::Uniform(0.25)),
            ("backbone.blocks.0.attn.lora.v.lora_b.weight", 4, Law::Constant(0.0)),
            ("backbone.cls_token", 1, Law::Normal(0.02)),
            ("backbone.patch_embed.proj.bias", 16, Law::Uniform(0.25)),
            ("head.mlp.0.linear.bias", 16, Law::Constant(0.0)),
            ("head.last_layer.weight_v", 256, Law::Uniform(1.0 / 16.0)),
            ("head.last_layer.weight_g", 1, Law::Constant(1.0)),
            ("projector.0.linear.weight", 16, Law::Uniform(0.25)),
            ("projector.0.norm.bias", 16, Law::Constant(0.0)),
            ("descriptor.linear.weight", 16, Law::Uniform(0.25)),
            ("distill_class.weight", 16, Law::Normal(0.02)),
            ("distill_patches.bias", 16, Law::Uniform(0.25)),
        ] {
            assert_eq!(law(name, inputs), expected, "{name}");
        }
    }
}
