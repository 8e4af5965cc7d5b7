//! Probes of frozen features on the CPU: `eval knn DIR` and `eval linear DIR` read the features that tests/bench/eval_twin.py
//! made, print a JSON object with the seconds taken, and write their predictions to DIR. tests/bench/eval.sh runs them beside
//! PyTorch and scikit-learn.

use burn_flex::Flex;
use lapidary_evaluate::{Logistic, Stop};
use lapidary_tests::processor_secs;
use lapidary_train::probe::{Features, Neighbours, knn};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// As tests/bench/eval_twin.py has them.
const DIM: usize = 384;
const CLASSES: usize = 100;
const NEIGHBOURS: [usize; 4] = [10, 20, 100, 200];
const TEMPERATURE: f64 = 0.07;
const C: f64 = 0.01;
const STOP: Stop = Stop { iterations: 1000, gradient_max: 1e-4 };

fn words<T>(path: &Path, from: impl Fn([u8; 4]) -> T) -> Vec<T> {
    let bytes = std::fs::read(path).expect("eval_twin.py data wrote it");
    bytes.chunks_exact(4).map(|word| from([word[0], word[1], word[2], word[3]])).collect()
}

fn features(folder: &Path, split: &str) -> Features {
    let values = words(&folder.join(format!("{split}.f32")), f32::from_le_bytes);
    let classes = words(&folder.join(format!("{split}.u32")), u32::from_le_bytes);
    Features { dim: DIM, values, classes }
}

fn write(folder: &Path, name: &str, predictions: &[u32]) {
    let bytes: Vec<u8> = predictions.iter().flat_map(|class| class.to_le_bytes()).collect();
    std::fs::write(folder.join(name), bytes).expect("the folder can be written");
}

/// From features of unit length to predictions: for k = 20 alone, and for all k.
fn nearest(folder: &Path) {
    let (train, test) = (features(folder, "train").normalised(), features(folder, "test").normalised());
    let predict = |list: &[usize]| {
        let (began, used) = (Instant::now(), processor_secs());
        let most = list.iter().copied().max().expect("some");
        let neighbours = Neighbours::find::<Flex>(&train, &test, most, &Default::default());
        let of = |k: &usize| knn::predictions(&neighbours, &train.classes, CLASSES, *k, TEMPERATURE);
        let predictions: Vec<Vec<u32>> = list.iter().map(of).collect();
        (began.elapsed().as_secs_f64(), processor_secs() - used, predictions)
    };
    let (alone, processor, _) = predict(&[20]);
    let (all, _, predictions) = predict(&NEIGHBOURS);
    for (k, predictions) in NEIGHBOURS.iter().zip(&predictions) {
        write(folder, &format!("knn-{k}.lapidary"), predictions);
    }
    println!("{}", json!({"knn_20": alone, "knn_20_processor": processor, "knn_all": all}));
}

/// From features to a fitted regression, and its predictions.
fn linear(folder: &Path) {
    let (train, test) = (features(folder, "train"), features(folder, "test"));
    let (began, used) = (Instant::now(), processor_secs());
    let model = Logistic::fit(&train, C, STOP, None);
    let (secs, processor) = (began.elapsed().as_secs_f64(), processor_secs() - used);
    let predictions = model.predictions(&test);
    let right = predictions.iter().zip(&test.classes).filter(|(a, b)| a == b).count();
    write(folder, "linear.lapidary", &predictions);
    let top1 = right as f64 / test.len() as f64;
    let iterations = model.iterations();
    println!("{}", json!({"secs": secs, "processor": processor, "iterations": iterations, "top1": top1}));
}

fn main() {
    lapidary_pipeline::keep_pages();
    // cargo bench adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["knn", folder] => nearest(Path::new(folder)),
        ["linear", folder] => linear(Path::new(folder)),
        _ => println!("eval knn DIR, or eval linear DIR"),
    }
}
