//! The probe `mlp`: a classifier with one hidden layer of twice the features' width, GELU and dropout, no BatchNorm
//! (spec/objectives.md 9), on standardised frozen features, by stochastic gradient descent with momentum 0.9 and a cosine to 0. The
//! learning rate is chosen on a held-out tenth of each class's labels; then all labels are trained on.

use super::held_out::held_out;
use super::quick::Standard;
use crate::Result;
use crate::scores::Accuracy;
use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use lapidary_pipeline::interrupt;
use lapidary_pipeline::random::{Purpose, RngExt, SliceRandom, chance, keyed};
use lapidary_schemas::config::MlpProbeConfig;
use lapidary_train::operators::{Operators, gelu};
use lapidary_train::probe::Features;
use std::f64::consts::PI;

const MOMENTUM: f64 = 0.9;
/// Share of each class that chooses the learning rate.
const HELD_OUT: f64 = 0.1;
/// Images of a product when the classifier is tested.
const TEST_ROWS: usize = 1024;
/// Steps after which an interrupt is looked for.
const LOOK_STEPS: usize = 16;

/// A probe's result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MlpScore {
    pub(super) accuracy: Accuracy,
    pub(super) learning_rate: f64,
    /// Labels that chose it; 0 where no class has two, then it is the first.
    pub(super) held_out: usize,
}

/// Trains on all of `train` with the best of the learning rates and tests on `test`.
///
/// # Errors
/// When the user interrupts.
pub(super) fn probe<B: Operators>(
    train: &Features,
    test: &Features,
    classes: usize,
    config: &MlpProbeConfig,
    seed: u64,
    device: &B::Device,
) -> Result<MlpScore> {
    let scale = Standard::of(train);
    let (train, test) = (scale.apply(train), scale.apply(test));
    let (held, rest) = held_out(&train.classes, HELD_OUT, seed);
    let (held, rest) = (train.select(&held), train.select(&rest));
    let mut best = (0, config.learning_rates[0]);
    for rate in config.learning_rates.iter().filter(|_| config.learning_rates.len() > 1 && !held.is_empty()) {
        let first = fit::<B>(&rest, classes, config, *rate, seed, device)?.accuracy(&held).first;
        if first > best.0 {
            best = (first, *rate);
        }
    }
    let accuracy = fit::<B>(&train, classes, config, best.1, seed, device)?.accuracy(&test);
    Ok(MlpScore { accuracy, learning_rate: best.1, held_out: held.len() })
}

fn fit<B: Operators>(
    train: &Features,
    classes: usize,
    config: &MlpProbeConfig,
    rate: f64,
    seed: u64,
    device: &B::Device,
) -> Result<Mlp<B>> {
    let mut mlp = Mlp::new(train.dim, classes, seed, device);
    let rows = config.batch.min(train.len());
    let mut order = Order { seed, images: train.len(), epoch: 0, left: Vec::new() };
    for step in 0..config.steps {
        if step % LOOK_STEPS == 0 {
            interrupt::check()?;
        }
        let batch = train.select(&order.next(rows));
        let mask = mask(seed, step, rows * mlp.hidden(), config.dropout);
        let rate = rate * 0.5 * (1.0 + (PI * step as f64 / config.steps as f64).cos());
        mlp.step(&batch, mask, rate);
    }
    Ok(mlp)
}

/// Indices of images, each once an epoch, in an order drawn for each.
struct Order {
    seed: u64,
    images: usize,
    epoch: u64,
    left: Vec<usize>,
}

impl Order {
    fn next(&mut self, count: usize) -> Vec<usize> {
        while self.left.len() < count {
            let mut epoch: Vec<usize> = (0..self.images).collect();
            epoch.shuffle(&mut keyed(self.seed, Purpose::ProbeOrder, u64::MAX, self.epoch));
            self.epoch += 1;
            self.left.extend(epoch);
        }
        self.left.drain(..count).collect()
    }
}

/// What a step's hidden values are multiplied by: 0 with probability `dropout`, else 1 over what stays.
fn mask(seed: u64, step: usize, values: usize, dropout: f64) -> Vec<f32> {
    let mut rng = keyed(seed, Purpose::ProbeDropout, step as u64, 0);
    let kept = (1.0 / (1.0 - dropout)) as f32;
    (0..values).map(|_| if chance(&mut rng, dropout as f32) { 0.0 } else { kept }).collect()
}

