//! Retrieval: each query's ranking of a bank by cosine similarity, and the mean over queries of its average precision, where what
//! has the query's class is relevant (scikit-learn's `average_precision_score`, ties together).
//!
//! A ranking is never sorted: only the similarities of what is relevant are, and the others are counted between them. In memory
//! are, beside the features, a block of similarities (64 MiB, or one query's by the whole bank where that is more: 5 MB for 1.28
//! million images) and two numbers for each relevant image of a block's queries.

use crate::matrix::{Matrix, multiply};
use crate::scores::Measure;
use lapidary_train::probe::{Features, Labelled, stratified};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Similarities of a block.
const BLOCK: usize = 1 << 24;
/// Queries of a block at most.
const QUERIES: usize = 64;
/// Images of the bank of a product.
const ROWS: usize = 1024;

const PROTOCOL: &str = "mean average precision of rankings by cosine similarity, same class is relevant, without interpolation \
                        (scikit-learn's): comparable on the same queries and bank; not with ROxford's, which interpolates";

/// How well images find those of their class.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Retrieval {
    /// The mean average precision; none where no query has a relevant image.
    map: Option<f64>,
    /// Queries that have a relevant image.
    queries: usize,
    /// Queries that have none and do not count.
    without: usize,
}

/// Retrieval among the test images (each query from the others) and from the train images. `most` bounds the queries, which seed
/// and ids choose.
pub(crate) fn retrieval_measures(
    (train, test): (&Features, &Features),
    list: &[Labelled],
    most: usize,
    seed: u64,
) -> Vec<Measure> {
    let sample = stratified(list, 1.0, most, seed);
    let index = |one: &Labelled| list.binary_search(one).expect("a sample is of the probe's images");
    let own: Vec<usize> = sample.iter().map(index).collect();
    let (train, test) = (train.clone().normalised(), test.clone().normalised());
    let queries = test.select(&own);
    let measure = |name: &str, bank: &Features, own: Option<&[usize]>| {
        let found = retrieval(&queries, bank, own);
        let without = (found.without > 0).then(|| format!("{} queries have no image of their class", found.without));
        Measure {
            name: name.to_owned(),
            protocol: PROTOCOL.to_owned(),
            images: found.queries,
            value: found.map,
            settings: BTreeMap::from([("bank".to_owned(), bank.len() as f64)]),
            notes: without.into_iter().collect(),
        }
    };
    vec![measure("retrieval mAP, test", &test, Some(&own)), measure("retrieval mAP, train", &train, None)]
}

/// The retrieval of queries from a bank, both of unit length; `own` is each query's index in the bank, which is left out.
fn retrieval(queries: &Features, bank: &Features, own: Option<&[usize]>) -> Retrieval {
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, class) in bank.classes.iter().enumerate() {
        members.entry(*class).or_default().push(index);
    }
    let block = (BLOCK / bank.len().max(1)).clamp(1, QUERIES);
    let mut similarities = vec![0f32; bank.len() * block.min(queries.len())];
    let (mut sum, mut counted) = (0.0, 0);
    for first in (0..queries.len()).step_by(block) {
        let count = block.min(queries.len() - first);
        let rows = &queries.values[first * queries.dim..(first + count) * queries.dim];
        // Shape [bank, count]: images of the bank are rows, so that blocks of them are apart.
        let similarities = &mut similarities[..bank.len() * count];
        similarities.par_chunks_mut(ROWS * count).zip(bank.values.par_chunks(ROWS * bank.dim)).for_each(
            |(out, values)| {
                multiply(out, Matrix::new(values, bank.dim), Matrix::new(rows, bank.dim).transposed(), false);
            },
        );
        let rankings: Vec<Ranking> = (0..count)
            .into_par_iter()
            .map(|query| {
                let class = queries.classes[first + query];
                let own = own.map(|own| own[first + query]);
                let relevant = members.get(&class).map_or(&[][..], Vec::as_slice).iter();
                let relevant = relevant.filter(|index| Some(**index) != own);
                Ranking::of(class, relevant.map(|index| similarities[index * count + query]).collect())
            })
            .collect();
        for precision in average_precisions(rankings, similarities, &bank.classes) {
            sum += precision;
            counted += 1;
        }
    }
    let map = (counted > 0).then(|| sum / counted as f64);
    Retrieval { map, queries: counted, without: queries.len() - counted }
}

/// What is relevant to a query: the distinct similarities from the highest, and how many images have each.
struct Ranking {
    class: u32,
    /// From the highest.
    levels: Vec<(f32, u32)>,
}

impl Ranking {
    fn of(class: u32, mut relevant: Vec<f32>) -> Self {
        relevant.sort_unstable_by(|a, b| b.total_cmp(a));
        let levels = relevant.chunk_by(|a, b| a == b).map(|group| (group[0], group.len() as u32)).collect();
        Self { class, levels }
    }

    /// The level that an image of this similarity comes in at, before or with what is relevant; none below all.
    fn level_of(&self, similarity: f32) -> Option<usize> {
        let level = self.levels.partition_point(|(level, _)| *level > similarity);
        (level < self.levels.len()).then_some(level)
    }

    /// The average precision, with how many others come in at each level; none without anything relevant.
    fn average_precision(&self, others: &[u32]) -> Option<f64> {
        let (mut sum, mut found, mut seen) = (0.0, 0u64, 0u64);
        for ((_, relevant), others) in self.levels.iter().zip(others) {
            found += u64::from(*relevant);
            seen += u64::from(*relevant) + u64::from(*others);
            sum += f64::from(*relevant) * (found as f64 / seen as f64);
        }
        (found > 0).then(|| sum / found as f64)
    }
}

