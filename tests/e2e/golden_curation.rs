//! Curation beside its references: hashes, quality, components, water-filling (tests/golden/curation.py), k-means,
//! normalised scores, odd sizes (tests/golden/clusters.py).

use image::RgbImage;
use lapidary_curate::{Neighbours, Node, Quality, Vectors, components, lloyd, pdq, rank, usual_sizes};
use lapidary_pipeline::random::{Purpose, keyed};
use lapidary_pipeline::{luma_of_image, phash};
use lapidary_schemas::config::CurateConfig;
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn golden() -> (Value, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let text = std::fs::read_to_string(folder.join("curation.json")).expect("golden data");
    (serde_json::from_str(&text).expect("JSON"), std::fs::read(folder.join("pixels.safetensors")).expect("golden data"))
}

fn image(tensors: &SafeTensors<'_>, name: &str) -> RgbImage {
    let tensor = tensors.tensor(name).expect("an input");
    let (height, width) = (tensor.shape()[0] as u32, tensor.shape()[1] as u32);
    RgbImage::from_raw(width, height, tensor.data().to_vec()).expect("three bytes for each pixel")
}

fn luma(rgb: &RgbImage) -> Vec<f32> {
    rgb.pixels().map(|p| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2])).collect()
}

/// Bits in which two hexadecimal hashes differ.
fn bits_apart(a: &str, b: &str) -> u32 {
    let digit = |c: char| c.to_digit(16).expect("hexadecimal");
    a.chars().zip(b.chars()).map(|(a, b)| (digit(a) ^ digit(b)).count_ones()).sum()
}

#[test]
fn hashes_and_quality_are_the_references() {
    let (golden, bytes) = golden();
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    for (name, expected) in golden["images"].as_object().expect("images") {
        let rgb = image(&tensors, name);
        let hashes = pdq(&luma(&rgb), rgb.width() as usize);
        let ours: Vec<String> = hashes.by_dihedral.iter().map(|hash| hash.to_string()).collect();
        assert_eq!(ours[0], expected["pdq"][0].as_str().expect("a hash"), "{name}: no bit differs from Meta's");
        assert_eq!(u64::from(hashes.quality), expected["pdq_quality"].as_u64().expect("a number"), "{name}");
        // The reference turns by its own approximation of the median; each of its eight is one of ours to within a bit or two.
        for theirs in expected["pdq"].as_array().expect("eight").iter().map(|hash| hash.as_str().expect("a hash")) {
            let nearest = ours.iter().map(|hash| bits_apart(hash, theirs)).min();
            assert!(nearest <= Some(2), "{name}: {theirs} is {nearest:?} bits from the nearest of {ours:?}");
        }
        let short = format!("{:016x}", phash(&luma_of_image(&rgb)));
        let apart = bits_apart(&short, expected["phash"].as_str().expect("a hash"));
        assert!(apart <= 2, "{name}: {apart} bits from imagehash");
        let quality = Quality::of(&rgb);
        let near = |value: f32, key: &str, within: f64| {
            let expected = expected[key].as_f64().expect("a number");
            assert!((f64::from(value) - expected).abs() <= within, "{name}, {key}: {value} and {expected}");
        };
        near(quality.brightness_p99, "brightness_p99", 0.002);
        near(quality.brightness_p5, "brightness_p5", 0.002);
        near(quality.entropy_bits, "entropy_bits", 1e-4);
        near(quality.sharpness, "sharpness", 0.02);
    }
}

