//! Low-rank adaptation of attention (Hu et al. 2021): W x + (alpha / r) B A x on the queries' and the values' thirds of the
//! packed map, with W frozen (spec/objectives.md 9). B is zero at first, so that the network begins as it was.
//!
//! Dropout before A and magnitudes apart from directions (DoRA) are not here.

use super::precision::linear;
use crate::operators::Operators;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Low-rank maps beside the packed map of queries, keys and values.
#[derive(Module, Debug)]
pub(super) struct Lora<B: Backend> {
    q: LowRank<B>,
    v: LowRank<B>,
}

/// A map of the tokens' width through a few dimensions and back.
#[derive(Module, Debug)]
struct LowRank<B: Backend> {
    lora_a: Linear<B>,
    lora_b: Linear<B>,
    scale: f64,
}

/// Whether a parameter belongs to such maps, by its name.
pub fn is_lora(name: &str) -> bool {
    name.contains(".lora.")
}

impl<B: Operators> Lora<B> {
    /// Maps whose weights are yet to be initialised.
    pub(super) fn new(dim: usize, rank: usize, scale: f64, device: &B::Device) -> Self {
        let low_rank = || LowRank {
            lora_a: LinearConfig::new(dim, rank).with_bias(false).init(device),
            lora_b: LinearConfig::new(rank, dim).with_bias(false).init(device),
            scale,
        };
        Self { q: low_rank(), v: low_rank() }
    }

    /// What is added to queries, keys and values; nothing is to keys.
    ///
    /// # Shapes
    /// - tokens: `[batch, tokens, dim]`
    /// - returns: `[batch, tokens, 3 * dim]`
    pub(super) fn forward(&self, tokens: Tensor<B, 3>) -> Tensor<B, 3> {
        let keys = tokens.zeros_like();
        Tensor::cat(vec![self.q.forward(tokens.clone()), keys, self.v.forward(tokens)], 2)
    }

    /// What is added to the packed weight, `[dim, 3 * dim]`.
    pub(super) fn delta(&self) -> Tensor<B, 2> {
        let (q, v) = (self.q.product(), self.v.product());
        let keys = Tensor::zeros(q.dims(), &q.device());
        Tensor::cat(vec![q, keys, v], 1)
    }
}

impl<B: Operators> LowRank<B> {
    fn forward(&self, tokens: Tensor<B, 3>) -> Tensor<B, 3> {
        linear(&self.lora_b, linear(&self.lora_a, tokens)) * self.scale
    }

    /// The map as one matrix, `[dim, dim]`.
    fn product(&self) -> Tensor<B, 2> {
        self.lora_a.weight.val().matmul(self.lora_b.weight.val()) * self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use crate::model::{
        Seen, Vit, host_values, initialise, map_named, named_gradients, named_tensors, names, snapshot,
        with_gradients_of,
    };
    use burn::tensor::TensorData;
    use burn_flex::Flex;
    use lapidary_schemas::config::{ModelConfig, Positions};
    use serde_json::Value;
    use std::collections::BTreeMap;

    fn model(positions: Positions) -> ModelConfig {
        ModelConfig {
            image_px: 16,
            patch_px: 4,
            dim: 32,
            depth: 2,
            heads: 4,
            mlp_ratio: 2,
            positions,
            ..ModelConfig::default()
        }
    }

    fn vit<B: Operators>(positions: Positions) -> Vit<B> {
        initialise(Vit::new(&model(positions), false, &Default::default()), 5)
    }

    fn images<B: Backend>(batch: usize) -> Tensor<B, 4> {
        let values: Vec<f32> = (0..batch * 3 * 256).map(|i| (i as f32 * 0.37).sin()).collect();
        Tensor::from_data(TensorData::new(values, [batch, 3, 16, 16]), &Default::default())
    }

    /// The same network as if it had been trained: B is no longer zero.
    fn moved(vit: Vit<Flex>) -> Vit<Flex> {
        map_named(vit, |(name, _, old): Seen<'_, Flex>| {
            if !name.ends_with("lora_b.weight") {
                return old;
            }
            let count = old.dims()[0];
            let values: Vec<f32> = (0..count).map(|i| 0.3 * (i as f32 * 1.3).cos()).collect();
            Tensor::from_data(TensorData::new(values, [count]), &Default::default())
        })
    }

    fn worst(a: Tensor<Flex, 2>, b: Tensor<Flex, 2>) -> f32 {
        (a - b).abs().max().into_scalar()
    }

