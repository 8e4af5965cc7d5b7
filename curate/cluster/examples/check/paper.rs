//! A billion images on a hundred machines, on paper: hours, bytes moved, what breaks first. Computed from measured costs; what
//! is assumed of the machines stands in the constants below, and the growth of each reduction is of measured runs.

use crate::costs::{Costs, REDUCTIONS};
use lapidary_cluster::StageTask;
use lapidary_schemas::Config;
use serde_json::{Value, json};

const IMAGES: f64 = 1e9;
const MACHINES: f64 = 100.0;
/// Assumed of each machine, the client too: cores of the speed of this one, its link, its memory.
const CORES: f64 = 32.0;
const LINK_BYTES_PER_SEC: f64 = 10e9 / 8.0;
const MEMORY_BYTES: f64 = 512e9;
/// Assumed of the store or shared folder: what it gives out to all machines together.
const STORE_BYTES_PER_SEC: f64 = 20e9;
/// Bytes of ours that a message of Ballista's may have.
const MESSAGE_BYTES: f64 = 16.0 * 1024.0 * 1024.0;
/// What `lapidary curate` holds of an image whatever its budget, with the built-in descriptor (tests/benchmarks.md, "What is held
/// whatever the budget").
const HELD_BYTES_PER_IMAGE: f64 = 448.0 + 2048.0;
/// Time at 1,000,000 images over that at 100,000, in the two runs of tests/benchmarks.md ("the million again", and with
/// `memory_mib=3584`), the smaller first. The shortest stages took tenths of a second at 100,000: their ratios are rough.
const GROWTH_OF_TENFOLD: [(&str, f64, f64); 3] =
    [("pairs", 13.2, 13.7), ("groups", 11.0, 15.0), ("ranking", 13.0, 19.0)];

/// What comes out.
pub struct Paper {
    /// For a reader.
    pub text: String,
    /// The same numbers.
    pub facts: Value,
}

/// Hours of work on so many machines that read, and write, so many bytes each over its own link: the longest of the work, the
/// store and the links; and which that is.
fn hours(core_secs_per_million: f64, machines: f64, bytes: f64) -> (f64, &'static str) {
    let work = core_secs_per_million * IMAGES / 1e6 / (machines * CORES);
    let store = bytes / STORE_BYTES_PER_SEC;
    let links = bytes / (machines * LINK_BYTES_PER_SEC);
    let all = [(work, "cores"), (store, "the store"), (links, "links")];
    let longest = all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or(all[0]);
    (longest.0 / 3600.0, longest.1)
}

