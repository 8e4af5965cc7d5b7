//! Ingest: a source's inputs become `images` shards, sorted by image id, and `rejects`.
//!
//! Inputs are fetched, checked, decoded and hashed in parallel, a chunk at a time, and written by a thread of its own.
//! Original bytes are kept. When the source has only grown since it was last ingested, the shards that are there stay, and
//! what is new goes into shards of its own.
//!
//! Peak memory is the listing (some 300 bytes an input), four chunks of 64 images (read, queued, taken and copied into
//! columns) and the row group being written; beyond the listing it does not grow with the images.

use crate::check::check;
use crate::fingerprint::phash;
use crate::images::{ImageRow, ImageShards};
use crate::ingested::{Ingested, stamps, write_listing};
use crate::sources::{Entry, Fetcher, Listing, Reject, Source, image_id};
use crate::stage::{Opened, Outcome, Progress, StageRun, StageSpec, TableWriter, digest_of_bytes};
use crate::{PipelineError, Result, interrupt};
use arrow::array::{Int64Array, RecordBatch, StringArray};
use crossbeam_channel::bounded;
use lapidary_schemas::config::{IccProfiles, IngestConfig};
use lapidary_schemas::tables::{self, REJECTS_FILE};
use lapidary_schemas::{ImageId, Manifest, RejectReason, Rows};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Inputs a chunk; chunks are the unit of parallel work and of writing.
const CHUNK_INPUTS: usize = 64;
const VERSION: u32 = 3;

/// Ingests `source` under the name `name` into `folder`; with `rebuild`, also what was ingested before.
///
/// # Errors
/// When the source cannot be read, or more of it is rejected than the configuration allows.
pub fn ingest(
    source: &dyn Source,
    name: &str,
    folder: PathBuf,
    config: &IngestConfig,
    dry_run: bool,
    rebuild: bool,
) -> Result<(Outcome, Option<Manifest>)> {
    let address = source.root().to_string_lossy().into_owned();
    let spec = StageSpec {
        stage: "ingest",
        version: VERSION,
        folder,
        config: json!({"name": name, "ingest": config}),
        inputs: BTreeMap::from([(address, source.listing_digest()?)]),
        resumable: false,
    };
    match spec.open_or_rebuild(dry_run, rebuild)? {
        Opened::UpToDate(manifest) => Ok((Outcome::UpToDate, Some(*manifest))),
        Opened::DryRun => Ok((Outcome::WouldRun, None)),
        Opened::Run(run) => {
            // The source is the same folder; what has become of its inputs is asked one by one.
            let former = run.former(|_, _| true).filter(|_| !rebuild);
            Ok((Outcome::Ran, Some(run_ingest(source, name, config, former, run)?)))
        }
    }
}

