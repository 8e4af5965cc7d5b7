//! The networks of DINOv2 and DINOv3 against timm and transformers in f64 (tests/golden/trainer_modern.py, which says what is in
//! the data): registers, LayerScale, SwiGLU, positions resized antialiased; rotary positions and masks.

use super::{Draws, HostTensor, Tokens, Vit, host_values, load, named_gradients, shapes, to_disk};
use crate::backend::Cpu;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use lapidary_schemas::config::{FeedForward, ModelConfig, PositionResize, Positions};
use safetensors::SafeTensors;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, HostTensor>;

const SIDES: [usize; 3] = [16, 8, 24];
/// Of a tensor's norm.
const TOKENS: f64 = 2e-6;
const GRADIENTS: f64 = 2e-5;

fn read(case: &str) -> Tensors {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/trainer/modern.safetensors");
    let bytes = std::fs::read(path).expect("golden data");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensor = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        assert_eq!(view.dtype(), safetensors::Dtype::F32);
        let (values, _) = view.data().as_chunks::<4>();
        let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (name.to_owned(), HostTensor { shape: view.shape().to_vec(), values })
    };
    part(&file.iter().map(tensor).collect(), &format!("{case}."))
}

fn part(tensors: &Tensors, prefix: &str) -> Tensors {
    let strip = |(name, tensor): (&String, &HostTensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()));
    let found: Tensors = tensors.iter().filter_map(strip).collect();
    assert!(!found.is_empty(), "no `{prefix}...` in the golden data");
    found
}

fn on_device<B: Backend, const D: usize>(tensor: &HostTensor) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(tensor.values.clone(), tensor.shape.clone()), &Default::default())
}

fn on_host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    let count = tensor.dims().iter().product::<usize>();
    host_values(tensor.reshape([count]))
}

/// The length of the difference over the length of what is expected.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |value: f64| value * value;
    let apart: f64 = found.iter().zip(expected).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let length: f64 = expected.iter().map(|value| square(f64::from(*value))).sum();
    (apart / length).sqrt()
}

fn assert_near(what: &str, found: &[f32], expected: &[f32], bound: f64) {
    let difference = difference(found, expected);
    assert!(difference < bound, "{what}: differs by {difference:e} of its norm");
}

fn config(case: &str) -> ModelConfig {
    let base = ModelConfig {
        image_px: 16,
        patch_px: 4,
        dim: 16,
        depth: 2,
        heads: 2,
        layer_scale: 1.0,
        registers: 2,
        drop_path: 0.0,
        ..ModelConfig::default()
    };
    if case == "rope" {
        return ModelConfig { mlp_ratio: 2, positions: Positions::Rope, ..base };
    }
    // SwiGLU is two thirds as wide: 32.
    let position_resize = PositionResize::Antialiased;
    ModelConfig { mlp_ratio: 3, feed_forward: FeedForward::Swiglu, position_resize, ..base }
}

fn network(config: &ModelConfig, golden: &Tensors) -> Vit<Cpu> {
    let masks = config.positions == Positions::Rope;
    load(Vit::new(config, masks, &Default::default()), &part(golden, "parameter."), &Default::default())
        .expect("the script's names and shapes are ours")
}

/// The sum of values times cos(flat index): a loss whose gradient differs at each value.
fn weighted<const D: usize>(values: Tensor<Cpu, D>) -> Tensor<Cpu, 1> {
    let shape = values.dims();
    let weights: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| (i as f64).cos() as f32).collect();
    (values * Tensor::from_data(TensorData::new(weights, shape), &Default::default())).sum()
}

/// Values that move the output: the keys' bias adds the same to all scores of a query, which a softmax does not see. Its true
/// gradient is zero, what is computed is rounding.
fn with_true_gradient(name: &str, values: &[f32]) -> Vec<f32> {
    let third = values.len() / 3;
    if name.ends_with("attn.qkv.bias") { [&values[..third], &values[2 * third..]].concat() } else { values.to_vec() }
}

