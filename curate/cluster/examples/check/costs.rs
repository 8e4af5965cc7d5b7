//! What each stage costs, as measured: seconds of one core for a million images, and bytes an image of each table.

use crate::commands::{manifest, run};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The share of the images that the tree is fitted on where that is measured.
const SAMPLE: f64 = 0.5;

/// The stages that the client makes by itself.
pub const REDUCTIONS: [&str; 4] = ["pairs", "groups", "clusters", "ranking"];

/// Measured costs.
#[derive(Debug, Serialize)]
pub struct Costs {
    /// The set of photographs that the maps were measured on.
    pub maps_measured_on: String,
    /// The set that the reductions were measured on, and its images.
    pub reductions_measured_on: String,
    /// How many those were.
    pub reduced_images: u64,
    /// Core-seconds of a map for a million images: an executor of one thread; ingest by the clock times the cores.
    pub map_core_secs_per_million: BTreeMap<&'static str, f64>,
    /// Seconds of a reduction by the clock, of the images it was measured on.
    pub reduction_secs: BTreeMap<&'static str, f64>,
    /// Core-seconds of fitting a tree on a sample, for a million images of the sample and a finest cluster.
    pub fit_core_secs: f64,
    /// Core-seconds of assigning a million images, for a finest cluster.
    pub assign_core_secs: f64,
    /// Bytes of a table for an image.
    pub bytes_per_image: BTreeMap<&'static str, f64>,
}

impl Costs {
    /// Reads the manifests of two curations, each an output tree and a source, one of photographs and one of many images; and
    /// what one executor of one thread made of the photographs.
    pub fn of(photographs: (&Path, &str), many: (&Path, &str), single: &Value) -> Self {
        let of_photographs = |stage: &str| manifest(photographs.0, photographs.1, stage);
        let of_many = |stage: &str| manifest(many.0, many.1, stage);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let secs = |manifest: &Value| manifest["wall_secs"].as_f64().expect("seconds");
        let rows = |manifest: &Value| manifest["rows"]["input"].as_f64().expect("rows");
        let mut map = BTreeMap::new();
        let ingest = of_photographs("images");
        map.insert("ingest", secs(&ingest) * cores / rows(&ingest) * 1e6);
        for stage in ["fingerprint", "embed"] {
            let made = &single[stage];
            let (secs, images) = (made["executor_secs"].as_f64(), made["images"].as_f64());
            map.insert(stage, secs.expect("one executor was timed") / images.expect("images") * 1e6);
        }
        let images = rows(&of_many("images"));
        let reductions = REDUCTIONS.map(|stage| (stage, secs(&of_many(&format!("curation/{stage}")))));
        let mut bytes = BTreeMap::from([("images", bytes_of(&ingest) / rows(&ingest))]);
        bytes.insert("fingerprints", bytes_of(&of_photographs("fingerprints")) / rows(&ingest));
        bytes.insert("embeddings", bytes_of(&of_photographs("embeddings/descriptor")) / rows(&ingest));
        bytes.extend(REDUCTIONS.map(|stage| (stage, bytes_of(&of_many(&format!("curation/{stage}"))) / images)));
        // Last: a tree that is fitted on a sample takes the place of the one that was read.
        let sample = ((images * SAMPLE) as u64).to_string();
        let sampled = format!("curate.tree_max_images={sample}");
        run(many.0, &["curate", "--source", many.1, "--set", &sampled]);
        let (tree, assigned) = (of_many("curation/tree"), of_many("curation/assignment"));
        let leaves = tree["facts"]["levels"][0].as_f64().expect("levels");
        let core_secs = |manifest: &Value| secs(manifest) * cores / (rows(manifest) / 1e6) / leaves;
        Self {
            fit_core_secs: core_secs(&tree),
            assign_core_secs: core_secs(&assigned),
            maps_measured_on: photographs.1.to_owned(),
            reductions_measured_on: many.1.to_owned(),
            reduced_images: images as u64,
            map_core_secs_per_million: map,
            reduction_secs: BTreeMap::from(reductions),
            bytes_per_image: bytes,
        }
    }
}

/// Bytes of all tables of a stage.
fn bytes_of(manifest: &Value) -> f64 {
    let outputs = manifest["outputs"].as_object().expect("outputs");
    outputs.values().filter_map(|output| output["bytes"].as_f64()).sum()
}
