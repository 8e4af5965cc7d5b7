//! The trainer against facebookresearch/dino's own code in f64 (tests/golden/trainer.py and trainer_steps.py, which say what
//! is in their data), and its later networks against timm and transformers ([`modern`]).

mod head;
mod hybrid;
mod losses;
mod modern;
mod position;
mod steps;
mod vit;

use crate::model::{HostTensor, host_values, named_gradients, shapes, to_disk};
use crate::operators::{Operators, TrainBackend};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::loader::{Pixels, ViewGroup};
use lapidary_schemas::config::ViewKind;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Tensors by name, in PyTorch's shapes.
type Tensors = BTreeMap<String, HostTensor>;

fn file(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/trainer").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read(name: &str) -> Tensors {
    let bytes = file(name);
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensor = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        assert_eq!(view.dtype(), safetensors::Dtype::F32);
        let (values, _) = view.data().as_chunks::<4>();
        let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (name.to_owned(), HostTensor { shape: view.shape().to_vec(), values })
    };
    file.iter().map(tensor).collect()
}

/// Those whose names begin with a prefix, without it.
fn part(tensors: &Tensors, prefix: &str) -> Tensors {
    let found: Tensors = tensors
        .iter()
        .filter_map(|(name, tensor)| name.strip_prefix(prefix).map(|rest| (rest.to_owned(), tensor.clone())))
        .collect();
    assert!(!found.is_empty(), "no tensor `{prefix}...` in the golden data");
    found
}

fn on_device<B: Operators, const D: usize>(tensor: &HostTensor) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(tensor.values.clone(), tensor.shape.clone()), &Default::default())
}

fn on_host<B: Operators, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    let count = tensor.dims().iter().product::<usize>();
    host_values(tensor.reshape([count]))
}

/// The length of the difference over the length of what is expected.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |value: f64| value * value;
    let of = |pair: (&f32, &f32)| square(f64::from(*pair.0) - f64::from(*pair.1));
    let length = expected.iter().map(|value| square(f64::from(*value))).sum::<f64>();
    (found.iter().zip(expected).map(of).sum::<f64>() / length.max(1e-60)).sqrt()
}

fn assert_near(what: &str, found: &[f32], expected: &[f32], bound: f64) {
    let difference = difference(found, expected);
    assert!(difference < bound, "{what}: differs by {difference:e} of its norm");
}

/// A module's gradients by name, in PyTorch's layout.
fn gradients<B: TrainBackend, M: Module<B>>(module: &M, gradients: &B::Gradients) -> BTreeMap<String, Vec<f32>> {
    let shapes = shapes(module);
    named_gradients::<B, M>(module, gradients)
        .into_iter()
        .map(|(name, gradient)| {
            let values = to_disk(&name, &shapes[&name], host_values(gradient)).values;
            (name, values)
        })
        .collect()
}

/// Values of a parameter that move the output. The keys' bias moves every score of a query alike, which a softmax does not
/// see: its true gradient is zero, and what is computed is rounding.
fn with_true_gradient(name: &str, values: &[f32]) -> Vec<f32> {
    if name.ends_with("attn.qkv.bias") {
        let third = values.len() / 3;
        [&values[..third], &values[2 * third..]].concat()
    } else {
        values.to_vec()
    }
}

/// Compares all gradients, each to `bound` of its norm.
fn assert_gradients(what: &str, found: &BTreeMap<String, Vec<f32>>, expected: &Tensors, bound: f64) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}: which have a gradient");
    for (name, tensor) in expected {
        let (found, expected) = (with_true_gradient(name, &found[name]), with_true_gradient(name, &tensor.values));
        assert_near(&format!("{what}: gradient of {name}"), &found, &expected, bound);
    }
}

/// A loss whose gradient at each value differs: the sum of values * cos(flat index).
fn weighted<B: Operators, const D: usize>(values: Tensor<B, D>) -> Tensor<B, 1> {
    let shape = values.dims();
    let count = shape.iter().product::<usize>();
    let weights: Vec<f32> = (0..count).map(|i| (i as f64).cos() as f32).collect();
    (values * Tensor::from_data(TensorData::new(weights, shape), &Default::default())).sum()
}

/// Whole numbers from 0 to 255 that look random, as `hashed` in the script.
fn hashed(count: usize, seed: u64) -> impl Iterator<Item = f32> {
    (0..count as u64).map(move |at| {
        let mixed = (at * 2_654_435_761 + seed * 40_503 + 12_345) % (1 << 32);
        let mixed = (mixed ^ (mixed >> 15)) * 2_246_822_519 % (1 << 32);
        ((mixed ^ (mixed >> 13)) % 256) as f32
    })
}

const BATCH: usize = 8;

/// The views of a step, as `pixels` in the script.
fn views(step: u64, kind: ViewKind, views: usize, size_px: usize) -> ViewGroup {
    let count = BATCH * 3 * size_px * size_px;
    let number = match kind {
        ViewKind::Global => 0,
        ViewKind::Local => 1,
        ViewKind::Barlow => 2,
    };
    let view = |view: u64| {
        let own = hashed(count, 7919 * step + size_px as u64);
        let noise = hashed(count, 7919 * step + 104_729 * (view + 1) + 1_299_709 * (number + 1));
        own.zip(noise).map(|(own, noise)| (own * 3.0 + noise) / 256.0 - 2.0)
    };
    let pixels = (0..views as u64).flat_map(view).collect();
    ViewGroup { kind, size_px, views, pixels: Pixels::Rendered(pixels) }
}

/// The first view of a step.
fn images<B: Operators>(step: u64, kind: ViewKind, size_px: usize) -> Tensor<B, 4> {
    let Pixels::Rendered(values) = views(step, kind, 1, size_px).pixels else { unreachable!("rendered above") };
    Tensor::from_data(TensorData::new(values, [BATCH, 3, size_px, size_px]), &Default::default())
}
