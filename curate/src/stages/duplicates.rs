//! `lapidary duplicates DIR`: from a folder of images straight to the groups of copies in it.
//!
//! The same evidence as in `curate`, without shards between: each image is read and decoded once, at a reduced scale,
//! and only its fingerprint and descriptor are kept. With `curate.evidence = ["exact", "hash"]` no more than luma of
//! about 64 pixels on the shorter side is decoded.

use crate::Result;
use crate::fingerprints::{Contents, Fingerprint, Fingerprinter, Fingerprinters, ImageSet, Prints, PrintsWriter};
use crate::groups::{members_of, write_duplicates};
use crate::input::{IMAGES_MAX, Image, Vectors, refuse_more_than};
use crate::memory::{Memory, Share};
use crate::pairs::{Compared, KnownPairs, NearPairs, Neighbours, find_pairs, write_pairs};
use crate::truth::score;
use lapidary_pipeline::sources::{Entry, Fetcher, Listing, Reject, Source, image_id};
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, Progress, StageRun, StageSpec, digest_of_bytes, digest_of_file,
};
use lapidary_pipeline::{DecodeRule, Descriptor, Encoder, PipelineError, interrupt, refuse_too_many, write_rejects};
use lapidary_schemas::config::Evidence;
use lapidary_schemas::{Config, Manifest, Rows};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Images between two looks at whether to stop.
const CHUNK: usize = 256;
const VERSION: u32 = 4;

/// Finds the copies among the images of a source into `OUT/NAME/duplicates`.
///
/// # Errors
/// When the source cannot be read, or holds no images.
pub fn duplicates(
    layout: &Layout,
    source: &dyn Source,
    name: &str,
    config: &Config,
    dry_run: bool,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let folder = layout.duplicates(name);
    let mut inputs = BTreeMap::from([(source.address(), source.listing_digest()?)]);
    if !config.curate.truth.is_empty() {
        let truth = Path::new(&config.curate.truth);
        let address = truth.canonicalize().map_err(PipelineError::io("open", truth))?;
        inputs.insert(address.to_string_lossy().into_owned(), digest_of_file(truth)?.0);
    }
    // Memory changes the time alone.
    let mut curate = json!(config.curate);
    curate.as_object_mut().and_then(|curate| curate.remove("memory_mib"));
    let spec = StageSpec {
        stage: "duplicates",
        version: VERSION,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"name": name, "ingest": config.ingest, "fingerprint": config.fingerprint, "curate": curate}),
        inputs,
        resumable: false,
        previous: Previous::Kept,
    };
    match spec.open(dry_run)? {
        Opened::UpToDate(manifest) => Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(run) => Ok((Outcome::Ran, folder, Some(run_duplicates(source, name, config, run)?))),
    }
}

/// An image that was read: what is known of it.
struct Read {
    image: Image,
    print: Fingerprint,
    vector: Vec<f32>,
}

/// All images that were read, sorted by id.
struct AllRead {
    images: Vec<Image>,
    prints: Prints,
    vectors: Vectors,
}

fn run_duplicates(source: &dyn Source, name: &str, config: &Config, mut run: StageRun) -> Result<Manifest> {
    let spool = run.path("spool.tmp");
    let mut listing = source.list(&spool)?;
    let mut rejects = std::mem::take(&mut listing.rejects);
    refuse_more_than(IMAGES_MAX, listing.entries.len())?;
    let inputs = (listing.entries.len() + rejects.len()) as u64;
    let mut memory = Memory::of(&config.curate, &run.folder());
    let is_described = config.curate.evidence.contains(&Evidence::Embedding);
    memory.reserve(listing.entries.len(), if is_described { Descriptor.dim() } else { 0 })?;
    let AllRead { images, prints, vectors } =
        read_all(&listing, &Fetcher::new(&spool)?.of(source.tree()), name, config, &memory, &mut rejects)?;
    if images.is_empty() {
        return Err(PipelineError::Empty(format!("`{}` holds no images", source.address())).into());
    }
    let set = ImageSet { images: &images, prints: &prints, vectors: (vectors.dim > 0).then_some(&vectors) };
    let index_bytes = memory.share(Share::Index);
    let neighbours = set.vectors.map(|vectors| Neighbours::within(vectors, &config.curate, index_bytes)).transpose()?;
    let known = KnownPairs::none(images.len());
    let found = find_pairs(set, known, neighbours, &config.curate, &memory)?;
    write_pairs(&mut run, &images, found.pairs.iter())?;
    let images_read = images.len();
    let compared = Compared::new(images, &prints, Vec::new(), images_read);
    compared.write(&mut run)?;
    let least = if config.curate.truth.is_empty() { config.curate.score_min } else { 0.0 };
    let pairs = compared.read_pairs(&run.folder(), least)?;
    let members = members_of(&compared, &pairs, &config.curate);
    write_duplicates(&mut run, &compared.images, &members, &pairs)?;
    write_rejects(&mut run, &rejects)?;
    if spool.exists() {
        std::fs::remove_file(&spool).map_err(PipelineError::io("remove", &spool))?;
    }
    let groups = members.last().map_or(0, |member| member.group + 1);
    let stays = members.iter().filter(|member| member.stays()).count();
    let mut facts = json!({"name": name, "pairs": found.count, "groups": groups, "images_in_groups": members.len(), "copies": members.len() - stays});
    facts["neighbours"] = json!(found.near.as_ref().map(NearPairs::facts));
    if !config.curate.truth.is_empty() {
        facts["truth"] = score(Path::new(&config.curate.truth), &compared.images, &pairs, &members)?;
    }
    let rows = Rows { input: inputs, output: images_read as u64, rejected: rejects.len() as u64 };
    refuse_too_many(&run, &rejects, rows, &config.ingest)?;
    Ok(run.finish(rows, facts, &[])?)
}

