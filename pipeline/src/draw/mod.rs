//! The built-in data: scenes drawn by code, in COCO's layout, with planted copies and broken files; and a probe of single
//! objects in class folders. Sources like any other: what is written here is read by `ingest` as every folder is.

mod copies;
mod scene;
mod sequence;

pub use copies::{COPY_KINDS, copy, truth_table};
pub use scene::{CLASSES, Object, SIDE_PX, Scene};
pub use sequence::Sequence;

use crate::random::{Purpose, Rng, RngExt, keyed};
use crate::stage::{Progress, write_json};
use crate::{PipelineError, Result, interrupt};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Original scenes; with copies and broken files the pile holds about 600 files.
const SCENES: usize = 480;
/// Planted copies of each kind.
const COPIES_OF_A_KIND: usize = 16;
const PROBE_TRAIN: usize = 800;
const PROBE_TEST: usize = 400;
const QUALITY: u8 = 90;

/// A pile's file and what is true of it.
struct Drawn {
    name: String,
    bytes: Vec<u8>,
    scene: Option<Scene>,
    copy_of: Option<(String, &'static str)>,
}

/// Draws the pile into `folder`: `pile/`, `annotations/instances_pile.json` and `truth.csv` (path, copy_of, kind; a broken file copies nothing).
///
/// # Errors
/// When the folder cannot be written.
pub fn draw_pile(folder: &Path, seed: u64) -> Result<u64> {
    let progress = Progress::new("draw", SCENES as u64, "scenes");
    let scenes: Vec<(Scene, RgbImage)> = (0..SCENES)
        .into_par_iter()
        .map(|index| {
            let mut rng = keyed(seed, Purpose::Scene, 0, index as u64);
            let scene = Scene::cluttered(&mut rng);
            let image = scene.paint();
            progress.add(1);
            (scene, image)
        })
        .collect();
    interrupt::check()?;
    let mut files: Vec<Drawn> = scenes
        .iter()
        .enumerate()
        .map(|(index, (scene, image))| {
            Ok(Drawn { name: name(index), bytes: jpeg(image, QUALITY)?, scene: Some(scene.clone()), copy_of: None })
        })
        .collect::<Result<_>>()?;
    let mut next = SCENES;
    let mut rng = keyed(seed, Purpose::Scene, 1, 0);
    for kind in COPY_KINDS {
        for _ in 0..COPIES_OF_A_KIND {
            let original = rng.random_range(0..SCENES);
            let bytes = copies::copy(kind, &files[original].bytes, &scenes[original].1, &mut rng)?;
            let (scene, copy_of) = (None, Some((name(original), *kind)));
            files.push(Drawn { name: name(next), bytes, scene, copy_of });
            next += 1;
        }
    }
    for bytes in broken_files(&files[0].bytes) {
        files.push(Drawn { name: name(next), bytes, scene: None, copy_of: None });
        next += 1;
    }
    write_pile(folder, &files)?;
    Ok(files.len() as u64)
}

fn name(index: usize) -> String {
    // Scattered, so that names say nothing about copies.
    format!("{:08}.jpg", (index as u64 + 1) * 48_271 % 100_000_007)
}

/// Files that no decoder should take: empty, no image, cut short, a header alone, damaged throughout.
fn broken_files(whole: &[u8]) -> Vec<Vec<u8>> {
    let mut damaged = whole.to_vec();
    damaged[2..40].fill(0);
    vec![
        Vec::new(),
        b"<html><body>404 Not Found</body></html>".to_vec(),
        whole[..whole.len() / 3].to_vec(),
        whole[..whole.len() - 2].to_vec(),
        whole[..4].to_vec(),
        damaged,
    ]
}

fn write_pile(folder: &Path, files: &[Drawn]) -> Result<()> {
    for sub in ["pile", "annotations"] {
        make_folder(&folder.join(sub))?;
    }
    let mut images = Vec::new();
    let mut annotations: Vec<Value> = Vec::new();
    let mut truth: Vec<[String; 3]> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let path = folder.join("pile").join(&file.name);
        fs::write(&path, &file.bytes).map_err(PipelineError::io("write", &path))?;
        let id = index + 1;
        images.push(
            json!({"id": id, "file_name": file.name, "width": scene::SIDE_PX, "height": scene::SIDE_PX, "license": 1}),
        );
        for object in file.scene.iter().flat_map(|scene| &scene.objects) {
            let [x, y, w, h] = object.bbox_px();
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": id, "category_id": object.class + 1,
                "bbox": [x, y, w, h], "area": object.area_px(), "iscrowd": 0,
            }));
        }
        let path = format!("pile/{}", file.name);
        match &file.copy_of {
            Some((original, kind)) => truth.push([path, format!("pile/{original}"), (*kind).to_owned()]),
            None if file.scene.is_none() => truth.push([path, String::new(), "broken".to_owned()]),
            None => {}
        }
    }
    let categories: Vec<Value> =
        CLASSES.iter().enumerate().map(|(i, name)| json!({"id": i + 1, "name": name})).collect();
    let licenses = json!([{"id": 1, "name": "CC0", "url": ""}]);
    let instances = json!({
        "images": images, "annotations": annotations, "categories": categories, "licenses": licenses,
    });
    write_json(&folder.join("annotations/instances_pile.json"), &instances)?;
    let path = folder.join("truth.csv");
    let truth = truth_table(truth.iter().map(|row| row.each_ref().map(String::as_str)))?;
    fs::write(&path, truth).map_err(PipelineError::io("write", &path))
}

/// Draws the probe into `folder`: `train/CLASS/` and `val/CLASS/`, a single object on a textured ground, balanced.
///
/// # Errors
/// When the folder cannot be written.
pub fn draw_probe(folder: &Path, seed: u64) -> Result<u64> {
    let progress = Progress::new("draw", (PROBE_TRAIN + PROBE_TEST) as u64, "probe images");
    for (stream, split, count) in [(2, "train", PROBE_TRAIN), (3, "val", PROBE_TEST)] {
        for class in CLASSES {
            make_folder(&folder.join(split).join(class))?;
        }
        (0..count).into_par_iter().try_for_each(|index| -> Result<()> {
            let class = index % CLASSES.len();
            let mut rng = keyed(seed, Purpose::Scene, stream, index as u64);
            let image = Scene::single(&mut rng, class).paint();
            let path: PathBuf = folder.join(split).join(CLASSES[class]).join(format!("{index:05}.jpg"));
            fs::write(&path, jpeg(&image, QUALITY)?).map_err(PipelineError::io("write", &path))?;
            progress.add(1);
            interrupt::check()
        })?;
    }
    Ok((PROBE_TRAIN + PROBE_TEST) as u64)
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(PipelineError::io("create folder", path))
}

/// Encodes as JPEG.
fn jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(image)
        .map_err(|e| PipelineError::Internal(format!("encoding a drawn image: {e}")))?;
    Ok(bytes)
}

/// A class drawn with weights that fall off: the pile is unbalanced on purpose.
fn unbalanced_class(rng: &mut impl Rng) -> usize {
    const WEIGHTS: [f32; 8] = [0.34, 0.22, 0.14, 0.10, 0.08, 0.06, 0.04, 0.02];
    let mut left = rng.random::<f32>();
    for (class, weight) in WEIGHTS.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return class;
        }
    }
    0
}
