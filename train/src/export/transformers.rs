//! transformers' folder: the simplest of its networks that has what ours has.

use super::Planned;
use super::outgoing::Outgoing;
use super::preprocess::preprocessor;
use crate::model::HostTensor;
use crate::weights::{Layout, Naming};
use serde_json::{Value, json};

pub(super) fn plan(out: Outgoing) -> Result<Planned, String> {
    let model = out.model.clone();
    let layout = if out.has_rope() {
        Layout::TransformersDinov3
    } else if model.registers > 0 {
        Layout::TransformersDinov2WithRegisters
    } else if out.has_scale() || out.is_gated() {
        Layout::TransformersDinov2
    } else {
        Layout::TransformersVit
    };
    let (class, kind) = match layout {
        Layout::TransformersDinov3 => ("DINOv3ViTModel", "dinov3_vit"),
        Layout::TransformersDinov2WithRegisters => ("Dinov2WithRegistersModel", "dinov2_with_registers"),
        Layout::TransformersDinov2 => ("Dinov2Model", "dinov2"),
        _ => ("ViTModel", "vit"),
    };
    let is_gated = out.is_gated();
    let mut config = json!({
        "architectures": [class],
        "model_type": kind,
        "hidden_size": model.dim,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "image_size": model.image_px,
        "patch_size": model.patch_px,
        "num_channels": 3,
        // transformers has 1e-12 where nothing is said.
        "layer_norm_eps": model.norm_epsilon,
        "hidden_act": if is_gated { "silu" } else { "gelu" },
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "qkv_bias": true,
        "dtype": "float32",
        // Not transformers': for Lapidary itself.
        "position_resize": model.position_resize,
    });
    let mut say = |key: &str, value: Value| config[key] = value;
    match layout {
        Layout::TransformersVit => say("intermediate_size", json!(model.hidden())),
        Layout::TransformersDinov3 => {
            say("intermediate_size", json!(model.hidden()));
            say("use_gated_mlp", json!(is_gated));
            say("num_register_tokens", json!(model.registers));
            say("rope_theta", json!(100.0));
            for bias in ["query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias"] {
                say(bias, json!(true));
            }
        }
        _ => {
            say("mlp_ratio", json!(model.mlp_ratio));
            say("use_swiglu_ffn", json!(is_gated));
            say("layerscale_value", json!(if model.layer_scale > 0.0 { model.layer_scale } else { 1.0 }));
            if model.registers > 0 {
                say("num_register_tokens", json!(model.registers));
            }
        }
    }
    let naming = Naming { layout, is_recent: false, is_gated, is_split: false };
    let out = if layout == Layout::TransformersVit { out.without_mask() } else { out.with_mask().with_scale() };
    let mut tensors = out.named(naming);
    if layout == Layout::TransformersDinov3 {
        let mask = tensors.get_mut("embeddings.mask_token").ok_or("a mask token was added just before")?;
        mask.shape = vec![1, 1, model.dim];
        let none = HostTensor { shape: vec![1, 0, model.dim], values: Vec::new() };
        tensors.entry("embeddings.register_tokens".to_owned()).or_insert(none);
    }
    let configs = vec![("config.json", config), ("preprocessor_config.json", preprocessor(model.image_px))];
    Ok(Planned::pytorch(tensors, configs))
}