fn read_all(
    listing: &Listing,
    fetcher: &Fetcher,
    name: &str,
    config: &Config,
    memory: &Memory,
    rejects: &mut Vec<Reject>,
) -> Result<AllRead> {
    let progress = Progress::new("duplicates", listing.entries.len() as u64, "images");
    // Where each comes by id, as if all were read.
    let ids: Vec<u64> = listing.entries.iter().map(|entry| image_id(name, &entry.path).0).collect();
    let mut by_id: Vec<u32> = (0..ids.len() as u32).collect();
    by_id.sort_by_key(|entry| ids[*entry as usize]);
    let mut place_of = vec![0usize; ids.len()];
    by_id.into_iter().enumerate().for_each(|(place, entry)| place_of[entry as usize] = place);
    let mut images: Vec<(usize, Image)> = Vec::with_capacity(ids.len());
    let mut prints = PrintsWriter::new(memory, ids.len());
    let mut vectors = Vectors::default();
    let fingerprinters = Fingerprinters::default();
    let mut chunks = listing.entries.chunks(CHUNK).zip(place_of.chunks(CHUNK)).peekable();
    while let Some((entries, places)) = chunks.next() {
        interrupt::check()?;
        if let Some((next, _)) = chunks.peek() {
            fetcher.want(next.iter(), config.ingest.max_bytes);
        }
        let read: Vec<Result<Read, Reject>> = entries
            .par_iter()
            .with_max_len(1)
            .map(|entry| fingerprinters.with(|taker| read_one(entry, fetcher, name, config, taker)))
            .collect();
        fetcher.refuse_failure()?;
        for (result, place) in read.into_iter().zip(places) {
            match result {
                Ok(Read { image, print, vector }) => {
                    if vectors.dim == 0 {
                        vectors = Vectors { dim: vector.len(), values: vec![0.0; vector.len() * ids.len()] };
                    }
                    vectors.values[place * vectors.dim..][..vectors.dim].copy_from_slice(&vector);
                    prints.push(*place, print)?;
                    images.push((*place, image));
                }
                Err(reject) => rejects.push(reject),
            }
        }
        progress.add(entries.len() as u64);
    }
    images.sort_unstable_by_key(|(place, _)| *place);
    let places: Vec<usize> = images.iter().map(|(place, _)| *place).collect();
    vectors.retain(&places);
    let images = images.into_iter().map(|(_, image)| image).collect();
    Ok(AllRead { images, prints: prints.finish()?, vectors })
}

fn read_one(
    entry: &Entry,
    fetcher: &Fetcher,
    name: &str,
    config: &Config,
    fingerprinter: &mut Fingerprinter,
) -> Result<Read, Reject> {
    let reject = |(reason, detail)| Reject::new(&entry.path, reason, detail);
    let is_sought = |evidence: Evidence| config.curate.evidence.contains(&evidence);
    let bytes = fetcher.fetch(entry, config.ingest.max_bytes).map_err(reject)?;
    let rule = DecodeRule::from(&config.ingest);
    let only_hashes = !is_sought(Evidence::Embedding) && !is_sought(Evidence::Local);
    let taken = if only_hashes {
        fingerprinter.take_hashes(&bytes, rule)
    } else {
        let keypoints = if is_sought(Evidence::Local) { config.fingerprint.keypoints } else { 0 };
        fingerprinter.take(&bytes, rule, Contents { keypoints, quality: false })
    };
    let taken = taken.map_err(reject)?;
    let vector = if is_sought(Evidence::Embedding) {
        fingerprinter.describe().map_err(|e| reject((lapidary_schemas::RejectReason::Broken, e.to_string())))?
    } else {
        Vec::new()
    };
    let (width, height) = taken.size;
    let image = Image {
        id: image_id(name, &entry.path),
        digest: digest_of_bytes(&bytes).0,
        pixels: u64::from(width) * u64::from(height),
        phash: taken.phash,
        path: entry.path.clone(),
    };
    Ok(Read { image, print: taken.print, vector })
}
