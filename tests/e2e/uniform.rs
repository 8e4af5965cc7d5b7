//! Uniform images: their hashes, thumbnails and descriptors are alike, and only their colours tell them apart.

use crate::run::{facts, text};
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::path::Path;

const COLOURS: [[u8; 3]; 6] = [[0; 3], [255; 3], [220, 20, 20], [20, 200, 20], [20, 20, 220], [128; 3]];

/// Each colour twice, as PNG and, a few levels off, as JPEG of another size; among scenes.
fn drawn(folder: &Path) {
    std::fs::create_dir_all(folder).expect("creates");
    for (i, colour) in COLOURS.into_iter().enumerate() {
        RgbImage::from_pixel(64, 48, Rgb(colour)).save(folder.join(format!("{i}.png"))).expect("saves");
        let near = colour.map(|level| if level > 200 { level - 3 } else { level + 3 });
        RgbImage::from_pixel(120, 90, Rgb(near)).save(folder.join(format!("{i}-again.jpg"))).expect("saves");
    }
    for i in 0..6u32 {
        let wave = |x: u32, y: u32, c: u32| {
            let (x, y) = (x as f32 * (0.05 + 0.03 * i as f32), y as f32 * (0.09 + 0.01 * (i * c) as f32));
            (128.0 + 60.0 * (x + c as f32).sin() + 50.0 * (y * 1.7 + i as f32).cos()) as u8
        };
        let scene = RgbImage::from_fn(96, 72, |x, y| Rgb([wave(x, y, 0), wave(x, y, 1), wave(x, y, 2)]));
        scene.save(folder.join(format!("scene-{i}.png"))).expect("saves");
    }
}

#[test]
fn uniform_images_are_copies_only_of_their_colour() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("plain"), folder.path().join("out"));
    drawn(&data);
    facts(&out, &["ingest", "--data", text(&data)]);
    facts(&out, &["fingerprint"]);
    facts(&out, &["embed"]);
    let kept = |curated: &Value| curated["facts"]["images_by_reason"]["kept"].as_u64();
    for evidence in
        ["[\"exact\", \"hash\"]", "[\"exact\", \"embedding\"]", "[\"exact\", \"hash\", \"embedding\", \"local\"]"]
    {
        let set = format!("curate.evidence={evidence}");
        let other = folder.path().join(format!("out-{}", evidence.len()));
        copy(&out, &other);
        assert_eq!(kept(&facts(&other, &["curate", "--set", &set])[0]), Some(12), "{evidence}: 6 colours and 6 scenes");
    }
    // Without shards, and with hashes alone, whose luma does not tell colours apart.
    for evidence in ["[\"exact\", \"hash\"]", "[\"exact\", \"hash\", \"embedding\", \"local\"]"] {
        let (set, name) = (format!("curate.evidence={evidence}"), format!("d{}", evidence.len()));
        let found = &facts(&out, &["duplicates", text(&data), "--name", &name, "--set", &set])[0]["facts"];
        assert_eq!((found["groups"].as_u64(), found["copies"].as_u64()), (Some(6), Some(6)), "{evidence}");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creates");
    for entry in std::fs::read_dir(from).expect("lists") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).expect("copies");
        }
    }
}
