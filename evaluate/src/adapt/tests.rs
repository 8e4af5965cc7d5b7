//! Training on images that are drawn here: what learns and what stays, and that something is learned.

use super::fit::{Rates, Task};
use super::heads::{Hidden, train_head};
use super::learned::Learned;
use super::network::{Classifier, Head};
use super::tune::{look, tune};
use image::{Rgb, RgbImage};
use lapidary_pipeline::random::{Purpose, RngExt, keyed};
use lapidary_pipeline::sources::{LayoutChoice, Options, open_source};
use lapidary_pipeline::stage::Layout;
use lapidary_pipeline::{ImageStore, IngestOptions, ingest, labels_by_split};
use lapidary_schemas::config::{AdaptConfig, IngestConfig, ModelConfig};
use lapidary_train::FrozenVit;
use lapidary_train::backend::Cpu;
use lapidary_train::model::{HostTensor, Vit, initialise, is_lora, snapshot};
use lapidary_train::probe::{Labelled, features};
use std::collections::BTreeMap;
use std::path::Path;

const SIDE: u32 = 16;

/// Stripes across or along, with noise: two classes of 40 images.
fn striped(folder: &Path) -> (ImageStore, Vec<Labelled>) {
    let data = folder.join("stripes");
    for (class, name) in ["across", "along"].into_iter().enumerate() {
        std::fs::create_dir_all(data.join(name)).expect("creates");
        for index in 0..40u64 {
            let mut rng = keyed(1, Purpose::Scene, class as u64, index);
            let (phase, period) = (rng.random_range(0.0..6.0f32), rng.random_range(3.0..6.0f32));
            let image = RgbImage::from_fn(SIDE, SIDE, |x, y| {
                let along = if class == 0 { y } else { x } as f32;
                let noise = rng.random_range(-30.0..30.0f32);
                let level = 127.0 + 80.0 * (along * std::f32::consts::TAU / period + phase).sin() + noise;
                Rgb([level.clamp(0.0, 255.0) as u8; 3])
            });
            image.save(data.join(name).join(format!("{index}.png"))).expect("saves");
        }
    }
    let layout = Layout::new(folder.join("out"));
    let source = open_source(&data, &Options { layout: LayoutChoice::default(), leave_out: Vec::new() });
    let source = source.expect("a folder of images");
    ingest(&layout, source.as_ref(), "stripes", &IngestConfig::default(), IngestOptions::default()).expect("ingests");
    let images = layout.images("stripes");
    let by_split = labels_by_split(&images).expect("labels");
    let mut labelled: Vec<Labelled> =
        by_split.into_values().flatten().map(|(id, class)| Labelled { id, class: class as u32 }).collect();
    labelled.sort_unstable();
    (ImageStore::open(&images).expect("opens"), labelled)
}

fn model() -> ModelConfig {
    ModelConfig {
        name: String::new(),
        image_px: SIDE as usize,
        patch_px: 4,
        dim: 32,
        depth: 2,
        heads: 4,
        mlp_ratio: 2,
        ..ModelConfig::default()
    }
}

fn config() -> AdaptConfig {
    AdaptConfig { batch: 16, epochs: 6, patience: 6, warmup_epochs: 1.0, lora_rank: 4, ..AdaptConfig::default() }
}

fn vit(model: &ModelConfig) -> Vit<Cpu> {
    initialise(Vit::new(model, false, &Default::default()), 5)
}

/// The backbone's tensors that a training has changed.
fn changed(before: &BTreeMap<String, HostTensor>, after: &BTreeMap<String, HostTensor>) -> Vec<String> {
    before.iter().filter(|(name, tensor)| after[*name] != **tensor).map(|(name, _)| name.clone()).collect()
}

