//! Times the executor on JPEG bytes in memory: all views of the `dinotwins` recipe, and what each step of it takes.
//!
//! `cargo bench --workspace --bench pixels -- FOLDER IMAGES`; tests/bench/pixels.sh runs it beside its peers. Its last line is
//! a JSON object of milliseconds an image.

use lapidary_pipeline::pixels::{Executor, Raster};
use lapidary_pipeline::plan::{View, views_of_image};
use lapidary_pipeline::{ImageInfo, decode_into};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::ViewSpec;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

const ROUNDS: usize = 5;

#[derive(Deserialize)]
struct Recipe {
    view: Vec<ViewSpec>,
}

/// What is left of a view up to a step of the executor.
type UpTo = fn(View) -> View;

const STEPS: [(&str, UpTo); 4] = [
    ("crop", |view| View { jitter: None, grayscale: false, blur_radius_px: 0.0, solarize: false, ..view }),
    ("colour", |view| View { blur_radius_px: 0.0, solarize: false, ..view }),
    ("blur", |view| View { solarize: false, ..view }),
    ("solarize and normalise", |view| view),
];

fn main() {
    // cargo passes `--bench` on.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let [folder, count] = &arguments[..] else {
        println!("skipped: name a folder of JPEG files and how many to read");
        return;
    };
    let files = jpegs(folder.into(), count.parse().expect("a number of images"));
    let recipe: Recipe = toml::from_str(lapidary_schemas::augment_recipe("dinotwins").expect("known")).expect("TOML");
    let mut raster = Raster::default();
    let images: Vec<(Vec<u8>, Vec<View>)> = files
        .into_iter()
        .enumerate()
        .map(|(id, bytes)| {
            decode_into(&bytes, u64::MAX, &mut raster).expect("an image");
            let info = ImageInfo::new(ImageId(id as u64), raster.width(), raster.height());
            let views = views_of_image(0, 0, id as u32, &info, &recipe.view);
            (bytes, views)
        })
        .collect();

    let decode = millis(images.len(), || {
        for (bytes, _) in &images {
            decode_into(bytes, u64::MAX, &mut raster).expect("an image");
        }
    });
    let mut executor = Executor::default();
    let mut pixels = vec![0f32; 3 * 224 * 224];
    // Each step adds to the one before; decoded once here, so that the executor alone is timed.
    let rasters: Vec<Raster> = images
        .iter()
        .map(|(bytes, _)| {
            let mut raster = Raster::default();
            decode_into(bytes, u64::MAX, &mut raster).expect("an image");
            raster
        })
        .collect();
    let mut before = 0.0;
    let mut steps = vec![("decode", decode)];
    for (name, up_to) in STEPS {
        let all = millis(images.len(), || {
            for (raster, (_, views)) in rasters.iter().zip(&images) {
                for view in views {
                    let rgb = executor.render(raster, &up_to(*view)).expect("renders");
                    if name == "solarize and normalise" {
                        let side = usize::from(view.size_px);
                        lapidary_pipeline::pixels::normalise_into(rgb, &mut pixels[..3 * side * side]);
                    }
                }
            }
        });
        steps.push((name, all - before));
        before = all;
    }
    let decoded = before;
    let threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        millis(images.len(), || {
            pool.install(|| {
                images.par_iter().for_each_init(
                    || (Raster::default(), Executor::default(), vec![0f32; 3 * 224 * 224]),
                    |(raster, executor, pixels), (bytes, views)| {
                        decode_into(bytes, u64::MAX, raster).expect("an image");
                        for view in views {
                            let side = usize::from(view.size_px);
                            executor.render_into(raster, view, &mut pixels[..3 * side * side]).expect("renders");
                        }
                    },
                );
            });
        })
    };
    let (one, two) = (threads(1), threads(2));
    for (name, ms) in &steps {
        println!("  {name:<24} {ms:.2} ms an image");
    }
    println!("  one thread {:.0} images/s, two threads {:.0}", 1000.0 / one, 1000.0 / two);
    println!("{}", json!({"one_thread": one, "two_threads": two, "decoded": decoded}));
}

/// The best of some rounds, in milliseconds an image.
fn millis(images: usize, mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let begun = Instant::now();
        work();
        begun.elapsed().as_secs_f64() * 1000.0 / images as f64
    };
    (0..ROUNDS).map(round).fold(f64::MAX, f64::min)
}

/// The first `count` JPEG files below a folder, by path.
fn jpegs(folder: PathBuf, count: usize) -> Vec<Vec<u8>> {
    let mut paths = vec![folder];
    let mut found = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|e| e == "jpg") {
            found.push(path);
        }
    }
    found.sort();
    found.truncate(count);
    found.iter().map(|path| std::fs::read(path).expect("a file")).collect()
}
