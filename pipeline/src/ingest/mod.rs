//! Ingest: a source's inputs become `images` shards, sorted by image id, and `rejects`.
//!
//! What the listing has is cut into shards before anything is read ([`cuts`]); the inputs of each are then read and written
//! ([`reader`]), by this process or by several that make shares. Original bytes are kept. What was ingested before and is still
//! in the source as it was stays in its shards; what is new or was touched goes into shards of its own. A run that was cut off
//! makes the shards that are not there.
//!
//! Peak memory is the listing (some 300 bytes an input), four chunks of 64 images (read, queued, taken and copied into
//! columns) and the row group being written; beyond the listing it does not grow with the images.

mod check;
mod cuts;
mod listing;
mod previous;
mod reader;
mod rejects;
pub mod sources;

pub use check::{Checked, check};
pub use rejects::{refuse_too_many, write_rejects};

use crate::images::{ImageShards, ShardFacts, shard_number};
use crate::ingest::sources::{Fetcher, Listing, Reject, Source};
use crate::stage::{Previous as OtherKey, Share, SharedStage, StageRun, StageSpec, temporary_name};
use crate::{Layout, PipelineError, Result};
use cuts::{Cut, cut};
use lapidary_schemas::config::{IccProfiles, IngestConfig};
use lapidary_schemas::tables::LISTING_FILE;
use lapidary_schemas::{Manifest, Rows};
use listing::{sorted_by_id, stamps, write_listing};
use previous::Previous;
use reader::{Reader, rejects_of};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// 5: where a shard ends is said by the listing.
const VERSION: u32 = 5;

/// How to ingest, beside the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct IngestOptions {
    /// Look only whether there is something to do.
    pub dry_run: bool,
    /// Read what was ingested before as well.
    pub rebuild: bool,
    /// Which of the shards that the listing is cut into to make.
    pub share: Share,
}

/// Ingests `source` under the name `name` into `OUT/NAME/images`, or a share of it.
///
/// # Errors
/// When the source cannot be read, or more of it is rejected than the configuration allows.
pub fn ingest(
    layout: &Layout,
    source: &dyn Source,
    name: &str,
    config: &IngestConfig,
    options: IngestOptions,
) -> Result<SharedStage> {
    let folder = layout.images(name);
    let spec = StageSpec {
        stage: "ingest",
        version: VERSION,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"name": name, "ingest": config, "layout": source.layout()}),
        inputs: BTreeMap::from([(source.address(), source.listing_digest()?)]),
        resumable: true,
        previous: OtherKey::Replaced,
    };
    // A share makes what nobody has made, whatever was there before.
    let rebuild = options.rebuild && options.share == Share::All;
    spec.run_share(options.share, (options.dry_run, rebuild), |run| {
        // The source is the same folder; what has become of its inputs is asked one by one.
        let before = run.previous(|_, _| true)?.filter(|_| !options.rebuild);
        run_ingest(source, name, config, before, run)
    })
}

