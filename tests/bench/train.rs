//! Steps of a hybrid run on the CPU, on pixels of noise: `train CASE STEPS` prints a JSON object with each step's seconds by
//! the clock and by processor time, what its parts take, and the peak memory. `train features BATCHES` prints how many images a
//! second become features. tests/bench/train.sh runs both beside PyTorch.

use burn_flex::Flex;
use image::RgbImage;
use lapidary_pipeline::loader::{Batch, Pixels, ViewGroup};
use lapidary_pipeline::stage::peak_memory_mib;
use lapidary_schemas::config::{ModelConfig, ObjectiveConfig, ViewKind};
use lapidary_schemas::{Config, ImageId};
use lapidary_tests::processor_secs;
use lapidary_train::backend::Cpu;
use lapidary_train::model::{Vit, initialise};
use lapidary_train::optimise::Schedule;
use lapidary_train::{FrozenVit, Trainer};
use serde_json::json;
use std::time::Instant;

/// A network, its heads, and the views of a batch: side and views an image, the two global ones first.
struct Case {
    config: Config,
    views: [(ViewKind, usize, usize); 2],
}

/// A case of tests/bench/train_twin.py, which has the same numbers.
fn case(name: &str) -> Case {
    let mut config = Config::default();
    let (global, local) = match name {
        "cifar-vitti4" => {
            config.model =
                ModelConfig { image_px: 32, patch_px: 4, dim: 96, depth: 4, heads: 3, ..ModelConfig::default() };
            config.objective = ObjectiveConfig {
                prototypes: 1024,
                head_hidden: 512,
                head_bottleneck: 128,
                barlow_dim: 1024,
                ..ObjectiveConfig::default()
            };
            config.pretrain.batch = 64;
            (32, (16, 4))
        }
        "vitti16" | "vits16" => {
            let (dim, heads) = if name == "vits16" { (384, 6) } else { (192, 3) };
            config.model = ModelConfig { image_px: 224, patch_px: 16, dim, depth: 12, heads, ..ModelConfig::default() };
            config.objective = ObjectiveConfig { prototypes: 16_384, barlow_dim: 8192, ..ObjectiveConfig::default() };
            config.pretrain.batch = 4;
            (224, (96, 6))
        }
        _ => panic!("no case `{name}`: cifar-vitti4, vitti16 or vits16"),
    };
    config.model.drop_path = 0.0;
    config.pretrain.freeze_last_layer_steps = 0;
    Case { config, views: [(ViewKind::Global, global, 2), (ViewKind::Local, local.0, local.1)] }
}

/// Pixels of noise.
fn batch(case: &Case, step: usize) -> Batch {
    let images = case.config.pretrain.batch;
    let group = |&(kind, size_px, views): &(ViewKind, usize, usize)| {
        let count = views * images * 3 * size_px * size_px;
        let values = (0..count).map(|at| (((at + 7919 * step) as f32) * 0.731).sin()).collect();
        ViewGroup { kind, size_px, views, pixels: Pixels::Rendered(values) }
    };
    Batch { step, ids: (0..images as u64).map(ImageId).collect(), groups: case.views.iter().map(group).collect() }
}

fn train(name: &str, steps: usize) {
    let case = case(name);
    let schedule = Schedule::new(&case.config.pretrain, &case.config.objective, 1000, 100);
    let mut trainer = Trainer::<Cpu>::new(&case.config, schedule, &Default::default());
    let (mut clock, mut processor, mut losses, mut parts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for step in 0..steps {
        let batch = batch(&case, step);
        let (began, used) = (Instant::now(), processor_secs());
        let report = trainer.train(batch);
        clock.push(began.elapsed().as_secs_f64());
        processor.push(processor_secs() - used);
        losses.push(report.loss);
        parts.push(report.secs);
    }
    let peak = peak_memory_mib();
    println!(
        "{}",
        json!({"secs": clock, "processor_secs": processor, "parts": parts, "loss": losses, "peak_mib": peak})
    );
}

/// Images a second through ViT-S/16 at 224 px, from pixels of 256 x 256 to class features; the best of several batches.
fn features(batches: usize) {
    let model = ModelConfig { image_px: 224, patch_px: 16, dim: 384, depth: 12, heads: 6, ..ModelConfig::default() };
    let vit = initialise(Vit::<Flex>::new(&model, false, &Default::default()), 0);
    let network = FrozenVit::new(vit, &model, &Default::default());
    let image =
        |seed: u32| RgbImage::from_fn(256, 256, |x, y| image::Rgb([(x * seed) as u8, (y * 3) as u8, (x ^ y) as u8]));
    let images: Vec<RgbImage> = (0..32).map(image).collect();
    let secs = (0..batches).map(|_| {
        let began = Instant::now();
        network.class_features(&images).expect("images have pixels");
        began.elapsed().as_secs_f64()
    });
    let best = secs.fold(f64::INFINITY, f64::min);
    println!("{}", json!({"images_per_sec": images.len() as f64 / best, "peak_mib": peak_memory_mib()}));
}

fn main() {
    lapidary_pipeline::keep_pages();
    // cargo bench adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["features", batches] => features(batches.parse().expect("a number of batches")),
        [name, steps] => train(name, steps.parse().expect("a number of steps")),
        _ => println!("train CASE STEPS, or train features BATCHES"),
    }
}
