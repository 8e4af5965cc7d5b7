//! Reading inputs and writing what they hold: inputs are fetched, checked, decoded and hashed in parallel, a chunk at a time, and
//! written by a thread of its own, shard by shard.

use super::check;
use super::cuts::{CHUNK_INPUTS, Cut};
use super::refused_by_strict;
use crate::images::{FinishedShard, ImageRow, ImageShards, phash};
use crate::ingest::sources::{Entry, Fetcher, Listing, Reject};
use crate::stage::{Progress, Shard, StageRun, digest_of_bytes};
use crate::{PipelineError, Result, interrupt};
use crossbeam_channel::bounded;
use lapidary_schemas::config::IngestConfig;
use lapidary_schemas::{ImageId, RejectReason};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(super) struct Reader<'a> {
    pub(super) listing: &'a Listing,
    pub(super) fetcher: &'a Fetcher,
    /// The source's name.
    pub(super) source: &'a str,
    pub(super) config: &'a IngestConfig,
}

/// What was read of an input, and whether it has a colour profile other than sRGB's.
type Read = Result<(ImageRow, bool), Reject>;

/// What the thread that writes is handed.
enum Step {
    /// Inputs of the shard of a number, in the order of ids.
    Chunk(usize, Vec<Read>),
    /// The shard has no more of them. Where reading stops early this does not come, and what was begun is not taken for whole.
    End,
}

impl Reader<'_> {
    /// Reads the inputs of shards and writes these.
    ///
    /// # Errors
    /// When the disk refuses, a store goes away, or an input is rejected although `ingest.strict` is set.
    pub(super) fn make(
        &self,
        cuts: &[Cut],
        entries: &[(ImageId, Entry)],
        mut shards: ImageShards,
        run: &mut StageRun,
    ) -> Result<()> {
        let inputs = cuts.iter().map(|cut| cut.entries.len() as u64).sum();
        let progress = Progress::new("ingest", inputs, "images");
        std::thread::scope(|scope| {
            let (send, receive) = bounded::<Step>(1);
            let writer = scope.spawn(move || -> Result<()> {
                let mut facts = OfShard::default();
                for step in receive {
                    match step {
                        Step::Chunk(number, chunk) => {
                            shards.begin(number);
                            shards.write(facts.rows_of(chunk))?;
                        }
                        Step::End => {
                            shards.end_shard_or_empty()?;
                            for FinishedShard { name, table, facts: contents } in shards.take_finished() {
                                let mut noted = json!(contents);
                                noted["rejects"] = json!(facts.rejects);
                                noted["foreign_icc_profiles"] = json!(facts.foreign_profiles);
                                run.note_shard(&name, table, noted)?;
                            }
                            facts = OfShard::default();
                        }
                    }
                }
                Ok(())
            });
            let read = self.read_all(cuts, entries, &progress, |step| send.send(step).is_ok());
            drop(send);
            // A writer that has failed has gone; its error is the result.
            writer.join().map_err(|_| PipelineError::Internal("the writer of shards panicked".to_owned()))??;
            read
        })
    }

    /// Hands on what is read, as long as it is taken.
    fn read_all(
        &self,
        cuts: &[Cut],
        entries: &[(ImageId, Entry)],
        progress: &Progress,
        hand_on: impl Fn(Step) -> bool,
    ) -> Result<()> {
        let mut chunks = cuts.iter().flat_map(|cut| {
            let last = cut.entries.len().div_ceil(CHUNK_INPUTS) - 1;
            let own = &entries[cut.entries.clone()];
            own.chunks(CHUNK_INPUTS).enumerate().map(move |(place, chunk)| (cut.number, chunk, place == last))
        });
        let mut next = chunks.next();
        while let Some((number, chunk, is_last)) = next {
            interrupt::check()?;
            next = chunks.next();
            // What is read next is on its way while this is decoded.
            if let Some((_, next, _)) = next {
                self.fetcher.want(next.iter().map(|(_, entry)| entry), self.config.max_bytes);
            }
            let read: Vec<Read> = chunk.par_iter().with_max_len(1).map(|(id, entry)| self.read(*id, entry)).collect();
            // A store that went away is no fault of the images.
            self.fetcher.refuse_failure()?;
            if self.config.strict
                && let Some(reject) = read.iter().find_map(|read| read.as_ref().err())
            {
                return Err(refused_by_strict(reject));
            }
            progress.add(chunk.len() as u64);
            if !hand_on(Step::Chunk(number, read)) || (is_last && !hand_on(Step::End)) {
                break;
            }
        }
        Ok(())
    }

    /// Fetches, decodes and hashes one input.
    fn read(&self, id: ImageId, entry: &Entry) -> Read {
        let reject = |(reason, detail): (RejectReason, String)| Reject::new(&entry.path, reason, detail);
        let bytes = self.fetcher.fetch(entry, self.config.max_bytes).map_err(reject)?;
        let checked = check(&bytes, self.config).map_err(reject)?;
        let row = ImageRow {
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
        };
        Ok((row, checked.has_foreign_profile))
    }
}

/// What is noted of the shard being written beside its contents.
#[derive(Default)]
struct OfShard {
    rejects: Vec<NotedReject>,
    foreign_profiles: u64,
}

impl OfShard {
    /// The rows of a chunk; what was rejected is noted.
    fn rows_of(&mut self, chunk: Vec<Read>) -> Vec<ImageRow> {
        let mut rows = Vec::with_capacity(chunk.len());
        for read in chunk {
            match read {
                Ok((row, has_foreign_profile)) => {
                    self.foreign_profiles += u64::from(has_foreign_profile);
                    rows.push(row);
                }
                Err(reject) => self.rejects.push(NotedReject::from(reject)),
            }
        }
        rows
    }
}

/// An input that could not be read, as noted beside the shard that it would have been in.
#[derive(Serialize, Deserialize)]
struct NotedReject {
    path: String,
    offset_bytes: Option<i64>,
    reason: String,
    detail: String,
}

impl From<Reject> for NotedReject {
    fn from(Reject { path, offset_bytes, reason, detail }: Reject) -> Self {
        Self { path, offset_bytes, reason: reason.code().to_owned(), detail }
    }
}

/// The inputs of a shard that was made which were rejected.
pub(super) fn rejects_of(run: &StageRun, shard: &Shard) -> Result<Vec<Reject>> {
    let format = |detail: String| PipelineError::format(run.path(&shard.name), detail);
    let noted = Vec::<NotedReject>::deserialize(&shard.facts["rejects"]).map_err(|e| format(e.to_string()))?;
    let reject = |NotedReject { path, offset_bytes, reason, detail }| {
        let reason =
            RejectReason::from_code(&reason).ok_or_else(|| format(format!("no reason is called `{reason}`")))?;
        Ok(Reject { path, offset_bytes, reason, detail })
    };
    noted.into_iter().map(reject).collect()
}
