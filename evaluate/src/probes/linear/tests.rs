//! Linear classifiers after epochs of training, weight by weight beside PyTorch's.

use super::*;
use crate::golden::{features, numbers, trained};
use burn_flex::Flex;
use heads::Heads;
use inputs::{Average, Input};
use lapidary_schemas::config::{DinoLinearConfig, Dinov2LinearConfig};
use serde_json::Value;

/// Two blocks of 8 channels and their patches' mean.
fn last_blocks() -> LastBlocks {
    LastBlocks { features: features(50, 24, 4, 0.3, 0.7), blocks: 2 }
}

fn rows(of: &LastBlocks, indices: &[usize]) -> LastBlocks {
    LastBlocks { features: of.features.select(indices), blocks: of.blocks }
}

fn order(epoch: usize) -> Vec<usize> {
    (0..50).map(|i| (7 * i + 11 * epoch) % 50).collect()
}

fn initial(inputs: usize, phase: f64) -> Vec<f32> {
    (0..4 * inputs).map(|i| (0.01 * (1.3 * i as f64 + phase).sin()) as f32).collect()
}

fn assert_near(name: &str, (weight, bias): (Vec<f32>, Vec<f32>), golden: &Value) {
    for (part, found) in [("weight", weight), ("bias", bias)] {
        let expected = numbers(&golden[part]);
        assert_eq!(found.len(), expected.len(), "{name} {part}");
        let off = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        println!("{name} {part} within {off:.1e}");
        assert!(off < 1e-5, "{name} {part}: {off}");
    }
}

#[test]
fn dinos_weights_after_five_epochs_are_pytorchs() {
    let last = last_blocks();
    for (name, blocks, average_patches, inputs) in [("plain", 2, false, 16), ("interleaved", 1, true, 16)] {
        // The learning rate of a batch of 16 is 0.5.
        let config = DinoLinearConfig { epochs: 5, blocks, average_patches, batch: 16, base_learning_rate: 8.0 };
        let mut dino = DinoLinear::<Flex>::new(&config, (2, 8), 4, 1, &Default::default());
        dino.heads = Heads::with_weights(&[initial(inputs, 0.1)], 4, &[0.5], &Default::default());
        for epoch in 0..5 {
            // As crops come: in parts that are no batches.
            for part in order(epoch).chunks(7) {
                dino.learn(&rows(&last, part));
            }
            dino.end_epoch();
        }
        assert!(dino.is_done());
        assert_near(name, dino.heads.of(0), &trained()["dino"][name]);
    }
}

#[test]
fn every_weight_of_dinov2s_grid_is_pytorchs() {
    let last = last_blocks();
    // 0.1 and 1 at a batch of 8.
    let config =
        Dinov2LinearConfig { iterations: 15, batch: 8, base_learning_rates: vec![3.2, 32.0], blocks: vec![1, 2] };
    let mut grid = Dinov2Grid::<Flex>::new(&config, (2, 2, 8), 4, 1, &Default::default());
    for ((input, heads), group) in grid.groups_mut().iter_mut().zip(0..) {
        let weights: Vec<Vec<f32>> =
            (0..2).map(|head| initial(input.width(8), 0.2 + 0.1 * f64::from(2 * group + head))).collect();
        *heads = Heads::with_weights(&weights, 4, &[0.1, 1.0], &Default::default());
    }
    for epoch in 0..3 {
        for part in order(epoch).chunks(7) {
            grid.learn(&rows(&last, part).features);
        }
    }
    assert_eq!(grid.crops_left(), 0);
    for (index, golden) in trained()["dinov2"].as_array().expect("a list").iter().enumerate() {
        let (_, heads) = &grid.groups_mut()[index / 2];
        assert_near(&format!("head {index}"), heads.of(index % 2), golden);
    }
}

#[test]
fn the_grid_has_the_references_heads_and_a_shallow_network_fewer() {
    let config = Dinov2LinearConfig::default();
    let read: Vec<(usize, Average)> =
        dinov2::inputs(&config, 12).into_iter().map(|Input { blocks, average }| (blocks, average)).collect();
    let (none, appended) = (Average::None, Average::Appended);
    assert_eq!(read, [(1, none), (1, appended), (4, none), (4, appended)]);
    assert_eq!(read.len() * config.base_learning_rates.len(), 52);
    assert_eq!(dinov2::inputs(&config, 1).len(), 2, "both numbers of blocks are 1");
    let off = EvalConfig::default();
    assert_eq!(blocks_read(&off, 12), 4);
    let mut off = off;
    (off.dino_linear.epochs, off.dinov2_linear.blocks) = (0, vec![1]);
    assert_eq!(blocks_read(&off, 12), 1);
    off.dinov2_linear.iterations = 0;
    assert_eq!(blocks_read(&off, 12), 0);
}

#[test]
fn the_first_of_equal_classifiers_is_chosen() {
    let accuracy = |first| crate::scores::Accuracy { tested: 10, first, in_five: 10 };
    let choice = |rate| Choice { input: Input { blocks: 1, average: Average::None }, base_learning_rate: rate };
    assert_eq!(best_of(&[(choice(0.1), accuracy(3)), (choice(0.2), accuracy(7)), (choice(0.3), accuracy(7))]), 1);
}

#[test]
fn classifiers_tell_classes_apart_and_draw_the_same_weights_by_the_same_seed() {
    let (train, test) = (features(400, 12, 4, 0.3, 2.0), features(100, 12, 4, 1.1, 2.0));
    let heads = || {
        let mut heads = Heads::<Flex>::new(12, 4, &[1e-9, 0.05], (1, 0), &Default::default());
        for step in 0..200 {
            let batch = train.select(&(0..32).map(|i| (i * 7 + step * 32) % 400).collect::<Vec<_>>());
            heads.step(&batch, 1.0);
        }
        heads
    };
    let accuracies = heads().accuracies(&test);
    assert!(accuracies[1].top1() > 0.8 && accuracies[0].top1() < accuracies[1].top1(), "{accuracies:?}");
    assert_eq!(heads().of(1), heads().of(1));
}