/// The classifier: `gelu(x w1 + b1) w2 + b2`.
#[derive(Debug)]
struct Mlp<B: Operators> {
    classes: usize,
    /// Shapes `[inputs, hidden]`, `[1, hidden]`, `[hidden, classes]`, `[1, classes]`.
    parameters: [Tensor<B, 2>; 4],
    velocities: [Tensor<B, 2>; 4],
}

impl<B: Operators> Mlp<B> {
    /// Weights and biases by PyTorch's default: uniform within 1 over the root of a layer's inputs.
    fn new(inputs: usize, classes: usize, seed: u64, device: &B::Device) -> Self {
        let hidden = 2 * inputs;
        let shapes = [(inputs, hidden, inputs), (1, hidden, inputs), (hidden, classes, hidden), (1, classes, hidden)];
        let mut stream = 0;
        let drawn = shapes.map(|(rows, columns, fan_in)| {
            // Streams of linear classifiers are counted from 0.
            let mut rng = keyed(seed, Purpose::ProbeWeights, u64::MAX, stream);
            stream += 1;
            let bound = (fan_in as f32).powf(-0.5);
            (0..rows * columns).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0)).collect::<Vec<f32>>()
        });
        Self::with_parameters(drawn, inputs, classes, device)
    }

    fn with_parameters(values: [Vec<f32>; 4], inputs: usize, classes: usize, device: &B::Device) -> Self {
        let hidden = values[1].len();
        let shapes = [[inputs, hidden], [1, hidden], [hidden, classes], [1, classes]];
        let [a, b, c, d] = values;
        let [e, f, g, h] = shapes;
        let of = |values, shape| Tensor::from_data(TensorData::new(values, shape), device);
        let parameters = [of(a, e), of(b, f), of(c, g), of(d, h)];
        Self { classes, velocities: shapes.map(|shape| Tensor::zeros(shape, device)), parameters }
    }

    fn hidden(&self) -> usize {
        self.parameters[1].dims()[1]
    }

    /// A step on a batch; `mask` has a value for each image and hidden channel.
    fn step(&mut self, batch: &Features, mask: Vec<f32>, rate: f64) {
        let (rows, hidden, device) = (batch.len(), self.hidden(), self.parameters[0].device());
        let of = |values: Vec<f32>, columns: usize| -> Tensor<B, 2> {
            Tensor::from_data(TensorData::new(values, [rows, columns]), &device)
        };
        let mut targets = vec![0f32; rows * self.classes];
        for (row, class) in targets.chunks_exact_mut(self.classes).zip(&batch.classes) {
            row[*class as usize] = 1.0;
        }
        let (inputs, mask, targets) =
            (of(batch.values.clone(), batch.dim), of(mask, hidden), of(targets, self.classes));
        let [w1, b1, w2, b2] = self.parameters.clone();
        let before = inputs.clone().matmul(w1) + b1;
        let after = gelu(before.clone()) * mask.clone();
        let residuals = (softmax(after.clone().matmul(w2.clone()) + b2, 1) - targets) / rows as f64;
        let of_before = gelu_backward(before, residuals.clone().matmul(w2.transpose()) * mask);
        let gradients = [
            inputs.transpose().matmul(of_before.clone()),
            of_before.sum_dim(0),
            after.transpose().matmul(residuals.clone()),
            residuals.sum_dim(0),
        ];
        for ((parameter, velocity), gradient) in self.parameters.iter_mut().zip(&mut self.velocities).zip(gradients) {
            *velocity = velocity.clone() * MOMENTUM + gradient;
            *parameter = parameter.clone() - velocity.clone() * rate;
        }
    }

    fn accuracy(&self, test: &Features) -> Accuracy {
        let mut accuracy = Accuracy::default();
        let [w1, b1, w2, b2] = &self.parameters;
        for (values, truths) in test.values.chunks(TEST_ROWS * test.dim).zip(test.classes.chunks(TEST_ROWS)) {
            let inputs = TensorData::new(values.to_vec(), [truths.len(), test.dim]);
            let inputs: Tensor<B, 2> = Tensor::from_data(inputs, &w1.device());
            let hidden = gelu(inputs.matmul(w1.clone()) + b1.clone());
            let logits = (hidden.matmul(w2.clone()) + b2.clone()).into_data().convert::<f32>();
            let logits = logits.to_vec::<f32>().expect("converted to f32 just before");
            for (row, truth) in logits.chunks_exact(self.classes).zip(truths) {
                let row: Vec<f64> = row.iter().map(|score| f64::from(*score)).collect();
                accuracy.count(&row, *truth);
            }
        }
        accuracy
    }
}

