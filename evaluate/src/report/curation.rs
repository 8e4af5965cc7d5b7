//! The report's first half: what came in, what was dropped and why, what the subset looks like.

use crate::Result;
use lapidary_pipeline::Pictures;
use lapidary_pipeline::report::{bar_chart, table};
use lapidary_pipeline::stage::CuratedManifests;
use lapidary_schemas::tables::{CLUSTERS_FILE, DECISIONS_FILE, DUPLICATES_FILE, PAIRS_FILE, REJECTS_FILE, SUBSET_FILE};
use lapidary_schemas::{CopyKind, DecisionReason, ImageId, Manifest, RejectReason};
use maud::{Markup, html};
use polars::prelude::*;
use serde_json::Value;
use std::path::Path;

const GROUPS_SHOWN: usize = 14;
const MEMBERS_SHOWN: usize = 6;
const PAIRS_SHOWN: usize = 16;
const SCORE_BINS: usize = 20;
const CLUSTERS_SHOWN: usize = 10;
const IMAGES_OF_A_CLUSTER: usize = 8;

fn scan(path: &Path) -> Result<LazyFrame> {
    Ok(LazyFrame::scan_parquet(PlRefPath::try_from_path(path)?, ScanArgsParquet::default())?)
}

/// Rows of a `name, count` frame.
fn counted(frame: &DataFrame, name: &str) -> Result<Vec<(String, u64)>> {
    let names = frame.column(name)?.str()?.clone();
    let counts = frame.column("count")?.cast(&DataType::UInt64)?;
    let counts = counts.u64()?;
    Ok(names.iter().zip(counts.iter()).map(|(n, c)| (n.unwrap_or_default().to_owned(), c.unwrap_or(0))).collect())
}

/// What was merged into a tree that was there, and how well it fits.
fn added(facts: &Value) -> Markup {
    let tree = &facts["tree"];
    let images = |which: &str| tree["drift"][which]["images"].as_u64().unwrap_or(0);
    html! {
        p.dim {
            "The tree was built from " (images("built_from")) " images; " (images("added")) " were merged into it since. They lie "
            (format!("{:.2}", tree["distance_ratio"].as_f64().unwrap_or(1.0)))
            " times as far from their centroids, by the mean square, as those do when they are left out."
            @if let Some(why) = facts["rebuild_because"].as_str() { " It should be built anew: " (why) "." }
        }
    }
}

/// Inputs by what became of them.
pub(super) fn counts(images: &Path, ingested: &Manifest, curated: Option<&CuratedManifests>) -> Result<Markup> {
    let by_reason = scan(&images.join(REJECTS_FILE))?
        .group_by([col("reason")])
        .agg([len().alias("count")])
        .sort(["reason"], SortMultipleOptions::default())
        .collect()?;
    let mut rows = vec![vec!["ingest".to_owned(), "inputs".to_owned(), ingested.rows.input.to_string(), String::new()]];
    for (code, count) in counted(&by_reason, "reason")? {
        let text = RejectReason::from_code(&code).map_or("", RejectReason::text).to_owned();
        rows.push(vec!["ingest".to_owned(), format!("rejected: {code}"), count.to_string(), text]);
    }
    rows.push(vec!["ingest".to_owned(), "images".to_owned(), ingested.rows.output.to_string(), String::new()]);
    for (code, count) in curated.iter().flat_map(|m| m.facts["images_by_reason"].as_object().into_iter().flatten()) {
        let text = DecisionReason::from_code(code).map_or("", DecisionReason::text).to_owned();
        rows.push(vec!["curate".to_owned(), code.clone(), count.to_string(), text]);
    }
    let truth = curated.and_then(|m| m.facts["truth"]["by_kind"].as_object());
    let by_kind: Vec<Vec<String>> = truth
        .into_iter()
        .flatten()
        .map(|(kind, score)| {
            let recall = format!("{:.0} %", score["recall"].as_f64().unwrap_or(0.0) * 100.0);
            vec![kind.clone(), score["planted"].to_string(), score["found"].to_string(), recall]
        })
        .collect();
    Ok(html! {
        (table(&["stage", "what", "images", "meaning"], &rows))
        @if let Some(curated) = curated.filter(|curated| !curated.stages[2].extends.is_empty()) { (added(&curated.facts)) }
        @if !by_kind.is_empty() {
            h3 { "Planted copies" }
            (table(&["kind", "planted", "found", "recall"], &by_kind))
        }
    })
}

