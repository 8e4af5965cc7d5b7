//! `cut`: the first N of the ranking. A prefix read; the subset of 10,000 contains the subset of 5,000.

use super::CutFilter;
use crate::Result;
use arrow::array::{Array, RecordBatch, UInt32Array, UInt64Array};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{
    Layout, Opened, Outcome, Previous, StageSpec, Table, TableWriter, column, require_manifest,
};
use lapidary_schemas::tables::{self, DECISIONS_FILE, SUBSET_FILE};
use lapidary_schemas::{DecisionReason, Manifest, Rows};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of the ranking to take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    /// So many images.
    Images(u64),
    /// A share of the ranked images (0 to 1).
    Share(f64),
    /// All ranked images.
    All,
}

impl std::str::FromStr for Size {
    type Err = String;

    /// Reads `300`, `30%`, `0.3` or `all`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size: write a number (300), a share (30% or 0.3) or `all`");
        let share = |value: f64| if value > 0.0 && value <= 1.0 { Ok(Self::Share(value)) } else { Err(wrong()) };
        if text == "all" {
            Ok(Self::All)
        } else if let Some(percent) = text.strip_suffix('%') {
            share(percent.parse::<f64>().map_err(|_| wrong())? / 100.0)
        } else if text.contains('.') {
            share(text.parse::<f64>().map_err(|_| wrong())?)
        } else {
            text.parse().map(Self::Images).map_err(|_| wrong())
        }
    }
}

impl Size {
    /// The name of the subset's folder.
    pub fn folder_name(self) -> String {
        match self {
            Self::Images(count) => count.to_string(),
            Self::Share(share) => format!("{}pct", (share * 1e4).round() / 100.0),
            Self::All => "all".to_owned(),
        }
    }
}

/// Cuts a subset of a source's ranking into `OUT/SOURCE/subsets/SIZE`: the first that pass the filter.
///
/// A filter is applied before counting, and the order stays: the subset of a smaller size is a prefix of the larger
/// one's.
///
/// # Errors
/// When there is no ranking, the subset would be empty, or fewer images pass than requested.
pub fn cut(
    layout: &Layout,
    source: &str,
    size: Size,
    filter: &CutFilter,
    dry_run: bool,
) -> Result<(Outcome, PathBuf, Option<Manifest>)> {
    let ranking = layout.ranking(source);
    let curated = require_manifest(&ranking, "curation", "run `lapidary curate` first")?;
    let ranked = curated.facts["images_by_reason"][DecisionReason::Kept.code()].as_u64().unwrap_or(0);
    let passing = if filter.is_open() { None } else { Some(passing(layout, source, filter)?) };
    let available = match &passing {
        None => ranked,
        Some(passing) => ranked_among(&ranking, passing)?,
    };
    let count_of = |of: u64| match size {
        Size::Images(count) => count,
        Size::Share(share) => (of as f64 * share).round() as u64,
        Size::All => of,
    };
    let count = count_of(available);
    if count == 0 {
        return Err(PipelineError::Empty("the subset would be empty".to_owned()).into());
    }
    if count > available {
        let which = if passing.is_some() { "pass the filter" } else { "are ranked" };
        let text =
            format!("a subset of {count} was requested, but {available} images {which}\nhint: --size all takes all");
        return Err(PipelineError::Usage(text).into());
    }
    let folder = layout.subset(source, &(size.folder_name() + &filter.suffix()));
    let spec = StageSpec {
        stage: "cut",
        version: 2,
        out: layout.out.clone(),
        folder: folder.clone(),
        config: json!({"size": count, "filter": filter}),
        inputs: BTreeMap::from([(layout.name_of(&ranking), curated.digest)]),
        resumable: false,
        previous: Previous::Kept,
    };
    match spec.open(dry_run)? {
        Opened::UpToDate(manifest) => Ok((Outcome::UpToDate, folder, Some(*manifest))),
        Opened::DryRun => Ok((Outcome::WouldRun, folder, None)),
        Opened::Run(mut run) => {
            let mut table = TableWriter::create(&run.path(SUBSET_FILE), tables::subset())?;
            let mut left = count as usize;
            let mut passed_over = 0u64;
            for batch in Table::open(&ranking.join(DECISIONS_FILE), &["image_id", "rank"], 65_536)? {
                let batch = batch?;
                let ranks: &UInt32Array = column(&batch, "rank")?;
                let ids: &UInt64Array = column(&batch, "image_id")?;
                // The ranked come first, by rank.
                let (ranks, ids): (Arc<dyn Array>, Arc<dyn Array>) = match &passing {
                    None => {
                        let take = left.min(batch.num_rows());
                        (Arc::new(ranks.slice(0, take)), Arc::new(ids.slice(0, take)))
                    }
                    Some(passing) => {
                        let mut rows = Vec::new();
                        for row in 0..batch.num_rows() {
                            if rows.len() == left {
                                break;
                            }
                            if passing.contains(&ids.value(row)) && ranks.is_valid(row) {
                                rows.push(row);
                            } else {
                                passed_over += 1;
                            }
                        }
                        let pick = |row: &usize| (ranks.value(*row), ids.value(*row));
                        let (ranks, ids): (Vec<u32>, Vec<u64>) = rows.iter().map(pick).unzip();
                        (Arc::new(UInt32Array::from(ranks)), Arc::new(UInt64Array::from(ids)))
                    }
                };
                left -= ids.len();
                let chosen = RecordBatch::try_new(tables::subset(), vec![ranks, ids])
                    .map_err(|e| PipelineError::Internal(e.to_string()))?;
                table.write(&chosen)?;
                if left == 0 {
                    break;
                }
            }
            let written = table.finish()?;
            let rows = written.rows;
            run.note_table(SUBSET_FILE, written);
            let mut facts = json!({"ranked": ranked});
            if passing.is_some() {
                facts["filter"] = json!(filter);
                facts["passing"] = json!(available);
                facts["passed_over"] = json!(passed_over);
                facts["without_filter"] = json!(count_of(ranked).min(ranked));
            }
            let manifest = run.finish(Rows { input: rows, output: rows, rejected: 0 }, facts, &[])?;
            Ok((Outcome::Ran, folder, Some(manifest)))
        }
    }
}

fn passing(layout: &Layout, source: &str, filter: &CutFilter) -> Result<HashSet<u64>> {
    let images = layout.images(source);
    let ingested = require_manifest(&images, "ingested images", "run `lapidary ingest` first")?;
    filter.passing(&images, &ingested)
}

/// How many of the ranked images are among these.
fn ranked_among(ranking: &Path, passing: &HashSet<u64>) -> Result<u64> {
    let mut count = 0;
    for batch in Table::open(&ranking.join(DECISIONS_FILE), &["image_id", "rank"], 65_536)? {
        let batch = batch?;
        let ranks: &UInt32Array = column(&batch, "rank")?;
        let ids: &UInt64Array = column(&batch, "image_id")?;
        count += (0..batch.num_rows()).filter(|row| ranks.is_valid(*row) && passing.contains(&ids.value(*row))).count();
    }
    Ok(count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_named() {
        for (text, size, name) in [
            ("300", Size::Images(300), "300"),
            ("30%", Size::Share(0.3), "30pct"),
            ("0.125", Size::Share(0.125), "12.5pct"),
            ("all", Size::All, "all"),
        ] {
            assert_eq!(text.parse::<Size>(), Ok(size));
            assert_eq!(size.folder_name(), name);
        }
        for text in ["", "-3", "130%", "many", "1.5", "0%"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
