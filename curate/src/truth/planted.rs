//! Scoring duplicates against planted copies: groups and pairs, in all and by kind.
//!
//! A planted pair is found when the copy and its original share a group. A pair that shares a group is right when both
//! stem from the same original, directly or as copies of it. The ranked pairs are scored by micro-AP
//! ([`ranked_score`]); a pair of two copies of one original counts for neither side there, as the truth does not list
//! it.

use super::csv_table::{line_of, records};
use super::micro_ap::ranked_score;
use crate::Result;
use lapidary_pipeline::PipelineError;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Precision at which recall is reported.
const PRECISION: f64 = 0.99;

/// The planted copies.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// Copy, original and kind.
    pub(super) planted: Vec<(String, String, String)>,
}

impl Truth {
    /// Reads a truth table (CSV: path, copy_of, kind); a collage has a line for each of its originals.
    ///
    /// # Errors
    /// When the table cannot be read, or a line has not three fields.
    pub fn read(path: &Path) -> Result<Self> {
        let mut planted = Vec::new();
        for record in records(path)?.iter().skip(1) {
            let fields: Vec<&str> = record.iter().collect();
            let [copy, original, kind] = fields[..] else {
                let error = format!("line {} has {} fields, not 3", line_of(record), fields.len());
                return Err(PipelineError::format(path, error).into());
            };
            planted.push((copy.to_owned(), original.to_owned(), kind.to_owned()));
        }
        Ok(Self { planted })
    }

    /// Those whose both ends are among the images: broken files copy nothing and are no images.
    fn among(&self, paths: &[&str]) -> Vec<(usize, usize, &str)> {
        let index: HashMap<&str, usize> = paths.iter().enumerate().map(|(index, path)| (*path, index)).collect();
        let find = |path: &String| index.get(path.as_str()).copied();
        self.planted
            .iter()
            .filter_map(|(copy, original, kind)| Some((find(copy)?, find(original)?, kind.as_str())))
            .collect()
    }

    /// Scores groups: the group of each image, by its path.
    pub fn score_groups(&self, paths: &[&str], group_of: &[Option<u32>]) -> Value {
        let planted = self.among(paths);
        let mut originals: Vec<BTreeSet<usize>> = (0..paths.len()).map(|image| BTreeSet::from([image])).collect();
        for (copy, original, _) in &planted {
            originals[*copy].remove(copy);
            originals[*copy].insert(*original);
        }
        let mut by_kind: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (copy, original, kind) in &planted {
            let (found, all) = by_kind.entry(kind).or_default();
            *all += 1;
            *found += u64::from(group_of[*copy].is_some() && group_of[*copy] == group_of[*original]);
        }
        let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (image, group) in group_of.iter().enumerate() {
            if let Some(group) = group {
                groups.entry(*group).or_default().push(image);
            }
        }
        let (mut right, mut wrong) = (0u64, 0u64);
        for group in groups.values() {
            for (i, a) in group.iter().enumerate() {
                for b in &group[..i] {
                    if originals[*a].is_disjoint(&originals[*b]) { wrong += 1 } else { right += 1 }
                }
            }
        }
        let share = |part: u64, all: u64| if all == 0 { 1.0 } else { part as f64 / all as f64 };
        let (found, all) = by_kind.values().fold((0, 0), |(f, a), (found, all)| (f + found, a + all));
        let by_kind: BTreeMap<&str, Value> = by_kind
            .into_iter()
            .map(|(kind, (found, all))| (kind, json!({"found": found, "planted": all, "recall": share(found, all)})))
            .collect();
        json!({
            "found": found,
            "planted": all,
            "recall": share(found, all),
            "precision": share(right, right + wrong),
            "pairs_right": right,
            "pairs_wrong": wrong,
            "by_kind": by_kind,
        })
    }