/// The manifest, unless a share was made.
fn run_ingest(
    source: &dyn Source,
    name: &str,
    config: &IngestConfig,
    before: Option<Manifest>,
    mut run: StageRun,
) -> Result<Option<Manifest>> {
    let spool = Scratch::beside(&run);
    let mut listing = source.list(&spool.0)?;
    let inputs = (listing.entries.len() + listing.rejects.len()) as u64;
    if inputs == 0 {
        return Err(PipelineError::Empty(format!("`{}` holds no images", source.address())));
    }
    tracing::info!(
        "{name}: {inputs} inputs in {} layout, {} classes, splits {}",
        source.layout(),
        listing.classes.len(),
        listing.splits.join(", ")
    );
    if listing.bad_total() > 0 {
        let kinds: Vec<String> = listing.bad_annotations.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        tracing::warn!("{} annotations cannot be used as objects: {}", listing.bad_total(), kinds.join(", "));
    }
    let mut entries = sorted_by_id(&mut listing, name);
    if !run.is_share() {
        write_listing(&mut run, &entries, &stamps(&entries, &listing))?;
    }
    let mut rejects = std::mem::take(&mut listing.rejects);
    if config.strict
        && let Some(reject) = rejects.first()
    {
        return Err(refused_by_strict(reject));
    }
    let previous = match before {
        Some(manifest) => Previous::read(&run, manifest, name, &listing, &entries)?,
        None => None,
    };
    let mut first_new = 0;
    if let Some(previous) = &previous {
        first_new = previous.next_shard();
        if !run.is_share() {
            previous.take_over(&mut run, &listing, config)?;
        }
        rejects.extend(previous.rejects.iter().cloned());
        entries.retain(|(_, entry)| !previous.unchanged.contains(&entry.path));
        tracing::info!(
            "{name}: {} inputs are as they were, {} have gone or changed, {} are read",
            previous.unchanged.len(),
            previous.gone(),
            entries.len()
        );
    }
    let cuts = cut(&entries, config, first_new);
    let names: Vec<String> = cuts.iter().map(Cut::name).collect();
    let left = run.shards_left(&names)?;
    let left: Vec<Cut> = left.into_iter().map(|place| cuts[place].clone()).collect();
    let fetcher = Fetcher::new(&spool.0)?.of(source.tree());
    let reader = Reader { listing: &listing, fetcher: &fetcher, source: name, config };
    // Where a shard ends was said before.
    let endless = IngestConfig { shard_mib: u64::MAX >> 20, ..config.clone() };
    let made = reader.make(&left, &entries, shards_of(&run, &listing, &endless)?, &mut run);
    run.unless_finished_meanwhile(made)?;
    if run.is_share() {
        return Ok(None);
    }
    let mut foreign_profiles = 0;
    for name in &names {
        let shard = &run.shards()[name];
        foreign_profiles += shard.facts["foreign_icc_profiles"].as_u64().unwrap_or(0);
        rejects.extend(rejects_of(&run, shard)?);
    }
    if foreign_profiles > 0 {
        tracing::info!(
            "{name}: {foreign_profiles} images carry a colour profile other than sRGB; {}",
            match config.icc {
                IccProfiles::Ignore => "it is ignored (ingest.icc = \"convert\" converts their colours)",
                IccProfiles::Convert => "their colours are converted to sRGB",
            }
        );
    }
    if run.shards().is_empty() {
        let mut empty = shards_of(&run, &listing, config)?.after(first_new);
        empty.write_empty()?;
        for shard in empty.take_finished() {
            run.note_shard(&shard.name, shard.table, json!(shard.facts))?;
        }
    }
    let shards: BTreeMap<String, (ShardFacts, u64)> = facts_of(&run)?;
    rejects.sort_by(|a, b| (&a.path, a.reason).cmp(&(&b.path, b.reason)));
    write_rejects(&mut run, &rejects)?;
    drop((fetcher, spool));
    let mut images_by_split: BTreeMap<&str, u64> = BTreeMap::new();
    for (split, images) in shards.values().flat_map(|(facts, _)| &facts.by_split) {
        *images_by_split.entry(split).or_default() += images;
    }
    let images: u64 = shards.values().map(|(_, rows)| rows).sum();
    let rows = Rows { input: inputs, output: images, rejected: rejects.len() as u64 };
    refuse_too_many(&run, &rejects, rows, config)?;
    let added: u64 =
        shards.iter().filter(|(name, _)| shard_number(name).unwrap_or(0) >= first_new).map(|(_, (_, rows))| rows).sum();
    let facts = json!({
        "layout": source.layout(),
        "name": name,
        "classes": listing.classes,
        "category_ids": listing.category_ids,
        "images_by_split": images_by_split,
        "image_bytes": shards.values().map(|(facts, _)| facts.bytes).sum::<u64>(),
        "added": added,
        "foreign_icc_profiles": foreign_profiles,
        "removed": previous.as_ref().map_or(0, Previous::gone),
        "rejected_by_reason": rejects::counts(&rejects).iter().map(|(r, n)| (r.code(), *n)).collect::<BTreeMap<_, _>>(),
        "categories": listing.categories,
        "licenses": listing.license_records,
        "bad_annotations": listing.bad_total(),
        "bad_annotations_by_kind": listing.bad_annotations,
        "next_shard": shards.keys().map(|name| shard_number(name).unwrap_or(0) + 1).max().unwrap_or(0).max(first_new),
        "shards": shards.iter().map(|(name, (facts, _))| (name, facts)).collect::<BTreeMap<_, _>>(),
    });
    // What was listed holds times.
    run.finish(rows, facts, &[LISTING_FILE]).map(Some)
}

/// A file that goes with its value. Processes that make shares write into one folder: each has a name of its own, and one that
/// was killed leaves what is known to be unfinished.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(run: &StageRun) -> Self {
        Self(temporary_name(&run.path("spool")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Shards of the listing's classes.
fn shards_of(run: &StageRun, listing: &Listing, config: &IngestConfig) -> Result<ImageShards> {
    let shards = ImageShards::create(&run.folder(), &listing.classes, config)?;
    Ok(shards.with_categories(&listing.category_ids, &listing.categories, &listing.license_records))
}

fn refused_by_strict(reject: &Reject) -> PipelineError {
    let detail = format!("{} ({}): ingest.strict is set", reject.reason.text(), reject.detail);
    PipelineError::format(&reject.path, detail)
}

/// What is in each shard, and its rows.
fn facts_of(run: &StageRun) -> Result<BTreeMap<String, (ShardFacts, u64)>> {
    let facts = |(name, shard): (&String, &crate::stage::Shard)| {
        let facts = ShardFacts::deserialize(&shard.facts).map_err(|e| PipelineError::format(run.path(name), e))?;
        Ok((name.clone(), (facts, shard.table.rows)))
    };
    run.shards().iter().map(facts).collect()
}
