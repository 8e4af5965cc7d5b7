//! Parameters by name: their path through the modules, joined by dots, with timm's names.
//!
//! In memory a matrix is `[inputs, outputs]`, as burn multiplies it; on the host and on disk it has PyTorch's shape (see
//! [`super::layout`]).

use super::layout::{from_disk, to_disk};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use std::collections::BTreeMap;

/// A parameter's values on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Its shape, PyTorch's.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// The path of the parameter being visited.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        let name = match (container, name) {
            // A head's MLP is its list of layers.
            ("Struct:Mlp", "layers") => "",
            _ => name,
        };
        self.0.push(name.to_owned());
    }

    fn name(&self) -> String {
        self.0.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

struct Visitor<F> {
    path: Path,
    see: F,
}

/// A parameter: its name, its shape and its flat values.
pub type Seen<'a, B> = (&'a str, Vec<usize>, Tensor<B, 1>);

impl<B: Backend, F: FnMut(Seen<'_, B>)> ModuleVisitor<B> for Visitor<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
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
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
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

struct Chooser<F> {
    path: Path,
    is_learned: F,
}

impl<B: Backend, F: Fn(&str) -> bool> ModuleMapper<B> for Chooser<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let is_learned = (self.is_learned)(&self.path.name());
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor.detach().set_require_grad(is_learned), mapper)
    }
}

struct GradientVisitor<'a, B: AutodiffBackend> {
    path: Path,
    gradients: &'a B::Gradients,
    found: BTreeMap<String, Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for GradientVisitor<'_, B> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
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

/// The same network, of which gradients are taken of the parameters that `is_learned` names, and of no others: nothing is
/// kept for the backward pass of what lies below the lowest of them.
pub fn with_gradients_of<B: Backend, M: Module<B>>(module: M, is_learned: impl Fn(&str) -> bool) -> M {
    module.map(&mut Chooser { path: Path::default(), is_learned })
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

/// The name and the shape in memory of all parameters, in the module's order.
pub fn parameter_shapes<B: Backend, M: Module<B>>(module: &M) -> Vec<(String, Vec<usize>)> {
    let mut found = Vec::new();
    let see = |(name, shape, _): Seen<'_, B>| found.push((name.to_owned(), shape));
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

/// The shape in memory of every parameter, by name.
pub fn shapes<B: Backend, M: Module<B>>(module: &M) -> BTreeMap<String, Vec<usize>> {
    let mut found = BTreeMap::new();
    let see = |(name, shape, _): Seen<'_, B>| {
        found.insert(name.to_owned(), shape);
    };
    module.visit(&mut Visitor { path: Path::default(), see });
    found
}

/// Copies every parameter to the host, by name.
pub fn snapshot<B: Backend, M: Module<B>>(module: &M) -> BTreeMap<String, HostTensor> {
    let mut found = BTreeMap::new();
    let see = |(name, shape, tensor): Seen<'_, B>| {
        found.insert(name.to_owned(), to_disk(name, &shape, host_values(tensor)));
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
    let module =
        map_named(module, |(name, shape, old): Seen<'_, B>| match from_disk(name, &shape, tensors.get(name)) {
            Ok(values) => Tensor::from_data(TensorData::new(values, [shape.iter().product::<usize>()]), device),
            Err(detail) => {
                fault.get_or_insert(detail);
                old
            }
        });
    fault.map_or(Ok(module), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Network, NetworkConfig};
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
        Network::student(&NetworkConfig::of(&model, &objective), seed, &Default::default())
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
            "backbone.norm.weight",
            "head.last_layer.weight_v",
            "head.last_layer.weight_g",
            "head.mlp.0.linear.bias",
            "projector.1.norm.weight",
        ] {
            assert!(weights.contains_key(name), "{name} in {:?}", weights.keys());
        }
        assert_eq!(weights, snapshot(&network(1)));
        assert_ne!(weights, snapshot(&network(2)));
        assert_eq!(weights["backbone.patch_embed.proj.weight"].shape, [8, 3, 4, 4]);
        assert_eq!(weights["backbone.blocks.0.mlp.fc1.weight"].shape, [16, 8]);
        assert_eq!(weights["head.last_layer.weight_v"].shape, [16, 4]);
        let bias = &weights["backbone.patch_embed.proj.bias"].values;
        assert!(bias.iter().any(|v| *v != 0.0) && bias.iter().all(|v| v.abs() <= 48f32.powf(-0.5)));
        let prototypes = &weights["head.last_layer.weight_v"].values;
        assert!(prototypes.iter().all(|v| v.abs() <= 0.5) && prototypes.iter().any(|v| v.abs() > 0.25));
    }

    #[test]
    fn a_snapshot_loads_back_and_a_missing_parameter_is_named() {
        let mut weights = snapshot(&network(1));
        let loaded = load(network(2), &weights, &Default::default()).expect("loads");
        assert_eq!(snapshot(&loaded), weights);
        weights.remove("backbone.norm.bias");
        let fault = load(network(2), &weights, &Default::default()).expect_err("one is missing");
        assert!(fault.contains("backbone.norm.bias"), "{fault}");
    }
}