/// The published files, where `LAPIDARY_PUBLISHED` is a folder that holds them (they are not ours to copy): of
/// ThreatExchange's `pdq/data` and imagededup's `tests/data/base_images`.
#[test]
fn published_files_have_their_published_hashes() {
    let Some(folder) = std::env::var_os("LAPIDARY_PUBLISHED").map(PathBuf::from) else {
        println!("skipped: LAPIDARY_PUBLISHED names no folder");
        return;
    };
    for (file, expected) in [
        ("bridge-1-original.jpg", "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"),
        ("bridge-2-rotate-90.jpg", "30a10efd71cc3d429013d48d0ffffc52e34e0e17ada952a9d29685211ea9e5af"),
    ] {
        let bytes = std::fs::read(folder.join(file)).expect("reads");
        let rgb = lapidary_pipeline::decode(&bytes, u64::MAX).expect("decodes").rgb;
        let hashes = pdq(&luma(&rgb), rgb.width() as usize);
        let apart = bits_apart(&hashes.by_dihedral[0].to_string(), expected);
        println!("{file}: {apart} bits, quality {}", hashes.quality);
        assert!(apart <= 10 && hashes.quality == 100);
    }
    let bytes = std::fs::read(folder.join("small.jpg")).expect("reads");
    let rgb = lapidary_pipeline::decode(&bytes, u64::MAX).expect("decodes").rgb;
    assert_eq!(pdq(&luma(&rgb), rgb.width() as usize).quality, 0);
    let bytes = std::fs::read(folder.join("ukbench00120.jpg")).expect("reads");
    let rgb = lapidary_pipeline::decode(&bytes, u64::MAX).expect("decodes").rgb;
    let mirrored = image::imageops::flip_horizontal(&rgb);
    for (rgb, expected) in [(rgb, "9fee256239984d71"), (mirrored, "cabb7237e8cd3824")] {
        let short = format!("{:016x}", phash(&luma_of_image(&rgb)));
        // imagededup resizes before it takes luma, and leaves the constant coefficient out of the median.
        assert!(bits_apart(&short, expected) <= 2, "{short}, not {expected}");
    }
}

#[test]
fn components_are_scipys_whatever_the_order_of_edges() {
    let (golden, _) = golden();
    let golden = &golden["components"];
    let nodes = golden["nodes"].as_u64().expect("a number") as usize;
    let mut edges: Vec<(usize, usize)> = serde_json::from_value(golden["edges"].clone()).expect("pairs");
    let expected: Vec<usize> = serde_json::from_value(golden["smallest"].clone()).expect("numbers");
    assert_eq!(components(nodes, edges.iter().copied()), expected);
    edges.reverse();
    assert_eq!(components(nodes, edges), expected);
}

#[test]
fn prefixes_take_from_each_leaf_what_water_filling_allots() {
    let (golden, _) = golden();
    let sizes: Vec<Vec<usize>> = serde_json::from_value(golden["filling"]["tree"].clone()).expect("a tree");
    let mut next = 0;
    let mut leaf_of = Vec::new();
    let mut leaves = 0;
    let mut children = Vec::new();
    for group in &sizes {
        let mut nodes = Vec::new();
        for size in group {
            nodes.push(Node::Leaf((next..next + size).collect()));
            leaf_of.extend(std::iter::repeat_n(leaves, *size));
            next += size;
            leaves += 1;
        }
        children.push(Node::Inner(nodes));
    }
    let ranked = rank(Node::Inner(children));
    assert_eq!(ranked.len(), next);
    for case in golden["filling"]["budgets"].as_array().expect("cases") {
        let budget = case["budget"].as_u64().expect("a number") as usize;
        let bounds: Vec<(usize, usize)> = serde_json::from_value(case["leaves"].clone()).expect("bounds");
        let mut counts = vec![0usize; leaves];
        ranked[..budget].iter().for_each(|image| counts[leaf_of[*image]] += 1);
        for (leaf, (count, (least, most))) in counts.iter().zip(bounds).enumerate() {
            // The remainder, one at each level, is drawn at random there and by place here.
            assert!(
                count + 1 >= least && *count <= most + 1,
                "budget {budget}, leaf {leaf}: {count}, not {least} to {most}"
            );
        }
    }
    for case in golden["levels"].as_array().expect("cases") {
        let list = |key: &str| -> Vec<usize> { serde_json::from_value(case[key].clone()).expect("numbers") };
        let number = |key: &str| case[key].as_u64().expect("a number") as usize;
        let mut start = 0;
        // An image may be given so many times as the multiplier says.
        let leaves: Vec<Node> = list("sizes")
            .iter()
            .map(|size| {
                let images = (start..start + number("multiplier") * size).collect();
                start += number("multiplier") * size;
                Node::Leaf(images)
            })
            .collect();
        let bounds: Vec<std::ops::Range<usize>> = list("sizes")
            .iter()
            .scan(0, |at, size| {
                let from = *at;
                *at += number("multiplier") * size;
                Some(from..*at)
            })
            .collect();
        let prefix: Vec<usize> = rank(Node::Inner(leaves)).into_iter().take(number("budget")).collect();
        let counts: Vec<usize> =
            bounds.iter().map(|range| prefix.iter().filter(|image| range.contains(image)).count()).collect();
        let (level, remainder) = (number("level"), number("remainder"));
        let above = counts.iter().filter(|count| **count == level + 1).count();
        assert_eq!(above, remainder, "{case}: {counts:?}");
        assert!(
            counts.iter().zip(&bounds).all(|(count, range)| *count >= level.min(range.len())),
            "{case}: {counts:?}"
        );
        assert_eq!(bounds.iter().filter(|range| range.len() > level).count(), number("candidates"), "{case}");
    }
}

