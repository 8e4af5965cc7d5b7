//! Plans: stored and drawn rows are the same, batches are the same bytes for any number of threads, draws are distributed
//! as torchvision's (tests/golden/plans.py), and what does not fit is refused with its row.

use crate::run::{curated, facts, refusal, text};
use arrow::array::{ArrayRef, RecordBatch, UInt16Array, UInt64Array};
use lapidary_pipeline::ImageStore;
use lapidary_pipeline::loader::{Loader, LoaderOptions, Pixels};
use lapidary_pipeline::plan::{PlanReader, View, views_of_image};
use lapidary_pipeline::stage::{TableWriter, digest_of_bytes, read_manifest, read_table};
use lapidary_pipeline::{ImageInfo, PipelineError};
use lapidary_schemas::config::{ViewKind, ViewSpec};
use lapidary_schemas::{Digest, ImageId};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Two globals, two locals and two views of Barlow Twins' own, with every operator.
const VIEWS: &[&str] = &[
    "--set",
    "plan.epochs=2",
    "--set",
    "pretrain.batch=16",
    "--set",
    "plan.view=[{kind='global',count=2,size_px=32,blur_p=0.5,solarize_p=0.2},\
     {kind='local',count=2,size_px=16,blur_p=0.5,blur='torchvision'},\
     {kind='barlow',count=2,size_px=24,interpolation='bilinear'}]",
];

fn planned(out: &Path, arguments: &[&str]) {
    facts(out, &[&["plan"], arguments, VIEWS].concat());
}

fn opened(out: &Path, plan: &str) -> Result<(PlanReader, ImageStore), PipelineError> {
    let (folder, images) = (out.join("pile/plans").join(plan), out.join("pile/images"));
    let store = ImageStore::open(&images)?;
    Ok((PlanReader::open(&folder, &read_manifest(&folder)?, &store, 16)?, store))
}

fn all_views(out: &Path, plan: &str) -> Result<Vec<View>, PipelineError> {
    let (mut reader, store) = opened(out, plan)?;
    let mut views = Vec::new();
    for step in 0..reader.steps() {
        views.extend_from_slice(reader.step(step, &store)?);
    }
    Ok(views)
}

/// A digest of every batch of a plan's first epoch.
fn batches(out: &Path, plan: &str, threads: usize) -> Vec<Digest> {
    let digest = |pixels: &[f32]| digest_of_bytes(&pixels.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    pixels(out, plan, threads, false).iter().map(|pixels| digest(pixels)).collect()
}

/// The pixels of every batch of a plan's first epoch.
fn pixels(out: &Path, plan: &str, threads: usize, scaled_decode: bool) -> Vec<Vec<f32>> {
    let (reader, store) = opened(out, plan).expect("opens");
    let steps = 0..reader.steps_per_epoch();
    let kinds = vec![ViewKind::Global, ViewKind::Local, ViewKind::Barlow];
    let options = LoaderOptions { prefetch: 2, threads, crops_only: false, scaled_decode };
    let mut loader = Loader::start(store, reader, kinds, steps, options).expect("starts");
    let mut batches = Vec::new();
    while let Some(batch) = loader.next_batch().expect("loads") {
        let mut pixels = Vec::new();
        for group in batch.groups {
            let Pixels::Rendered(values) = group.pixels else { panic!("crops were not asked for") };
            pixels.extend(values);
        }
        batches.push(pixels);
    }
    batches
}

#[test]
fn stored_and_drawn_rows_feed_the_same_bytes_on_any_number_of_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "50");
    planned(&out, &["--name", "stored"]);
    planned(&out, &["--name", "drawn", "--set", "plan.store=false"]);
    assert!(!out.join("pile/plans/drawn/epoch-00000.parquet").exists());
    let stored = all_views(&out, "stored").expect("reads");
    assert_eq!(stored.len(), 2 * 48 * 6);
    assert_eq!(stored, all_views(&out, "drawn").expect("draws"));
    let one = batches(&out, "stored", 1);
    assert_eq!(one.len(), 3);
    assert_eq!(one, batches(&out, "stored", 2));
    assert_eq!(one, batches(&out, "drawn", 2));

    // Decoded at a smaller scale where the plan allows it: other pixels, but near ones. 0.07 is 4 levels of 255; drawn
    // textures are the worst there is.
    let (whole, scaled) = (pixels(&out, "stored", 2, false), pixels(&out, "stored", 2, true));
    let differences = whole.iter().flatten().zip(scaled.iter().flatten()).map(|(a, b)| f64::from((a - b).abs()));
    let count = whole.iter().map(Vec::len).sum::<usize>() as f64;
    let mean = differences.sum::<f64>() / count;
    println!("scaled decoding: {:.2} levels on average", mean * 255.0 * 0.226);
    assert!(mean > 0.0 && mean < 0.07, "{mean}");

    // An image's rows are the same in a plan of another subset.
    facts(&out, &["cut", "--size", "100"]);
    planned(&out, &["--name", "larger"]);
    let key = |view: &View| (view.epoch, view.image_id, view.view);
    let larger: BTreeMap<_, View> =
        all_views(&out, "larger").expect("reads").into_iter().map(|view| (key(&view), view)).collect();
    let shared = stored.iter().filter(|view| {
        larger.get(&key(view)).is_some_and(|other| View { position: view.position, ..*other } == **view)
    });
    assert!(shared.count() > stored.len() * 9 / 10, "all but those in a last, incomplete batch");

    let id = stored[0].image_id.to_string();
    let sheet = facts(&out, &["plan", "--show", &id, "--epoch", "1", "--name", "stored"]);
    assert_eq!(sheet[0]["views"].as_array().map(Vec::len), Some(6));
    let picture = image::open(sheet[0]["sheet"].as_str().expect("a path")).expect("a PNG");
    assert!(picture.width() > 1000 && picture.height() > 500);
    let (code, said) = refusal(&["plan", "--show", &id, "--epoch", "2", "--name", "stored", "--out", text(&out)]);
    assert!(code == 2 && said.contains("no epoch 2"), "{said}");
}