/// Duplicate groups, the representative first.
pub(super) fn groups(folder: &Path, facts: &Value, pictures: &Pictures) -> Result<Markup> {
    let frame = scan(&folder.join(DUPLICATES_FILE))?.collect()?;
    let (ids, groups) = (frame.column("image_id")?.u64()?, frame.column("group")?.u32()?);
    let (representatives, kinds) = (frame.column("representative")?.u64()?, frame.column("kind")?.str()?);
    let scores = frame.column("score")?.f32()?;
    let mut shown: Vec<(u32, Vec<(ImageId, String)>)> = Vec::new();
    for row in 0..frame.height() {
        let (Some(id), Some(group)) = (ids.get(row), groups.get(row)) else { continue };
        let id = ImageId(id);
        let is_representative = representatives.get(row) == Some(id.0);
        let kind = kinds.get(row).and_then(|code| CopyKind::ALL.iter().find(|k| k.code() == code));
        let caption = if is_representative {
            "kept".to_owned()
        } else {
            format!("{}, {:.2}", kind.map_or("", |k| k.code()), scores.get(row).unwrap_or(0.0))
        };
        match shown.last_mut() {
            Some((last, members)) if *last == group => members.push((id, caption)),
            _ => shown.push((group, vec![(id, caption)])),
        }
    }
    // The groups that took most evidence to find are the ones worth a look.
    let least = |members: &[(ImageId, String)]| members.iter().filter(|(_, c)| c.starts_with("exact")).count();
    shown.sort_by_key(|(group, members)| (least(members), std::cmp::Reverse(members.len()), *group));
    let mut rows = Vec::new();
    for (_, mut members) in shown.into_iter().take(GROUPS_SHOWN) {
        members.sort_by_key(|(_, caption)| caption != "kept");
        members.truncate(MEMBERS_SHOWN);
        rows.push(pictures.row(&members, 96)?);
    }
    Ok(html! {
        p.dim {
            (facts["duplicate_groups"]) " groups, the largest of " (facts["largest_group"])
            " images. The first of each is kept; the others say by what evidence they are linked to it, and its score."
        }
        @if rows.is_empty() { p { "No duplicates." } }
        @for row in rows { (row) }
    })
}

/// Pairs around the threshold, where judgement is hardest, and histograms of scores and of nearest neighbours.
pub(super) fn pairs(folder: &Path, facts: &Value, pictures: &Pictures) -> Result<Markup> {
    let frame = scan(&folder.join(PAIRS_FILE))?.filter(col("kind").neq(lit(CopyKind::Exact.code()))).collect()?;
    let threshold = facts["score_min"].as_f64().unwrap_or(0.5);
    let (a, b) = (frame.column("a")?.u64()?, frame.column("b")?.u64()?);
    let (scores, kinds) = (frame.column("score")?.f32()?, frame.column("kind")?.str()?);
    let (inliers, bits) = (frame.column("inliers")?.u32()?, frame.column("hash_distance_bits")?.u32()?);
    let similarities = frame.column("similarity")?.f32()?;
    // A pair with an image of another source has no picture here.
    let has = |id: Option<u64>| id.is_some_and(|id| pictures.has(ImageId(id)));
    let mut order: Vec<usize> = (0..frame.height()).filter(|row| has(a.get(*row)) && has(b.get(*row))).collect();
    let off = |row: usize| (f64::from(scores.get(row).unwrap_or(0.0)) - threshold).abs();
    order.sort_by(|x, y| off(*x).total_cmp(&off(*y)));
    order.truncate(PAIRS_SHOWN);
    order.sort_by(|x, y| scores.get(*y).unwrap_or(0.0).total_cmp(&scores.get(*x).unwrap_or(0.0)));
    let mut shown = Vec::new();
    for row in order {
        let (Some(a), Some(b), Some(score)) = (a.get(row), b.get(row), scores.get(row)) else { continue };
        let mut evidence = vec![format!("score {score:.2}, {}", kinds.get(row).unwrap_or_default())];
        evidence.extend(inliers.get(row).map(|n| format!("{n} keypoints")));
        evidence.extend(bits.get(row).map(|n| format!("{n} bits apart")));
        evidence.extend(similarities.get(row).map(|s| format!("cosine {s:.2}")));
        let verdict = if f64::from(score) >= threshold { "linked" } else { "not linked" };
        shown.push(pictures.row(&[(ImageId(a), evidence.join(", ")), (ImageId(b), verdict.to_owned())], 110)?);
    }
    let mut by_score = vec![0f64; SCORE_BINS];
    for score in scores.iter().flatten() {
        by_score[((score * SCORE_BINS as f32) as usize).min(SCORE_BINS - 1)] += 1.0;
    }
    let nearest: Vec<f64> =
        facts["neighbours"]["nearest"].as_array().into_iter().flatten().filter_map(|n| n.as_f64()).collect();
    let shares = |counts: Vec<f64>| -> Vec<f64> {
        let total = counts.iter().sum::<f64>().max(1.0);
        counts.into_iter().map(|count| count / total).collect()
    };
    let labels = |bins: usize| (0..bins).map(|bin| format!("{:.2}", bin as f64 / bins as f64)).collect::<Vec<_>>();
    Ok(html! {
        p.dim {
            "Pairs are linked from a score of " (threshold) " on. Shown are those nearest to it on either side; the bars count all
             pairs with evidence but exact copies."
        }
        div.row { @for pair in shown { div { (pair) } } }
        (bar_chart("Pairs by score", &labels(SCORE_BINS), &[("pairs".to_owned(), shares(by_score))]))
        @if !nearest.is_empty() {
            p.dim {
                "Cosine of each image's nearest neighbour; from "
                (format!("{:.2}", facts["copy_similarity_min"].as_f64().unwrap_or(0.0)))
                " on it is a candidate. Index: " (facts["neighbours"]["index"].as_str().unwrap_or_default())
                ", recall " (format!("{:.3}", facts["neighbours"]["recall"].as_f64().unwrap_or(0.0))) "."
            }
            (bar_chart("Images by nearest neighbour", &labels(nearest.len()), &[("images".to_owned(), shares(nearest))]))
        }
    })
}