fn clusters() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/clusters.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("golden data")).expect("JSON")
}

fn vectors(rows: &Value) -> Vectors {
    let rows: Vec<Vec<f32>> = serde_json::from_value(rows.clone()).expect("rows");
    Vectors { dim: rows[0].len(), values: rows.concat() }
}

/// spec/curation.md section 8, tests 10 and 11.
#[test]
fn from_given_centroids_lloyd_goes_where_scikit_learn_and_faiss_go() {
    let golden = clusters();
    let points = vectors(&golden["points"]);
    let first: Vec<usize> = (0..golden["k"].as_u64().expect("a number") as usize).collect();
    let run = |points: &Vectors, start: Vectors, updates: u32| {
        lloyd(points, start, updates, &mut keyed(1, Purpose::Centroids, 0, 0)).expect("clusters")
    };
    for case in golden["lloyd"].as_array().expect("cases") {
        let updates = case["updates"].as_u64().expect("a number") as u32;
        let ours = run(&points, points.select(&first), updates).centroids;
        let theirs = vectors(&case["centroids"]);
        let apart = ours.values.iter().zip(&theirs.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{apart} from scikit-learn's after {updates} updates");
        let inertia = *run(&points, ours, 1).objectives.first().expect("one");
        let expected = case["inertia"].as_f64().expect("a number");
        assert!((inertia / expected - 1.0).abs() < 1e-5, "{inertia}, not {expected}");
    }
    let theirs: Vec<f64> = serde_json::from_value(golden["faiss"].clone()).expect("numbers");
    let ours = run(&points, points.select(&first), theirs.len() as u32).objectives;
    for (update, objective) in ours.iter().enumerate() {
        assert!((objective / theirs[update] - 1.0).abs() < 1e-4, "{objective} before update {update}, not {theirs:?}");
    }
    assert!(ours.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 1e-6)), "{ours:?}");
    let split = &golden["split"];
    let ours = run(&vectors(&split["points"]), vectors(&split["start"]), 1).centroids;
    let theirs = vectors(&split["centroids"]);
    let apart = ours.values.iter().zip(&theirs.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-5, "an empty cluster is split off as FAISS does: {ours:?}");
}

/// spec/curation.md section 8, test 5.
#[test]
fn normalised_scores_are_those_of_augmented_vectors() {
    let golden = &clusters()["normalised"];
    let (queries, references) = (vectors(&golden["queries"]), vectors(&golden["references"]));
    let beta = golden["beta"].as_f64().expect("a number") as f32;
    let config = CurateConfig { background_weight: beta, ..CurateConfig::default() };
    let mut neighbours = Neighbours::new(&queries, &config).expect("an index");
    neighbours.normalise(&vectors(&golden["background"]), &config).expect("normalises");
    let expected = vectors(&golden["scores"]);
    for query in 0..queries.len() {
        for reference in 0..references.len() {
            let cosine: f32 = queries.row(query).iter().zip(references.row(reference)).map(|(a, b)| a * b).sum();
            let (score, theirs) = (neighbours.score(query, cosine), expected.row(query)[reference]);
            assert!((score - theirs).abs() < 1e-6, "query {query}, reference {reference}: {score}, not {theirs}");
        }
    }
}

/// spec/curation.md section 8, test 14, sizes without a spread among them.
#[test]
fn odd_sizes_are_cleanvisions() {
    for case in clusters()["sizes"].as_array().expect("cases") {
        let sizes: Vec<f64> = serde_json::from_value(case["sizes"].clone()).expect("numbers");
        let expected: Vec<bool> = serde_json::from_value(case["odd"].clone()).expect("booleans");
        let [least, most] = usual_sizes(&sizes, 3.0);
        let odd: Vec<bool> = sizes.iter().map(|size| !(least..=most).contains(size)).collect();
        assert_eq!(odd, expected, "{sizes:?}");
    }
}
