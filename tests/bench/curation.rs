//! Curation at scale, on synthetic embeddings: clusters whose sizes have a heavy tail, 384 values each.
//!
//!     cargo bench --workspace --bench curation -- scale|balance [IMAGES]
//!
//! `scale` times the k-NN graph, components, trees of 2 and 3 levels and the ranking at a tenth of IMAGES and at IMAGES
//! (1,000,000), the hash join and the cut at IMAGES, and writes the smaller set and what it took to `LAPIDARY_BENCH_OUT`, where
//! `faiss_peer.py` does the same with the same index. `balance` compares prefixes of the ranking with random subsets. The last
//! line is a JSON object.

use arrow::array::{
    ArrayRef, Float32Array, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt32Array, UInt64Array,
};
use lapidary_curate::{
    CutFilter, Size, Vectors, cluster, components, cut, pairs_above, pairs_within, rank, ranking_tree,
};
use lapidary_pipeline::random::{Purpose, Rng, RngExt, keyed};
use lapidary_pipeline::stage::{Layout, Opened, Previous, StageSpec, TableWriter, peak_memory_mib};
use lapidary_schemas::config::CurateConfig;
use lapidary_schemas::tables::{self, DECISIONS_FILE};
use lapidary_schemas::{DecisionReason, Rows};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

const DIM: usize = 384;
const CENTRES: usize = 2000;
/// Neighbours of the graph.
const NEIGHBOURS: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let images: usize = arguments.get(1).map_or(1_000_000, |count| count.parse().expect("a number of images"));
    match arguments.first().map(String::as_str) {
        Some("scale") => scale(images),
        Some("balance") => balance(images.min(100_000)),
        // `cargo bench` runs every bench; this one is asked by name.
        _ => println!("asked for nothing: say `scale` or `balance`"),
    }
}

/// Unit vectors around centres; centre `i` is `1 / (i + 3)` as often as the first.
fn synthetic(count: usize) -> Vectors {
    let shares: Vec<f64> = (0..CENTRES).map(|i| 1.0 / (i as f64 + 3.0)).collect();
    let total: f64 = shares.iter().sum();
    let mut cumulative = 0.0;
    let bounds: Vec<f64> = shares
        .iter()
        .map(|share| {
            cumulative += share / total;
            cumulative
        })
        .collect();
    let normal =
        |rng: &mut dyn FnMut() -> f32| (-2.0 * rng().max(1e-7).ln()).sqrt() * (std::f32::consts::TAU * rng()).cos();
    let centres: Vec<Vec<f32>> = (0..CENTRES)
        .map(|centre| {
            let mut rng = keyed(0, Purpose::Scene, 1, centre as u64);
            (0..DIM).map(|_| normal(&mut || rng.random::<f32>())).collect()
        })
        .collect();
    let mut values = vec![0f32; count * DIM];
    values.par_chunks_exact_mut(DIM).enumerate().for_each(|(row, vector)| {
        let mut rng = keyed(0, Purpose::Scene, 2, row as u64);
        let drawn = rng.random::<f64>();
        let centre = &centres[bounds.partition_point(|bound| *bound < drawn).min(CENTRES - 1)];
        for (value, centre) in vector.iter_mut().zip(centre) {
            *value = centre + 0.8 * normal(&mut || rng.random::<f32>());
        }
        let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|value| *value /= norm);
    });
    Vectors { dim: DIM, values }
}

fn config() -> CurateConfig {
    CurateConfig {
        neighbours: NEIGHBOURS,
        copy_similarity_min: 0.66,
        flat_max_images: 0,
        clusters: vec![1000, 50],
        resample_rounds: 0,
        ..CurateConfig::default()
    }
}

/// Seconds that a step takes, said aloud.
fn timed<T>(what: &str, secs: &mut BTreeMap<String, f64>, step: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = step();
    let taken = begun.elapsed().as_secs_f64();
    println!("    {what:<24} {taken:7.2} s");
    secs.insert(what.to_owned(), taken);
    result
}

