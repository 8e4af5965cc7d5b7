//! The nearest train images of some test images.

use crate::Result;
use crate::csv_file::CsvFile;
use crate::pictures::sampled;
use lapidary_train::operators::Operators;
use lapidary_train::probe::{Features, Labelled, Neighbours, Probe};
use std::path::Path;

/// The list's file.
pub const NEIGHBOURS_FILE: &str = "neighbours.csv";
/// Train images listed for each query.
const LISTED: usize = 10;

/// Writes `neighbours.csv` into a folder: for each of a seeded, stratified sample of test images its ten nearest train images, the
/// nearest first. Columns: `query`, `rank` (from 1), `image_id`, `similarity` (cosine), `query_class`, `class`.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write_neighbours<B: Operators>(
    folder: &Path,
    probe: &Probe,
    (train, test): (&Features, &Features),
    queries: usize,
    seed: u64,
    device: &B::Device,
) -> Result<()> {
    let sample = sampled(&probe.test, queries, seed);
    let index = |one: &Labelled| probe.test.binary_search(one).expect("a sample is of the probe's images");
    let features = test.select(&sample.iter().map(index).collect::<Vec<_>>()).normalised();
    let neighbours = Neighbours::find::<B>(&train.clone().normalised(), &features, LISTED, device);
    let class = |one: &Labelled| probe.classes.get(one.class as usize).map_or("", String::as_str).to_owned();
    let heading = ["query", "rank", "image_id", "similarity", "query_class", "class"];
    let mut file = CsvFile::create(&folder.join(NEIGHBOURS_FILE), &heading)?;
    for (query, one) in sample.iter().enumerate() {
        for (rank, (similarity, at)) in (1..).zip(neighbours.of(query)) {
            let found = &probe.train[*at as usize];
            let (id, rank) = (one.id.to_string(), format!("{rank}"));
            file.row([id, rank, found.id.to_string(), format!("{similarity:.6}"), class(one), class(found)])?;
        }
    }
    file.finish()
}