/// Writes an epoch again with one column changed.
fn rewrite(path: &Path, name: &str, change: impl Fn(&ArrayRef) -> ArrayRef) {
    let batches = read_table(path, &[]).expect("reads");
    let mut table = TableWriter::create(path, batches[0].schema()).expect("creates");
    for batch in batches {
        let index = batch.schema().index_of(name).expect("a column");
        let mut columns = batch.columns().to_vec();
        columns[index] = change(&columns[index]);
        table.write(&RecordBatch::try_new(batch.schema(), columns).expect("fits")).expect("writes");
    }
    table.finish().expect("finishes");
}

#[test]
fn a_plan_that_does_not_fit_is_refused_with_its_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "50");
    planned(&out, &["--name", "p"]);
    let path = out.join("pile/plans/p/epoch-00000.parquet");
    let whole = std::fs::read(&path).expect("reads");
    let refused = |what: &str| {
        let error = all_views(&out, "p").expect_err(what).to_string();
        std::fs::write(&path, &whole).expect("writes");
        error
    };
    rewrite(&path, "image_id", |ids| {
        let ids: &UInt64Array = ids.as_any().downcast_ref().expect("u64");
        Arc::new(
            ids.values().iter().enumerate().map(|(i, id)| if i / 6 == 3 { 7 } else { *id }).collect::<UInt64Array>(),
        )
    });
    let error = refused("an image is gone");
    assert!(error.contains("row 18") && error.contains("0000000000000007") && error.contains("epoch-00000"), "{error}");
    rewrite(&path, "crop_x_px", |x| {
        let x: &UInt16Array = x.as_any().downcast_ref().expect("u16");
        Arc::new(x.values().iter().enumerate().map(|(i, x)| if i == 20 { 60_000 } else { *x }).collect::<UInt16Array>())
    });
    let error = refused("a box outside the image");
    assert!(error.contains("row 20") && error.contains("outside image"), "{error}");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("writes");
    assert!(refused("cut off").contains("epoch-00000"));

    let manifest = out.join("pile/plans/p/manifest.json");
    let text_before = std::fs::read_to_string(&manifest).expect("reads");
    std::fs::write(&manifest, text_before.replacen("\"version\": 2", "\"version\": 1", 1)).expect("writes");
    let error = all_views(&out, "p").expect_err("another version").to_string();
    assert!(error.contains("not of plan 2"), "{error}");
}

