//! A Vision Transformer's forward pass as ONNX operators of opset 17: images in, class and patch features out.

use super::graph::{Attribute, Graph, Name};
use crate::model::HostTensor;
use lapidary_schemas::config::{FeedForward, ModelConfig, Positions};
use std::collections::BTreeMap;
use std::f64::consts::TAU;

/// RoPE's base (spec/objectives.md section 6).
const ROPE_BASE: f64 = 100.0;

pub(super) struct Network<'a> {
    pub(super) graph: Graph<'a>,
    tensors: &'a BTreeMap<String, HostTensor>,
    model: &'a ModelConfig,
}

impl<'a> Network<'a> {
    /// The graph from `images` to `class` and `patches`. The tensors are the network's: checked in `export`.
    pub(super) fn build(tensors: &'a BTreeMap<String, HostTensor>, model: &'a ModelConfig) -> Self {
        let mut network = Self { graph: Graph::default(), tensors, model };
        let mut tokens = network.embed();
        let rotation = network.rotation();
        for block in 0..model.depth {
            tokens = network.block(&format!("blocks.{block}"), tokens, rotation.as_ref());
        }
        let tokens = network.norm("norm", &tokens);
        let first = network.graph.int(0);
        network.graph.node_to("Gather", &[&tokens, &first], &[("axis", Attribute::Int(1))], "class");
        let [start, end, axis] = [1 + model.registers as i64, i64::MAX, 1].map(|value| network.graph.ints(&[value]));
        network.graph.node_to("Slice", &[&tokens, &start, &end, &axis], &[], "patches");
        network
    }

