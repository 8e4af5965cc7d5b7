//! A billion images on a hundred machines, on paper: hours, bytes moved, what breaks first. Computed from measured costs;
//! what is assumed of the machines stands in one table below.

use crate::costs::Costs;
use lapidary_cluster::StageTask;
use lapidary_schemas::Config;
use serde_json::{Value, json};

const IMAGES: f64 = 1e9;
const MACHINES: f64 = 100.0;
/// Assumed of each machine: cores of the speed of this one, and its link.
const CORES: f64 = 32.0;
const LINK_BYTES_PER_SEC: f64 = 10e9 / 8.0;
/// Assumed of the shared folder: what it gives out to all machines together.
const STORE_BYTES_PER_SEC: f64 = 20e9;
/// Bytes of ours that a message of Ballista's may have.
const MESSAGE_BYTES: f64 = 16.0 * 1024.0 * 1024.0;
/// How the time of the four reductions grew from 100,000 to 400,000 real images (`make bench-curate PARTS=real`): 4.2 times.
const GROWTH: f64 = 4.2;

/// What comes out.
pub struct Paper {
    /// For a reader.
    pub text: String,
    /// The same numbers.
    pub facts: Value,
}

/// Hours of a map: the longest of its work, its reading from the shared folder and its links.
fn map_hours(core_secs_per_million: f64, bytes_read: f64) -> (f64, &'static str) {
    let work = core_secs_per_million * IMAGES / 1e6 / (MACHINES * CORES);
    let store = bytes_read / STORE_BYTES_PER_SEC;
    let links = bytes_read / (MACHINES * LINK_BYTES_PER_SEC);
    let all = [(work, "cores"), (store, "the shared folder"), (links, "links")];
    let longest = all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or(all[0]);
    (longest.0 / 3600.0, longest.1)
}

/// The model.
pub fn billion(costs: &Costs) -> Paper {
    let terabytes = |table: &str| costs.bytes_per_image.get(table).copied().unwrap_or(0.0) * IMAGES / 1e12;
    let images_tb = terabytes("images");
    let mut text = format!(
        "A billion images on {MACHINES} machines of {CORES} cores, links of {:.2} GB/s, a shared folder of {:.0} GB/s:\n",
        LINK_BYTES_PER_SEC / 1e9,
        STORE_BYTES_PER_SEC / 1e9
    );
    let mut hours = serde_json::Map::new();
    // Ingest runs on the machine that is asked; of the maps each reads all images once.
    for stage in ["fingerprint", "embed"] {
        let (stage_hours, limit) = map_hours(costs.map_core_secs_per_million[stage], images_tb * 1e12);
        text += &format!("  {stage:<12} {stage_hours:8.1} h, limited by {limit}; reads {images_tb:.0} TB\n");
        hours.insert(stage.to_owned(), json!(stage_hours));
    }
    let ingest = costs.map_core_secs_per_million["ingest"] * IMAGES / 1e6 / CORES / 3600.0;
    text += &format!(
        "  ingest       {ingest:8.1} h on one machine, which is not shared out yet; writes {images_tb:.0} TB\n"
    );
    hours.insert("ingest_on_one_machine".to_owned(), json!(ingest));
    // The power law through the two measured sizes, from the number that was measured here.
    let exponent = GROWTH.ln() / 4.0_f64.ln();
    let measured = costs.reduced_images as f64;
    let mut slowest = ("", 0.0);
    for (stage, secs_per_million) in &costs.reduction_secs_per_million {
        let stage_hours = secs_per_million * measured / 1e6 * (IMAGES / measured).powf(exponent) / 3600.0;
        text += &format!("  {stage:<12} {stage_hours:8.1} h on the client, with this machine's cores\n");
        hours.insert(format!("{stage}_on_client"), json!(stage_hours));
        if stage_hours > slowest.1 {
            slowest = (stage, stage_hours);
        }
    }
    let read_by_client_tb = terabytes("fingerprints") + terabytes("embeddings");
    let written_tb: f64 = ["pairs", "groups", "clusters", "ranking"].into_iter().map(terabytes).sum();
    let shard_mib = Config::default().ingest.shard_mib as f64;
    let shards = (images_tb * 1e12 / (shard_mib * 1024.0 * 1024.0)).ceil();
    let images_per_group = IMAGES / shards.min(StageTask::MAX_GROUPS as f64);
    let group_hours = images_per_group * costs.map_core_secs_per_million["fingerprint"] / 1e6 / CORES / 3600.0;
    let names_mib = shards * 20.0 / 1024.0 / 1024.0;
    text += &format!(
        "  moved: {:.0} TB of images read twice, {read_by_client_tb:.2} TB of fingerprints and embeddings read by the client, \
         {written_tb:.2} TB written by it\n\
         \x20 shards: {shards:.0} of {:.0} MiB; a group, which is the unit of retry, has {images_per_group:.0} images and takes a \
         machine {group_hours:.2} h; a list of the shards' names would be {names_mib:.1} MiB of a message's {:.0}, so a plan has \
         numbers of groups instead\n\
         \x20 breaks first: `{}` on the client, {:.0} h, and before it the client's disk ({read_by_client_tb:.1} TB and scratch) and \
         ingest on one machine\n",
        2.0 * images_tb,
        shard_mib,
        MESSAGE_BYTES / 1024.0 / 1024.0,
        slowest.0,
        slowest.1,
    );
    let facts = json!({
        "images": IMAGES, "machines": MACHINES, "cores_a_machine": CORES, "hours": hours,
        "terabytes": {"images": images_tb, "read_twice": 2.0 * images_tb, "read_by_client": read_by_client_tb, "written_by_client": written_tb},
        "shards": shards, "images_a_group": images_per_group, "group_hours": group_hours,
        "breaks_first": format!("{} on the client", slowest.0), "growth_exponent": exponent,
    });
    Paper { text, facts }
}
