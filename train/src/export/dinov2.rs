//! DINOv2's state dict: `DinoVisionTransformer(**json.load(open("config.json"))).load_state_dict(...)`.

use super::Planned;
use super::outgoing::Outgoing;
use crate::weights::{Layout, Naming};
use lapidary_schemas::config::PositionResize;
use serde_json::json;

pub(super) fn plan(out: Outgoing) -> Result<Planned, String> {
    let model = out.model.clone();
    if out.has_rope() {
        return Err(
            "DINOv2's networks have learned positions, this one has RoPE; `--to transformers` has both".to_owned()
        );
    }
    if model.norm_epsilon != 1e-6 {
        return Err(format!(
            "DINOv2's LayerNorms have an epsilon of 1e-6, this network's {:e}; `--to transformers` takes any",
            model.norm_epsilon
        ));
    }
    let is_antialiased = model.position_resize == PositionResize::Antialiased;
    let config = json!({
        "img_size": model.image_px,
        "patch_size": model.patch_px,
        "embed_dim": model.dim,
        "depth": model.depth,
        "num_heads": model.heads,
        "mlp_ratio": model.mlp_ratio,
        "init_values": if model.layer_scale > 0.0 { model.layer_scale } else { 1.0 },
        "ffn_layer": if out.is_gated() { "swiglu" } else { "mlp" },
        "block_chunks": 0,
        "num_register_tokens": model.registers,
        "interpolate_antialias": is_antialiased,
        "interpolate_offset": if is_antialiased { 0.0 } else { 0.1 },
    });
    let naming = Naming { layout: Layout::Dinov2, is_recent: false, is_gated: out.is_gated(), is_split: false };
    Ok(Planned::pytorch(out.with_mask().with_scale().named(naming), vec![("config.json", config)]))
}