fn scale(images: usize) {
    let mut totals = Vec::new();
    let mut peer: BTreeMap<String, f64>;
    for count in [images / 10, images] {
        let vectors = synthetic(count);
        println!("  {count} embeddings of {DIM} values");
        let mut secs = BTreeMap::new();
        let config = config();
        let pairs = timed("k-NN graph", &mut secs, || pairs_above(&vectors, &config).expect("searches").pairs);
        let groups = timed("components", &mut secs, || components(count, pairs.iter().map(|(a, b, _)| (*a, *b))));
        let levels = timed("tree of 2 levels", &mut secs, || cluster(&vectors, &config, 0).expect("clusters"));
        let deep = CurateConfig { clusters: vec![1000, 100, 10], ..config.clone() };
        timed("tree of 3 levels", &mut secs, || cluster(&vectors, &deep, 0).expect("clusters"));
        let ranked = timed("ranking", &mut secs, || rank(ranking_tree(&levels)));
        let largest = groups.iter().fold(BTreeMap::new(), |mut sizes: BTreeMap<usize, usize>, root| {
            *sizes.entry(*root).or_default() += 1;
            sizes
        });
        println!(
            "    {} pairs, {} components, {} ranked; peak memory {:.0} MiB, of which embeddings {:.0}",
            pairs.len(),
            largest.len(),
            ranked.len(),
            peak_memory_mib(),
            (count * DIM * 4) as f64 / (1 << 20) as f64
        );
        if count == images / 10 {
            peer = secs.clone();
            if let Ok(out) = std::env::var("LAPIDARY_BENCH_OUT") {
                let mut file =
                    std::io::BufWriter::new(std::fs::File::create(format!("{out}/vectors.f32")).expect("creates"));
                vectors.values.iter().for_each(|value| file.write_all(&value.to_le_bytes()).expect("writes"));
                let kmeans = CurateConfig { clusters: vec![1000], ..config.clone() };
                timed("k-means alone", &mut peer, || cluster(&vectors, &kmeans, 0).expect("clusters"));
                let facts = json!({"knn": peer["k-NN graph"], "kmeans": peer["k-means alone"], "k": NEIGHBOURS, "dim": DIM,
                    "iterations": config.kmeans_iterations, "max_points": config.kmeans_max_points});
                std::fs::write(format!("{out}/ours.json"), facts.to_string()).expect("writes");
            }
        }
        totals.push(secs.values().sum::<f64>());
    }
    let hashes = hashes(images);
    let mut secs = BTreeMap::new();
    let near = timed("hash join, 31 of 256 bits", &mut secs, || pairs_within(&hashes, 31));
    println!("    {} pairs among {} hashes", near.len(), hashes.len());
    let cut_ms = cut_ms(images);
    println!("    cut of any size: {cut_ms:.1} ms at most");
    let result = json!({
        "growth_1e5_to_1e6": (totals[1] / totals[0] * 100.0).round() / 100.0,
        "scale_secs_1e6": totals[1].round(),
        "scale_peak_mib": peak_memory_mib().round(),
        "hash_join_secs_1e6": (secs["hash join, 31 of 256 bits"] * 10.0).round() / 10.0,
        "cut_ms_1e6": (cut_ms * 10.0).round() / 10.0,
    });
    println!("{result}");
}

/// Random hashes; every tenth is near another.
fn hashes(count: usize) -> Vec<[u64; 4]> {
    let mut rng = keyed(0, Purpose::Scene, 3, 0);
    let mut hashes: Vec<[u64; 4]> = (0..count).map(|_| std::array::from_fn(|_| rng.next_u64())).collect();
    for index in (10..count).step_by(10) {
        hashes[index] = hashes[index - 7];
        for _ in 0..20 {
            let bit = rng.random_range(0..256);
            hashes[index][bit / 64] ^= 1 << (bit % 64);
        }
    }
    hashes
}

