//! Tables of planted copies and of pairs, as CSV.

use super::Truth;
use crate::Result;
use csv::{ReaderBuilder, StringRecord};
use lapidary_pipeline::PipelineError;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// The records of a CSV table, its line of names included; a field in quotes may hold commas, quotes and line ends.
pub(super) fn records(path: &Path) -> Result<Vec<StringRecord>> {
    let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_path(path);
    let fault = |e: csv::Error| match e.into_kind() {
        csv::ErrorKind::Io(e) => PipelineError::io("read", path)(e),
        csv::ErrorKind::Utf8 { pos, err } => {
            let line = pos.map_or(0, |pos| pos.line());
            PipelineError::format(path, format!("line {line} is not UTF-8: {err}"))
        }
        other => PipelineError::format(path, format!("{other:?}")),
    };
    let mut reader = reader.map_err(fault)?;
    Ok(reader.records().collect::<Result<_, _>>().map_err(fault)?)
}

pub(super) fn line_of(record: &StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

/// Scores a table of pairs (CSV: path, path, score), as any tool may write it, by its paths.
///
/// # Errors
/// When a table cannot be read, or a line's third field is no number; a first line of names is passed over.
pub fn score_csv(pairs: &Path, truth: &Path) -> Result<Value> {
    let truth = Truth::read(truth)?;
    let records = records(pairs)?;
    let mut lines = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let line = line_of(record);
        let mut fields = record.iter();
        let (Some(a), Some(b), Some(score)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(PipelineError::format(pairs, format!("line {line} has fewer than 3 fields")).into());
        };
        match score.trim().parse::<f64>() {
            Ok(score) if !score.is_nan() => lines.push((a, b, score)),
            _ if number == 0 => {}
            _ => {
                let error = PipelineError::format(pairs, format!("line {line}: `{score}` is no score"));
                return Err(error.into());
            }
        }
    }
    let named = truth.planted.iter().flat_map(|(copy, original, _)| [copy.as_str(), original.as_str()]);
    let paths: BTreeSet<&str> = lines.iter().flat_map(|(a, b, _)| [*a, *b]).chain(named).collect();
    let paths: Vec<&str> = paths.into_iter().collect();
    let place: HashMap<&str, usize> = paths.iter().enumerate().map(|(place, path)| (*path, place)).collect();
    let indexed: Vec<(usize, usize, f64)> = lines.iter().map(|(a, b, score)| (place[a], place[b], *score)).collect();
    Ok(truth.score_pairs(&paths, &indexed))
}
