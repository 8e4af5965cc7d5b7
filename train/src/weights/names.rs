//! What each layout calls a parameter of ours: one table, for reading and for writing.

/// Whose names weights have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Lapidary's checkpoints and exports.
    Lapidary,
    /// timm's `VisionTransformer`.
    Timm,
    /// timm's `Eva`, which DINOv3's networks are there.
    TimmEva,
    /// facebookresearch/dino.
    Dino,
    /// facebookresearch/dinov2.
    Dinov2,
    /// facebookresearch/dinov3.
    Dinov3,
    /// transformers' `ViTModel`.
    TransformersVit,
    /// transformers' `Dinov2Model`.
    TransformersDinov2,
    /// transformers' `Dinov2WithRegistersModel`.
    TransformersDinov2WithRegisters,
    /// transformers' `DINOv3ViTModel`.
    TransformersDinov3,
}

impl Layout {
    /// Whose names they are, for a reader.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lapidary => "Lapidary",
            Self::Timm => "timm",
            Self::TimmEva => "timm (Eva)",
            Self::Dino => "DINO",
            Self::Dinov2 => "DINOv2",
            Self::Dinov3 => "DINOv3",
            Self::TransformersVit => "transformers' ViT",
            Self::TransformersDinov2 => "transformers' Dinov2",
            Self::TransformersDinov2WithRegisters => "transformers' Dinov2WithRegisters",
            Self::TransformersDinov3 => "transformers' DINOv3ViT",
        }
    }

    /// Whether the class token lies in `embeddings.`.
    pub(crate) fn is_transformers(self) -> bool {
        matches!(
            self,
            Self::TransformersVit
                | Self::TransformersDinov2
                | Self::TransformersDinov2WithRegisters
                | Self::TransformersDinov3
        )
    }
}

/// A layout with what its versions write in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Naming {
    pub(crate) layout: Layout,
    /// The newer of two ways: transformers' from version 5 on (`q_proj` where it was `attention.query`), and timm's `Eva` with
    /// all of `attn.qkv.bias`.
    pub(crate) is_recent: bool,
    /// Blocks with SwiGLU.
    pub(crate) is_gated: bool,
    /// Queries, keys and values apart, where the layout knows both (timm's `Eva`).
    pub(crate) is_split: bool,
}

