//! The networks of DINOv2 and DINOv3 against timm and transformers in f64 (tests/golden/trainer_modern.py, which says what is in
//! the data): registers, LayerScale, SwiGLU, positions resized antialiased; rotary positions and masks.

use super::{Tensors, assert_gradients, assert_near, difference, gradients, on_device, on_host, part, weighted};
use crate::backend::Cpu;
use crate::model::{Draws, HostTensor, Tokens, Vit, load};
use lapidary_schemas::config::{FeedForward, ModelConfig, PositionResize, Positions};

const SIDES: [usize; 3] = [16, 8, 24];
/// Of a tensor's norm.
const TOKENS: f64 = 2e-6;
const GRADIENTS: f64 = 2e-5;

fn read(case: &str) -> Tensors {
    part(&super::read("modern.safetensors"), &format!("{case}."))
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

fn tokens(network: &Vit<Cpu>, golden: &Tensors, side: usize) -> Tokens<Cpu> {
    let of_mask = |mask: &HostTensor| {
        let [images, patches] = mask.shape[..] else { unreachable!("a matrix") };
        on_device(&HostTensor { shape: vec![images, patches, 1], values: mask.values.clone() })
    };
    let mask = golden.get("mask").filter(|_| side == 16).map(of_mask);
    network.tokens(
        on_device(&golden[&format!("images.{side}")]),
        &Draws { masks: vec![mask], ..Draws::default() },
        true,
    )
}

fn is_the_references(case: &str) {
    let golden = read(case);
    let network = network(&config(case), &golden);
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
        let loss = weighted(class) + weighted(patches);
        let mut expected = part(&golden, &format!("gradient.{side}."));
        let found = gradients::<Cpu, _>(&network, &loss.backward());
        // The reference has one of zeros where nothing is masked.
        expected.retain(|name, tensor| {
            found.contains_key(name) || name != "mask_token" || tensor.values.iter().any(|value| *value != 0.0)
        });
        assert_gradients(&format!("{side} px"), &found, &expected, GRADIENTS);
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
