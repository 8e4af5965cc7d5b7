//! Every layout against what its own library computes (tests/golden/weights.py), what must be refused, and damaged files.

use super::*;
use proptest::prelude::*;
use serde_json::Value;
use std::io::Write;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/weights")
}

fn cases() -> serde_json::Map<String, Value> {
    let text = std::fs::read(golden().join("cases.json")).expect("golden data");
    serde_json::from_slice(&text).expect("JSON")
}

/// The file of weights in a case's folder.
fn file(case: &str) -> PathBuf {
    let entries = std::fs::read_dir(golden().join(case)).expect("a case's folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension != "json"));
    files.sort();
    files.remove(0)
}

fn layout_of_case(case: &str) -> Layout {
    match case {
        "dino" | "strided" => Layout::Dino,
        "transformers-vit" | "transformers-vit-old" => Layout::TransformersVit,
        "transformers-registers-old" => Layout::TransformersDinov2WithRegisters,
        _ if case.starts_with("transformers-dinov2") => Layout::TransformersDinov2,
        _ if case.starts_with("transformers-dinov3") => Layout::TransformersDinov3,
        _ if case.starts_with("timm-eva") => Layout::TimmEva,
        _ if case.starts_with("timm") => Layout::Timm,
        _ if case.starts_with("dinov2") => Layout::Dinov2,
        _ => Layout::Dinov3,
    }
}

/// The sum of values, each times (its place modulo 7 + 1).
fn weighted_sum(tensor: &HostTensor) -> f64 {
    tensor.values.iter().enumerate().map(|(i, value)| f64::from(*value) * ((i % 7) as f64 + 1.0)).sum()
}

#[test]
fn every_layout_gives_the_librarys_tensors() {
    let cases = cases();
    assert!(cases.len() >= 24, "{} cases", cases.len());
    for (case, expected) in &cases {
        let weights = read(&file(case)).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(weights.layout, layout_of_case(case), "{case}");
        let sums = expected["sums"].as_object().expect("sums");
        let (found, expected): (Vec<&String>, Vec<&String>) = (weights.tensors.keys().collect(), sums.keys().collect());
        let sorted = |mut names: Vec<&String>| {
            names.sort();
            names.into_iter().cloned().collect::<Vec<String>>()
        };
        assert_eq!(sorted(found), sorted(expected), "{case}");
        for (name, about) in sums {
            let tensor = &weights.tensors[name];
            let shape: Vec<u64> = tensor.shape.iter().map(|side| *side as u64).collect();
            // Layouts give the mask token one or two leading sides.
            if name != "mask_token" {
                assert_eq!(about["shape"], serde_json::json!(shape), "{case}: {name}");
            }
            let (found, expected) = (weighted_sum(tensor), about["sum"].as_f64().expect("a number"));
            assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{case}: {name}: {found}, {expected}");
        }
        assert_eq!((weights.model.heads, weights.model.depth, weights.model.image_px.min(16)), (2, 2, 16), "{case}");
    }
}

#[test]
fn what_is_passed_over_and_assumed_is_said() {
    let weights = read(&golden().join("timm")).expect("reads a folder");
    assert_eq!(weights.ignored, ["head.bias", "head.weight"]);
    let weights = read(&file("dino")).expect("reads");
    assert!(weights.notes.iter().any(|note| note.contains("`teacher.backbone.`")), "{:?}", weights.notes);
    assert!(weights.ignored.iter().any(|name| name == "student.module.backbone.cls_token"), "{:?}", weights.ignored);
    let weights = read(&file("dinov2-registers")).expect("reads");
    assert_eq!(weights.position_resize, PositionResize::Antialiased);
    assert_eq!(read(&file("dinov2")).expect("reads").position_resize, PositionResize::Offset);
    assert_eq!(read(&file("transformers-vit")).expect("reads").model.norm_epsilon, 1e-12);
    assert_eq!(read(&file("dinov3")).expect("reads").model.norm_epsilon, 1e-5);
}

#[test]
fn what_cannot_be_meant_is_refused_in_words() {
    let refusal = |path: PathBuf| read(&path).expect_err("refused").to_string();
    let said = refusal(golden().join("bad-malicious/weights.pth"));
    assert!(said.contains("tries to run `posix.system`"), "{said}");
    assert!(!Path::new("/tmp/lapidary-was-here").exists());
    let said = refusal(golden().join("bad-malicious/whole-module.pth"));
    assert!(said.contains("tries to run `timm.models.vision_transformer.VisionTransformer`"), "{said}");
    let said = refusal(golden().join("bad-legacy/weights.pt"));
    assert!(said.contains("before version 1.6") && said.contains("hint: `torch.save("), "{said}");
    let said = refusal(golden().join("bad-untied/weights.pth"));
    assert!(said.contains("`cls_norm.bias`"), "{said}");
    let said = refusal(golden().join("cases.json"));
    assert!(said.contains("no safetensors file"), "{said}");
    let said = refusal(golden().join("../../data/v1/step-00000005.safetensors"));
    assert!(said.contains("checkpoint of version 1"), "{said}");
    let said = refusal(golden().join("nowhere"));
    assert!(said.contains("no such file"), "{said}");
}

/// A safetensors file of zeros.
fn zeros(folder: &Path, tensors: &[(&str, &[usize])]) -> PathBuf {
    use ::safetensors::tensor::{Dtype, TensorView};
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, shape)| vec![0; 4 * shape.iter().product::<usize>()]).collect();
    let view = |(tensor, bytes): (&(&str, &[usize]), &'static [u8])| {
        (tensor.0.to_owned(), TensorView::new(Dtype::F32, tensor.1.to_vec(), bytes).expect("a view"))
    };
    let leaked = bytes.into_iter().map(|bytes| &*bytes.leak());
    let views: Vec<_> = tensors.iter().zip(leaked).map(view).collect();
    let path = folder.join("model.safetensors");
    std::fs::write(&path, ::safetensors::serialize(views, None).expect("serialises")).expect("writes");
    path
}