/// The average precision of each query that has anything relevant, in order.
fn average_precisions(rankings: Vec<Ranking>, similarities: &[f32], classes: &[u32]) -> Vec<f64> {
    let count = rankings.len();
    let none = || rankings.iter().map(|ranking| vec![0u32; ranking.levels.len()]).collect::<Vec<_>>();
    // Few large parts, since each has counters of its own; sums of whole numbers do not depend on how many.
    let rows = classes.len().div_ceil(rayon::current_num_threads().max(1)).max(ROWS);
    let parts: Vec<Vec<Vec<u32>>> = similarities
        .par_chunks(rows * count)
        .zip(classes.par_chunks(rows))
        .map(|(similarities, classes)| {
            let mut others = none();
            for (row, class) in similarities.chunks_exact(count).zip(classes) {
                for ((ranking, others), similarity) in rankings.iter().zip(&mut others).zip(row) {
                    // Of the query's class are what is relevant and the query itself.
                    if ranking.class != *class
                        && let Some(level) = ranking.level_of(*similarity)
                    {
                        others[level] += 1;
                    }
                }
            }
            others
        })
        .collect();
    let mut others = none();
    for part in parts {
        for (sums, counts) in others.iter_mut().zip(part) {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
    rankings.iter().zip(&others).filter_map(|(ranking, others)| ranking.average_precision(others)).collect()
}

/// The same by sorting each ranking.
#[cfg(test)]
fn retrieval_reference(queries: &Features, bank: &Features, own: Option<&[usize]>) -> Option<f64> {
    let precisions: Vec<f64> = (0..queries.len())
        .filter_map(|query| {
            let others = (0..bank.len()).filter(|index| own.is_none_or(|own| own[query] != *index));
            let mut items: Vec<(f32, bool)> = others
                .map(|index| {
                    let dot = queries.row(query).iter().zip(bank.row(index)).map(|(a, b)| a * b).sum();
                    (dot, bank.classes[index] == queries.classes[query])
                })
                .collect();
            super::average_precision::average_precision(&mut items)
        })
        .collect();
    (!precisions.is_empty()).then(|| precisions.iter().sum::<f64>() / precisions.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, measures};
    use lapidary_schemas::ImageId;

    #[test]
    fn the_mean_average_precision_is_scikit_learns() {
        let bank = features(300, 16, 7, 0.3, 0.5).normalised();
        let queries = features(80, 16, 7, 1.1, 0.5).normalised();
        let own: Vec<usize> = (0..bank.len()).collect();
        for (name, found) in
            [("bank", retrieval(&queries, &bank, None)), ("others", retrieval(&bank, &bank, Some(&own)))]
        {
            let expected = measures()["retrieval"][name].as_f64().expect("a number");
            let found = found.map.expect("all have a relevant image");
            println!("{name}: {:.1e}", (found - expected).abs());
            assert!((found - expected).abs() < 1e-6, "{name}: {found} against {expected}");
        }
    }

    #[test]
    fn counting_is_sorting_where_many_are_equal() {
        // Eight directions, whose products are exact.
        let directions = |rows: usize, step: usize| {
            let values = (0..rows).flat_map(|i| {
                let at = (i * step) % 8;
                (0..4).map(move |axis| if axis == at % 4 { if at < 4 { 1.0 } else { -1.0 } } else { 0.0 })
            });
            Features { dim: 4, values: values.collect(), classes: (0..rows).map(|i| (i * i % 5) as u32).collect() }
        };
        let (bank, queries) = (directions(3000, 3), directions(150, 5));
        let found = retrieval(&queries, &bank, None);
        let expected = retrieval_reference(&queries, &bank, None).expect("some");
        assert!((found.map.expect("some") - expected).abs() < 1e-12, "{found:?} against {expected}");
        let own: Vec<usize> = (0..bank.len()).collect();
        let found = retrieval(&bank, &bank, Some(&own)).map.expect("some");
        let expected = retrieval_reference(&bank, &bank, Some(&own)).expect("some");
        assert!((found - expected).abs() < 1e-12, "{found} against {expected}");
    }

    #[test]
    fn a_query_that_is_alone_in_its_class_does_not_count_and_is_said() {
        let mut test = features(20, 8, 3, 0.3, 0.5);
        test.classes[4] = 9;
        let list: Vec<Labelled> =
            test.classes.iter().zip(0..).map(|(class, id)| Labelled { id: ImageId(id), class: *class }).collect();
        let measures = retrieval_measures((&features(30, 8, 3, 1.1, 0.5), &test), &list, 5000, 1);
        assert_eq!(measures.iter().map(|m| m.images).collect::<Vec<_>>(), [19, 19]);
        assert_eq!(measures[0].notes, ["1 queries have no image of their class"]);
        assert!(measures.iter().all(|m| m.value.is_some_and(|value| value > 0.0 && value < 1.0)));
        let alone = test.select(&[4]);
        assert_eq!(retrieval(&alone, &test, Some(&[4])), Retrieval { map: None, queries: 0, without: 1 });
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (bank, queries) =
            (features(3000, 16, 7, 0.3, 0.5).normalised(), features(90, 16, 7, 1.1, 0.5).normalised());
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| retrieval(&queries, &bank, None))
        };
        assert_eq!(run(1), run(3));
    }
}
