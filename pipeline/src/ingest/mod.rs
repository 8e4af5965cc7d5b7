//! Ingest: a source's inputs become `images` shards, sorted by image id, and `rejects`.
//!
//! Inputs are fetched, checked, decoded and hashed in parallel, a chunk at a time, and written by a thread of its own.
//! Original bytes are kept. What was ingested before and is still in the source as it was stays in its shards; what is new or
//! was touched goes into shards of its own. A run that was cut off resumes after its last whole shard.
//!
//! Peak memory is the listing (some 300 bytes an input), four chunks of 64 images (read, queued, taken and copied into
//! columns) and the row group being written; beyond the listing it does not grow with the images.

mod check;
mod listing;
mod previous;
mod rejects;
pub mod sources;

pub use check::{Checked, check};
pub use rejects::{refuse_too_many, write_rejects};

use crate::images::phash;
use crate::images::{FinishedShard, ImageRow, ImageShards, ShardFacts};
use crate::ingest::sources::{Entry, Fetcher, Listing, Reject, Source};
use crate::stage::{Opened, Outcome, Previous as OtherKey, Progress, StageRun, StageSpec, digest_of_bytes};
use crate::{Layout, PipelineError, Result, interrupt};
use crossbeam_channel::bounded;
use lapidary_schemas::config::{IccProfiles, IngestConfig};
use lapidary_schemas::tables::LISTING_FILE;
use lapidary_schemas::{ImageId, Manifest, RejectReason, Rows};
use listing::{sorted_by_id, stamps, write_listing};
use previous::Previous;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

/// Inputs a chunk; chunks are the unit of parallel work and of writing.
const CHUNK_INPUTS: usize = 64;
const VERSION: u32 = 4;

/// Ingests `source` under the name `name` into `OUT/NAME/images`; with `rebuild`, also what was ingested before.
///
/// # Errors
/// When the source cannot be read, or more of it is rejected than the configuration allows.
pub fn ingest(
    layout: &Layout,
    source: &dyn Source,
    name: &str,
    config: &IngestConfig,
    dry_run: bool,
    rebuild: bool,
) -> Result<(Outcome, Option<Manifest>)> {
    let address = source.address();
    let spec = StageSpec {
        stage: "ingest",
        version: VERSION,
        out: layout.out.clone(),
        folder: layout.images(name),
        config: json!({"name": name, "ingest": config, "layout": source.layout()}),
        inputs: BTreeMap::from([(address, source.listing_digest()?)]),
        resumable: true,
        previous: OtherKey::Replaced,
    };
    match spec.open_or_rebuild(dry_run, rebuild)? {
        Opened::UpToDate(manifest) => Ok((Outcome::UpToDate, Some(*manifest))),
        Opened::DryRun => Ok((Outcome::WouldRun, None)),
        Opened::Run(run) => {
            // The source is the same folder; what has become of its inputs is asked one by one.
            let before = run.previous(|_, _| true)?.filter(|_| !rebuild);
            Ok((Outcome::Ran, Some(run_ingest(source, name, config, before, run)?)))
        }
    }
}

