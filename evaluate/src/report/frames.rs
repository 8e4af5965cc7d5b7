//! Tables of the chain as frames.

use crate::Result;
use polars::prelude::*;
use std::path::Path;

/// A table, or all that a pattern in the file's name stands for.
pub(super) fn scan(path: &Path) -> Result<LazyFrame> {
    Ok(LazyFrame::scan_parquet(PlRefPath::try_from_path(path)?, ScanArgsParquet::default())?)
}

/// Rows of each value of a column of text, by value.
pub(super) fn counted(frame: LazyFrame, name: &str) -> Result<Vec<(String, u64)>> {
    let frame = frame
        .group_by([col(name)])
        .agg([len().alias("count")])
        .sort([name], SortMultipleOptions::default())
        .collect()?;
    let counts = frame.column("count")?.cast(&DataType::UInt64)?;
    let names = frame.column(name)?.str()?;
    let rows = names.iter().zip(counts.u64()?.iter());
    Ok(rows.map(|(name, count)| (name.unwrap_or_default().to_owned(), count.unwrap_or(0))).collect())
}
