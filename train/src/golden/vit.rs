//! The Vision Transformer: every block's output, every parameter's gradient, another size than the network's, attention,
//! stochastic depth with given draws.

use super::{assert_gradients, assert_near, gradients, images, on_device, on_host, part, read, weighted};
use crate::backend::Cpu;
use crate::draws::drop_rates;
use crate::model::{Draws, HostTensor, Vit, load};
use lapidary_schemas::config::{ModelConfig, ViewKind};

fn config() -> ModelConfig {
    ModelConfig { image_px: 16, patch_px: 4, dim: 16, depth: 3, heads: 2, drop_path: 0.3, ..ModelConfig::default() }
}

fn network() -> Vit<Cpu> {
    let network = Vit::new(&config(), false, &Default::default());
    load(network, &part(&read("parts.safetensors"), "vit.parameter."), &Default::default()).expect("timm's names")
}

#[test]
fn every_block_both_sizes_and_attention_are_the_references() {
    let (network, golden) = (network(), part(&read("parts.safetensors"), "vit."));
    let large = images(0, ViewKind::Global, 16);
    for (index, tokens) in network.block_outputs(large.clone()).into_iter().skip(1).enumerate() {
        let name = format!("block.{index}");
        assert_near(&name, &on_host(tokens), &golden[&name].values, 2e-6);
    }
    assert_near("16 px", &on_host(network.forward(large.clone())), &golden["class.16"].values, 2e-6);
    let small = network.forward(images(0, ViewKind::Local, 8));
    assert_near("8 px", &on_host(small), &golden["class.8"].values, 2e-6);
    assert_near("attention", &on_host(network.class_attention(large)), &golden["attention"].values, 2e-6);
}

#[test]
fn every_parameters_gradient_is_the_references() {
    let (network, golden) = (network(), part(&read("parts.safetensors"), "vit.gradient."));
    let large = network.forward(images(0, ViewKind::Global, 16));
    let small = network.forward(images(0, ViewKind::Local, 8));
    let loss = weighted(large) + weighted(small);
    assert_gradients("vit", &gradients::<Cpu, _>(&network, &loss.backward()), &golden, 1e-5);
}

#[test]
fn branches_that_are_left_out_and_kept_are_the_references() {
    let (network, golden) = (network(), part(&read("parts.safetensors"), "drop."));
    let (mask, batch) = (&golden["mask"].values, super::BATCH);
    let branch = |block: usize, branch: usize, rate: f64| {
        let kept = &mask[(block * 2 + branch) * batch..][..batch];
        let values = kept.iter().map(|kept| (f64::from(*kept) / (1.0 - rate)) as f32).collect();
        Some(on_device(&HostTensor { shape: vec![batch], values }))
    };
    let rates = drop_rates(&config()).into_iter().enumerate();
    let keep = rates.map(|(block, rate)| [branch(block, 0, rate), branch(block, 1, rate)]).collect();
    let draws = Draws { keep, ..Draws::default() };
    let class = network.tokens(images(0, ViewKind::Global, 16), &draws, false).class;
    assert_near("class", &on_host(class.clone()), &golden["class"].values, 2e-6);
    let found = gradients::<Cpu, _>(&network, &weighted(class).backward());
    assert_gradients("drop path", &found, &part(&golden, "gradient."), 1e-5);
}
