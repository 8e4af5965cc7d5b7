//! The executor beside Pillow and torchvision, given the same parameters (tests/golden/pixels.py).

use image::RgbImage;
use lapidary_pipeline::decode;
use lapidary_pipeline::pixels::{Executor, Raster, normalise_into};
use lapidary_pipeline::plan::{Crop, Jitter, View};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::{BlurKind, Interpolation};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Greatest difference in levels, and greatest mean over the values of all cases, by operator.
const BOUNDS: &[(&str, u8, f64)] = &[
    ("flip", 0, 0.0),
    ("grayscale", 0, 0.0),
    ("solarize", 0, 0.0),
    ("brightness", 0, 0.0),
    ("contrast", 0, 0.0),
    ("saturation", 0, 0.0),
    ("hue", 0, 0.0),
    ("crop bicubic", 2, 0.01),
    ("crop bilinear", 1, 0.01),
    ("blur pillow", 0, 0.0),
    ("blur torchvision", 1, 0.01),
    // CMYK alone; JPEG in RGB and gray, PNG and GIF are equal.
    ("decode", 1, 0.001),
    // A level off in the crop grows with the factors that follow it.
    ("view", 4, 0.01),
];

#[derive(Debug, Deserialize)]
struct Case {
    op: String,
    input: String,
    output: String,
    #[serde(flatten)]
    parameters: BTreeMap<String, Value>,
}

impl Case {
    fn number(&self, name: &str) -> Option<f64> {
        self.parameters.get(name).and_then(Value::as_f64)
    }

    fn is(&self, name: &str) -> bool {
        self.op == name || self.parameters.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn name(&self) -> String {
        let kind = match self.op.as_str() {
            "crop" => self.parameters["interpolation"].as_str(),
            "blur" => self.parameters["blur"].as_str(),
            _ => None,
        };
        kind.map_or_else(|| self.op.clone(), |kind| format!("{} {kind}", self.op))
    }

    /// The row of a plan that asks for this and nothing else.
    fn view(&self, image: &Raster) -> View {
        let side = |name: &str, otherwise: u32| self.number(name).map_or(otherwise, |v| v as u32);
        let text = |name: &str| self.parameters.get(name).and_then(Value::as_str).unwrap_or_default();
        let px = |name: &str, otherwise: u32| side(name, otherwise) as u16;
        let crop = Crop {
            x_px: px("x", 0),
            y_px: px("y", 0),
            width_px: px("w", image.width()),
            height_px: px("h", image.height()),
        };
        let bilinear = text("interpolation") == "bilinear";
        View {
            interpolation: if bilinear { Interpolation::Bilinear } else { Interpolation::Bicubic },
            flip: self.is("flip"),
            jitter: self.jitter(),
            grayscale: self.is("grayscale"),
            blur_radius_px: self.number("radius").unwrap_or(0.0) as f32,
            blur: if text("blur") == "torchvision" { BlurKind::Torchvision } else { BlurKind::Pillow },
            solarize: self.is("solarize"),
            ..View::of_crop(ImageId(1), crop, px("size_px", image.width()))
        }
    }

    fn jitter(&self) -> Option<Jitter> {
        let plain = Jitter { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0, order: 0 };
        if let Some(factors) = self.parameters.get("factors") {
            let f = |i: usize| factors[i].as_f64().expect("a factor") as f32;
            let wanted: Vec<u8> = serde_json::from_value(self.parameters["order"].clone()).expect("an order");
            let jitter = Jitter { brightness: f(0), contrast: f(1), saturation: f(2), hue: f(3), order: 0 };
            let found = (0..24).map(|order| Jitter { order, ..jitter }).find(|j| j.steps()[..] == wanted[..]);
            return Some(found.expect("one of the 24 orders"));
        }
        let factor = self.number("factor")? as f32;
        Some(match self.op.as_str() {
            "brightness" => Jitter { brightness: factor, ..plain },
            "contrast" => Jitter { contrast: factor, ..plain },
            "saturation" => Jitter { saturation: factor, ..plain },
            _ => Jitter { hue: factor, ..plain },
        })
    }
}

fn image(tensors: &SafeTensors<'_>, name: &str) -> RgbImage {
    let tensor = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let [height, width, 3] = *tensor.shape() else { panic!("{name} is no image") };
    RgbImage::from_raw(width as u32, height as u32, tensor.data().to_vec()).expect("three bytes for each pixel")
}

#[test]
fn every_operator_is_as_near_to_pillow_and_torchvision_as_pixels_md_says() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let bytes = std::fs::read(folder.join("pixels.safetensors")).expect("golden data");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let cases: Vec<Case> =
        serde_json::from_slice(&std::fs::read(folder.join("pixels.json")).expect("golden data")).expect("JSON");
    let mut executor = Executor::default();
    // Of each operator: cases, greatest difference, sum of differences, values.
    let mut found: BTreeMap<String, (u32, u8, u64, u64)> = BTreeMap::new();
    for case in &cases {
        let ours = if case.op == "decode" {
            let file = tensors.tensor(&format!("file.{}", case.input)).expect("a file");
            decode(file.data(), 1 << 20).unwrap_or_else(|e| panic!("{}: {e:?}", case.input)).rgb
        } else {
            let input = Raster::from(&image(&tensors, &format!("input.{}", case.input)));
            executor.render(&input, &case.view(&input)).expect("renders").to_rgb()
        };
        let theirs = image(&tensors, &case.output);
        assert_eq!(ours.dimensions(), theirs.dimensions(), "{case:?}");
        let (cases, worst, sum, values) = found.entry(case.name()).or_default();
        let differences = ours.iter().zip(theirs.iter()).map(|(a, b)| a.abs_diff(*b));
        let worst_here = differences.clone().max().unwrap_or(0);
        if worst_here > 0 && (case.op == "decode" || worst_here > 2) {
            println!("{}: {worst_here} in {case:?}", case.name());
        }
        *cases += 1;
        *worst = (*worst).max(worst_here);
        *sum += differences.map(u64::from).sum::<u64>();
        *values += ours.len() as u64;
    }
    println!("| operator | cases | greatest difference | mean difference |\n|---|---|---|---|");
    for (name, (cases, worst, sum, values)) in &found {
        println!("| {name} | {cases} | {worst} | {:.4} |", *sum as f64 / *values as f64);
    }
    for (name, worst, mean) in BOUNDS {
        let (_, found_worst, sum, values) = found[*name];
        assert!(found_worst <= *worst, "{name}: {found_worst} levels");
        assert!(sum as f64 <= mean * values as f64, "{name}: {} on average", sum as f64 / values as f64);
    }
    assert_eq!(found.len(), BOUNDS.len(), "every operator has its bounds");
}

#[test]
fn normalised_pixels_are_torchvisions() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let bytes = std::fs::read(folder.join("pixels.safetensors")).expect("golden data");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    for name in ["drawn-square", "photo-square"] {
        let input = Raster::from(&image(&tensors, &format!("input.{name}")));
        let theirs = tensors.tensor(&format!("normalised.{name}")).expect("golden data");
        let theirs = theirs.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let mut ours = vec![0f32; 3 * input.pixels().len()];
        normalise_into(&input, &mut ours);
        assert_eq!(ours.len(), theirs.len());
        let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Two roundings of values of up to 2.7.
        assert!(worst < 1e-6, "{name}: {worst}");
    }
}