/// The slowest of cuts of several sizes from a ranking of `count`, in milliseconds.
fn cut_ms(count: usize) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = Layout::new(folder.path());
    let spec = StageSpec {
        stage: "ranking",
        version: 1,
        out: layout.out.clone(),
        folder: layout.ranking("bench"),
        config: json!({}),
        inputs: BTreeMap::new(),
        resumable: false,
        previous: Previous::Replaced,
    };
    let Opened::Run(mut run) = spec.open(false).expect("opens") else { unreachable!("an empty folder") };
    let mut table = TableWriter::create(&run.path(DECISIONS_FILE), tables::decisions()).expect("creates");
    let nothing = || Arc::new(UInt64Array::from(vec![None::<u64>; count])) as ArrayRef;
    let mut issues = ListBuilder::new(StringBuilder::new());
    (0..count).for_each(|_| issues.append(true));
    let mut rng = keyed(0, Purpose::Scene, 4, 0);
    let columns: Vec<ArrayRef> = vec![
        Arc::new((0..count).map(|_| Some(rng.next_u64())).collect::<UInt64Array>()),
        Arc::new((0..count as u32).map(Some).collect::<UInt32Array>()),
        Arc::new((0..count).map(|_| Some(DecisionReason::Kept.code())).collect::<StringArray>()),
        Arc::new((0..count as u32).map(|i| Some(i % 1000)).collect::<UInt32Array>()),
        Arc::new((0..count as u32).map(|i| Some(i / 1000)).collect::<UInt32Array>()),
        nothing(),
        Arc::new(Float32Array::from(vec![None::<f32>; count])),
        nothing(),
        Arc::new(StringArray::from(vec![None::<&str>; count])),
        Arc::new(issues.finish()),
    ];
    table.write(&RecordBatch::try_new(tables::decisions(), columns).expect("a batch")).expect("writes");
    run.note_table(DECISIONS_FILE, table.finish().expect("finishes"));
    let rows = Rows { input: count as u64, output: count as u64, rejected: 0 };
    run.finish(rows, json!({"images_by_reason": {"kept": count}}), &[]).expect("finishes");
    let sizes = [100, count / 100, count / 10, count / 2, count];
    let cuts = sizes.map(|size| {
        // The best of three: a cut ends with a sync of what it wrote, and other writers are synced with it.
        let one = || {
            let _ = std::fs::remove_dir_all(layout.subset("bench", &size.to_string()));
            let begun = Instant::now();
            cut(&layout, "bench", Size::Images(size as u64), &CutFilter::default(), false).expect("cuts");
            begun.elapsed().as_secs_f64() * 1000.0
        };
        (0..3).map(|_| one()).fold(f64::INFINITY, f64::min)
    });
    cuts.into_iter().fold(0.0, f64::max)
}

fn balance(images: usize) {
    let vectors = synthetic(images);
    let config = CurateConfig { clusters: vec![1000, 50], ..CurateConfig::default() };
    let levels = cluster(&vectors, &config, 0).expect("clusters");
    let ranked = rank(ranking_tree(&levels));
    let mut random: Vec<usize> = (0..images).collect();
    random.sort_by_cached_key(|image| keyed(0, Purpose::LeafOrder, *image as u64, 0).next_u64());
    println!("  {images} embeddings: KL divergence from uniform in nats, and the share of tail clusters covered");
    println!("    level  size      lapidary            random");
    let mut result = BTreeMap::new();
    let mut cluster_of: Vec<usize> = (0..images).collect();
    for (number, level) in levels.iter().enumerate() {
        cluster_of.iter_mut().for_each(|cluster| *cluster = level.assignment[*cluster] as usize);
        let clusters = level.centroids.len();
        let mut sizes = vec![0usize; clusters];
        cluster_of.iter().for_each(|cluster| sizes[*cluster] += 1);
        // The smaller half of the clusters is the tail.
        let mut by_size: Vec<usize> = (0..clusters).collect();
        by_size.sort_by_key(|cluster| sizes[*cluster]);
        let tail = &by_size[..clusters / 2];
        for percent in [1, 5, 10, 25] {
            let size = images * percent / 100;
            let measure = |order: &[usize]| {
                let mut counts = vec![0usize; clusters];
                order[..size].iter().for_each(|image| counts[cluster_of[*image]] += 1);
                let kl: f64 = counts
                    .iter()
                    .filter(|count| **count > 0)
                    .map(|count| *count as f64 / size as f64)
                    .map(|share| share * (share * clusters as f64).ln())
                    .sum();
                (kl, tail.iter().filter(|cluster| counts[**cluster] > 0).count() as f64 / tail.len() as f64)
            };
            let (ours, theirs) = (measure(&ranked), measure(&random));
            println!(
                "    {:>5} {percent:>3} %   {:.4}  {:>6.1} %   {:.4}  {:>6.1} %",
                number + 1,
                ours.0,
                ours.1 * 100.0,
                theirs.0,
                theirs.1 * 100.0
            );
            let round = |value: f64| (value * 1e4).round() / 1e4;
            result.insert(format!("kl_level_{}_{percent}pct", number + 1), json!([round(ours.0), round(theirs.0)]));
        }
    }
    println!("{}", json!(result));
}
