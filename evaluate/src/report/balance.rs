//! How even the first N of the ranking are over clusters and classes, for every N, against as many images drawn at random.

use super::chart::{Line, Lines};
use super::frames::scan;
use crate::Result;
use lapidary_pipeline::random::{Purpose, Rng, keyed};
use lapidary_schemas::tables::DECISIONS_FILE;
use maud::{Markup, html};
use polars::prelude::*;
use std::collections::HashMap;
use std::path::Path;

/// Sizes, in percent of the ranking.
const SIZES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0];

/// Divergence from an even distribution over clusters and over classes, by size.
pub(super) fn curves(ranking: &Path, images: &Path, classes: usize) -> Result<Markup> {
    let ranked = scan(&ranking.join(DECISIONS_FILE))?
        .filter(col("rank").is_not_null())
        .select([col("image_id"), col("rank"), col("leaf")])
        .sort(["rank"], SortMultipleOptions::default())
        .collect()?;
    let labels = scan(&images.join("part-*.parquet"))?.select([col("image_id"), col("label")]).collect()?;
    let ids: Vec<u64> = ranked.column("image_id")?.u64()?.iter().flatten().collect();
    let leaves: Vec<usize> = ranked.column("leaf")?.u32()?.iter().flatten().map(|leaf| leaf as usize).collect();
    let label_of: HashMap<u64, usize> = labels
        .column("image_id")?
        .u64()?
        .iter()
        .zip(labels.column("label")?.i64()?.iter())
        .filter_map(|(id, label)| Some((id?, usize::try_from(label?).ok()?)))
        .collect();
    let by_class: Vec<Option<usize>> = ids.iter().map(|id| label_of.get(id).copied()).collect();
    let by_cluster: Vec<Option<usize>> = leaves.iter().map(|leaf| Some(*leaf)).collect();
    let clusters = leaves.iter().max().map_or(0, |leaf| leaf + 1);
    let mut random: Vec<usize> = (0..ids.len()).collect();
    random.sort_by_cached_key(|row| keyed(0, Purpose::LeafOrder, ids[*row], 1).next_u64());
    let in_order: Vec<usize> = (0..ids.len()).collect();
    let line = |name: &str, order: &[usize], keys: &[Option<usize>], bins: usize| {
        Line::new(name, SIZES.iter().map(|percent| (*percent, divergence(order, keys, bins, *percent))))
    };
    let chart = |title: &str, keys: &[Option<usize>], bins: usize| {
        let lines = [line("ranking", &in_order, keys, bins), line("random", &random, keys, bins)];
        Lines { title, x: "first part of the ranking (%)", y: "divergence from even (nats)", lines: &lines }.figure()
    };
    Ok(html! {
        p.dim {
            "Kullback-Leibler divergence from an even distribution, in nats: 0 is even. The first N of the ranking against N of
             the same images drawn at random."
        }
        div.charts {
            (chart("Balance over clusters", &by_cluster, clusters))
            @if classes > 1 && by_class.iter().any(Option::is_some) { (chart("Balance over classes", &by_class, classes)) }
        }
    })
}

/// Divergence from even of the first `percent` of an order over `bins` keys; images without a key do not count.
fn divergence(order: &[usize], keys: &[Option<usize>], bins: usize, percent: f64) -> f64 {
    let size = (order.len() as f64 * percent / 100.0).round() as usize;
    let mut counts = vec![0u64; bins];
    order.iter().take(size).filter_map(|row| keys[*row]).for_each(|key| counts[key.min(bins - 1)] += 1);
    let total = counts.iter().sum::<u64>().max(1) as f64;
    let shares = counts.iter().filter(|count| **count > 0).map(|count| *count as f64 / total);
    shares.map(|share| share * (share * bins as f64).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_prefix_has_no_divergence() {
        let keys: Vec<Option<usize>> = (0..100).map(|i| Some(i % 4)).collect();
        let order: Vec<usize> = (0..100).collect();
        assert!(divergence(&order, &keys, 4, 40.0).abs() < 1e-12);
        let skewed: Vec<Option<usize>> = (0..100).map(|_| Some(0)).collect();
        assert!((divergence(&order, &skewed, 4, 40.0) - 4f64.ln()).abs() < 1e-12);
    }
}
