//! The gallery: pictures of kept and of dropped images, filtered by reason, cluster, class and subset.
//!
//! Where there are more images than the page holds, reasons and clusters get equal shares as far as they have images; options of
//! the filter say how many there are in the tables, and the line beside it how many pictures are shown.

use super::frames::scan;
use super::made::Made;
use super::text::{grouped, words};
use super::viewer::{Shown, image, opener};
use crate::Result;
use lapidary_pipeline::{Layout, Pictures};
use lapidary_schemas::tables::{DECISIONS_FILE, SUBSET_FILE};
use lapidary_schemas::{DecisionReason, ImageId};
use maud::{Markup, html};
use polars::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Pictures of the gallery: about 4 KiB each.
const PICTURES_MAX: usize = 600;
/// Of these, pictures of dropped images, where there are so many.
const DROPPED_MAX: usize = 240;
const PICTURE_PX: u32 = 112;

/// A row of `decisions`.
struct Row {
    id: ImageId,
    reason: String,
    leaf: Option<u32>,
    position: u32,
    rank: Option<u32>,
    duplicate_of: Option<ImageId>,
    class: Option<usize>,
    in_subset: bool,
}

/// The section's gallery.
pub(super) fn gallery(layout: &Layout, made: &Made, pictures: &Pictures) -> Result<Markup> {
    let rows = read(layout, made)?;
    let by_reason = tally(rows.iter().map(|row| row.reason.clone()));
    let by_leaf = tally(rows.iter().filter_map(|row| row.leaf));
    let by_class = tally(rows.iter().filter_map(|row| row.class));
    let in_subset = rows.iter().filter(|row| row.in_subset).count();
    let total = rows.len();
    let chosen = choose(&rows);
    let ids: Vec<ImageId> = chosen.iter().map(|row| rows[*row].id).collect();
    let small = pictures.thumbnails(&ids, PICTURE_PX)?;
    let class_name = |class: usize| made.classes.get(class).map_or("?", String::as_str);
    let tile = |row: &Row, small| {
        let title = match (row.rank, row.leaf) {
            (Some(rank), Some(leaf)) => format!("rank {rank}, cluster {leaf}"),
            _ => words(&row.reason),
        };
        let mut facts = vec![format!("image {}", row.id), words(&row.reason)];
        facts.extend(row.class.map(|class| format!("class {}", class_name(class))));
        facts.extend(row.in_subset.then(|| "in the subset".to_owned()));
        facts.extend(row.duplicate_of.map(|other| format!("duplicate of {other}")));
        let (facts, is_kept) = (facts.join("; "), row.reason == DecisionReason::Kept.code());
        let shown = Shown { a: row.id, b: None, labels: ("", ""), title: &title, facts: &facts, map: None };
        html! {
            figure class={ "tile" @if !is_kept { " out" } } data-reason=(row.reason) data-cluster=[row.leaf] data-class=[row.class]
                data-subset=(if row.in_subset { "yes" } else { "no" }) {
                (opener("frame", &shown, image(row.id, small, &facts)))
                figcaption title=(title) { (title) }
            }
        }
    };
    let option = |value: String, text: String, count: usize| html! { option value=(value) data-count=(count) { (text) " (" (grouped(count as u64)) ")" } };
    Ok(html! {
        p.dim {
            "Images that stay, cluster by cluster in the order in which they are taken, and images that were dropped, framed in red. "
            @if ids.len() < total { "The page holds pictures of " (grouped(ids.len() as u64)) " of " (grouped(total as u64)) "; " code { "lapidary serve" } " shows all." }
        }
        form.filter id="gallery-filter" {
            label { "reason" select name="reason" {
                option value="" { "any" }
                @for (reason, count) in &by_reason { (option(reason.clone(), words(reason), *count)) }
            } }
            label { "cluster" select name="cluster" {
                option value="" { "any" }
                @for (leaf, count) in &by_leaf { (option(leaf.to_string(), leaf.to_string(), *count)) }
            } }
            @if !by_class.is_empty() { label { "class" select name="class" {
                option value="" { "any" }
                @for (class, count) in &by_class { (option(class.to_string(), class_name(*class).to_owned(), *count)) }
            } } }
            @if made.subset.is_some() { label { "in the subset" select name="subset" {
                option value="" { "any" }
                (option("yes".to_owned(), "yes".to_owned(), in_subset))
                (option("no".to_owned(), "no".to_owned(), total - in_subset))
            } } }
            button type="reset" { "Reset" }
            output aria-live="polite" {}
        }
        div.gallery-box tabindex="0" role="group" aria-label="Pictures" { div.gallery { @for (row, small) in chosen.iter().zip(&small) { (tile(&rows[*row], small)) } } }
    })
}

fn tally<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

