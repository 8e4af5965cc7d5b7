//! `lapidary duplicates DIR`: from a folder of images straight to the groups of copies in it.
//!
//! The same evidence as in `curate`, without shards between: each image is read and decoded once, at a reduced scale,
//! and only its fingerprint and descriptor are kept. With `curate.evidence = ["exact", "hash"]` no more than luma of
//! about 64 pixels on the shorter side is decoded.

use crate::Result;
use crate::fingerprints::{Fingerprint, Fingerprinter, ImageSet};
use crate::groups::{members_of, write_duplicates};
use crate::input::{IMAGES_MAX, Image, Vectors, refuse_more_than};
use crate::pairs::{Compared, FoundPairs, KnownPairs, NearPairs, Neighbours, find_pairs, write_pairs};
use crate::truth::score;
use lapidary_pipeline::sources::{Entry, Fetcher, Listing, Reject, Source, image_id};
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, Progress, StageRun, StageSpec, digest_of_bytes, digest_of_file,
};
use lapidary_pipeline::{DecodeRule, PipelineError, describe, interrupt, refuse_too_many, write_rejects};
use lapidary_schemas::config::Evidence;
use lapidary_schemas::{Config, Manifest, Rows};
use rayon::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Images between two looks at whether to stop.
const CHUNK: usize = 256;
const VERSION: u32 = 3;

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
    let spec = StageSpec {
        stage: "duplicates",
        version: VERSION,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"name": name, "ingest": config.ingest, "fingerprint": config.fingerprint, "curate": config.curate}),
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

fn run_duplicates(source: &dyn Source, name: &str, config: &Config, mut run: StageRun) -> Result<Manifest> {
    let spool = run.path("spool.tmp");
    let mut listing = source.list(&spool)?;
    let mut rejects = std::mem::take(&mut listing.rejects);
    refuse_more_than(IMAGES_MAX, listing.entries.len())?;
    let inputs = (listing.entries.len() + rejects.len()) as u64;
    let mut read = read_all(&listing, &Fetcher::new(&spool)?, name, config, &mut rejects)?;
    if read.is_empty() {
        return Err(PipelineError::Empty(format!("`{}` holds no images", source.root().display())).into());
    }
    read.sort_by_key(|read| read.image.id);
    let dim = read[0].vector.len();
    let mut vectors = Vectors { dim, values: Vec::with_capacity(dim * read.len()) };
    let (mut images, mut prints) = (Vec::with_capacity(read.len()), Vec::with_capacity(read.len()));
    for each in read {
        vectors.values.extend(each.vector);
        images.push(each.image);
        prints.push(each.print);
    }
    let set = ImageSet { images: &images, prints: &prints, vectors: (dim > 0).then_some(&vectors) };
    let mut neighbours = set.vectors.map(|vectors| Neighbours::new(vectors, &config.curate)).transpose()?;
    let known = KnownPairs::none(images.len());
    let FoundPairs { pairs, near, occurrences: _ } = find_pairs(set, known, neighbours.as_mut(), &config.curate)?;
    let images_read = images.len();
    let compared = Compared::new(images, &prints, Vec::new(), images_read);
    let members = members_of(&compared, &pairs, &config.curate);
    compared.write(&mut run)?;
    write_pairs(&mut run, &compared.images, &pairs)?;
    write_duplicates(&mut run, &compared.images, &members, &pairs)?;
    write_rejects(&mut run, &rejects)?;
    if spool.exists() {
        std::fs::remove_file(&spool).map_err(PipelineError::io("remove", &spool))?;
    }
    let groups = members.last().map_or(0, |member| member.group + 1);
    let stays = members.iter().filter(|member| member.stays()).count();
    let mut facts =
        json!({"name": name, "groups": groups, "images_in_groups": members.len(), "copies": members.len() - stays});
    facts["neighbours"] = json!(near.as_ref().map(NearPairs::facts));
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
    rejects: &mut Vec<Reject>,
) -> Result<Vec<Read>> {
    let progress = Progress::new("duplicates", listing.entries.len() as u64, "images");
    let mut all = Vec::with_capacity(listing.entries.len());
    for chunk in listing.entries.chunks(CHUNK) {
        interrupt::check()?;
        let read: Vec<Result<Read, Reject>> = chunk
            .par_iter()
            .with_max_len(1)
            .map_init(Fingerprinter::default, |fingerprinter, entry| {
                read_one(entry, fetcher, name, config, fingerprinter)
            })
            .collect();
        for result in read {
            match result {
                Ok(read) => all.push(read),
                Err(reject) => rejects.push(reject),
            }
        }
        progress.add(chunk.len() as u64);
    }
    Ok(all)
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
        fingerprinter.take(&bytes, rule, keypoints)
    };
    let taken = taken.map_err(reject)?;
    let vector = if is_sought(Evidence::Embedding) {
        let describe = describe(&fingerprinter.decoded().to_rgb());
        describe.map_err(|e| reject((lapidary_schemas::RejectReason::Broken, e.to_string())))?
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