#[derive(Deserialize)]
struct Golden {
    draws: usize,
    crops: Vec<GoldenCrop>,
    jitter: BTreeMap<String, Vec<f64>>,
    orders: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct GoldenCrop {
    width: u32,
    height: u32,
    area: [f32; 2],
    share: Vec<f64>,
    log_aspect: Vec<f64>,
    left: Vec<f64>,
    top: Vec<f64>,
    with_room: [f64; 2],
}

/// The greatest difference between the distribution of `values` and the one with these quantiles, evenly spaced.
fn kolmogorov_smirnov(mut values: Vec<f64>, quantiles: &[f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let share_below = |q: f64| values.partition_point(|v| *v < q) as f64 / values.len() as f64;
    let share_up_to = |q: f64| values.partition_point(|v| *v <= q) as f64 / values.len() as f64;
    let steps = (quantiles.len() - 1) as f64;
    quantiles
        .iter()
        .enumerate()
        .map(|(i, q)| {
            // Where values repeat, quantiles do: the distribution's step spans all of them. A rounded quantile lies
            // within 1e-6 of the value.
            let theirs = i as f64 / steps;
            (share_below(q - 1e-6) - theirs).max(theirs - share_up_to(q + 1e-6))
        })
        .fold(0.0, f64::max)
}

#[test]
fn draws_are_distributed_as_torchvisions() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/plans.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).expect("golden data")).expect("JSON");
    let spec = ViewSpec { blur_p: 0.3, solarize_p: 0.2, ..ViewSpec::default() };
    let draw = |width: u32, height: u32, spec: &ViewSpec| -> Vec<View> {
        let info = |id| ImageInfo::new(ImageId(id), width, height);
        (0..golden.draws as u64).flat_map(|id| views_of_image(5, 0, 0, &info(id), std::slice::from_ref(spec))).collect()
    };
    // Two samples of 100,000 differ by more once in a million times; a tenth of a percent more for 1,001 quantiles.
    let bound = 2.7 * (2.0 / golden.draws as f64).sqrt() + 0.001;
    for of in &golden.crops {
        let views = draw(of.width, of.height, &ViewSpec { area: of.area, ..spec.clone() });
        let [w, h] = [f64::from(of.width), f64::from(of.height)];
        let crops: Vec<[f64; 4]> = views
            .iter()
            .map(|v| [v.crop.x_px, v.crop.y_px, v.crop.width_px, v.crop.height_px].map(f64::from))
            .collect();
        let left: Vec<f64> = crops.iter().filter(|c| c[2] < w).map(|c| c[0] / (w - c[2])).collect();
        let top: Vec<f64> = crops.iter().filter(|c| c[3] < h).map(|c| c[1] / (h - c[3])).collect();
        for (ours, theirs) in [(left.len(), of.with_room[0]), (top.len(), of.with_room[1])] {
            assert!((ours as f64 / golden.draws as f64 - theirs).abs() < bound, "{w} x {h}, {:?}", of.area);
        }
        let measured = [
            ("share", crops.iter().map(|c| c[2] * c[3] / (w * h)).collect(), &of.share),
            ("log aspect", crops.iter().map(|c| (c[2] / c[3]).ln()).collect(), &of.log_aspect),
            ("left", left, &of.left),
            ("top", top, &of.top),
        ];
        for (name, values, quantiles) in measured {
            if !quantiles.is_empty() {
                let distance = kolmogorov_smirnov(values, quantiles);
                assert!(distance < bound, "{w} x {h}, {:?}, {name}: {distance}", of.area);
            }
        }
    }
    let views = draw(640, 480, &spec);
    let share = |of: &dyn Fn(&View) -> bool| views.iter().filter(|v| of(v)).count() as f64 / views.len() as f64;
    let wanted = [
        ("flip", share(&|v| v.flip), 0.5),
        ("jitter", share(&|v| v.jitter.is_some()), 0.8),
        ("grayscale", share(&|v| v.grayscale), 0.2),
        ("blur", share(&|v| v.blur_radius_px > 0.0), 0.3),
        ("solarize", share(&|v| v.solarize), 0.2),
    ];
    for (name, found, expected) in wanted {
        assert!((found - expected).abs() < 5.0 * 0.5 / (views.len() as f64).sqrt(), "{name}: {found}");
    }
    let jitters: Vec<_> = views.iter().filter_map(|v| v.jitter).collect();
    let bound = 2.7 * (1.0 / golden.draws as f64 + 1.0 / jitters.len() as f64).sqrt() + 0.001;
    let factors = [
        ("brightness", jitters.iter().map(|j| f64::from(j.brightness)).collect()),
        ("contrast", jitters.iter().map(|j| f64::from(j.contrast)).collect()),
        ("saturation", jitters.iter().map(|j| f64::from(j.saturation)).collect()),
        ("hue", jitters.iter().map(|j| f64::from(j.hue)).collect()),
    ];
    for (name, values) in factors {
        let distance = kolmogorov_smirnov(values, &golden.jitter[name]);
        assert!(distance < bound, "{name}: {distance}");
    }
    assert_eq!(golden.orders.len(), 24);
    for (order, theirs) in &golden.orders {
        let ours = jitters.iter().filter(|j| j.steps().iter().map(u8::to_string).collect::<String>() == *order).count();
        let (ours, theirs) = (ours as f64 / jitters.len() as f64, *theirs as f64 / golden.draws as f64);
        assert!((ours - theirs).abs() < 0.005, "order {order}: {ours}, {theirs}");
    }
}

#[test]
fn pretraining_takes_no_more_memory_for_more_steps() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    let peak = |steps: &str| {
        let steps = format!("pretrain.steps={steps}");
        // What comes later wins.
        let knobs = [crate::run::TINY, &["--set", &steps, "--set", "plan.epochs=35"]].concat();
        facts(&out, &[&["plan"], &knobs[..]].concat());
        let trained = facts(&out, &[&["pretrain", "--device", "cpu", "--run", &steps[9..]], &knobs[..]].concat());
        trained[0]["peak_memory_mib"].as_f64().expect("MiB")
    };
    // Views that the training device finishes are trained on as well.
    facts(&out, &[&["plan"], crate::run::TINY].concat());
    let on_device = [&["pretrain", "--device", "cpu", "--run", "device"], crate::run::TINY];
    let on_device = facts(&out, &[&on_device.concat()[..], &["--set", "pretrain.augment=device"]].concat());
    assert!(on_device[0]["facts"]["last"]["loss"].as_f64().is_some_and(f64::is_finite), "{on_device:#?}");
    // The first steps fill the pages that the allocator then keeps, which takes some of them and varies with the threads;
    // 190 batches that were not given back would be 250 MiB.
    let (few, many) = (peak("50"), peak("240"));
    assert!(many < 1.5 * few, "{few} MiB for 50 steps, {many} for 240");
}