/// The images nearest to the centroids of the largest finest clusters.
pub(super) fn montage(clusters: &Path, ranking: &Path, pictures: &Pictures) -> Result<Markup> {
    let largest = scan(&clusters.join(CLUSTERS_FILE))?
        .group_by([col("cluster_level_1")])
        .agg([len().alias("count")])
        .sort(["count", "cluster_level_1"], SortMultipleOptions::default().with_order_descending_multi([true, false]))
        .limit(CLUSTERS_SHOWN as u32)
        .collect()?;
    let nearest = scan(&ranking.join(DECISIONS_FILE))?
        .filter(col("leaf_position").lt(lit(IMAGES_OF_A_CLUSTER as u32)))
        .sort(["leaf", "leaf_position"], SortMultipleOptions::default())
        .collect()?;
    let (leaves, ids) = (nearest.column("leaf")?.u32()?, nearest.column("image_id")?.u64()?);
    let counts = largest.column("count")?.cast(&DataType::UInt64)?;
    let mut rows = Vec::new();
    for (cluster, count) in largest.column("cluster_level_1")?.u32()?.iter().zip(counts.u64()?.iter()) {
        let images: Vec<(ImageId, String)> = leaves
            .iter()
            .zip(ids.iter())
            .filter(|(leaf, _)| *leaf == cluster)
            .filter_map(|(_, id)| Some((ImageId(id?), String::new())))
            .collect();
        rows.push((cluster.unwrap_or(0), count.unwrap_or(0), pictures.row(&images, 88)?));
    }
    Ok(html! {
        p.dim { "The largest of the finest clusters, each by the images that are taken first." }
        @for (cluster, count, row) in rows { p { "cluster " (cluster) ", " (count) " images" } (row) }
    })
}

/// Classes among all images and in the subset.
pub(super) fn balance(images: &Path, subset: &Path, classes: Vec<String>) -> Result<Markup> {
    let labels = scan(&images.join("part-*.parquet"))?
        .select([col("image_id"), col("label")])
        .filter(col("label").is_not_null());
    let kept = scan(&subset.join(SUBSET_FILE))?.select([col("image_id")]);
    let of_subset = labels.clone().join(kept, [col("image_id")], [col("image_id")], JoinArgs::new(JoinType::Inner));
    let shares = |frame: LazyFrame| -> Result<(u64, Vec<f64>)> {
        let frame = frame.group_by([col("label")]).agg([len().alias("count")]).collect()?;
        let counts = frame.column("count")?.cast(&DataType::UInt64)?;
        let mut by_class = vec![0u64; classes.len()];
        for (label, count) in frame.column("label")?.i64()?.iter().zip(counts.u64()?.iter()) {
            if let Some(slot) = label.and_then(|l| by_class.get_mut(l as usize)) {
                *slot = count.unwrap_or(0);
            }
        }
        let total: u64 = by_class.iter().sum();
        Ok((total, by_class.iter().map(|count| *count as f64 / total.max(1) as f64).collect()))
    };
    let ((all, before), (some, after)) = (shares(labels)?, shares(of_subset)?);
    if all == 0 {
        return Ok(html! { p { "The source has no labels." } });
    }
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_by(|a, b| before[*b].total_cmp(&before[*a]));
    order.truncate(24);
    let pick = |shares: &[f64]| order.iter().map(|class| shares[*class]).collect::<Vec<f64>>();
    let names: Vec<String> = order.iter().map(|class| classes[*class].clone()).collect();
    Ok(html! {
        p.dim {
            "Share of each class (the one that fills most of an image) among " (all) " labelled images and in the subset's "
            (some) ". Entropy " (format!("{:.3}", entropy(&before))) " before, " (format!("{:.3}", entropy(&after)))
            " after, of at most " (format!("{:.3}", (classes.len() as f64).ln())) "; labels were not used to choose."
        }
        (bar_chart("Class balance", &names, &[("all images".to_owned(), pick(&before)), ("subset".to_owned(), pick(&after))]))
    })
}

fn entropy(shares: &[f64]) -> f64 {
    -shares.iter().filter(|share| **share > 0.0).map(|share| share * share.ln()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_greatest_when_even() {
        assert!((entropy(&[0.25; 4]) - 4f64.ln()).abs() < 1e-12);
        assert_eq!(entropy(&[1.0, 0.0]), 0.0);
    }
}