#[test]
fn a_tensor_that_is_missing_or_misshapen_is_named_with_what_was_expected() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut tensors: Vec<(&str, &[usize])> = vec![
        ("cls_token", &[1, 1, 64]),
        ("pos_embed", &[1, 5, 64]),
        ("patch_embed.proj.weight", &[64, 3, 4, 4]),
        ("patch_embed.proj.bias", &[64]),
        ("norm.weight", &[64]),
        ("norm.bias", &[64]),
        ("blocks.0.norm1.weight", &[64]),
        ("blocks.0.norm1.bias", &[64]),
        ("blocks.0.norm2.weight", &[64]),
        ("blocks.0.norm2.bias", &[64]),
        ("blocks.0.attn.qkv.weight", &[192, 64]),
        ("blocks.0.attn.qkv.bias", &[192]),
        ("blocks.0.attn.proj.weight", &[64, 64]),
        ("blocks.0.attn.proj.bias", &[64]),
        ("blocks.0.mlp.fc1.weight", &[128, 64]),
        ("blocks.0.mlp.fc1.bias", &[128]),
        ("blocks.0.mlp.fc2.weight", &[64, 128]),
        ("blocks.0.mlp.fc2.bias", &[64]),
    ];
    let weights = read(&zeros(folder.path(), &tensors)).expect("whole");
    assert_eq!((weights.model.dim, weights.model.depth, weights.model.heads, weights.model.mlp_ratio), (64, 1, 1, 2));
    assert!(weights.notes.iter().any(|note| note.contains("1 of width 64")), "{:?}", weights.notes);
    let said = |tensors: &[(&str, &[usize])]| read(&zeros(folder.path(), tensors)).expect_err("refused").to_string();
    for left_out in 3..tensors.len() {
        let mut tensors = tensors.clone();
        let (name, _) = tensors.remove(left_out);
        let said = said(&tensors);
        assert!(said.contains(&format!("`{name}`")) && said.contains("missing"), "{said}");
    }
    tensors.push(("blocks.0.attn.q_norm.weight", &[64]));
    assert!(said(&tensors).contains("`blocks.0.attn.q_norm.weight`"));
    tensors.pop();
    tensors[10].1 = &[64, 192];
    let words = said(&tensors);
    assert!(words.contains("`blocks.0.attn.qkv.weight` has shape [64, 192]; [192, 64] was expected"), "{words}");
    tensors[10].1 = &[192, 64];
    tensors.push(("other.cls_token", &[1, 1, 64]));
    assert!(said(&tensors).contains("several networks"));
    assert!(said(&[("conv1.weight", &[1])]).contains("`cls_token` or `embeddings.cls_token` was expected"));
}

#[test]
fn positions_are_resized_by_the_mode_that_weights_were_made_with() {
    let weights = read(&golden().join("timm")).expect("reads");
    let same = fit(&weights, &weights.model).expect("fits itself");
    assert_eq!(same, weights.tensors);
    let larger = ModelConfig { image_px: 24, position_resize: PositionResize::Antialiased, ..weights.model.clone() };
    let fitted = fit(&weights, &larger).expect("fits");
    let positions = &fitted["pos_embed"];
    assert_eq!(positions.shape, [1, 37, 16]);
    assert_eq!(positions.values[..16], weights.tensors["pos_embed"].values[..16], "the class token's stays");
    let matrix = crate::model::resize_matrix(4, 6, PositionResize::Offset);
    let sum: f32 =
        (0..16).map(|place| matrix[7 * 16 + place] * weights.tensors["pos_embed"].values[(1 + place) * 16]).sum();
    assert!((positions.values[8 * 16] - sum).abs() < 1e-6);
}