#[test]
fn each_rung_changes_what_it_trains_alone_and_classes_are_learned() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, labelled) = striped(folder.path());
    assert_eq!(labelled.len(), 80);
    let (model, config, device) = (model(), config(), Default::default());
    // Every fourth is held out.
    let (mut learned, mut held) = (Vec::new(), Vec::new());
    for (index, one) in labelled.iter().enumerate() {
        if index % 4 == 0 { held.push(*one) } else { learned.push(*one) }
    }
    let task = Task {
        store: &store,
        model: &model,
        config: &config,
        seed: 3,
        classes: 2,
        learned: &learned,
        held: &held,
        feature_batch: 32,
    };
    let rates = Rates { backbone: 3e-3, head: 3e-3, warmup_epochs: 1.0, ..Rates::of_head(&config) };
    let before = snapshot(&vit(&model));
    let head = || initialise(Head::<Cpu>::new(32, None, 2, &device), 1);

    // Low-rank maps: the weights that they stand beside stay, and merged the queries' and values' differ.
    let backbone = vit(&model).with_lora(4, 4.0, 3);
    let fit = tune(&task, Classifier { backbone, head: head() }, (Learned::Lora, rates), "lora", &device);
    let lora = fit.expect("trains");
    let after = snapshot(&lora.best.backbone);
    assert!(changed(&before, &after).is_empty(), "{:?}", changed(&before, &after));
    let moved = after.iter().filter(|(name, tensor)| {
        is_lora(name) && name.contains("lora_b") && tensor.values.iter().any(|value| *value != 0.0)
    });
    assert_eq!(moved.count(), 4, "B of q and v in both blocks");
    assert_eq!(lora.trainable, 2 * 2 * 2 * 4 * 32 + 2 * 33);
    let merged = snapshot(&lora.best.backbone.clone().merged());
    assert_eq!(changed(&before, &merged), ["blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"]);

    // From the top downwards: with one step only, the last block and norm.
    let slow = Learned::FromTheTop { every: 100 };
    let network = || Classifier { backbone: vit(&model), head: head() };
    let top = tune(&task, network(), (slow, rates), "unfreeze", &device).expect("trains");
    let changes = changed(&before, &snapshot(&top.best.backbone));
    assert!(!changes.is_empty(), "the last block learns");
    assert!(changes.iter().all(|name| name.starts_with("blocks.1.") || name.starts_with("norm.")), "{changes:?}");
    let down = tune(&task, network(), (Learned::FromTheTop { every: 1 }, rates), "unfreeze", &device).expect("trains");
    assert!(down.trainable > top.trainable);

    // Everything: the loss falls, and stripes across are told from stripes along.
    let full = tune(&task, network(), (Learned::All, rates), "full", &device).expect("trains");
    let losses: Vec<f64> = full.history.iter().map(|epoch| epoch.loss).collect();
    assert!(losses.last() < losses.first(), "{losses:?}");
    let looked = look(&task, &full.best, &held, &device).expect("looks");
    assert_eq!(Some(looked.accuracy.top1()), full.history[full.best_epoch].held_out_top1, "the best epoch is kept");
    assert!(looked.accuracy.top1() > 0.7, "{looked:?} {:?}", full.history);
    assert_eq!(full.steps, full.history.len() * learned.len().div_ceil(16));

    // Heads on features: what is written reads features as they are.
    let frozen = FrozenVit::new(burn::module::AutodiffModule::valid(&vit(&model)), &model, &device);
    let of = |list: &[Labelled]| features::compute(&store, list, &frozen, 32, |_| ()).expect("computes");
    let (a, b) = (of(&learned), of(&held));
    for hidden in [None, Some(Hidden { width: 16, dropout: 0.2 })] {
        let fit = train_head::<Cpu>(&task, (&a, &b), hidden, "linear", &device).expect("trains");
        let looked = fit.best.look(&b, &device);
        assert_eq!(Some(looked.accuracy.top1()), fit.history[fit.best_epoch].held_out_top1);
        assert_eq!(fit.trainable, hidden.map_or(2 * 33, |_| 16 * 33 + 2 * 17));
    }
}

#[test]
fn a_loss_that_is_no_number_is_an_error_that_names_the_rung() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, labelled) = striped(folder.path());
    let (model, config, device) = (model(), AdaptConfig { epochs: 2, ..config() }, Default::default());
    let task = Task {
        store: &store,
        model: &model,
        config: &config,
        seed: 3,
        classes: 2,
        learned: &labelled,
        held: &[],
        feature_batch: 32,
    };
    let head = initialise(Head::<Cpu>::new(32, None, 2, &device), 1)
        .with_first_map(|weight, bias| (weight * f32::INFINITY, bias));
    let rates = Rates::of_head(&config);
    let error = tune(&task, Classifier { backbone: vit(&model), head }, (Learned::All, rates), "full", &device);
    let told = error.expect_err("it diverges").to_string();
    assert!(told.contains("`full`") && told.contains("step 0") && told.contains("hint:"), "{told}");
}