/// The model.
pub fn billion(costs: &Costs) -> Paper {
    let terabytes = |table: &str| costs.bytes_per_image.get(table).copied().unwrap_or(0.0) * IMAGES / 1e12;
    let images_tb = terabytes("images");
    let kb = costs.bytes_per_image["images"] / 1e3;
    let mut text = format!(
        "A billion images of {kb:.0} KB, as those of {} are, on {MACHINES} machines of {CORES} cores, {:.0} GB of memory and links \
         of {:.2} GB/s, a store of {:.0} GB/s:\n",
        costs.maps_measured_on,
        MEMORY_BYTES / 1e9,
        LINK_BYTES_PER_SEC / 1e9,
        STORE_BYTES_PER_SEC / 1e9
    );
    let mut all_hours = serde_json::Map::new();
    // Links carry both ways at once: what is read and written is as much, and the longer way counts.
    // The tree has 2 sqrt(n) leaves, is fitted on a sample, and all images are assigned to them.
    let leaves = 2.0 * IMAGES.sqrt();
    let sample = Config::default().curate.tree_max_images as f64;
    let mut maps: Vec<(&str, f64, f64)> = ["ingest", "fingerprint", "embed"]
        .map(|stage| (stage, costs.map_core_secs_per_million[stage], images_tb))
        .to_vec();
    maps.push(("assign", costs.assign_core_secs * leaves, terabytes("embeddings")));
    for (stage, core_secs_per_million, read_tb) in maps {
        let map = |machines: f64| hours(core_secs_per_million, machines, read_tb * 1e12);
        let ((stage_hours, limit), (alone, alone_limit)) = (map(MACHINES), map(1.0));
        text += &format!(
            "  {stage:<12} {stage_hours:8.1} h by all machines, limited by {limit}; by one {alone:.0} h, limited by {alone_limit}\n"
        );
        all_hours.insert(
            stage.to_owned(),
            json!({"hours": stage_hours, "limited_by": limit, "hours_on_one_machine": alone}),
        );
    }
    let mut slowest = ("", 0.0, 0.0);
    for (stage, low, high) in GROWTH_OF_TENFOLD {
        let grown = |tenfold: f64| (IMAGES / costs.reduced_images as f64).powf(tenfold.log10());
        let [low_hours, high_hours] = [low, high].map(|tenfold| costs.reduction_secs[stage] * grown(tenfold) / 3600.0);
        text += &format!(
            "  {stage:<12} {low_hours:8.1} to {high_hours:.1} h on the client, with this machine's cores; n^{:.2} to n^{:.2}\n",
            low.log10(),
            high.log10()
        );
        all_hours.insert(
            stage.to_owned(),
            json!({"hours": [low_hours, high_hours], "exponents": [low.log10(), high.log10()]}),
        );
        if high_hours > slowest.2 {
            slowest = (stage, low_hours, high_hours);
        }
    }
    let fit_hours = costs.fit_core_secs * leaves * sample / 1e6 / CORES / 3600.0;
    text += &format!(
        "  {:<12} {fit_hours:8.1} h on the client: {leaves:.0} leaves, fitted on {:.0} million images\n",
        "tree",
        sample / 1e6
    );
    all_hours.insert("tree".to_owned(), json!({"hours": fit_hours, "leaves": leaves, "sample": sample}));
    if fit_hours > slowest.2 {
        slowest = ("tree", fit_hours, fit_hours);
    }
    let read_by_client_tb = terabytes("fingerprints") + terabytes("embeddings");
    let written_tb: f64 = REDUCTIONS.into_iter().map(terabytes).sum();
    let shard_mib = Config::default().ingest.shard_mib as f64;
    let shards = (images_tb * 1e12 / (shard_mib * 1024.0 * 1024.0)).ceil();
    let images_per_group = IMAGES / shards.min(StageTask::MAX_GROUPS as f64);
    let images_per_shard = IMAGES / shards;
    let group_hours = images_per_group * costs.map_core_secs_per_million["fingerprint"] / 1e6 / CORES / 3600.0;
    let names_mib = shards * 20.0 / 1024.0 / 1024.0;
    let held_tb = HELD_BYTES_PER_IMAGE * IMAGES / 1e12;
    let fit = MEMORY_BYTES / HELD_BYTES_PER_IMAGE;
    text += &format!(
        "  moved: {images_tb:.0} TB of images written once and read twice, {read_by_client_tb:.2} TB of fingerprints and \
         embeddings read by the client, {written_tb:.2} TB written by it\n\
         \x20 shards: {shards:.0} of {shard_mib:.0} MiB; a group has {images_per_group:.0} images and takes a machine {group_hours:.2} h; \
         a retry makes what has no marker, so that a machine that dies loses at most the shard it was making \
         ({images_per_shard:.0} images). A list of the shards' names would be {names_mib:.1} MiB of a message's {:.0}, so a plan has \
         numbers of groups instead\n\
         \x20 breaks first: the client's memory. It holds {HELD_BYTES_PER_IMAGE:.0} bytes of each image, {held_tb:.1} TB; {:.0} million \
         images fit into {:.0} GB\n\
         \x20 breaks second, with that memory: the time of `{}` on the client, {:.0} to {:.0} h with this machine's cores\n",
        MESSAGE_BYTES / 1024.0 / 1024.0,
        fit / 1e6,
        MEMORY_BYTES / 1e9,
        slowest.0,
        slowest.1,
        slowest.2,
    );
    let facts = json!({
        "images": IMAGES, "machines": MACHINES, "cores_a_machine": CORES, "stages": all_hours,
        "terabytes": {"images": images_tb, "read_by_client": read_by_client_tb, "written_by_client": written_tb, "held_by_client": held_tb},
        "shards": shards, "images_a_group": images_per_group, "group_hours": group_hours,
        "breaks_first": "the client's memory", "images_that_fit_the_client": fit,
        "breaks_second": {"stage": slowest.0, "hours": [slowest.1, slowest.2]},
    });
    Paper { text, facts }
}