fn tokens(network: &Vit<Cpu>, golden: &Tensors, side: usize) -> Tokens<Cpu> {
    let of_mask = |mask: &HostTensor| {
        let [images, patches] = mask.shape[..] else { unreachable!("a matrix") };
        on_device(&HostTensor { shape: vec![images, patches, 1], values: mask.values.clone() })
    };
    let mask = golden.get("mask").filter(|_| side == 16).map(of_mask);
    network.tokens(on_device(&golden[&format!("images.{side}")]), &Draws { mask, ..Draws::default() }, true)
}

fn is_the_references(case: &str) {
    let golden = read(case);
    let network = network(&config(case), &golden);
    let shapes = shapes(&network);
    for (index, tokens) in network.block_outputs(on_device(&golden["images.16"])).into_iter().skip(1).enumerate() {
        let name = format!("block.{index}");
        assert_near(&name, &on_host(tokens), &golden[&name].values, TOKENS);
    }
    for side in SIDES {
        let Tokens { class, patches } = tokens(&network, &golden, side);
        let patches = patches.expect("asked for");
        let name = |of: &str| format!("{of}.{side}");
        assert_near(&name("class"), &on_host(class.clone()), &golden[&name("class")].values, TOKENS);
        assert_near(&name("patches"), &on_host(patches.clone()), &golden[&name("patches")].values, TOKENS);
        let mut found = named_gradients::<Cpu, _>(&network, &(weighted(class) + weighted(patches)).backward());
        for (name, expected) in part(&golden, &format!("gradient.{side}.")) {
            let Some(found) = found.remove(&name) else {
                assert_eq!(name, "mask_token", "has a gradient");
                assert!(expected.values.iter().all(|value| *value == 0.0), "nothing is masked at {side} px");
                continue;
            };
            let found = to_disk(&name, &shapes[&name], host_values(found));
            assert_eq!(found.shape, expected.shape, "{name}");
            let [found, expected] = [found, expected].map(|tensor| with_true_gradient(&name, &tensor.values));
            assert_near(&format!("{side} px: gradient of {name}"), &found, &expected, GRADIENTS);
        }
        assert!(found.is_empty(), "gradients that the reference does not have: {:?}", found.keys());
    }
}

#[test]
fn registers_layer_scale_swiglu_and_antialiased_positions_are_timms() {
    is_the_references("registers");
}

#[test]
fn rotary_positions_and_masks_are_transformers() {
    is_the_references("rope");
    let golden = read("rope");
    let attention = network(&config("rope"), &golden).class_attention(on_device(&golden["images.16"]));
    assert_near("attention", &on_host(attention), &golden["attention"].values, TOKENS);
}

#[test]
fn other_positions_and_another_epsilon_would_be_seen() {
    let apart = |case: &str, side: usize, change: fn(&mut ModelConfig)| {
        let golden = read(case);
        let mut config = config(case);
        change(&mut config);
        let class = tokens(&network(&config, &golden), &golden, side).class;
        difference(&on_host(class), &golden[&format!("class.{side}")].values)
    };
    let offset = |config: &mut ModelConfig| config.position_resize = PositionResize::Offset;
    assert!(apart("registers", 16, offset) < TOKENS, "at its own size nothing is resized");
    for side in [8, 24] {
        assert!(apart("registers", side, offset) > 100.0 * TOKENS);
    }
    for case in ["registers", "rope"] {
        assert!(apart(case, 16, |config| config.norm_epsilon = 1e-5) > 1.2 * TOKENS, "{case}");
    }
    let golden = read("rope");
    let draws = Draws { rope_rescale: 1.001, ..Draws::default() };
    let class = network(&config("rope"), &golden).tokens(on_device(&golden["images.8"]), &draws, false).class;
    assert!(difference(&on_host(class), &golden["class.8"].values) > 10.0 * TOKENS);
}
