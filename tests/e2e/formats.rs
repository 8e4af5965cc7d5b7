//! The decoders beside Pillow, on files of every kind (tests/golden/formats.py), and one rule for every verb: what ingest
//! accepts, every later verb decodes.

use crate::run::{facts, refusal, text};
use arrow::array::{RecordBatch, StringArray};
use image::{Rgb, RgbImage};
use lapidary_pipeline::pixels::Raster;
use lapidary_pipeline::stage::{column, read_table};
use lapidary_pipeline::{DecodeRule, check, decode, decode_into, decode_small_into};
use lapidary_schemas::RejectReason;
use lapidary_schemas::config::IccProfiles;
use safetensors::SafeTensors;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    file: String,
    rgb: Option<String>,
    levels: u8,
    mean: f64,
    convert: bool,
    says: Option<String>,
}

/// A case with its file's bytes and its right pixels.
struct Golden {
    case: Case,
    bytes: Vec<u8>,
    rgb: Option<RgbImage>,
}

fn golden() -> Vec<Golden> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let bytes = std::fs::read(folder.join("formats.safetensors")).expect("golden data");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let cases: Vec<Case> =
        serde_json::from_slice(&std::fs::read(folder.join("formats.json")).expect("golden data")).expect("JSON");
    let image = |key: &String| {
        let tensor = tensors.tensor(&format!("rgb.{key}")).expect("golden data");
        let [height, width, 3] = *tensor.shape() else { panic!("{key} is no image") };
        RgbImage::from_raw(width as u32, height as u32, tensor.data().to_vec()).expect("three bytes for each pixel")
    };
    let load = |case: Case| {
        let bytes = tensors.tensor(&format!("file.{}", case.file)).expect("golden data").data().to_vec();
        let rgb = case.rgb.as_ref().map(image);
        Golden { case, bytes, rgb }
    };
    cases.into_iter().map(load).collect()
}

/// What is wrong with what we make of a file.
fn fault(Golden { case, bytes, rgb }: &Golden) -> Option<String> {
    let icc = if case.convert { IccProfiles::Convert } else { IccProfiles::Ignore };
    let rule = DecodeRule { max_pixels: 1 << 20, icc };
    let (checked, decoded) = (check(bytes, rule), decode(bytes, rule));
    let mut raster = Raster::default();
    let whole = decode_into(bytes, rule, &mut raster);
    let small = decode_small_into(bytes, rule, 50, &mut Raster::default());
    if checked.is_ok() != decoded.is_ok() || whole.is_ok() != decoded.is_ok() || small.is_ok() != decoded.is_ok() {
        return Some(format!("one rule for all verbs: {checked:?}, {:?}, {whole:?}, {small:?}", decoded.is_ok()));
    }
    let (ours, theirs) = match (decoded, rgb) {
        (Ok(decoded), Some(rgb)) => (decoded.rgb, rgb),
        (Err((reason, detail)), None) => {
            let says = case.says.clone().unwrap_or_default();
            let named = says.is_empty()
                || reason == RejectReason::Unsupported && (says == "unsupported" || detail.contains(&says));
            return (!named).then(|| format!("{}: {detail}", reason.code()));
        }
        (Ok(_), None) => return Some("an image, which Pillow refuses".to_owned()),
        (Err((reason, detail)), Some(_)) => return Some(format!("{}: {detail}; Pillow reads it", reason.code())),
    };
    let checked = checked.ok()?;
    let size = ours.dimensions();
    if size != theirs.dimensions() || size != (checked.width, checked.height) || small.ok() != Some(size) {
        return Some(format!("{size:?} pixels, not {:?}", theirs.dimensions()));
    }
    if raster.to_rgb() != ours {
        return Some("other pixels for training than for embedding".to_owned());
    }
    let differences = ours.iter().zip(theirs.iter()).map(|(a, b)| a.abs_diff(*b));
    let worst = differences.clone().max().unwrap_or(0);
    let mean = differences.map(f64::from).sum::<f64>() / ours.len() as f64;
    (worst > case.levels || mean > case.mean).then(|| format!("{worst} levels off, {mean:.3} on average"))
}