fn gelu_backward<B: Operators>(x: Tensor<B, 2>, gradient: Tensor<B, 2>) -> Tensor<B, 2> {
    let of = |tensor: Tensor<B, 2>| tensor.into_primitive().tensor();
    Tensor::from_primitive(TensorPrimitive::Float(B::exact_gelu_backward(of(x), of(gradient))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, numbers, trained};
    use burn_flex::Flex;

    #[test]
    fn weights_after_steps_are_pytorchs() {
        let golden = &trained()["mlp"];
        let (train, classes) = (features(60, 12, 4, 0.3, 0.7), 4);
        let wave = |count: usize, phase: f64| -> Vec<f32> {
            (0..count).map(|i| (0.2 * (1.3 * i as f64 + phase).sin()) as f32).collect()
        };
        let initial = [wave(12 * 24, 0.1), wave(24, 0.2), wave(24 * classes, 0.3), wave(classes, 0.4)];
        let mut mlp = Mlp::<Flex>::with_parameters(initial, 12, classes, &Default::default());
        let steps = 30;
        for step in 0..steps {
            let rows: Vec<usize> = (0..20).map(|i| (7 * i + 11 * step) % 60).collect();
            let mask = (0..20 * 24).map(|i| if (i * 7 + step * 3) % 10 == 0 { 0.0 } else { 1.0 / 0.9 }).collect();
            let rate = 0.1 * 0.5 * (1.0 + (PI * step as f64 / steps as f64).cos());
            mlp.step(&train.select(&rows), mask, rate);
        }
        for (parameter, name) in mlp.parameters.iter().zip(["w1", "b1", "w2", "b2"]) {
            let found = parameter.clone().into_data().to_vec::<f32>().expect("f32");
            let expected = numbers(&golden[name]);
            assert_eq!(found.len(), expected.len());
            let off = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            println!("{name} within {off:.1e}");
            assert!(off < 1e-5, "{name}: {off}");
        }
    }

    #[test]
    fn a_hidden_layer_learns_what_no_line_tells_apart_and_the_rate_is_chosen() {
        // Opposite quadrants are one class.
        let features = |count: usize, phase: f32| {
            let point = |i: usize| [(i as f32 * 0.7 + phase).sin(), (i as f32 * 1.9 + phase).cos()];
            let points: Vec<[f32; 2]> = (0..count).map(point).collect();
            let classes = points.iter().map(|[x, y]| u32::from(x * y > 0.0)).collect();
            // Copies of the two channels, so that the hidden layer is not too narrow.
            let values = points.iter().flat_map(|[x, y]| [*x, *y, *x, *y, *x, *y, *x, *y]).collect();
            Features { dim: 8, values, classes }
        };
        let config = MlpProbeConfig { steps: 400, learning_rates: vec![1e-9, 0.3], ..MlpProbeConfig::default() };
        let (train, test) = (features(400, 0.0), features(200, 0.4));
        let of = |seed| probe::<Flex>(&train, &test, 2, &config, seed, &Default::default()).expect("not interrupted");
        let score = of(1);
        assert!(
            score.accuracy.top1() > 0.9 && score.learning_rate == 0.3 && (38..=42).contains(&score.held_out),
            "{score:?}"
        );
        assert_eq!(score, of(1), "the same by the same seed");
    }

    #[test]
    fn dropout_keeps_the_mean_and_repeats() {
        let drawn = mask(1, 3, 20_000, 0.1);
        assert!((drawn.iter().sum::<f32>() / 20_000.0 - 1.0).abs() < 0.02);
        assert_eq!(drawn, mask(1, 3, 20_000, 0.1));
        assert_ne!(drawn, mask(1, 4, 20_000, 0.1));
        assert!(mask(1, 3, 100, 0.0).iter().all(|value| *value == 1.0));
    }
}