    #[test]
    fn it_changes_nothing_at_first_and_merged_it_computes_what_it_did_unmerged() {
        for positions in [Positions::Learned, Positions::Rope] {
            let plain = vit::<Flex>(positions);
            let adapted = plain.clone().with_lora(4, 8.0, 1);
            assert_eq!(worst(plain.forward(images(3)), adapted.forward(images(3))), 0.0);
            let adapted = moved(adapted);
            let unmerged = adapted.forward(images(3));
            assert!(worst(plain.forward(images(3)), unmerged.clone()) > 1e-2, "it does something");
            let merged = adapted.clone().merged();
            assert!(worst(unmerged, merged.forward(images(3))) < 1e-5);
            // What attention maps are drawn from goes the same way.
            let difference = adapted.class_attention(images(2)) - merged.class_attention(images(2));
            assert!(difference.abs().max().into_scalar() < 1e-5);
            assert_eq!(names::<Flex, _>(&merged), names::<Flex, _>(&plain), "no parameter is left over");
            // Keys stay: only the first and the last third of the packed weight moved.
            let weight = |vit: &Vit<Flex>| snapshot(vit)["blocks.1.attn.qkv.weight"].values.clone();
            let (before, after) = (weight(&plain), weight(&merged));
            let third = before.len() / 3;
            assert_eq!(before[third..2 * third], after[third..2 * third]);
            assert!(before[..third] != after[..third] && before[2 * third..] != after[2 * third..]);
        }
    }

    #[test]
    fn gradients_reach_the_low_rank_maps_alone_when_the_rest_is_frozen() {
        let vit = vit::<Cpu>(Positions::Learned).with_lora(4, 4.0, 1);
        let vit = with_gradients_of(vit, is_lora);
        let gradients = vit.forward(images(2)).powf_scalar(2.0).sum().backward();
        let found = named_gradients::<Cpu, _>(&vit, &gradients);
        assert!(!found.is_empty() && found.keys().all(|name| is_lora(name)), "{:?}", found.keys());
        // With B at zero A has a gradient of zero, and B has one.
        let most = |name: &str| found[name].clone().abs().max().into_scalar();
        assert_eq!(most("blocks.0.attn.lora.q.lora_a.weight"), 0.0);
        assert!(most("blocks.0.attn.lora.v.lora_b.weight") > 0.0);
        let bound = named_tensors(&vit)["blocks.0.attn.lora.v.lora_a.weight"].clone().abs().max().into_scalar();
        assert!(bound <= 32f32.powf(-0.5) && bound > 0.1, "uniform within 1 / sqrt(32): {bound}");
    }

    #[test]
    fn values_and_gradients_are_pefts() {
        // tests/golden/lora.py says how inputs are made.
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/lora.json")).expect("lora.py");
        let numbers = |value: &Value| -> Vec<f32> {
            value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number") as f32).collect()
        };
        let (dim, rank) = (8usize, 2usize);
        let scale = golden["alpha"].as_f64().expect("a number") / rank as f64;
        let wave = |count: usize, rate: f64, phase: f64| -> Vec<f32> {
            (0..count).map(|i| (0.5 * (rate * i as f64 + phase).sin()) as f32).collect()
        };
        let device = Default::default();
        let lora = Lora::<Cpu>::new(dim, rank, scale, &device);
        // PyTorch's shapes: A [rank, dim], B [dim, rank].
        let matrix = |values: Vec<f32>, rows: usize, columns: usize| {
            let data = TensorData::new(values, [rows, columns]);
            Tensor::<Cpu, 2>::from_data(data, &device).transpose().reshape([rows * columns])
        };
        let lora = map_named(lora, |(name, _, old): Seen<'_, Cpu>| match name {
            "q.lora_a.weight" => matrix(wave(rank * dim, 0.7, 0.1), rank, dim),
            "q.lora_b.weight" => matrix(wave(rank * dim, 1.1, 0.2), dim, rank),
            "v.lora_a.weight" => matrix(wave(rank * dim, 0.9, 0.3), rank, dim),
            "v.lora_b.weight" => matrix(wave(rank * dim, 1.3, 0.4), dim, rank),
            _ => old,
        });
        let tokens = TensorData::new(wave(2 * 3 * dim, 0.37, 0.0), [2, 3, dim]);
        let added = lora.forward(Tensor::from_data(tokens, &device));
        let weights = TensorData::new(wave(2 * 3 * 3 * dim, 0.21, 0.5), [2, 3, 3 * dim]);
        let loss = (added.clone() * Tensor::from_data(weights, &device)).sum();
        let gradients = named_gradients::<Cpu, _>(&lora, &loss.backward());
        let close = |found: Vec<f32>, expected: &Value, what: &str| {
            let expected = numbers(expected);
            assert_eq!(found.len(), expected.len(), "{what}");
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{what}: {worst}");
        };
        close(host_values(added.reshape([2 * 3 * 3 * dim])), &golden["added"], "what is added");
        let shapes = BTreeMap::from([
            ("q.lora_a.weight", [dim, rank]),
            ("q.lora_b.weight", [rank, dim]),
            ("v.lora_a.weight", [dim, rank]),
            ("v.lora_b.weight", [rank, dim]),
        ]);
        for (name, shape) in shapes {
            let gradient = gradients[name].clone().reshape(shape).transpose().reshape([dim * rank]);
            close(host_values(gradient), &golden["gradients"][name], name);
        }
        let delta = lora.delta().transpose().reshape([3 * dim * dim]);
        close(host_values(delta), &golden["delta"], "what is added to the packed weight");
    }
}
