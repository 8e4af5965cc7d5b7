//! Parameters by name: their path through the modules, joined by dots, as in PyTorch's state dicts.
//!
//! Initial weights are drawn on the host, each parameter from a stream keyed by its name, so that they are equal on every
//! backend and untouched by what else the network has.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use lapidary_pipeline::random::{Purpose, Rng, RngExt, keyed};
use lapidary_pipeline::stage::digest_of_bytes;
use std::collections::BTreeMap;

/// A parameter's values on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// The path of the parameter being visited.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn name(&self) -> String {
        self.0.join(".")
    }
}

struct Visitor<F> {
    path: Path,
    see: F,
}

/// A parameter: its name, its shape and its flat values.
pub type Seen<'a, B> = (&'a str, Vec<usize>, Tensor<B, 1>);

impl<B: Backend, F: FnMut(Seen<'_, B>)> ModuleVisitor<B> for Visitor<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let count = shape.iter().product::<usize>();
        (self.see)((&self.path.name(), shape, tensor.reshape([count])));
    }
}

struct Mapper<F> {
    path: Path,
    change: F,
}

impl<B: Backend, F: FnMut(Seen<'_, B>) -> Tensor<B, 1>> ModuleMapper<B> for Mapper<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        let requires_grad = tensor.is_require_grad();
        let shape = tensor.dims();
        let flat = tensor.detach().reshape([shape.iter().product::<usize>()]);
        let changed = (self.change)((&self.path.name(), shape.to_vec(), flat));
        let changed = changed.reshape(shape).detach().set_require_grad(requires_grad);
        Param::from_mapped_value(id, changed, mapper)
    }
}

struct GradientVisitor<'a, B: AutodiffBackend> {
    path: Path,
    gradients: &'a B::Gradients,
    found: BTreeMap<String, Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for GradientVisitor<'_, B> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let count = gradient.dims().iter().product::<usize>();
            self.found.insert(self.path.name(), gradient.reshape([count]));
        }
    }
}

/// Replaces every parameter by what `change` makes of its name, shape and flat values.
pub fn map_named<B: Backend, M: Module<B>>(module: M, change: impl FnMut(Seen<'_, B>) -> Tensor<B, 1>) -> M {
    module.map(&mut Mapper { path: Path::default(), change })
}

/// Every parameter, flat, by name.
pub fn named_tensors<B: Backend, M: Module<B>>(module: &M) -> BTreeMap<String, Tensor<B, 1>> {
    let mut found = BTreeMap::new();
    let see = |(name, _, tensor): Seen<'_, B>| {
        found.insert(name.to_owned(), tensor);
    };
    module.visit(&mut Visitor { path: Path::default(), see });
    found
}

/// The names of all parameters, in the module's order.
pub fn names<B: Backend, M: Module<B>>(module: &M) -> Vec<String> {
    let mut found = Vec::new();
    let see = |(name, _, _): Seen<'_, B>| found.push(name.to_owned());
    module.visit(&mut Visitor { path: Path::default(), see });
    found
}

/// The gradient of every parameter that has one, flat, by name.
pub fn named_gradients<B: AutodiffBackend, M: Module<B>>(
    module: &M,
    gradients: &B::Gradients,
) -> BTreeMap<String, Tensor<B::InnerBackend, 1>> {
    let mut visitor = GradientVisitor::<B> { path: Path::default(), gradients, found: BTreeMap::new() };
    module.visit(&mut visitor);
    visitor.found
}

/// Copies every parameter to the host, by name.
pub fn snapshot<B: Backend, M: Module<B>>(module: &M) -> BTreeMap<String, HostTensor> {
    let mut found = BTreeMap::new();
    let see = |(name, shape, tensor): Seen<'_, B>| {
        found.insert(name.to_owned(), HostTensor { shape, values: host_values(tensor) });
    };
    module.visit(&mut Visitor { path: Path::default(), see });
    found
}

/// A flat tensor's values on the host.
pub fn host_values<B: Backend>(tensor: Tensor<B, 1>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().to_vec().expect("converted to f32 just before")
}

