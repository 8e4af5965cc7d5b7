//! Pools for `science.sh`, out of an ingested source with labels; the same arguments give the same files.
//!
//!     cargo bench --workspace --bench pool -- draw IMAGES FOLDER LARGEST IMBALANCE COPIES SEED
//!     cargo bench --workspace --bench pool -- stats IMAGES SUBSET
//!
//! `draw` takes images of the train split of IMAGES (`OUT/SOURCE/images`): LARGEST of the first class, of the last one
//! LARGEST / IMBALANCE, of those between on a geometric line (Cao et al. 2019: CIFAR-10-LT is 5000 and 100), and adds copies
//! (re-encoded, resized, cropped, colour-shifted, flipped) until they are the share COPIES of all. FOLDER gets a folder a
//! class, and beside it `FOLDER-truth.csv`. A copy is named after its original, so that `stats` can say of a subset
//! (`OUT/SOURCE/subsets/SIZE` of such a pool) how many images it has, how many originals, how many of each class, and how many
//! classes of equal size would have its entropy: a JSON object.

use arrow::array::{AsArray, StringArray, StructArray, UInt64Array};
use lapidary_pipeline::draw::{copy, truth_table};
use lapidary_pipeline::plan::subset_ids;
use lapidary_pipeline::random::{Purpose, Rng, RngExt, keyed};
use lapidary_pipeline::stage::{Layout, column, require_manifest};
use lapidary_pipeline::{ImageStore, ShardRows, decode, labels_by_split};
use lapidary_schemas::ImageId;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Kinds of copies whose bytes are not the original's.
const KINDS: [&str; 5] = ["reencoded", "resized", "cropped", "colour-shifted", "flipped"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["draw", images, folder, largest, imbalance, copies, seed] => {
            let number = |text: &str| text.parse::<f64>().expect("a number");
            let asked = Asked {
                largest: largest.parse().expect("a number of images"),
                imbalance: number(imbalance),
                copies: number(copies),
                seed: seed.parse().expect("a seed"),
            };
            draw(Path::new(images), Path::new(folder), &asked);
        }
        ["stats", images, subset] => stats(Path::new(images), Path::new(subset)),
        // `cargo bench` runs every bench; this one is asked by name.
        _ => println!("asked for nothing: say `draw` or `stats`"),
    }
}

struct Asked {
    largest: usize,
    imbalance: f64,
    copies: f64,
    seed: u64,
}

/// Images of each class, the largest class first.
fn class_sizes(classes: usize, asked: &Asked) -> Vec<usize> {
    let last = classes.saturating_sub(1).max(1) as f64;
    (0..classes)
        .map(|class| (asked.largest as f64 * asked.imbalance.powf(-(class as f64) / last)).round().max(1.0) as usize)
        .collect()
}

fn draw(images: &Path, folder: &Path, asked: &Asked) {
    if folder.is_dir() {
        println!("{{\"pool\": \"there\"}}");
        return;
    }
    let manifest = require_manifest(images, "ingested images", "run `lapidary ingest` first").expect("ingested");
    let classes: Vec<String> = serde_json::from_value(manifest.facts["classes"].clone()).expect("classes");
    let mut by_split = labels_by_split(images).expect("labels");
    let labelled = by_split.remove("train").expect("a train split");
    let store = ImageStore::open(images).expect("opens");
    let (partial, mut truth) = (folder.with_extension("partial"), Vec::new());
    let _ = std::fs::remove_dir_all(&partial);
    let mut originals: Vec<(ImageId, usize)> = Vec::new();
    for (class, size) in class_sizes(classes.len(), asked).into_iter().enumerate() {
        let of_class = labelled.iter().filter(|(_, label)| *label == class as i64);
        let mut keyed_ids: Vec<(u64, ImageId)> =
            of_class.map(|(id, _)| (keyed(asked.seed, Purpose::ProbeSample, id.0, 0).next_u64(), *id)).collect();
        keyed_ids.sort_unstable();
        assert!(keyed_ids.len() >= size, "`{}` has {} of {size} images", classes[class], keyed_ids.len());
        originals.extend(keyed_ids[..size].iter().map(|(_, id)| (*id, class)));
        std::fs::create_dir_all(partial.join(&classes[class])).expect("creates");
    }
    for chunk in originals.chunks(1024) {
        let fetched = store.fetch(&chunk.iter().map(|(id, _)| *id).collect::<Vec<_>>()).expect("fetches");
        for (index, (id, class)) in chunk.iter().enumerate() {
            std::fs::write(partial.join(&classes[*class]).join(format!("{id}.jpg")), fetched.get(index))
                .expect("writes");
        }
    }
    let copies = (asked.copies / (1.0 - asked.copies) * originals.len() as f64).round() as usize;
    for number in 0..copies {
        let mut rng = keyed(asked.seed, Purpose::Scene, 2, number as u64);
        let (id, class) = originals[rng.random_range(0..originals.len())];
        let kind = KINDS[number % KINDS.len()];
        let fetched = store.fetch(&[id]).expect("fetches");
        let image = decode(fetched.get(0), store.rule()).expect("decodes").rgb;
        let bytes = copy(kind, fetched.get(0), &image, &mut rng).expect("copies");
        let name = format!("{id}-{number}-{kind}.jpg");
        std::fs::write(partial.join(&classes[class]).join(&name), bytes).expect("writes");
        let of = |name: &str| format!("{}/{name}", classes[class]);
        truth.push([of(&name), of(&format!("{id}.jpg")), kind.to_owned()]);
    }
    let rows = truth.iter().map(|row| row.each_ref().map(String::as_str));
    let table = truth_table(rows).expect("a table");
    std::fs::write(folder.with_file_name(format!("{}-truth.csv", name_of(folder))), table).expect("writes");
    std::fs::rename(&partial, folder).expect("renames");
    println!(
        "{}",
        json!({"originals": originals.len(), "copies": copies, "classes": class_sizes(classes.len(), asked)})
    );
}

fn name_of(folder: &Path) -> String {
    folder.file_name().expect("a name").to_string_lossy().into_owned()
}

fn stats(images: &Path, subset: &Path) {
    let ids: BTreeSet<u64> = subset_ids(subset).expect("a subset").into_iter().map(|id| id.0).collect();
    let (mut originals, mut of_class) = (BTreeSet::new(), BTreeMap::<String, usize>::new());
    for path in Layout::shards(images).expect("shards") {
        for batch in ShardRows::open_columns(&path, &["image_id", "image"], 4096).expect("opens") {
            let batch = batch.expect("reads");
            let all: &UInt64Array = column(&batch, "image_id").expect("ids");
            let pictures: &StructArray = column(&batch, "image").expect("pictures");
            let paths: &StringArray = pictures.column_by_name("path").expect("paths").as_string();
            for row in 0..batch.num_rows() {
                let path = PathBuf::from(paths.value(row));
                let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
                let class = path.parent().map(name_of).unwrap_or_default();
                // A class of which the subset has nothing counts 0.
                let count = of_class.entry(class.clone()).or_default();
                if ids.contains(&all.value(row)) {
                    *count += 1;
                    originals.insert((class, stem.split('-').next().unwrap_or_default().to_owned()));
                }
            }
        }
    }
    let total: usize = of_class.values().sum();
    let shares = of_class.values().filter(|n| **n > 0).map(|n| *n as f64 / total as f64);
    let entropy: f64 = shares.map(|share| -share * share.ln()).sum();
    let told = json!({
        "images": total,
        "originals": originals.len(),
        "effective_classes": entropy.exp(),
        "classes": of_class,
    });
    println!("{told}");
}
