//! What the curation came to, counted by Polars over the tables just written.

use crate::Result;
use lapidary_schemas::tables::{DECISIONS_FILE, DUPLICATES_FILE};
use polars::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

/// Counts of reasons, groups by size, and the spread of cluster sizes at each level.
pub(crate) fn summary(folder: &Path, clusters: &[usize]) -> Result<Value> {
    let scan =
        |name: &str| LazyFrame::scan_parquet(PlRefPath::try_from_path(&folder.join(name))?, ScanArgsParquet::default());
    let reasons = scan(DECISIONS_FILE)?
        .group_by([col("reason")])
        .agg([len().alias("images")])
        .sort(["reason"], SortMultipleOptions::default())
        .collect()?;
    let groups = scan(DUPLICATES_FILE)?
        .group_by([col("group")])
        .agg([len().alias("size")])
        .select([len().alias("groups"), col("size").max().fill_null(lit(0)).alias("largest")])
        .collect()?;
    let mut by_reason = serde_json::Map::new();
    let names = reasons.column("reason")?.str()?;
    let counts = reasons.column("images")?.cast(&DataType::UInt64)?;
    for (name, count) in names.iter().zip(counts.u64()?.iter()) {
        by_reason.insert(name.unwrap_or_default().to_owned(), json!(count));
    }
    let number =
        |name: &str| -> Result<u64> { Ok(groups.column(name)?.cast(&DataType::UInt64)?.u64()?.get(0).unwrap_or(0)) };
    Ok(json!({
        "images_by_reason": by_reason,
        "duplicate_groups": number("groups")?,
        "largest_group": number("largest")?,
        "clusters_by_level": clusters,
    }))
}
