//! What a `config.json` beside weights says of them, of timm's or transformers' making.

use lapidary_schemas::config::PositionResize;
use serde_json::Value;
use std::path::Path;

/// What shapes do not tell, where it is said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Described {
    pub(super) heads: Option<usize>,
    pub(super) dim: Option<usize>,
    pub(super) image_px: Option<usize>,
    pub(super) norm_epsilon: Option<f64>,
    pub(super) layer_scale: Option<f64>,
    /// RoPE's base.
    pub(super) rope_base: Option<f64>,
    pub(super) activation: Option<String>,
    /// How positions were resized in training: our exports say it, and DINOv2's arguments do.
    pub(super) position_resize: Option<PositionResize>,
    /// timm's name of the weights' training, e.g. `dino`, `augreg_in21k`.
    pub(super) tag: Option<String>,
    /// Mean and standard deviation that images are normalised by.
    pub(super) normalisation: Option<[Vec<f64>; 2]>,
    /// There was a file.
    pub(super) is_there: bool,
}

/// Reads `config.json` of a folder, if it is there.
pub(super) fn read(folder: &Path) -> Result<Described, String> {
    let path = folder.join("config.json");
    if !path.is_file() {
        return Ok(Described::default());
    }
    let fault = |e: &dyn std::fmt::Display| format!("`config.json` beside it cannot be read: {e}");
    let text = std::fs::read(&path).map_err(|e| fault(&e))?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| fault(&e))?;
    Ok(from_json(&value))
}

fn from_json(whole: &Value) -> Described {
    let arguments = &whole["model_args"];
    let pretrained = &whole["pretrained_cfg"];
    let first = |names: &[(&Value, &str)]| names.iter().map(|(at, name)| at[*name].clone()).find(|v| !v.is_null());
    let count = |value: Value| {
        // Two sides of an image where both are given.
        let value = value.as_array().and_then(|sides| sides.last().cloned()).unwrap_or(value);
        value.as_u64().and_then(|value| usize::try_from(value).ok())
    };
    let numbers = |value: &Value| Some(value.as_array()?.iter().filter_map(Value::as_f64).collect::<Vec<f64>>());
    Described {
        heads: first(&[(whole, "num_attention_heads"), (arguments, "num_heads"), (whole, "num_heads")]).and_then(count),
        dim: first(&[(whole, "hidden_size"), (arguments, "embed_dim"), (whole, "num_features")]).and_then(count),
        image_px: first(&[(whole, "image_size"), (arguments, "img_size"), (pretrained, "input_size")]).and_then(count),
        norm_epsilon: whole["layer_norm_eps"].as_f64(),
        layer_scale: first(&[(whole, "layerscale_value"), (arguments, "init_values")]).and_then(|v| v.as_f64()),
        rope_base: whole["rope_theta"].as_f64(),
        activation: whole["hidden_act"].as_str().map(str::to_owned),
        position_resize: serde_json::from_value(whole["position_resize"].clone()).ok().or_else(|| {
            let is_antialiased = whole["interpolate_antialias"].as_bool()?;
            Some(if is_antialiased { PositionResize::Antialiased } else { PositionResize::Offset })
        }),
        tag: pretrained["tag"].as_str().map(str::to_owned),
        normalisation: numbers(&pretrained["mean"]).zip(numbers(&pretrained["std"])).map(|(mean, std)| [mean, std]),
        is_there: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_libraries_are_understood() {
        let timm = json!({"architecture": "vit_small_patch16_224", "num_features": 384, "model_args": {"num_heads": 6},
            "pretrained_cfg": {"tag": "dino", "input_size": [3, 224, 224], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}});
        let timm = from_json(&timm);
        assert_eq!(
            (timm.heads, timm.dim, timm.image_px, timm.tag.as_deref()),
            (Some(6), Some(384), Some(224), Some("dino"))
        );
        let transformers = json!({"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "layer_norm_eps": 1e-6,
            "layerscale_value": 1.0, "hidden_act": "gelu"});
        let transformers = from_json(&transformers);
        assert_eq!(
            (transformers.heads, transformers.image_px, transformers.norm_epsilon),
            (Some(6), Some(518), Some(1e-6))
        );
    }
}
