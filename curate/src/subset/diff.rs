//! What two subsets share, and how their clusters and classes differ; counted by Polars over the tables.

use crate::Result;
use lapidary_pipeline::stage::{Layout, require_manifest};
use lapidary_schemas::tables::{CLUSTERS_FILE, SUBSET_FILE};
use polars::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

/// Clusters and classes listed, the ones that differ most.
const TOP_K: usize = 10;

/// Compares two subsets of a source.
///
/// # Errors
/// When one of them is not there.
pub fn diff(layout: &Layout, source: &str, a: &str, b: &str) -> Result<Value> {
    let folder_of = |subset: &str| -> Result<std::path::PathBuf> {
        let folder = layout.subset(source, subset);
        require_manifest(&folder, "subset", &format!("run `lapidary cut --size {subset}` first"))?;
        Ok(folder)
    };
    let (of_a, of_b) = (ids(&folder_of(a)?)?, ids(&folder_of(b)?)?);
    let join = JoinArgs::new(JoinType::Inner);
    let shared = of_a.clone().join(of_b.clone(), [col("image_id")], [col("image_id")], join).collect()?.height();
    let count = |frame: &LazyFrame| -> Result<usize> { Ok(frame.clone().collect()?.height()) };
    let (count_a, count_b) = (count(&of_a)?, count(&of_b)?);
    let clusters = scan(&layout.clusters(source).join(CLUSTERS_FILE))?
        .select([col("image_id"), col("cluster_level_1").cast(DataType::Int64).alias("key")]);
    let classes = scan(&layout.images(source).join("part-*.parquet"))?
        .select([col("image_id"), col("label").alias("key")])
        .filter(col("key").is_not_null());
    let ingested = require_manifest(&layout.images(source), "ingested images", "run `lapidary ingest` first")?;
    let name = |class: i64| ingested.facts["classes"][class as usize].as_str().unwrap_or_default().to_owned();
    let by_cluster = shares(&clusters, &of_a, &of_b)?;
    let by_class = shares(&classes, &of_a, &of_b)?;
    let union = count_a + count_b - shared;
    Ok(json!({
        "a": {"subset": a, "images": count_a},
        "b": {"subset": b, "images": count_b},
        "shared": shared,
        "only_a": count_a - shared,
        "only_b": count_b - shared,
        "jaccard": shared as f64 / union.max(1) as f64,
        "clusters": {
            "in_a": by_cluster.iter().filter(|share| share.a > 0.0).count(),
            "in_b": by_cluster.iter().filter(|share| share.b > 0.0).count(),
            "distance": distance(&by_cluster),
            "most_different": most_different(&by_cluster, |cluster| json!(cluster)),
        },
        "classes": {
            "distance": distance(&by_class),
            "most_different": most_different(&by_class, |class| json!(name(class))),
        },
    }))
}

fn scan(path: &Path) -> Result<LazyFrame> {
    Ok(LazyFrame::scan_parquet(PlRefPath::try_from_path(path)?, ScanArgsParquet::default())?)
}

fn ids(folder: &Path) -> Result<LazyFrame> {
    Ok(scan(&folder.join(SUBSET_FILE))?.select([col("image_id")]))
}

/// The share of each subset's images with a key.
struct Share {
    key: i64,
    a: f64,
    b: f64,
}

fn shares(keys: &LazyFrame, a: &LazyFrame, b: &LazyFrame) -> Result<Vec<Share>> {
    let counts = |subset: &LazyFrame| -> Result<Vec<(i64, f64)>> {
        let frame = keys
            .clone()
            .join(subset.clone(), [col("image_id")], [col("image_id")], JoinArgs::new(JoinType::Inner))
            .group_by([col("key")])
            .agg([len().cast(DataType::Float64).alias("count")])
            .sort(["key"], SortMultipleOptions::default())
            .collect()?;
        let found = frame.column("key")?.i64()?.iter().zip(frame.column("count")?.f64()?.iter());
        Ok(found.filter_map(|(key, count)| Some((key?, count?))).collect())
    };
    let mut all: std::collections::BTreeMap<i64, (f64, f64)> = std::collections::BTreeMap::new();
    counts(a)?.into_iter().for_each(|(key, count)| all.entry(key).or_default().0 = count);
    counts(b)?.into_iter().for_each(|(key, count)| all.entry(key).or_default().1 = count);
    let (of_a, of_b) = all.values().fold((0.0, 0.0), |(x, y), (a, b)| (x + a, y + b));
    let share = |count: f64, of: f64| if of > 0.0 { count / of } else { 0.0 };
    Ok(all.into_iter().map(|(key, (a, b))| Share { key, a: share(a, of_a), b: share(b, of_b) }).collect())
}

/// Total variation: half the sum of differences, 0 (alike) to 1 (nothing shared).
fn distance(shares: &[Share]) -> f64 {
    shares.iter().map(|share| (share.a - share.b).abs()).sum::<f64>() / 2.0
}

fn most_different(shares: &[Share], name: impl Fn(i64) -> Value) -> Vec<Value> {
    let mut sorted: Vec<&Share> = shares.iter().filter(|share| share.a != share.b).collect();
    sorted.sort_by(|x, y| (y.a - y.b).abs().total_cmp(&(x.a - x.b).abs()).then(x.key.cmp(&y.key)));
    sorted.iter().take(TOP_K).map(|share| json!({"name": name(share.key), "a": share.a, "b": share.b})).collect()
}
