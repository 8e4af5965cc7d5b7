//! Classes among all images and in the subset.

use super::chart::{Bars, Unit};
use super::frames::scan;
use super::made::Made;
use super::text::grouped;
use crate::Result;
use lapidary_schemas::tables::SUBSET_FILE;
use maud::{Markup, html};
use polars::prelude::*;
use std::path::Path;

/// Classes that the chart has: the most frequent.
const CLASSES_SHOWN: usize = 20;

/// The images of each class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClassCounts {
    /// Among all images with a label.
    pub(super) all: Vec<u64>,
    /// In the subset.
    pub(super) subset: Vec<u64>,
}

impl ClassCounts {
    /// Counts the labels of a source's images and of a subset's.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(super) fn read(made: &Made, subset: &Path) -> Result<Self> {
        let labels = scan(&made.images.folder.join("part-*.parquet"))?
            .select([col("image_id"), col("label")])
            .filter(col("label").is_not_null());
        let ids = scan(&subset.join(SUBSET_FILE))?.select([col("image_id")]);
        let of_subset = labels.clone().join(ids, [col("image_id")], [col("image_id")], JoinArgs::new(JoinType::Inner));
        let count = |frame: LazyFrame| -> Result<Vec<u64>> {
            let frame = frame.group_by([col("label")]).agg([len().alias("count")]).collect()?;
            let counts = frame.column("count")?.cast(&DataType::UInt64)?;
            let mut by_class = vec![0u64; made.classes.len()];
            for (label, count) in frame.column("label")?.i64()?.iter().zip(counts.u64()?.iter()) {
                if let Some(slot) = label.and_then(|label| by_class.get_mut(usize::try_from(label).ok()?)) {
                    *slot = count.unwrap_or(0);
                }
            }
            Ok(by_class)
        };
        Ok(Self { all: count(labels)?, subset: count(of_subset)? })
    }

    /// The entropy of the classes among all images and in the subset, in nats.
    pub(super) fn entropies(&self) -> (f64, f64) {
        (entropy(&self.all), entropy(&self.subset))
    }
}

/// The chart of class balance.
pub(super) fn balance(made: &Made, counts: &ClassCounts) -> Markup {
    let (all, some): (u64, u64) = (counts.all.iter().sum(), counts.subset.iter().sum());
    if all == 0 {
        return html! { p { "The source has no labels." } };
    }
    let mut order: Vec<usize> = (0..made.classes.len()).collect();
    order.sort_by_key(|class| std::cmp::Reverse(counts.all[*class]));
    order.truncate(CLASSES_SHOWN);
    let shares = |counts: &[u64]| -> Vec<f64> {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        order.iter().map(|class| counts[*class] as f64 / total).collect()
    };
    let names: Vec<String> = order.iter().map(|class| made.classes[*class].clone()).collect();
    let series = [("all images".to_owned(), shares(&counts.all)), ("subset".to_owned(), shares(&counts.subset))];
    let (before, after) = counts.entropies();
    html! { div.charts {
        (Bars { title: "Class balance", x: "share of the labelled images", names: &names, series: &series, spreads: &[], unit: Unit::Percent, marker: None }.figure())
        p.dim {
            "The class that fills most of an image, among " (grouped(all)) " labelled images and the subset's " (grouped(some))
            ". Entropy " (format!("{before:.3}")) " nats before, " (format!("{after:.3}")) " after, of at most "
            (format!("{:.3}", (made.classes.len() as f64).ln())) "; labels were not used to choose."
            @if made.classes.len() > order.len() { " The " (order.len()) " most frequent of " (made.classes.len()) " classes are shown." }
        }
    } }
}

fn entropy(counts: &[u64]) -> f64 {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    let shares = counts.iter().filter(|count| **count > 0).map(|count| *count as f64 / total);
    -shares.map(|share| share * share.ln()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_greatest_when_even() {
        assert!((entropy(&[5; 4]) - 4f64.ln()).abs() < 1e-12);
        assert_eq!(entropy(&[9, 0]), 0.0);
        assert_eq!(entropy(&[]), 0.0);
    }
}
