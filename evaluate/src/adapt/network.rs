//! A classifier: a backbone, and a head on its class token.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use lapidary_train::model::{HostTensor, Vit, snapshot};
use lapidary_train::operators::{self, Operators, soft_cross_entropy};
use lapidary_train::probe::{Accuracy, Features};
use std::collections::BTreeMap;

/// Images to scores of classes.
#[derive(Module, Debug)]
pub(crate) struct Classifier<B: Backend> {
    pub(crate) backbone: Vit<B>,
    pub(crate) head: Head<B>,
}

/// Features to scores of classes: a linear map, or two with GELU between them.
#[derive(Module, Debug)]
pub(crate) struct Head<B: Backend> {
    fc1: Option<Linear<B>>,
    fc2: Linear<B>,
}

/// How a network does on labelled images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Looked {
    pub(crate) accuracy: Accuracy,
    /// Mean cross-entropy.
    pub(crate) loss: f64,
}

impl<B: Operators> Head<B> {
    /// A head whose weights are yet to be initialised, with a hidden layer where a width is given.
    pub(crate) fn new(dim: usize, hidden: Option<usize>, classes: usize, device: &B::Device) -> Self {
        Self {
            fc1: hidden.map(|hidden| LinearConfig::new(dim, hidden).init(device)),
            fc2: LinearConfig::new(hidden.unwrap_or(dim), classes).init(device),
        }
    }

    /// Scores of classes.
    ///
    /// # Shapes
    /// - features: `[batch, dim]`
    /// - kept: what hidden values are multiplied by, `[batch, hidden]`: 0 where dropout leaves them out
    /// - returns: `[batch, classes]`
    pub(crate) fn forward(&self, features: Tensor<B, 2>, kept: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        let hidden = match &self.fc1 {
            Some(fc1) => {
                let hidden = operators::gelu(map(fc1, features));
                match kept {
                    Some(kept) => hidden * kept,
                    None => hidden,
                }
            }
            None => features,
        };
        map(&self.fc2, hidden)
    }

    /// The same head with its first map's weight `[dim, width]` and bias `[width]` changed.
    pub(crate) fn with_first_map(
        mut self,
        change: impl FnOnce(Tensor<B, 2>, Tensor<B, 1>) -> (Tensor<B, 2>, Tensor<B, 1>),
    ) -> Self {
        let first = self.fc1.as_mut().unwrap_or(&mut self.fc2);
        let bias = first.bias.take().expect("heads have biases: made in Head::new");
        let (weight, bias_value) = change(first.weight.val(), bias.val());
        first.weight = first.weight.clone().map(|_| weight);
        first.bias = Some(bias.map(|_| bias_value));
        self
    }

    /// How it does on features as they are.
    pub(crate) fn look(&self, features: &Features, device: &B::Device) -> Looked {
        let (mut accuracy, mut loss) = (Accuracy::default(), 0.0);
        if features.is_empty() {
            return Looked { accuracy, loss };
        }
        let values = TensorData::new(features.values.clone(), [features.len(), features.dim]);
        let scores = self.forward(Tensor::from_data(values, device), None);
        let classes = scores.dims()[1];
        let scores = scores.into_data().convert::<f32>().to_vec::<f32>().expect("converted to f32 just before");
        for (row, class) in scores.chunks_exact(classes).zip(&features.classes) {
            let row: Vec<f64> = row.iter().map(|score| f64::from(*score)).collect();
            accuracy.count(&row, *class);
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = most + row.iter().map(|score| (score - most).exp()).sum::<f64>().ln();
            loss += log_sum - row[*class as usize];
        }
        Looked { accuracy, loss: loss / features.len() as f64 }
    }

    /// Its tensors in PyTorch's shapes: `head.weight` and `head.bias` of a linear one, as timm has them; else `head.fc1` and
    /// `head.fc2`.
    pub(crate) fn tensors(&self) -> BTreeMap<String, HostTensor> {
        let is_linear = self.fc1.is_none();
        let named = |name: String| match (is_linear, name.strip_prefix("fc2.")) {
            (true, Some(parameter)) => format!("head.{parameter}"),
            _ => format!("head.{name}"),
        };
        snapshot(self).into_iter().map(|(name, tensor)| (named(name), tensor)).collect()
    }
}

fn map<B: Operators>(linear: &Linear<B>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    operators::linear(x, linear.weight.val(), linear.bias.as_ref().map(|bias| bias.val()))
}

/// The classes as distributions, shape `[classes_of.len(), classes]`.
pub(crate) fn targets<B: Operators>(classes_of: &[u32], classes: usize, device: &B::Device) -> Tensor<B, 2> {
    let mut values = vec![0f32; classes_of.len() * classes];
    for (row, class) in values.chunks_exact_mut(classes).zip(classes_of) {
        row[*class as usize] = 1.0;
    }
    Tensor::from_data(TensorData::new(values, [classes_of.len(), classes]), device)
}

/// The cross-entropy of some of a batch's images, summed, over the batch's count, shape `[1]`.
pub(crate) fn share_of_loss<B: Operators>(scores: Tensor<B, 2>, targets: Tensor<B, 2>, batch: usize) -> Tensor<B, 1> {
    soft_cross_entropy(scores, targets, 1.0).sum() / batch as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use lapidary_train::model::initialise;

    #[test]
    fn a_linear_head_has_timms_names_and_looks_count_and_sum() {
        let device = Default::default();
        let head = initialise(Head::<Flex>::new(4, None, 3, &device), 1);
        assert_eq!(head.tensors().keys().collect::<Vec<_>>(), ["head.bias", "head.weight"]);
        assert_eq!(head.tensors()["head.weight"].shape, [3, 4]);
        let deep = initialise(Head::<Flex>::new(4, Some(8), 3, &device), 1);
        assert_eq!(
            deep.tensors().keys().collect::<Vec<_>>(),
            ["head.fc1.bias", "head.fc1.weight", "head.fc2.bias", "head.fc2.weight"]
        );
        // A head of zeros says each class alike: the loss is ln 3, and ties go to class 0.
        let zero = head.with_first_map(|weight, bias| (weight.zeros_like(), bias.zeros_like()));
        let features = Features { dim: 4, values: vec![1.0; 12], classes: vec![0, 1, 2] };
        let looked = zero.look(&features, &device);
        assert!((looked.loss - 3f64.ln()).abs() < 1e-6, "{looked:?}");
        assert_eq!((looked.accuracy.tested, looked.accuracy.first), (3, 1));
    }

    #[test]
    fn dropped_values_do_not_count() {
        let device = Default::default();
        let head = initialise(Head::<Flex>::new(4, Some(8), 3, &device), 1);
        let features = || Tensor::<Flex, 2>::ones([2, 4], &device);
        let none = head.forward(features(), Some(Tensor::zeros([2, 8], &device)));
        assert_eq!(none.abs().max().into_scalar(), 0.0, "the last map's bias is zero at first");
        let all = head.forward(features(), Some(Tensor::ones([2, 8], &device)));
        assert_eq!((all - head.forward(features(), None)).abs().max().into_scalar(), 0.0);
    }
}
