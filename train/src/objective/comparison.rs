//! For tests of losses: values and gradients against PyTorch's golden data and against finite differences.

pub(super) use crate::backend::Cpu;

use crate::operators::Operators;
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::SafeTensors;

/// What tests/golden/losses.py wrote.
static GOLDEN: &[u8] = include_bytes!("../../../tests/golden/losses.safetensors");

/// Values and inputs of spec/objectives.md section 11.
pub(super) mod table {
    /// The table gives six decimals.
    pub(in super::super) const ROUNDING: f64 = 6e-7;
}

/// The specification's a and b, `[4, 8]`, in f64.
pub(super) fn table_views() -> (Tensor<Cpu, 2>, Tensor<Cpu, 2>) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for i in 0..4 {
        for j in 0..8 {
            let (i, j) = (f64::from(i), f64::from(j));
            a.push((0.7 * (i + 1.0) * (j + 1.0) + i).sin());
            b.push(a[a.len() - 1] + 1.2 * (0.9 * (i + 2.0) * (j + 1.0)).cos());
        }
    }
    (f64_tensor(&a, [4, 8]), f64_tensor(&b, [4, 8]))
}

/// A tensor of f64, which burn-flex keeps as it is.
pub(super) fn f64_tensor<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<Cpu, D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (&Default::default(), DType::F64))
}

/// Values on the host.
pub(super) fn host<B: Operators, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().to_vec().expect("converted to f64")
}

/// Asserts that values are within a distance of what is expected.
pub(super) fn close(name: &str, found: &[f64], expected: &[f64], most: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= most, "{name}[{at}]: {found}, expected {expected}");
    }
}

/// Asserts that gradients point the same way (cosine > 0.9999) and differ by at most a part of the largest.
fn same_gradient(name: &str, found: &[f64], expected: &[f64], part: f64) {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = dot(found, expected) / (dot(found, found) * dot(expected, expected)).sqrt();
    assert!(cosine > 0.9999, "{name}: cosine {cosine}");
    let largest = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    close(name, found, expected, part * largest);
}

/// The golden data.
pub(super) struct Golden(SafeTensors<'static>);

impl Golden {
    pub(super) fn load() -> Self {
        Self(SafeTensors::deserialize(GOLDEN).expect("tests/golden/losses.py wrote it"))
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.0.tensor(name).expect(name).shape().to_vec()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_ok()
    }

    pub(super) fn values(&self, name: &str) -> Vec<f64> {
        let view = self.0.tensor(name).expect(name);
        assert_eq!(view.dtype(), safetensors::Dtype::F64, "{name}");
        let eight = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
        view.data().chunks_exact(8).map(eight).collect()
    }

    pub(super) fn tensor<const D: usize>(&self, name: &str) -> Tensor<Cpu, D> {
        f64_tensor(&self.values(name), self.shape(name).try_into().expect(name))
    }

    /// Asserts that a case's loss and gradients are the golden ones, in f64 to 1e-7, in f32 to 1e-5, and that gradients are
    /// finite differences of the loss.
    pub(super) fn holds(&self, case: &str, inputs: &[&str], loss: impl Fn(&[Tensor<Cpu, 2>]) -> Tensor<Cpu, 1>) {
        self.equals(case, inputs, &loss);
        self.gradients_are(case, inputs, DType::F32, 1e-5, &loss);
        let values: Vec<Tensor<Cpu, 2>> = inputs.iter().map(|name| self.tensor(&format!("{case}.{name}"))).collect();
        for (index, name) in inputs.iter().enumerate() {
            let differences = differences(&values, index, &loss);
            same_gradient(&format!("differences of {case}.{name}"), &differences, &self.gradient(case, name), 1e-6);
        }
    }

    /// Asserts that a case's loss and gradients are the golden ones, in f64 to 1e-7.
    pub(super) fn equals(&self, case: &str, inputs: &[&str], loss: impl Fn(&[Tensor<Cpu, 2>]) -> Tensor<Cpu, 1>) {
        // Burn's backward of a division by a number takes that as f32, in f64 too.
        self.gradients_are(case, inputs, DType::F64, 1e-7, &loss);
    }

    fn gradient(&self, case: &str, name: &str) -> Vec<f64> {
        self.values(&format!("{case}.grad.{name}"))
    }

    fn gradients_are(
        &self,
        case: &str,
        inputs: &[&str],
        dtype: DType,
        part: f64,
        loss: &impl Fn(&[Tensor<Cpu, 2>]) -> Tensor<Cpu, 1>,
    ) {
        let leaf = |name: &&str| self.tensor::<2>(&format!("{case}.{name}")).cast(dtype).detach().require_grad();
        let leaves: Vec<Tensor<Cpu, 2>> = inputs.iter().map(leaf).collect();
        let value = loss(&leaves);
        assert_eq!(value.dtype(), dtype, "{case} keeps its inputs' precision");
        let gradients = value.backward();
        let expected = self.values(&format!("{case}.loss"))[0];
        close(&format!("{case} in {dtype:?}"), &host(value), &[expected], part * expected.abs());
        for (name, leaf) in inputs.iter().zip(&leaves) {
            let found = host(Tensor::<Cpu, 2>::from_inner(leaf.grad(&gradients).expect("a leaf has its gradient")));
            same_gradient(&format!("{case}.{name} in {dtype:?}"), &found, &self.gradient(case, name), part);
        }
    }
}

/// Asserts that a loss's gradients by its inputs, in f64, are its finite differences.
pub(super) fn is_differentiated(
    name: &str,
    inputs: &[Tensor<Cpu, 2>],
    loss: impl Fn(&[Tensor<Cpu, 2>]) -> Tensor<Cpu, 1>,
) {
    let leaves: Vec<Tensor<Cpu, 2>> = inputs.iter().map(|input| input.clone().detach().require_grad()).collect();
    let gradients = loss(&leaves).backward();
    for (index, leaf) in leaves.iter().enumerate() {
        let found = host(Tensor::<Cpu, 2>::from_inner(leaf.grad(&gradients).expect("a leaf has its gradient")));
        same_gradient(&format!("{name} by input {index}"), &found, &differences(inputs, index, &loss), 1e-6);
    }
}

/// Central differences of a loss by every value of one of its inputs.
fn differences(
    inputs: &[Tensor<Cpu, 2>],
    index: usize,
    loss: &impl Fn(&[Tensor<Cpu, 2>]) -> Tensor<Cpu, 1>,
) -> Vec<f64> {
    const STEP: f64 = 1e-6;
    let (values, shape) = (host(inputs[index].clone()), inputs[index].dims());
    let at = |place: usize, step: f64| {
        let (mut moved, mut all) = (values.clone(), inputs.to_vec());
        moved[place] += step;
        all[index] = f64_tensor(&moved, shape);
        host(loss(&all))[0]
    };
    (0..values.len()).map(|place| (at(place, STEP) - at(place, -STEP)) / (2.0 * STEP)).collect()
}