fn run_ingest(
    source: &dyn Source,
    name: &str,
    config: &IngestConfig,
    before: Option<Manifest>,
    mut run: StageRun,
) -> Result<Manifest> {
    let spool = run.path("spool.tmp");
    let mut listing = source.list(&spool)?;
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
    write_listing(&mut run, &entries, &stamps(&entries, &listing))?;
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
        first_new = previous.take_over(&mut run, &listing, config)?;
        rejects.extend(previous.rejects.iter().cloned());
        entries.retain(|(_, entry)| !previous.unchanged.contains(&entry.path));
        tracing::info!(
            "{name}: {} inputs are as they were, {} have gone or changed, {} are read",
            previous.unchanged.len(),
            previous.gone(),
            entries.len()
        );
    }
    let written = Written::resume(&run, first_new)?;
    let fetcher = Fetcher::new(&spool)?.of(source.tree());
    let foreign_profiles = AtomicU64::new(0);
    let reader =
        Reader { listing: &listing, fetcher: &fetcher, source: name, config, foreign_profiles: &foreign_profiles };
    let shards = shards_of(&run, &listing, config)?.after(written.next_shard);
    rejects.extend(reader.read_all(&entries, written, shards, &mut run)?);

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
    if spool.exists() {
        std::fs::remove_file(&spool).map_err(PipelineError::io("remove", &spool))?;
    }
    let mut images_by_split: BTreeMap<&str, u64> = BTreeMap::new();
    for (split, images) in shards.values().flat_map(|(facts, _)| &facts.by_split) {
        *images_by_split.entry(split).or_default() += images;
    }
    let images: u64 = shards.values().map(|(_, rows)| rows).sum();
    let rows = Rows { input: inputs, output: images, rejected: rejects.len() as u64 };
    refuse_too_many(&run, &rejects, rows, config)?;
    let added: u64 = shards.iter().filter(|(name, _)| number_of(name) >= first_new).map(|(_, (_, rows))| rows).sum();
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
        "next_shard": shards.keys().map(|name| number_of(name) + 1).max().unwrap_or(0).max(first_new),
        "shards": shards.iter().map(|(name, (facts, _))| (name, facts)).collect::<BTreeMap<_, _>>(),
    });
    // What was listed holds times.
    run.finish(rows, facts, &[LISTING_FILE])
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

/// The number in a shard's name.
fn number_of(name: &str) -> usize {
    let digits = name.trim_start_matches("part-").trim_end_matches(".parquet");
    digits.parse().unwrap_or(0)
}

/// What is in each shard, and its rows.
fn facts_of(run: &StageRun) -> Result<BTreeMap<String, (ShardFacts, u64)>> {
    let facts = |(name, shard): (&String, &crate::stage::Shard)| {
        let facts = ShardFacts::deserialize(&shard.facts).map_err(|e| PipelineError::format(run.path(name), e))?;
        Ok((name.clone(), (facts, shard.table.rows)))
    };
    run.shards().iter().map(facts).collect()
}

/// What a run that was cut off has written already.
struct Written {
    next_shard: usize,
    /// Inputs up to this one are in shards or among the rejects.
    last_id: Option<ImageId>,
    rejects: Vec<Reject>,
}

/// An input that could not be read, as noted beside the shard that was written when it was met.
#[derive(Serialize, Deserialize)]
struct NotedReject {
    path: String,
    offset_bytes: Option<i64>,
    reason: String,
    detail: String,
}

impl Written {
    fn resume(run: &StageRun, first_new: usize) -> Result<Self> {
        let mut written = Self { next_shard: first_new, last_id: None, rejects: Vec::new() };
        for (name, shard) in run.shards().iter().filter(|(name, _)| number_of(name) >= first_new) {
            let format = |detail: String| PipelineError::format(run.path(name), detail);
            let facts = ShardFacts::deserialize(&shard.facts).map_err(|e| format(e.to_string()))?;
            let noted = Vec::<NotedReject>::deserialize(&shard.facts["rejects"]).map_err(|e| format(e.to_string()))?;
            for NotedReject { path, offset_bytes, reason, detail } in noted {
                let reason = RejectReason::from_code(&reason)
                    .ok_or_else(|| format(format!("no reason is called `{reason}`")))?;
                written.rejects.push(Reject { path, offset_bytes, reason, detail });
            }
            written.last_id = written.last_id.max(facts.last_id);
            written.next_shard = written.next_shard.max(number_of(name) + 1);
        }
        Ok(written)
    }
}

struct Reader<'a> {
    listing: &'a Listing,
    fetcher: &'a Fetcher,
    source: &'a str,
    config: &'a IngestConfig,
    /// Images with a colour profile other than sRGB's.
    foreign_profiles: &'a AtomicU64,
}

/// What is read of a chunk, in the order of ids.
type Chunk = Vec<(ImageId, Result<ImageRow, Reject>)>;