fn read(layout: &Layout, made: &Made) -> Result<Vec<Row>> {
    let decisions = scan(&layout.ranking(&made.source).join(DECISIONS_FILE))?.collect()?;
    let labels = scan(&made.images.folder.join("part-*.parquet"))?.select([col("image_id"), col("label")]).collect()?;
    let pairs = labels.column("image_id")?.u64()?.iter().zip(labels.column("label")?.i64()?.iter());
    let class_of: HashMap<u64, usize> =
        pairs.filter_map(|(id, label)| Some((id?, usize::try_from(label?).ok()?))).collect();
    let mut subset: HashSet<u64> = HashSet::new();
    if let Some(cut) = &made.subset {
        let frame = scan(&cut.folder.join(SUBSET_FILE))?.select([col("image_id")]).collect()?;
        subset.extend(frame.column("image_id")?.u64()?.iter().flatten());
    }
    let u32s = |name: &str| -> Result<UInt32Chunked> { Ok(decisions.column(name)?.u32()?.clone()) };
    let (ids, reasons) = (decisions.column("image_id")?.u64()?, decisions.column("reason")?.str()?);
    let (leaves, positions, ranks) = (u32s("leaf")?, u32s("leaf_position")?, u32s("rank")?);
    let duplicates = decisions.column("duplicate_of")?.u64()?;
    let row = |row: usize| {
        let id = ids.get(row)?;
        Some(Row {
            id: ImageId(id),
            reason: reasons.get(row)?.to_owned(),
            leaf: leaves.get(row),
            position: positions.get(row).unwrap_or(0),
            rank: ranks.get(row),
            duplicate_of: duplicates.get(row).map(ImageId),
            class: class_of.get(&id).copied(),
            in_subset: subset.contains(&id),
        })
    };
    Ok((0..decisions.height()).filter_map(row).collect())
}

/// The rows that get a picture: kept ones by cluster and place in it, then dropped ones by reason.
fn choose(rows: &[Row]) -> Vec<usize> {
    let mut by_reason: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut by_leaf: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        match row.leaf.filter(|_| row.reason == DecisionReason::Kept.code()) {
            Some(leaf) => by_leaf.entry(leaf).or_default().push(index),
            None => by_reason.entry(&row.reason).or_default().push(index),
        }
    }
    by_leaf.values_mut().for_each(|leaf| leaf.sort_by_key(|index| rows[*index].position));
    let (kept, dropped): (usize, usize) =
        (by_leaf.values().map(Vec::len).sum(), by_reason.values().map(Vec::len).sum());
    // What the one does not need the other has.
    let for_dropped = dropped.min(DROPPED_MAX.max(PICTURES_MAX.saturating_sub(kept)));
    let kept = shared_out(by_leaf.into_values().collect(), PICTURES_MAX - for_dropped);
    let dropped = shared_out(by_reason.into_values().collect(), for_dropped);
    [kept, dropped].concat()
}

/// So many of lists, the same number of each as far as they reach; each list's first.
fn shared_out(lists: Vec<Vec<usize>>, count: usize) -> Vec<usize> {
    let mut taken = vec![0usize; lists.len()];
    let mut left = count;
    while left > 0 {
        let open: Vec<usize> = (0..lists.len()).filter(|list| taken[*list] < lists[*list].len()).collect();
        if open.is_empty() {
            break;
        }
        let each = (left / open.len()).max(1);
        for list in open {
            let more = each.min(left).min(lists[list].len() - taken[list]);
            taken[list] += more;
            left -= more;
        }
    }
    lists.into_iter().zip(taken).flat_map(|(list, taken)| list.into_iter().take(taken)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_share_evenly_and_short_ones_give_way() {
        let lists = || vec![(0..3).collect::<Vec<usize>>(), (10..60).collect(), (100..200).collect()];
        let taken = shared_out(lists(), 33);
        assert_eq!(taken.len(), 33);
        let of = |range: std::ops::Range<usize>| taken.iter().filter(|index| range.contains(index)).count();
        assert_eq!((of(0..3), of(10..60), of(100..200)), (3, 15, 15));
        assert_eq!(shared_out(lists(), 1000).len(), 153);
        assert_eq!(shared_out(lists(), 2), [0, 10]);
        assert!(shared_out(Vec::new(), 5).is_empty());
    }

    #[test]
    fn each_reason_and_each_cluster_has_pictures() {
        let row = |i: u64, reason: &str, leaf: Option<u32>| Row {
            id: ImageId(i),
            reason: reason.to_owned(),
            leaf,
            position: 0,
            rank: None,
            duplicate_of: None,
            class: None,
            in_subset: false,
        };
        let kept = (0..5000).map(|i| row(i, "kept", Some((i % 40) as u32)));
        let copies = (5000..9000).map(|i| row(i, "near_copy", None));
        let rows: Vec<Row> = kept.chain(copies).chain([row(9000, "low_quality", None)]).collect();
        let chosen = choose(&rows);
        assert_eq!(chosen.len(), PICTURES_MAX);
        assert!(chosen.contains(&9000));
        assert_eq!(chosen.iter().filter(|index| rows[**index].leaf == Some(7)).count(), 9);
        assert_eq!(choose(&rows[..100]).len(), 100);
    }
}
