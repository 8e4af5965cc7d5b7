//! Exports of every kind of network read back as what was exported, byte for byte the same each time; tests/golden/exports.py
//! holds them against the libraries themselves.

use super::*;
use crate::backbone::Backbone;
use crate::weights;
use lapidary_schemas::Digest;
use lapidary_schemas::config::{FeedForward, PositionResize, Positions};

fn about() -> About {
    About { name: "a-run".to_owned(), digest: "00ff".to_owned(), origin: "Drawn.".to_owned() }
}

/// Networks that differ in all that exports tell apart.
pub(crate) fn networks() -> Vec<(&'static str, ModelConfig)> {
    let plain = ModelConfig {
        name: String::new(),
        image_px: 16,
        patch_px: 4,
        dim: 64,
        depth: 2,
        heads: 4,
        mlp_ratio: 2,
        ..ModelConfig::default()
    };
    let registers = ModelConfig { registers: 3, layer_scale: 0.1, ..plain.clone() };
    let swiglu = ModelConfig { feed_forward: FeedForward::Swiglu, mlp_ratio: 4, ..plain.clone() };
    let antialiased = ModelConfig { position_resize: PositionResize::Antialiased, ..plain.clone() };
    let rope = ModelConfig { positions: Positions::Rope, norm_epsilon: 1e-5, ..plain.clone() };
    let rope_whole = ModelConfig { positions: Positions::Rope, layer_scale: 0.1, registers: 2, ..swiglu.clone() };
    vec![
        ("plain", plain),
        ("registers", registers),
        ("swiglu", swiglu),
        ("antialiased", antialiased),
        ("rope", rope),
        ("rope-whole", rope_whole),
    ]
}

/// Tensors of a network with values that differ everywhere.
pub(crate) fn tensors(model: &ModelConfig) -> BTreeMap<String, HostTensor> {
    let tensor = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
        let count: usize = shape.iter().product();
        let offset = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
        let values = (0..count).map(|i| offset + 0.2 * ((i + 31 * index) as f32 * 0.73).sin()).collect();
        (name, HostTensor { shape, values })
    };
    let mut shapes = shapes(model);
    if model.registers > 0 {
        shapes.insert("mask_token".to_owned(), vec![1, 1, model.dim]);
    }
    shapes.into_iter().enumerate().map(tensor).collect()
}

/// The targets that can express a network.
fn targets(model: &ModelConfig) -> Vec<ExportTo> {
    let mut targets: Vec<ExportTo> = ExportTo::ALL.iter().map(|(_, to)| *to).collect();
    targets.retain(|to| *to != ExportTo::Dinov2 || model.positions == Positions::Learned);
    targets
}

#[test]
fn what_is_exported_reads_back_the_same_and_has_the_same_bytes_each_time() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, model) in networks() {
        let tensors = tensors(&model);
        for to in targets(&model) {
            let [first, second] = ["first", "second"].map(|place| folder.path().join(name).join(to.name()).join(place));
            let files = export(&tensors, &model, to, &first, &about()).unwrap_or_else(|e| panic!("{name}: {e}"));
            export(&tensors, &model, to, &second, &about()).expect("exports");
            for file in &files {
                let other = second.join(file.file_name().expect("a name"));
                assert_eq!(std::fs::read(file).expect("reads"), std::fs::read(other).expect("reads"), "{name} {to:?}");
            }
            if to == ExportTo::Onnx {
                continue;
            }
            let back = weights::read(&first).unwrap_or_else(|e| panic!("{name}: {e}"));
            let is_timm_eva = to == ExportTo::Timm && model.positions == Positions::Rope;
            assert_eq!((back.model.heads, back.model.dim), (model.heads, model.dim));
            if model.positions == Positions::Learned {
                assert_eq!(back.position_resize, model.position_resize, "{name} {to:?}");
            }
            for (tensor, values) in &tensors {
                if to == ExportTo::Timm && tensor == "mask_token" {
                    assert!(!back.tensors.contains_key(tensor), "timm has none");
                    continue;
                }
                let found = &back.tensors[tensor];
                let places = if to == ExportTo::Timm && model.registers > 0 && !is_timm_eva { model.dim } else { 0 };
                // There the class token's place is the class token's.
                match tensor.as_str() {
                    "cls_token" if places > 0 => {
                        let sum: Vec<f32> =
                            values.values.iter().zip(&tensors["pos_embed"].values).map(|(a, b)| a + b).collect();
                        assert_eq!(found.values, sum);
                    }
                    "pos_embed" if places > 0 => assert_eq!(found.values[places..], values.values[places..]),
                    _ => assert_eq!(found, values, "{name} {to:?}: {tensor}"),
                }
            }
            if to == ExportTo::Safetensors {
                assert_eq!((&back.model, back.layout), (&model, weights::Layout::Lapidary));
                assert_eq!(back.tensors.len(), tensors.len());
            }
        }
    }
}

#[test]
fn what_a_target_cannot_express_is_refused_in_words_and_nothing_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = |change: fn(&mut ModelConfig), to: ExportTo| {
        let mut model = networks().remove(0).1;
        change(&mut model);
        let place = folder.path().join("refused");
        let error = export(&tensors(&model), &model, to, &place, &about()).expect_err("refused").to_string();
        assert!(!place.exists(), "{error}");
        error
    };
    let rope = said(|model| model.positions = Positions::Rope, ExportTo::Dinov2);
    assert!(rope.contains("cannot export to dinov2: DINOv2's networks have learned positions"), "{rope}");
    let epsilon = said(|model| model.norm_epsilon = 1e-12, ExportTo::Timm);
    assert!(epsilon.contains("an epsilon of 1e-6, the network's is 1e-12"), "{epsilon}");
    let model = networks().remove(0).1;
    let mut incomplete = tensors(&model);
    incomplete.remove("blocks.1.norm2.bias");
    let error = export(&incomplete, &model, ExportTo::Onnx, folder.path(), &about()).expect_err("refused").to_string();
    assert!(error.contains("tensor `blocks.1.norm2.bias` of shape [64] is missing"), "{error}");
    assert_eq!(
        "tensorflow".parse::<ExportTo>(),
        Err("`tensorflow` is none of timm, transformers, dinov2, safetensors, onnx".to_owned())
    );
}

#[test]
fn the_card_says_where_it_comes_from() {
    let model = networks().remove(1).1;
    let card = card::card(&model, ExportTo::Timm, &about());
    for part in ["library_name: timm", "`a-run`", "`00ff`", "3 registers, LayerScale", "local-dir:FOLDER", "## Licence"]
    {
        assert!(card.contains(part), "{part} in {card}");
    }
}

/// Writes exports for tests/golden/exports.py, into the folder that LAPIDARY_EXPORTS names.
#[test]
fn exports_for_the_check_in_python() {
    let Ok(folder) = std::env::var("LAPIDARY_EXPORTS") else { return };
    for (name, model) in networks() {
        let weights = weights::Weights {
            path: PathBuf::new(),
            tensors: tensors(&model),
            layout: weights::Layout::Lapidary,
            position_resize: model.position_resize,
            model,
            ignored: Vec::new(),
            notes: Vec::new(),
        };
        for to in targets(&weights.model) {
            let backbone = Backbone {
                name: name.to_owned(),
                digest: Digest("00ff".to_owned()),
                input: String::new(),
                weights: weights.clone(),
                descriptor: None,
                manifest: None,
            };
            export_backbone(&backbone, to, &Path::new(&folder).join(name).join(to.name()), true).expect("exports");
        }
    }
}