impl Reader<'_> {
    /// Reads all entries after those that are written and writes what they hold; returns the rejected ones.
    fn read_all(
        &self,
        entries: &[(ImageId, Entry)],
        written: Written,
        mut shards: ImageShards,
        run: &mut StageRun,
    ) -> Result<Vec<Reject>> {
        let progress = Progress::new("ingest", entries.len() as u64, "images");
        let last_id = written.last_id;
        std::thread::scope(|scope| -> Result<Vec<Reject>> {
            // The end is a message of its own: where reading stops early, the shard that was begun is not taken for whole.
            let (send, receive) = bounded::<Option<Chunk>>(1);
            let writer = scope.spawn(move || -> Result<Vec<Reject>> {
                let mut noter = Noter { run, pending: VecDeque::new(), all: written.rejects };
                for chunk in receive {
                    let Some(chunk) = chunk else {
                        shards.end_shard()?;
                        noter.note(shards.take_finished())?;
                        break;
                    };
                    let mut rows = Vec::with_capacity(chunk.len());
                    for (id, read) in chunk {
                        match read {
                            Ok(row) => rows.push(row),
                            Err(reject) => noter.pending.push_back((id, reject)),
                        }
                    }
                    shards.write(rows)?;
                    noter.note(shards.take_finished())?;
                }
                noter.all.extend(noter.pending.into_iter().map(|(_, reject)| reject));
                Ok(noter.all)
            });
            // Chunks begin where they would begin in a run that was not cut off.
            let mut chunks = entries.chunks(CHUNK_INPUTS).peekable();
            while let Some(chunk) = chunks.next() {
                interrupt::check()?;
                // What is read next is on its way while this is decoded.
                if let Some(next) = chunks.peek().filter(|next| next.last().map(|(id, _)| *id) > last_id) {
                    self.fetcher.want(next.iter().map(|(_, entry)| entry), self.config.max_bytes);
                }
                let left = &chunk[chunk.partition_point(|(id, _)| Some(*id) <= last_id)..];
                progress.add((chunk.len() - left.len()) as u64);
                if left.is_empty() {
                    continue;
                }
                let read: Chunk =
                    left.par_iter().with_max_len(1).map(|(id, entry)| (*id, self.read(*id, entry))).collect();
                // A store that went away is no fault of the images.
                self.fetcher.refuse_failure()?;
                if self.config.strict
                    && let Some(reject) = read.iter().find_map(|(_, read)| read.as_ref().err())
                {
                    return Err(refused_by_strict(reject));
                }
                progress.add(left.len() as u64);
                if send.send(Some(read)).is_err() {
                    break;
                }
            }
            // A writer that has failed has gone; its error is the result.
            let _ = send.send(None);
            drop(send);
            writer.join().map_err(|_| PipelineError::Internal("the writer of shards panicked".to_owned()))?
        })
    }

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
            labels: self.listing.labels_of(entry),
            notes: self.fetcher.notes(entry).map_err(reject)?,
            label: entry.label,
        })
    }
}

/// Notes shards as they are written, each with the inputs before its end that were rejected.
struct Noter<'a> {
    run: &'a mut StageRun,
    pending: VecDeque<(ImageId, Reject)>,
    all: Vec<Reject>,
}

impl Noter<'_> {
    fn note(&mut self, shards: Vec<FinishedShard>) -> Result<()> {
        for shard in shards {
            let mut noted = Vec::new();
            while let Some((_, reject)) = self.pending.pop_front_if(|(id, _)| Some(*id) < shard.facts.last_id) {
                noted.push(NotedReject {
                    path: reject.path.clone(),
                    offset_bytes: reject.offset_bytes,
                    reason: reject.reason.code().to_owned(),
                    detail: reject.detail.clone(),
                });
                self.all.push(reject);
            }
            let mut facts = json!(shard.facts);
            facts["rejects"] = json!(noted);
            self.run.note_shard(&shard.name, shard.table, facts)?;
        }
        Ok(())
    }
}