/// Replaces every parameter by the tensor of its name.
///
/// # Errors
/// Names the first parameter that is missing or of another shape.
pub fn load<B: Backend, M: Module<B>>(
    module: M,
    tensors: &BTreeMap<String, HostTensor>,
    device: &B::Device,
) -> Result<M, String> {
    let mut fault = None;
    let module = map_named(module, |(name, shape, old): Seen<'_, B>| match tensors.get(name) {
        Some(tensor) if tensor.shape == shape => {
            let count = tensor.values.len();
            Tensor::from_data(TensorData::new(tensor.values.clone(), [count]), device)
        }
        found => {
            let found = found.map_or_else(|| "missing".to_owned(), |t| format!("of shape {:?}", t.shape));
            fault.get_or_insert(format!("parameter `{name}` of shape {shape:?} is {found}"));
            old
        }
    });
    fault.map_or(Ok(module), Err)
}

/// Draws the initial weights of a network from `seed`.
///
/// As the references do (spec/pretraining.md 1.3, 1.4, 1.8): norms 1 and 0, biases 0, the patch projection and what
/// PyTorch leaves at its defaults uniform within 1 / sqrt(inputs), everything else normal with standard deviation 0.02.
pub fn initialise<B: Backend, M: Module<B>>(module: M, seed: u64) -> M {
    map_named(module, |(name, shape, tensor): Seen<'_, B>| {
        let stream = u64::from_str_radix(&digest_of_bytes(name.as_bytes()).0[..16], 16).unwrap_or_default();
        let mut rng = keyed(seed, Purpose::Weights, stream, 0);
        let count: usize = shape.iter().product();
        let values: Vec<f32> = match initial_law(name, shape[0]) {
            Law::Constant(value) => vec![value; count],
            Law::Uniform(bound) => (0..count).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0)).collect(),
            Law::Normal(deviation) => (0..count).map(|_| deviation * standard_normal(&mut rng)).collect(),
        };
        Tensor::from_data(TensorData::new(values, [count]), &tensor.device())
    })
}

#[derive(Debug, PartialEq)]
enum Law {
    Constant(f32),
    Uniform(f32),
    Normal(f32),
}

/// The law of a parameter's initial values, by its name and its number of inputs.
fn initial_law(name: &str, inputs: usize) -> Law {
    if name.ends_with("gamma") || name.ends_with("weight_g") {
        Law::Constant(1.0)
    } else if name.ends_with("beta") || name.ends_with("bias") {
        Law::Constant(0.0)
    } else if name.contains("patch_embed.") || name.contains("last_layer.") || name.contains("projector.") {
        Law::Uniform((inputs as f32).powf(-0.5))
    } else {
        Law::Normal(0.02)
    }
}

/// A draw from the standard normal distribution (Box and Muller 1958).
fn standard_normal(rng: &mut impl Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;
    use burn_flex::Flex;
    use lapidary_schemas::config::{ModelConfig, ObjectiveConfig};

    fn network(seed: u64) -> Network<Flex> {
        let model = ModelConfig {
            image_px: 8,
            patch_px: 4,
            dim: 8,
            depth: 1,
            heads: 2,
            mlp_ratio: 2,
            ..ModelConfig::default()
        };
        let objective = ObjectiveConfig {
            prototypes: 16,
            head_hidden: 8,
            head_bottleneck: 4,
            barlow_dim: 8,
            norm_last_layer: false,
            ..ObjectiveConfig::default()
        };
        Network::student(&model, &objective, seed, &Default::default())
    }

    #[test]
    fn names_are_timms_and_weights_follow_the_seed() {
        let weights = snapshot(&network(1));
        for name in [
            "backbone.cls_token",
            "backbone.pos_embed",
            "backbone.patch_embed.proj.weight",
            "backbone.blocks.0.attn.qkv.weight",
            "backbone.blocks.0.mlp.fc2.bias",
            "backbone.norm.gamma",
            "head.last_layer.weight_v",
            "head.last_layer.weight_g",
            "projector.bn1.gamma",
        ] {
            assert!(weights.contains_key(name), "{name} in {:?}", weights.keys());
        }
        assert_eq!(weights, snapshot(&network(1)));
        assert_ne!(weights, snapshot(&network(2)));
        let prototypes = &weights["head.last_layer.weight_v"].values;
        assert!(prototypes.iter().all(|v| v.abs() <= 0.5) && prototypes.iter().any(|v| v.abs() > 0.25));
    }

    #[test]
    fn a_snapshot_loads_back_and_a_missing_parameter_is_named() {
        let mut weights = snapshot(&network(1));
        let loaded = load(network(2), &weights, &Default::default()).expect("loads");
        assert_eq!(snapshot(&loaded), weights);
        weights.remove("backbone.norm.beta");
        let fault = load(network(2), &weights, &Default::default()).expect_err("one is missing");
        assert!(fault.contains("backbone.norm.beta"), "{fault}");
    }
}
