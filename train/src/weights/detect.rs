//! Which layout a file's names are of, and under which prefix its backbone lies.

use super::names::{Layout, Naming};
use super::raw::{RawTensor, StateDict};
use std::collections::BTreeMap;

/// The key of what a file of ours says of itself in its metadata.
pub(crate) const ABOUT: &str = "lapidary";

/// A backbone in a file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) layout: Layout,
    pub(super) naming: Naming,
    /// The backbone's tensors, their prefix taken off and chunks of blocks joined: name to the file's own name.
    pub(super) names: BTreeMap<String, String>,
    /// Names beside the backbone.
    pub(super) beside: Vec<String>,
    /// What was chosen where there was a choice.
    pub(super) notes: Vec<String>,
}

impl Found {
    /// The tensor of a name without prefix.
    pub(super) fn raw<'a>(&self, file: &'a StateDict, name: &str) -> Option<&'a RawTensor> {
        file.tensors.get(self.names.get(name)?)
    }

    /// Whether all parts of a parameter of ours are there.
    pub(super) fn has(&self, naming: Naming, ours: &str) -> bool {
        naming.names(ours).iter().all(|name| self.names.contains_key(name))
    }
}

/// Finds the backbone.
pub(super) fn detect(file: &StateDict) -> Result<Found, String> {
    let prefixes: Vec<&str> = file.tensors.keys().filter_map(|name| prefix(name)).collect();
    let is_teacher = |prefix: &&str| prefix.split('.').any(|word| matches!(word, "teacher" | "ema" | "model_ema"));
    let teachers: Vec<&str> = prefixes.iter().copied().filter(|prefix| is_teacher(prefix)).collect();
    let chosen = match (&teachers[..], &prefixes[..]) {
        ([one], _) | ([], [one]) => *one,
        ([], []) => {
            let first: Vec<String> = file.tensors.keys().take(4).map(|name| format!("`{name}`")).collect();
            return Err(format!(
                "it holds no class token: `cls_token` or `embeddings.cls_token` was expected, as Vision Transformers of \
                 timm, DINO and transformers have it, but its names are {} ... ({} in all)",
                first.join(", "),
                file.tensors.len()
            ));
        }
        _ => {
            let all: Vec<String> = prefixes.iter().map(|prefix| format!("`{prefix}`")).collect();
            return Err(format!("it holds several networks, under {}: save one of them alone", all.join(", ")));
        }
    };
    let mut notes = Vec::new();
    if prefixes.len() > 1 {
        notes.push(format!("of {} networks in the file the teacher's was taken, `{chosen}`", prefixes.len()));
    }
    let (mut names, mut beside) = (BTreeMap::new(), Vec::new());
    for name in file.tensors.keys() {
        match name.strip_prefix(chosen) {
            Some(rest) => {
                if names.insert(without_chunk(rest), name.clone()).is_some() {
                    return Err(format!("its blocks are numbered twice: `{name}`"));
                }
            }
            None => beside.push(name.clone()),
        }
    }
    let is_ours = file.about.contains_key(ABOUT);
    if is_ours && names.contains_key("blocks.0.norm1.gamma") {
        return Err(
            "it is a checkpoint of version 1, whose tensors are transposed\nhint: name its run instead".to_owned()
        );
    }
    let layout = layout_of(&names, is_ours, !chosen.is_empty());
    let has = |name: &str| names.contains_key(name);
    let is_recent = match layout {
        Layout::TransformersVit => has("layers.0.layernorm_before.weight"),
        Layout::TransformersDinov3 => has("model.layer.0.norm1.weight"),
        Layout::TimmEva => has("blocks.0.attn.qkv.bias"),
        _ => has("encoder.layer.0.attention.q_proj.weight"),
    };
    let is_split = has("blocks.0.attn.q_proj.weight");
    let gated = Naming { layout, is_recent, is_gated: true, is_split };
    let mut found = Found { layout, naming: gated, names, beside, notes };
    // Where gated blocks have no names of their own, shapes tell them (see `infer`).
    if !(found.has(gated, "blocks.0.mlp.fc1.weight") && found.has(gated, "blocks.0.mlp.fc2.weight")) {
        found.naming = Naming { is_gated: false, ..gated };
    }
    Ok(found)
}

/// What stands before the class token's name, if that is what a name is.
fn prefix(name: &str) -> Option<&str> {
    let rest = name.strip_suffix("cls_token")?;
    let rest = rest.strip_suffix("embeddings.").unwrap_or(rest);
    (rest.is_empty() || rest.ends_with('.')).then_some(rest)
}

/// `blocks.CHUNK.N.rest` of DINOv2's training as `blocks.N.rest`.
fn without_chunk(name: &str) -> String {
    let parts: Vec<&str> = name.splitn(4, '.').collect();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match parts[..] {
        ["blocks", chunk, block, rest] if is_number(chunk) && is_number(block) => format!("blocks.{block}.{rest}"),
        _ => name.to_owned(),
    }
}

fn layout_of(names: &BTreeMap<String, String>, is_ours: bool, has_prefix: bool) -> Layout {
    let has = |name: &str| names.contains_key(name);
    if has("embeddings.cls_token") {
        return if !has("embeddings.position_embeddings") {
            Layout::TransformersDinov3
        } else if has("embeddings.register_tokens") {
            Layout::TransformersDinov2WithRegisters
        } else if has("encoder.layer.0.norm1.weight") {
            Layout::TransformersDinov2
        } else {
            Layout::TransformersVit
        };
    }
    if is_ours {
        Layout::Lapidary
    } else if has("storage_tokens") || has("rope_embed.periods") {
        Layout::Dinov3
    } else if has("blocks.0.gamma_1") || has("blocks.0.attn.q_bias") || has("blocks.0.attn.q_proj.weight") {
        Layout::TimmEva
    } else if !has("pos_embed") {
        if has("mask_token") { Layout::Dinov3 } else { Layout::TimmEva }
    } else if has("register_tokens") || has("mask_token") || has("blocks.0.mlp.w12.weight") {
        Layout::Dinov2
    } else if has_prefix {
        Layout::Dino
    } else {
        Layout::Timm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_chunks_are_taken_off() {
        assert_eq!(prefix("teacher.module.backbone.cls_token"), Some("teacher.module.backbone."));
        assert_eq!(prefix("vit.embeddings.cls_token"), Some("vit."));
        assert_eq!(prefix("cls_token"), Some(""));
        assert_eq!(prefix("my_cls_token"), None);
        assert_eq!(without_chunk("blocks.3.11.norm1.weight"), "blocks.11.norm1.weight");
        assert_eq!(without_chunk("blocks.3.norm1.weight"), "blocks.3.norm1.weight");
    }
}