    fn values(&self, name: &str) -> &'a [f32] {
        // Of a tensor that is not there nothing is asked: `export` has checked them all.
        self.tensors.get(name).map_or(&[], |tensor| &tensor.values)
    }

    fn constant(&mut self, name: &str, shape: &[usize]) -> Name {
        let values = self.values(name);
        self.graph.floats(name, shape, values)
    }

    /// Class token, registers and patches: `[batch, 1 + registers + patches, dim]`.
    fn embed(&mut self) -> Name {
        let model = self.model;
        let (dim, patch) = (model.dim, model.patch_px);
        let weight = self.constant("patch_embed.proj.weight", &[dim, 3, patch, patch]);
        let bias = self.constant("patch_embed.proj.bias", &[dim]);
        let images = "images".to_owned();
        let strides: &[i64] = &[patch as i64, patch as i64];
        let attributes = [("kernel_shape", Attribute::Ints(strides)), ("strides", Attribute::Ints(strides))];
        let patches = self.graph.node("Conv", &[&images, &weight, &bias], &attributes);
        // 0 keeps the batch.
        let flat = self.graph.ints(&[0, dim as i64, -1]);
        let patches = self.graph.node("Reshape", &[&patches, &flat], &[]);
        let mut patches = self.graph.node("Transpose", &[&patches], &[("perm", Attribute::Ints(&[0, 2, 1]))]);
        let mut prefix = self.values("cls_token").to_vec();
        let positions = self.values("pos_embed");
        if !positions.is_empty() {
            prefix.iter_mut().zip(positions).for_each(|(token, place)| *token += place);
            let places = self.graph.floats("pos_embed", &[1, positions.len() / dim - 1, dim], &positions[dim..]);
            patches = self.graph.node("Add", &[&patches, &places], &[]);
        }
        prefix.extend(self.values("reg_token"));
        let count = prefix.len() / dim;
        let prefix = self.graph.floats("prefix", &[1, count, dim], prefix);
        let sizes = self.graph.node("Shape", &[&images], &[]);
        let [from, to, rest] = [&[0][..], &[1], &[1, 1]].map(|values| self.graph.ints(values));
        let batch = self.graph.node("Slice", &[&sizes, &from, &to], &[]);
        let sizes = self.graph.node("Concat", &[&batch, &rest], &[("axis", Attribute::Int(0))]);
        let prefix = self.graph.node("Expand", &[&prefix, &sizes], &[]);
        self.graph.node("Concat", &[&prefix, &patches], &[("axis", Attribute::Int(1))])
    }

    fn block(&mut self, at: &str, tokens: Name, rotation: Option<&[Name; 2]>) -> Name {
        let normed = self.norm(&format!("{at}.norm1"), &tokens);
        let attended = self.attention(&format!("{at}.attn"), &normed, rotation);
        let tokens = self.add(&format!("{at}.ls1"), tokens, attended);
        let normed = self.norm(&format!("{at}.norm2"), &tokens);
        let fed = self.feed_forward(&format!("{at}.mlp"), &normed);
        self.add(&format!("{at}.ls2"), tokens, fed)
    }

    /// A branch's result, scaled where there is LayerScale, and what it branched from.
    fn add(&mut self, scale: &str, tokens: Name, mut branch: Name) -> Name {
        if self.model.layer_scale > 0.0 {
            let gamma = self.constant(&format!("{scale}.gamma"), &[self.model.dim]);
            branch = self.graph.node("Mul", &[&branch, &gamma], &[]);
        }
        self.graph.node("Add", &[&tokens, &branch], &[])
    }

    fn norm(&mut self, at: &str, tokens: &Name) -> Name {
        let dim = self.model.dim;
        let (scale, bias) =
            (self.constant(&format!("{at}.weight"), &[dim]), self.constant(&format!("{at}.bias"), &[dim]));
        let epsilon = Attribute::Float(self.model.norm_epsilon as f32);
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", epsilon)];
        self.graph.node("LayerNormalization", &[tokens, &scale, &bias], &attributes)
    }

    fn linear(&mut self, at: &str, tokens: &Name, sizes: [usize; 2]) -> Name {
        let (name, values) = (format!("{at}.weight"), self.values(&format!("{at}.weight")));
        let weight = self.graph.transposed(&name, sizes, values);
        let bias = self.constant(&format!("{at}.bias"), &[sizes[0]]);
        let product = self.graph.node("MatMul", &[tokens, &weight], &[]);
        self.graph.node("Add", &[&product, &bias], &[])
    }

    fn attention(&mut self, at: &str, tokens: &Name, rotation: Option<&[Name; 2]>) -> Name {
        let (dim, heads) = (self.model.dim, self.model.heads);
        let width = dim / heads;
        let qkv = self.linear(&format!("{at}.qkv"), tokens, [3 * dim, dim]);
        let split = self.graph.ints(&[0, 0, 3, heads as i64, width as i64]);
        let qkv = self.graph.node("Reshape", &[&qkv, &split], &[]);
        // [3, batch, heads, tokens, width]
        let qkv = self.graph.node("Transpose", &[&qkv], &[("perm", Attribute::Ints(&[2, 0, 3, 1, 4]))]);
        let [mut queries, mut keys, values] = [0, 1, 2].map(|third| {
            let third = self.graph.int(third);
            self.graph.node("Gather", &[&qkv, &third], &[("axis", Attribute::Int(0))])
        });
        if let Some(rotation) = rotation {
            [queries, keys] = [queries, keys].map(|tokens| self.rotated(&tokens, rotation, width));
        }
        let scale = self.graph.floats(&format!("{at}.scale"), &[], vec![(width as f32).powf(-0.5)]);
        let queries = self.graph.node("Mul", &[&queries, &scale], &[]);
        let keys = self.graph.node("Transpose", &[&keys], &[("perm", Attribute::Ints(&[0, 1, 3, 2]))]);
        let scores = self.graph.node("MatMul", &[&queries, &keys], &[]);
        let weights = self.graph.node("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
        let mixed = self.graph.node("MatMul", &[&weights, &values], &[]);
        let mixed = self.graph.node("Transpose", &[&mixed], &[("perm", Attribute::Ints(&[0, 2, 1, 3]))]);
        let joined = self.graph.ints(&[0, 0, dim as i64]);
        let mixed = self.graph.node("Reshape", &[&mixed, &joined], &[]);
        self.linear(&format!("{at}.proj"), &mixed, [dim, dim])
    }

    /// Cosines and sines of every token, `[tokens, head width]`; class and registers are turned by nothing.
    fn rotation(&mut self) -> Option<[Name; 2]> {
        if self.model.positions != Positions::Rope {
            return None;
        }
        let (width, side, prefix) = (self.model.dim / self.model.heads, self.model.grid(), 1 + self.model.registers);
        let mut angles = vec![0.0; prefix * width];
        let coordinate = |place: usize| (place as f64 + 0.5) / side as f64 * 2.0 - 1.0;
        for place in 0..side * side {
            let (row, column) = (coordinate(place / side), coordinate(place % side));
            let turn = |i: usize| {
                let (along, frequency) = if i < width / 4 { (row, i) } else { (column, i - width / 4) };
                TAU * along / ROPE_BASE.powf(2.0 * frequency as f64 / (width as f64 / 2.0))
            };
            angles.extend((0..width).map(|i| turn(i % (width / 2))));
        }
        let shape = [angles.len() / width, width];
        Some([("rope.cos", f64::cos as fn(f64) -> f64), ("rope.sin", f64::sin)].map(|(name, of)| {
            let values: Vec<f32> = angles.iter().map(|angle| of(*angle) as f32).collect();
            self.graph.floats(name, &shape, values)
        }))
    }

    /// x cos + (-x2, x1) sin for the halves x1 and x2 of a head.
    fn rotated(&mut self, tokens: &Name, [cos, sin]: &[Name; 2], width: usize) -> Name {
        let first = self.part(tokens, 0, width / 2, 3);
        let second = self.part(tokens, width / 2, width, 3);
        let second = self.graph.node("Neg", &[&second], &[]);
        let turned = self.graph.node("Concat", &[&second, &first], &[("axis", Attribute::Int(-1))]);
        let (still, turned) =
            (self.graph.node("Mul", &[tokens, cos], &[]), self.graph.node("Mul", &[&turned, sin], &[]));
        self.graph.node("Add", &[&still, &turned], &[])
    }

    fn part(&mut self, tokens: &Name, from: usize, to: usize, axis: i64) -> Name {
        let [from, to, axis] = [from as i64, to as i64, axis].map(|value| self.graph.ints(&[value]));
        self.graph.node("Slice", &[tokens, &from, &to, &axis], &[])
    }

    fn feed_forward(&mut self, at: &str, tokens: &Name) -> Name {
        let (dim, hidden) = (self.model.dim, self.model.hidden());
        let inner = match self.model.feed_forward {
            FeedForward::Mlp => {
                let inner = self.linear(&format!("{at}.fc1"), tokens, [hidden, dim]);
                self.gelu(at, &inner)
            }
            FeedForward::Swiglu => {
                let both = self.linear(&format!("{at}.fc1"), tokens, [2 * hidden, dim]);
                let gate = self.part(&both, 0, hidden, 2);
                let inner = self.part(&both, hidden, 2 * hidden, 2);
                let open = self.graph.node("Sigmoid", &[&gate], &[]);
                let gate = self.graph.node("Mul", &[&gate, &open], &[]);
                self.graph.node("Mul", &[&gate, &inner], &[])
            }
        };
        self.linear(&format!("{at}.fc2"), &inner, [dim, hidden])
    }

    /// x / 2 (1 + erf(x / sqrt 2)).
    fn gelu(&mut self, at: &str, inner: &Name) -> Name {
        let [root, half, one] = [("root", std::f32::consts::FRAC_1_SQRT_2), ("half", 0.5), ("one", 1.0)]
            .map(|(name, value)| self.graph.floats(&format!("{at}.{name}"), &[], vec![value]));
        let scaled = self.graph.node("Mul", &[inner, &root], &[]);
        let bent = self.graph.node("Erf", &[&scaled], &[]);
        let bent = self.graph.node("Add", &[&bent, &one], &[]);
        let product = self.graph.node("Mul", &[inner, &bent], &[]);
        self.graph.node("Mul", &[&product, &half], &[])
    }
}