    /// Scores pairs `(a, b, score)` of indices into `paths`; a pair that comes twice counts once, by its higher score.
    pub fn score_pairs(&self, paths: &[&str], pairs: &[(usize, usize, f64)]) -> Value {
        let planted = self.among(paths);
        let mut truth: BTreeMap<(usize, usize), &str> = BTreeMap::new();
        let mut originals: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        for (copy, original, kind) in &planted {
            truth.insert((*copy.min(original), *copy.max(original)), kind);
            originals.entry(*copy).or_default().insert(*original);
        }
        let siblings = |a: usize, b: usize| match (originals.get(&a), originals.get(&b)) {
            (Some(of_a), Some(of_b)) => !of_a.is_disjoint(of_b),
            _ => false,
        };
        let mut scores: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for (a, b, score) in pairs.iter().filter(|(a, b, _)| a != b) {
            let best = scores.entry((*a.min(b), *a.max(b))).or_insert(*score);
            *best = best.max(*score);
        }
        let list: Vec<(f64, bool)> = scores
            .iter()
            .filter(|((a, b), _)| truth.contains_key(&(*a, *b)) || !siblings(*a, *b))
            .map(|(pair, score)| (*score, truth.contains_key(pair)))
            .collect();
        let ranked = ranked_score(&list, truth.len(), PRECISION);
        let mut by_kind: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (pair, kind) in &truth {
            let (found, all) = by_kind.entry(kind).or_default();
            *all += 1;
            *found += u64::from(scores.get(pair).is_some_and(|score| *score >= ranked.threshold));
        }
        let by_kind: BTreeMap<&str, f64> =
            by_kind.into_iter().map(|(kind, (found, all))| (kind, found as f64 / all as f64)).collect();
        json!({
            "pairs": list.len(),
            "micro_ap": ranked.micro_ap,
            "recall_at_99": ranked.recall,
            "threshold": if ranked.threshold.is_finite() { json!(ranked.threshold) } else { Value::Null },
            "recall_by_kind": by_kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::score_csv;

    fn truth() -> Truth {
        let temporary = tempfile::tempdir().expect("a folder");
        let path = temporary.path().join("truth.csv");
        std::fs::write(&path, "path,copy_of,kind\na1,a,crop\na2,a,flip\nb1,b,crop\nx,,broken\n").expect("writes");
        Truth::read(&path).expect("reads")
    }

    #[test]
    fn recall_is_by_kind_and_precision_over_pairs() {
        // a and its copy a1 are together with the stranger b; the copies a2 and b1 were missed.
        let scored = truth().score_groups(&["a", "a1", "a2", "b", "b1"], &[Some(0), Some(0), None, Some(0), None]);
        assert_eq!(scored["by_kind"]["crop"]["recall"], 0.5);
        assert_eq!(scored["by_kind"]["flip"]["recall"], 0.0);
        assert_eq!((&scored["pairs_right"], &scored["pairs_wrong"]), (&json!(1), &json!(2)));
    }

    #[test]
    fn paths_may_hold_commas_quotes_and_line_ends() {
        const ODD: [&str; 4] = ["a, b/1.jpg", "the \"best\".png", "two\nlines\r\n.jpg", "\u{e9}\u{4e2d}; #x.jpg"];
        let temporary = tempfile::tempdir().expect("a folder");
        let (truth, pairs) = (temporary.path().join("truth.csv"), temporary.path().join("pairs.csv"));
        let rows = [[ODD[0], ODD[1], "crop, tight"], [ODD[2], ODD[3], "flip"]];
        std::fs::write(&truth, lapidary_pipeline::draw::truth_table(rows).expect("a table")).expect("writes");
        let read = Truth::read(&truth).expect("reads");
        assert_eq!(read.planted, rows.map(|row| (row[0].to_owned(), row[1].to_owned(), row[2].to_owned())));
        // With a byte-order mark, names of columns, more columns than are read, and lines that end as on Windows.
        let text = "\u{feff}from,to,distance,by\r\n\"a, b/1.jpg\",\"the \"\"best\"\".png\",0.9,tool\r\n\
                    \"two\nlines\r\n.jpg\",\u{e9}\u{4e2d}; #x.jpg, 0.8,tool\r\n";
        std::fs::write(&pairs, text).expect("writes");
        let scored = score_csv(&pairs, &truth).expect("scores");
        assert_eq!((&scored["micro_ap"], &scored["pairs"]), (&json!(1.0), &json!(2)));
        assert_eq!(scored["recall_by_kind"]["crop, tight"], json!(1.0));
        std::fs::write(&pairs, "a,b,0.5\n\"a\nb\",c,0.5\na,b,high\n").expect("writes");
        let error = score_csv(&pairs, &truth).expect_err("no number").to_string();
        assert!(error.contains("pairs.csv") && error.contains("line 4: `high` is no score"), "{error}");
        std::fs::write(&truth, "path,copy_of,kind\na,b\n").expect("writes");
        let error = Truth::read(&truth).expect_err("two fields").to_string();
        assert!(error.contains("line 2 has 2 fields, not 3"), "{error}");
        std::fs::write(&truth, b"path,copy_of,kind\na,\xff,x\n").expect("writes");
        assert!(Truth::read(&truth).expect_err("no text").to_string().contains("line 2 is not UTF-8"));
    }

    #[test]
    fn pairs_are_ranked_and_copies_of_one_original_count_for_neither_side() {
        let paths = ["a", "a1", "a2", "b", "b1"];
        let pairs = [(1, 2, 0.99), (0, 1, 0.9), (1, 0, 0.2), (0, 3, 0.8), (3, 4, 0.7)];
        let scored = truth().score_pairs(&paths, &pairs);
        // True, wrong, true: of three planted pairs.
        let expected = (1.0 + 2.0 / 3.0) / 3.0;
        assert!((scored["micro_ap"].as_f64().expect("a number") - expected).abs() < 1e-12, "{scored}");
        assert_eq!(scored["recall_at_99"].as_f64(), Some(1.0 / 3.0));
        assert_eq!((&scored["recall_by_kind"]["crop"], &scored["recall_by_kind"]["flip"]), (&json!(0.5), &json!(0.0)));
    }
}