fn run_ingest(
    source: &dyn Source,
    name: &str,
    config: &IngestConfig,
    former: Option<Manifest>,
    mut run: StageRun,
) -> Result<Manifest> {
    let spool = run.path("spool.tmp");
    let mut listing = source.list(&spool)?;
    let inputs = (listing.entries.len() + listing.rejects.len()) as u64;
    if inputs == 0 {
        return Err(PipelineError::Empty(format!("`{}` holds no images", source.root().display())));
    }
    tracing::info!(
        "{name}: {inputs} inputs in {} layout, {} classes, splits {}",
        source.layout(),
        listing.classes.len(),
        listing.splits.join(", ")
    );
    if listing.bad_annotations > 0 {
        tracing::warn!("{} annotations name an unknown image or category", listing.bad_annotations);
    }
    let mut entries = sorted_by_id(&mut listing, name);
    let stamps = stamps(&entries, &listing);
    write_listing(&mut run, &entries, &stamps)?;
    let mut rejects = std::mem::take(&mut listing.rejects);
    let mut shards = ImageShards::create(run.folder(), &listing.classes, config)?;
    let former = match former {
        Some(manifest) => Ingested::read(&run, manifest, &listing, &entries, &stamps)?,
        None => None,
    };
    if let Some(former) = &former {
        shards = shards.after(run.take_over_shards(&former.manifest)?.len());
        rejects.extend(former.rejects.iter().cloned());
        entries.retain(|(_, entry)| !former.paths.contains(&entry.path));
        tracing::info!("{name}: {} inputs are as they were, {} are new", former.paths.len(), entries.len());
    }
    let fetcher = Fetcher::new(&spool)?;
    let progress = Progress::new("ingest", entries.len() as u64, "images");
    let foreign_profiles = AtomicU64::new(0);
    let reader =
        Reader { listing: &listing, fetcher: &fetcher, source: name, config, foreign_profiles: &foreign_profiles };

    std::thread::scope(|scope| -> Result<()> {
        let (send, receive) = bounded::<Vec<ImageRow>>(1);
        let writer = scope.spawn({
            let shards = &mut shards;
            move || receive.iter().try_for_each(|rows| shards.write(rows))
        });
        for chunk in entries.chunks(CHUNK_INPUTS) {
            interrupt::check()?;
            let read: Vec<Result<ImageRow, Reject>> =
                chunk.par_iter().with_max_len(1).map(|(id, entry)| reader.read(*id, entry)).collect();
            let mut rows = Vec::with_capacity(read.len());
            for result in read {
                match result {
                    Ok(row) => rows.push(row),
                    Err(reject) => rejects.push(reject),
                }
            }
            if config.strict
                && let Some(reject) = rejects.first()
            {
                let detail = format!("{} ({}): ingest.strict is set", reject.reason.text(), reject.detail);
                return Err(PipelineError::format(&reject.path, detail));
            }
            progress.add(chunk.len() as u64);
            if send.send(rows).is_err() {
                break;
            }
        }
        drop(send);
        writer.join().map_err(|_| PipelineError::Internal("the writer of shards panicked".to_owned()))?
    })?;
    drop(progress);

    let foreign_profiles = foreign_profiles.into_inner();
    if foreign_profiles > 0 {
        tracing::info!(
            "{name}: {foreign_profiles} images carry a colour profile other than sRGB; {}",
            match config.icc {
                IccProfiles::Ignore => "it is ignored (ingest.icc = \"convert\" converts their colours)",
                IccProfiles::Convert => "their colours are converted to sRGB",
            }
        );
    }
    let kept = shards.finish(|file, table| run.note_table(file, table))?;
    rejects.sort_by(|a, b| (&a.path, a.reason).cmp(&(&b.path, b.reason)));
    write_rejects(&mut run, &rejects)?;
    if spool.exists() {
        std::fs::remove_file(&spool).map_err(PipelineError::io("remove", &spool))?;
    }
    let mut images_by_split = kept.by_split;
    let before = former.as_ref().map(|former| &former.manifest);
    for (split, images) in before.and_then(|m| m.facts["images_by_split"].as_object()).into_iter().flatten() {
        *images_by_split.entry(split.clone()).or_default() += images.as_u64().unwrap_or(0);
    }
    let image_bytes = kept.bytes + before.and_then(|m| m.facts["image_bytes"].as_u64()).unwrap_or(0);
    let images = kept.images + before.map_or(0, |m| m.rows.output);
    let rows = Rows { input: inputs, output: images, rejected: rejects.len() as u64 };
    refuse_too_many(&run, &rejects, rows, config)?;
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for reject in &rejects {
        *reasons.entry(reject.reason.code()).or_default() += 1;
    }
    let facts = json!({
        "layout": source.layout(),
        "name": name,
        "classes": listing.classes,
        "category_ids": listing.category_ids,
        "images_by_split": images_by_split,
        "image_bytes": image_bytes,
        "added": kept.images,
        "foreign_icc_profiles": foreign_profiles,
        "rejected_by_reason": reasons,
        "bad_annotations": listing.bad_annotations,
    });
    run.finish(rows, facts, &[])
}

/// Gives each entry its id and sorts by it; a path or an id that comes twice is rejected.
fn sorted_by_id(listing: &mut Listing, name: &str) -> Vec<(ImageId, Entry)> {
    let mut entries: Vec<(ImageId, Entry)> =
        std::mem::take(&mut listing.entries).into_iter().map(|e| (image_id(name, &e.path), e)).collect();
    entries.sort_by(|(a, x), (b, y)| (a, &x.path).cmp(&(b, &y.path)));
    let mut unique: Vec<(ImageId, Entry)> = Vec::with_capacity(entries.len());
    for (id, entry) in entries {
        match unique.last() {
            Some((last, kept)) if *last == id => {
                let reason =
                    if kept.path == entry.path { RejectReason::DuplicateEntry } else { RejectReason::IdCollision };
                listing.rejects.push(Reject::new(entry.path, reason, format!("like `{}`", kept.path)));
            }
            _ => unique.push((id, entry)),
        }
    }
    unique
}