#[test]
fn a_network_of_another_shape_is_refused_with_the_settings_that_fit() {
    let weights = read(&golden().join("timm")).expect("reads");
    let said = |change: fn(&mut ModelConfig)| {
        let mut model = weights.model.clone();
        change(&mut model);
        fit(&weights, &model).expect_err("refused").to_string()
    };
    let words = said(|model| model.dim = 32);
    assert!(words.contains("`cls_token` has shape [1, 1, 16]; [1, 1, 32] was expected"), "{words}");
    assert!(words.contains("hint: these weights need model.dim=16 model.depth=2 model.heads=2"), "{words}");
    assert!(said(|model| model.heads = 4).contains("2 attention heads; 4 were expected"));
    assert!(said(|model| model.depth = 1).contains("`blocks.1.attn.proj.bias` has no place"));
    assert!(said(|model| model.registers = 1).contains("`reg_token` of shape [1, 1, 16] is missing"));
    assert!(said(|model| model.layer_scale = 1e-5).contains("`blocks.0.ls1.gamma` of shape [16] is missing"));
}

/// Reads bytes as a file, for what must not panic.
fn read_bytes(bytes: &[u8]) -> Result<Weights> {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(root).expect("a folder");
    let path = folder.path().join("weights.pth");
    std::fs::File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("writes");
    std::fs::write(folder.path().join("config.json"), r#"{"num_attention_heads": 2}"#).expect("writes");
    read(&path)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), magic in 0..4) {
        let magic: &[u8] = [&b"PK\x03\x04"[..], b"\x80\x02", b"\x40\0\0\0\0\0\0\0{\"cls_token\":", b""][magic as usize];
        prop_assert!(read_bytes(&[magic, &bytes].concat()).is_err());
    }

    #[test]
    fn damaged_files_are_read_or_refused(
        case in 0usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let cases = ["dino", "dinov3", "strided", "timm", "transformers-dinov3", "bad-malicious"];
        let mut bytes = std::fs::read(file(cases[case])).expect("golden data");
        // What says where things are lies at the ends: the header or pickle, and the directory.
        let len = bytes.len();
        for (place, value, is_at_end) in changes {
            let at = if is_at_end { len - 1 - place.index(len.min(4000)) } else { place.index(len.min(6000)) };
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(len));
        }
        if let Ok(weights) = read_bytes(&bytes) {
            for (name, tensor) in &weights.tensors {
                prop_assert_eq!(tensor.shape.iter().product::<usize>(), tensor.values.len(), "{}", name);
                prop_assert!(tensor.values.iter().all(|value| value.is_finite()));
            }
        }
    }
}

#[test]
fn features_are_the_librarys() {
    use crate::model::{Draws, Vit, load};
    use burn::tensor::{Tensor, TensorData};
    use burn_flex::Flex;
    for (case, expected) in &cases() {
        let weights = read(&file(case)).expect("reads");
        let device = Default::default();
        let has_mask = weights.tensors.contains_key("mask_token");
        let vit = load(Vit::<Flex>::new(&weights.model, has_mask, &device), &weights.tensors, &device).expect("loads");
        let values: Vec<f32> = (0..3 * 16 * 16).map(|i| (f64::from(i) * 0.37).sin() as f32).collect();
        let images = Tensor::from_data(TensorData::new(values, [1, 3, 16, 16]), &device);
        let tokens = vit.tokens(images, &Draws::default(), true);
        let patches = tokens.patches.expect("asked for").into_data().to_vec::<f32>().expect("f32");
        for (name, found) in [("class", tokens.class.into_data().to_vec::<f32>().expect("f32")), ("patches", patches)] {
            let expected = expected[name].as_array().expect("numbers");
            assert_eq!(found.len(), expected.len(), "{case}: {name}");
            let largest = expected.iter().map(|v| v.as_f64().expect("a number").abs()).fold(1.0, f64::max);
            for (found, expected) in found.iter().zip(expected) {
                let difference = (f64::from(*found) - expected.as_f64().expect("a number")).abs();
                assert!(difference < 1e-5 * largest, "{case}: {name} differ by {difference:e} of {largest}");
            }
        }
    }
}

#[test]
fn a_checkpoint_says_which_network_it_is_of() {
    let config = crate::trainer::tests::config(lapidary_schemas::config::ObjectiveKind::Dino, 1);
    let schedule = crate::optimise::Schedule::new(&config.pretrain, &config.objective, 4, 4);
    let trainer = crate::trainer::Trainer::<crate::backend::Cpu>::new(&config, schedule, &Default::default());
    let (folder, state) = (tempfile::tempdir().expect("a folder"), trainer.checkpoint());
    state.snapshot().save(folder.path(), "final", None).expect("saves");
    let read = read(&folder.path().join("final.safetensors")).expect("reads");
    // 16 values in two heads: by their shapes alone they would be refused.
    assert_eq!((read.model, read.tensors), (config.model.resolved(), state.part("teacher.backbone.")));
}