impl Naming {
    /// The names of a parameter of ours; several are its parts along the first dimension, one after another.
    pub(crate) fn names(self, ours: &str) -> Vec<String> {
        match ours.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            Some((block, rest)) => {
                let base = self.block();
                self.in_block(rest).into_iter().map(|name| format!("{base}{block}.{name}")).collect()
            }
            None => vec![self.outside_blocks(ours)],
        }
    }

    /// What stands before a block's number.
    pub(crate) fn block(self) -> &'static str {
        match self.layout {
            Layout::TransformersVit if self.is_recent => "layers.",
            Layout::TransformersVit | Layout::TransformersDinov2 | Layout::TransformersDinov2WithRegisters => {
                "encoder.layer."
            }
            Layout::TransformersDinov3 if self.is_recent => "model.layer.",
            Layout::TransformersDinov3 => "layer.",
            _ => "blocks.",
        }
    }

    fn outside_blocks(self, ours: &str) -> String {
        if self.layout.is_transformers() {
            let is_v3 = self.layout == Layout::TransformersDinov3;
            return match ours {
                "cls_token" | "mask_token" => format!("embeddings.{ours}"),
                "pos_embed" => "embeddings.position_embeddings".to_owned(),
                "reg_token" => "embeddings.register_tokens".to_owned(),
                _ => match ours.strip_prefix("patch_embed.proj.") {
                    Some(rest) if is_v3 => format!("embeddings.patch_embeddings.{rest}"),
                    Some(rest) => format!("embeddings.patch_embeddings.projection.{rest}"),
                    None if is_v3 => ours.to_owned(),
                    None => ours.replace("norm.", "layernorm."),
                },
            };
        }
        match (self.layout, ours) {
            (Layout::Dinov2, "reg_token") => "register_tokens".to_owned(),
            (Layout::Dinov3, "reg_token") => "storage_tokens".to_owned(),
            _ => ours.to_owned(),
        }
    }

    fn in_block(self, ours: &str) -> Vec<String> {
        // `attn.qkv.weight` is `attn.qkv` and `weight`.
        let Some((module, kind)) = ours.rsplit_once('.') else { return vec![ours.to_owned()] };
        let modules: Vec<&str> = match (self.layout, module) {
            (Layout::TimmEva, "ls1" | "ls2") => return vec![module.replace("ls", "gamma_")],
            (Layout::TimmEva, "attn.qkv") if self.is_split => vec!["attn.q_proj", "attn.k_proj", "attn.v_proj"],
            (Layout::TimmEva, "attn.qkv") if kind == "bias" && !self.is_recent => {
                return ["attn.q_bias", "attn.k_bias", "attn.v_bias"].map(str::to_owned).to_vec();
            }
            (Layout::TimmEva, "mlp.fc1") if self.is_gated => vec!["mlp.fc1_g", "mlp.fc1_x"],
            (Layout::Dinov2, "mlp.fc1") if self.is_gated => vec!["mlp.w12"],
            (Layout::Dinov3, "mlp.fc1") if self.is_gated => vec!["mlp.w1", "mlp.w2"],
            (Layout::Dinov2 | Layout::Dinov3, "mlp.fc2") if self.is_gated => vec!["mlp.w3"],
            (layout, _) if layout.is_transformers() => return self.in_transformers(module, kind),
            _ => vec![module],
        };
        modules.into_iter().map(|module| format!("{module}.{kind}")).collect()
    }

    fn in_transformers(self, module: &str, kind: &str) -> Vec<String> {
        let is_vit = self.layout == Layout::TransformersVit;
        let is_v3 = self.layout == Layout::TransformersDinov3;
        let recent = self.is_recent || is_v3;
        let modules: Vec<&str> = match module {
            "norm1" if is_vit => vec!["layernorm_before"],
            "norm2" if is_vit => vec!["layernorm_after"],
            "attn.qkv" if recent => vec!["attention.q_proj", "attention.k_proj", "attention.v_proj"],
            "attn.qkv" => {
                vec!["attention.attention.query", "attention.attention.key", "attention.attention.value"]
            }
            "attn.proj" if recent => vec!["attention.o_proj"],
            "attn.proj" => vec!["attention.output.dense"],
            "ls1" => return vec!["layer_scale1.lambda1".to_owned()],
            "ls2" => return vec!["layer_scale2.lambda1".to_owned()],
            "mlp.fc1" if self.is_gated && recent => vec!["mlp.gate_proj", "mlp.up_proj"],
            "mlp.fc1" if self.is_gated => vec!["mlp.weights_in"],
            "mlp.fc2" if self.is_gated && !recent => vec!["mlp.weights_out"],
            "mlp.fc1" if is_v3 => vec!["mlp.up_proj"],
            "mlp.fc2" if is_v3 || self.is_gated => vec!["mlp.down_proj"],
            "mlp.fc1" if is_vit && !recent => vec!["intermediate.dense"],
            "mlp.fc2" if is_vit && !recent => vec!["output.dense"],
            _ => vec![module],
        };
        modules.into_iter().map(|module| format!("{module}.{kind}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_libraries() {
        let naming = |layout, is_recent, is_gated| Naming { layout, is_recent, is_gated, is_split: false };
        let old = naming(Layout::TransformersVit, false, false);
        assert_eq!(old.names("blocks.11.mlp.fc1.bias"), ["encoder.layer.11.intermediate.dense.bias"]);
        assert_eq!(old.names("norm.weight"), ["layernorm.weight"]);
        let recent = naming(Layout::TransformersDinov2, true, true);
        assert_eq!(
            recent.names("blocks.0.mlp.fc1.weight"),
            ["encoder.layer.0.mlp.gate_proj.weight", "encoder.layer.0.mlp.up_proj.weight"]
        );
        let v3 = naming(Layout::TransformersDinov3, true, false);
        assert_eq!(v3.names("blocks.2.ls1.gamma"), ["model.layer.2.layer_scale1.lambda1"]);
        assert_eq!(v3.names("norm.bias"), ["norm.bias"]);
        assert_eq!(naming(Layout::Dinov2, false, true).names("blocks.0.mlp.fc2.bias"), ["blocks.0.mlp.w3.bias"]);
        assert_eq!(naming(Layout::TimmEva, false, false).names("blocks.3.ls2.gamma"), ["blocks.3.gamma_2"]);
        assert_eq!(naming(Layout::Timm, false, false).names("blocks.3.attn.qkv.bias"), ["blocks.3.attn.qkv.bias"]);
    }
}