struct Reader<'a> {
    listing: &'a Listing,
    fetcher: &'a Fetcher,
    source: &'a str,
    config: &'a IngestConfig,
    /// Images with a colour profile other than sRGB's.
    foreign_profiles: &'a AtomicU64,
}

impl Reader<'_> {
    /// Fetches, decodes and hashes one input.
    fn read(&self, id: ImageId, entry: &Entry) -> Result<ImageRow, Reject> {
        let reject = |(reason, detail): (RejectReason, String)| Reject::new(&entry.path, reason, detail);
        let bytes = self.fetcher.fetch(entry, self.config.max_bytes).map_err(reject)?;
        let checked = check(&bytes, self.config).map_err(reject)?;
        self.foreign_profiles.fetch_add(u64::from(checked.has_foreign_profile), Ordering::Relaxed);
        Ok(ImageRow {
            id,
            digest: digest_of_bytes(&bytes),
            phash: phash(&checked.luma),
            width: checked.width,
            height: checked.height,
            format: checked.format,
            bytes,
            path: entry.path.clone(),
            split: self.listing.splits[entry.split as usize].clone(),
            source: self.source.to_owned(),
            url: entry.url.clone(),
            license: entry.license.map(|index| self.listing.licenses[index as usize].clone()),
            labels: self.labels(entry),
            annotations: entry.annotations.clone(),
            label: entry.label,
        })
    }

    /// The distinct classes of an image, in order.
    fn labels(&self, entry: &Entry) -> Option<Vec<i64>> {
        let Some(annotations) = &entry.annotations else { return entry.label.map(|label| vec![label]) };
        let class_of = |id: i64| self.listing.category_ids.iter().position(|known| *known == id);
        let mut labels: Vec<i64> =
            annotations.iter().filter_map(|a| class_of(a.category_id)).map(|class| class as i64).collect();
        labels.sort_unstable();
        labels.dedup();
        Some(labels)
    }
}

/// Writes the table of rejected inputs.
///
/// # Errors
/// When the disk refuses.
pub fn write_rejects(run: &mut StageRun, rejects: &[Reject]) -> Result<()> {
    let text = |f: fn(&Reject) -> &str| Arc::new(rejects.iter().map(|r| Some(f(r))).collect::<StringArray>());
    let offsets: Int64Array = rejects.iter().map(|r| r.offset_bytes).collect();
    let batch = RecordBatch::try_new(
        tables::rejects(),
        vec![text(|r| &r.path), Arc::new(offsets), text(|r| r.reason.code()), text(|r| &r.detail)],
    )
    .map_err(|e| PipelineError::Internal(e.to_string()))?;
    let mut table = TableWriter::create(&run.path(REJECTS_FILE), tables::rejects())?;
    table.write(&batch)?;
    run.note_table(REJECTS_FILE, table.finish()?);
    Ok(())
}

/// Fails when more inputs are rejected than the configuration allows.
///
/// # Errors
/// [`PipelineError::TooManyRejected`], with the counts of reasons.
pub fn refuse_too_many(run: &StageRun, rejects: &[Reject], rows: Rows, config: &IngestConfig) -> Result<()> {
    if rows.rejected as f64 <= config.max_reject * rows.input as f64 {
        return Ok(());
    }
    let mut counts: BTreeMap<RejectReason, u64> = BTreeMap::new();
    for reject in rejects {
        *counts.entry(reject.reason).or_default() += 1;
    }
    let reasons: Vec<String> = counts.iter().map(|(reason, n)| format!("{n} {}", reason.code())).collect();
    Err(PipelineError::TooManyRejected {
        rejected: rows.rejected,
        inputs: rows.input,
        max_reject: config.max_reject,
        reasons: reasons.join(", "),
        table: run.path(REJECTS_FILE),
    })
}
