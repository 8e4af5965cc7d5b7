//! README.md of an export: what it is, where it comes from, how to open it. The licence is its maker's to choose.

use super::preprocess::{normalisation, short_side_px};
use super::{About, ExportTo};
use lapidary_schemas::config::{FeedForward, ModelConfig, Positions};

pub(super) fn card(model: &ModelConfig, to: ExportTo, about: &About) -> String {
    let library = match to {
        ExportTo::Timm => "library_name: timm\n",
        ExportTo::Transformers => "library_name: transformers\n",
        ExportTo::Onnx => "library_name: onnx\n",
        ExportTo::Dinov2 | ExportTo::Safetensors => "",
    };
    let mut parts = vec![match model.positions {
        Positions::Learned => "learned positions".to_owned(),
        Positions::Rope => "RoPE".to_owned(),
    }];
    if model.registers > 0 {
        parts.push(format!("{} registers", model.registers));
    }
    if model.layer_scale > 0.0 {
        parts.push("LayerScale".to_owned());
    }
    if model.feed_forward == FeedForward::Swiglu {
        parts.push("SwiGLU".to_owned());
    }
    let name = if model.name.is_empty() { "Vision Transformer" } else { &model.name };
    let short_side = short_side_px(model.image_px);
    let crop = if short_side == model.image_px { "" } else { ", then its middle" };
    let [mean, std] = normalisation();
    format!(
        "---\n{library}tags:\n- image-feature-extraction\n- self-supervised\n---\n\
         # {title}\n\n\
         A {name} with patches of {patch} px for images of {px} px: width {dim}, {depth} blocks, {heads} heads, {parts}. \
         {origin} Its features are the class token's after the final norm; there is no classifier.\n\n\
         Written by Lapidary {version} from `{title}`, digest `{digest}`.\n\n\
         ## Use\n\n```{language}\n{usage}```\n\n\
         Images: RGB, the short side resized bicubically to {short_side} px{crop}; values from 0 to 1, less {mean:?}, over \
         {std:?}.\n\n\
         ## Licence\n\n\
         None was chosen yet: that is for whoever publishes these weights, and depends on the images they were trained on.\n",
        title = about.name,
        origin = about.origin,
        patch = model.patch_px,
        px = model.image_px,
        dim = model.dim,
        depth = model.depth,
        heads = model.heads,
        parts = parts.join(", "),
        version = env!("CARGO_PKG_VERSION"),
        digest = about.digest,
        language = if to == ExportTo::Safetensors { "sh" } else { "python" },
        usage = usage(to),
    )
}

fn usage(to: ExportTo) -> &'static str {
    match to {
        ExportTo::Timm => {
            "import timm\nmodel = timm.create_model(\"local-dir:FOLDER\", pretrained=True).eval()\n\
             features = model(images)  # [batch, width]\n"
        }
        ExportTo::Transformers => {
            "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(\"FOLDER\").eval()\n\
             features = model(images).last_hidden_state[:, 0]  # [batch, width]\n"
        }
        ExportTo::Dinov2 => {
            "import json\nfrom dinov2.models.vision_transformer import DinoVisionTransformer\n\
             from safetensors.torch import load_file\n\
             model = DinoVisionTransformer(**json.load(open(\"FOLDER/config.json\"))).eval()\n\
             model.load_state_dict(load_file(\"FOLDER/model.safetensors\"))\n\
             features = model(images)  # [batch, width]\n"
        }
        ExportTo::Safetensors => {
            "lapidary pretrain --set pretrain.init_from=FOLDER/model.safetensors\n\
             lapidary embed --encoder FOLDER/model.safetensors\n"
        }
        ExportTo::Onnx => {
            "import onnxruntime\nsession = onnxruntime.InferenceSession(\"FOLDER/model.onnx\")\n\
             features, patches = session.run([\"class\", \"patches\"], {\"images\": images})\n"
        }
    }
}