#[test]
fn what_pillow_reads_is_an_image_with_its_pixels() {
    let golden = golden();
    let faults: BTreeMap<&str, String> =
        golden.iter().filter_map(|golden| Some((golden.case.name.as_str(), fault(golden)?))).collect();
    assert!(faults.is_empty(), "{} of {} cases: {faults:#?}", faults.len(), golden.len());
    assert!(golden.len() > 200);
}

/// Path and detail of what was rejected.
fn rejected(out: &Path, source: &str) -> BTreeMap<String, String> {
    let table = read_table(&out.join(source).join("images/rejects.parquet"), &[]).expect("rejects");
    let rows = |batch: &RecordBatch| -> Vec<(String, String)> {
        let text = |name: &str| column::<StringArray>(batch, name).expect("a column of text").clone();
        let (paths, reasons, details) = (text("path"), text("reason"), text("detail"));
        let row = |i: usize| (paths.value(i).to_owned(), format!("{}: {}", reasons.value(i), details.value(i)));
        (0..batch.num_rows()).map(row).collect()
    };
    table.iter().flat_map(rows).collect()
}

#[test]
fn what_ingest_accepts_every_later_verb_decodes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("odd"), folder.path().join("out"));
    std::fs::create_dir(&data).expect("creates");
    let golden = golden();
    for Golden { case, bytes, .. } in golden.iter().filter(|golden| !golden.case.convert) {
        // By its bytes, not by its name.
        std::fs::write(data.join(format!("{}.jpg", case.name)), bytes).expect("writes");
    }
    let png = |width: u32, height: u32, name: &str| {
        let image = RgbImage::from_fn(width, height, |x, y| Rgb([(x / 300) as u8, (y / 300) as u8, (x + y) as u8]));
        image.save(data.join(name)).expect("saves");
    };
    png(1, 20_000, "thin.png");
    png(65_535, 1, "longest.png");
    png(65_536, 1, "too-long.png");
    let all = ["ingest", "--data", text(&data), "--set", "ingest.max_reject=1"];
    let facts_of = |out: &Path, icc: &str| facts(out, &[&all[..], &["--set", icc]].concat()).remove(0);
    let ignored = facts_of(&out, "ingest.icc=ignore");
    // A wide one in four formats, a gray one in two.
    assert_eq!(ignored["facts"]["foreign_icc_profiles"], 6);
    let rejects = rejected(&out, "odd");
    let is_rejected = |name: &str| rejects.contains_key(&format!("{name}.jpg"));
    for Golden { case, rgb, .. } in golden.iter().filter(|golden| !golden.case.convert) {
        assert_eq!(is_rejected(&case.name), rgb.is_none(), "{}", case.name);
    }
    assert!(rejects["heic.jpg"].starts_with("unsupported: HEIC is not read"), "{rejects:#?}");
    assert!(rejects["too-long.png"].starts_with("too_many_pixels: 65536 x 1"), "{rejects:#?}");
    assert!(!rejects.contains_key("thin.png") && !rejects.contains_key("longest.png"), "{rejects:#?}");
    for verb in ["fingerprint", "embed", "curate"] {
        facts(&out, &[verb]);
    }
    facts(&out, &["cut", "--size", "all"]);
    facts(&out, &["plan", "--set", "plan.epochs=1"]);
    // Profiles converted at ingest are converted wherever the images are decoded again.
    let other = folder.path().join("converted");
    let converted = facts_of(&other, "ingest.icc=convert");
    facts(&other, &["embed"]);
    assert_ne!(converted["digest"], ignored["digest"], "what is made of the images is made anew");
    let digest = |out: &Path| {
        let manifest = std::fs::read(out.join("odd/embeddings/descriptor/manifest.json")).expect("a manifest");
        serde_json::from_slice::<serde_json::Value>(&manifest).expect("JSON")["digest"].clone()
    };
    assert_ne!(digest(&out), digest(&other));
    let (code, error) = refusal(&[&all[..], &["--out", text(&out), "--set", "ingest.icc=srgb"]].concat());
    assert!(code == 2 && error.contains("ignore") && error.contains("convert"), "{error}");
}
