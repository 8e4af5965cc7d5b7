//! Scoring duplicates against planted copies: recall by kind, and precision over all pairs that share a group.
//!
//! A planted pair is found when the copy and its original share a group. A pair that shares a group is right when both
//! stem from the same original, directly or as copies of it.

use crate::Result;
use crate::duplicates::Member;
use crate::input::Image;
use lapidary_pipeline::PipelineError;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Reads a truth table (CSV: path, copy_of, kind) and scores the groups against it.
///
/// # Errors
/// When the table cannot be read, or a line has not three fields.
pub(crate) fn score(truth: &Path, images: &[Image], members: &[Member]) -> Result<Value> {
    let text = std::fs::read_to_string(truth).map_err(PipelineError::io("read", truth))?;
    let index_of: HashMap<&str, usize> = images.iter().enumerate().map(|(i, image)| (image.path.as_str(), i)).collect();
    let group_of: HashMap<usize, u32> = members.iter().map(|member| (member.image, member.group)).collect();
    let mut original: Vec<usize> = (0..images.len()).collect();
    let mut planted: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [path, copy_of, kind] = fields[..] else {
            let error = PipelineError::format(truth, format!("line {} has {} fields, not 3", number + 1, fields.len()));
            return Err(error.into());
        };
        // Broken files copy nothing and are no images.
        let (Some(copy), Some(source)) = (index_of.get(path), index_of.get(copy_of)) else { continue };
        original[*copy] = *source;
        let (found, all) = planted.entry(kind.to_owned()).or_default();
        *all += 1;
        let group = group_of.get(copy);
        *found += u64::from(group.is_some() && group == group_of.get(source));
    }
    let (mut right, mut wrong) = (0u64, 0u64);
    for group in members.chunk_by(|a, b| a.group == b.group) {
        for (i, a) in group.iter().enumerate() {
            for b in &group[..i] {
                if original[a.image] == original[b.image] { right += 1 } else { wrong += 1 }
            }
        }
    }
    let share = |part: u64, all: u64| if all == 0 { 1.0 } else { part as f64 / all as f64 };
    let (found, all) = planted.values().fold((0, 0), |(f, a), (found, all)| (f + found, a + all));
    let by_kind: BTreeMap<&String, Value> = planted
        .iter()
        .map(|(kind, (found, all))| (kind, json!({"found": found, "planted": all, "recall": share(*found, *all)})))
        .collect();
    Ok(json!({
        "found": found,
        "planted": all,
        "recall": share(found, all),
        "precision": share(right, right + wrong),
        "pairs_right": right,
        "pairs_wrong": wrong,
        "by_kind": by_kind,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::{CopyKind, ImageId};

    #[test]
    fn recall_is_by_kind_and_precision_over_pairs() {
        let image =
            |name: &str| Image { id: ImageId(0), digest: String::new(), pixels: 1, phash: 0, path: name.to_owned() };
        let images = ["a", "a1", "a2", "b", "b1"].map(image);
        let member = |image, group| Member {
            image,
            group,
            representative: 0,
            kind: CopyKind::Copy,
            similarity: 1.0,
            hash_distance_bits: 0,
            neighbour: 0,
        };
        // a and its copy a1 are together with the stranger b; the copies a2 and b1 were missed.
        let members = [member(0, 0), member(1, 0), member(3, 0)];
        let temporary = tempfile::tempdir().expect("a folder");
        let truth = temporary.path().join("truth.csv");
        std::fs::write(&truth, "path,copy_of,kind\na1,a,crop\na2,a,flip\nb1,b,crop\nx,,broken\n").expect("writes");
        let scored = score(&truth, &images, &members).expect("scores");
        assert_eq!(scored["by_kind"]["crop"]["recall"], 0.5);
        assert_eq!(scored["by_kind"]["flip"]["recall"], 0.0);
        assert_eq!((&scored["pairs_right"], &scored["pairs_wrong"]), (&json!(1), &json!(2)));
    }
}
