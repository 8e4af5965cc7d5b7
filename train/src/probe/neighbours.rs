//! The nearest images of a bank for each of some queries, block by block: a matrix of all queries by the whole bank is never in
//! memory.
//!
//! A block of the bank is multiplied with a block of queries, and each query keeps the nearest so far. So the memory beside the
//! features is `2 * k` entries of 8 bytes a query and one block of similarities (256 x 8192 x 4 bytes, 8 MiB): 50,000 queries
//! with k = 200 take 160 MB, whether the bank has a thousand images or 1.28 million.
//!
//! On processors with AVX-512 VNNI products are first taken in 8 bits (see `codes`), and only what may be near enough is
//! multiplied in f32: the same neighbours, several times as fast. Instead of the similarities the codes are in memory, a byte
//! for each value of the queries and of a block of the bank.

use super::Features;
#[cfg(target_arch = "x86_64")]
use super::codes::{self, BankCodes, PANEL, QueryCodes, TILE};
use crate::operators::Operators;
use burn::tensor::{Tensor, TensorData};
#[cfg(target_arch = "x86_64")]
use multiversion::multiversion;
use rayon::prelude::*;
use std::cmp::Ordering;

/// Queries of a matrix product.
const QUERY_BLOCK: usize = 256;
/// Images of the bank of a matrix product.
const BANK_BLOCK: usize = 8192;
/// Queries that a thread compares with codes at a time.
#[cfg(target_arch = "x86_64")]
const QUERY_GROUP: usize = 16 * TILE;
/// Images of the bank whose codes lie together: as many as a core's own memory holds.
#[cfg(target_arch = "x86_64")]
const CODE_BLOCK: usize = 16 * PANEL;

/// The nearest images of each query.
#[derive(Debug)]
pub struct Neighbours {
    nearest: Vec<Nearest>,
}

impl Neighbours {
    /// Finds the k nearest of the bank (all of them, if there are fewer) by cosine similarity; both must be of unit length and
    /// finite. Of equally near images the earlier one is nearer. The same whatever the number of threads.
    pub fn find<B: Operators>(bank: &Features, queries: &Features, k: usize, device: &B::Device) -> Self {
        #[cfg(target_arch = "x86_64")]
        if B::ON_HOST && codes::are_supported() {
            return Self::find_by_codes(bank, queries, k);
        }
        Self::find_by::<B>(bank, queries, k, (BANK_BLOCK, QUERY_BLOCK), device)
    }

    /// The same by codes of 8 bits first.
    #[cfg(target_arch = "x86_64")]
    fn find_by_codes(bank: &Features, queries: &Features, k: usize) -> Self {
        let (k, dim) = (k.min(bank.len()), bank.dim);
        let mut groups: Vec<QueryGroup<'_>> =
            queries.values.par_chunks(QUERY_GROUP * dim).map(|rows| QueryGroup::new(rows, dim, k)).collect();
        for (block, rows) in bank.values.chunks(BANK_BLOCK * dim).enumerate() {
            let parts: Vec<(BankCodes, &[f32])> =
                rows.par_chunks(CODE_BLOCK * dim).map(|rows| (BankCodes::of(rows, dim), rows)).collect();
            groups.par_iter_mut().for_each(|group| {
                for ((codes, rows), first) in parts.iter().zip((block * BANK_BLOCK..).step_by(CODE_BLOCK)) {
                    group.compare(codes, rows, first);
                }
            });
        }
        let mut nearest: Vec<Nearest> = groups.into_iter().flat_map(|group| group.nearest).collect();
        nearest.par_iter_mut().for_each(Nearest::sort);
        Self { nearest }
    }

    /// The same by blocks of so many images of the bank and so many queries.
    pub(super) fn find_by<B: Operators>(
        bank: &Features,
        queries: &Features,
        k: usize,
        (bank_block, query_block): (usize, usize),
        device: &B::Device,
    ) -> Self {
        let k = k.min(bank.len());
        let tensor = |values: &[f32], dim: usize| -> Tensor<B, 2> {
            Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / dim, dim]), device)
        };
        let blocks: Vec<Tensor<B, 2>> =
            queries.values.chunks(query_block * queries.dim).map(|rows| tensor(rows, queries.dim)).collect();
        let mut nearest: Vec<Nearest> = queries.classes.iter().map(|_| Nearest::new(k)).collect();
        for (block, rows) in bank.values.chunks(bank_block * bank.dim).enumerate() {
            let (first, count) = ((block * bank_block) as u32, rows.len() / bank.dim);
            let columns = tensor(rows, bank.dim).transpose();
            for (queries, nearest) in blocks.iter().zip(nearest.chunks_mut(query_block)) {
                let similarities = queries.clone().matmul(columns.clone()).into_data().convert::<f32>();
                let similarities = similarities.into_vec::<f32>().expect("converted to f32 just before");
                nearest
                    .par_iter_mut()
                    .zip(similarities.par_chunks_exact(count))
                    .for_each(|(nearest, similarities)| nearest.offer(first, similarities));
            }
        }
        nearest.par_iter_mut().for_each(Nearest::sort);
        Self { nearest }
    }

    /// Queries.
    pub fn len(&self) -> usize {
        self.nearest.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nearest.is_empty()
    }

    /// A query's nearest images, the nearest first: similarity and index in the bank.
    pub fn of(&self, query: usize) -> &[(f32, u32)] {
        &self.nearest[query].entries
    }
}

/// Some queries, and the nearest of each so far.
#[cfg(target_arch = "x86_64")]
struct QueryGroup<'a> {
    rows: &'a [f32],
    dim: usize,
    codes: QueryCodes,
    nearest: Vec<Nearest>,
}

#[cfg(target_arch = "x86_64")]
impl<'a> QueryGroup<'a> {
    fn new(rows: &'a [f32], dim: usize, k: usize) -> Self {
        let nearest = rows.chunks_exact(dim).map(|_| Nearest::new(k)).collect();
        Self { rows, dim, codes: QueryCodes::of(rows, dim), nearest }
    }

    /// Compares with images `first..` of the bank.
    fn compare(&mut self, codes: &BankCodes, rows: &[f32], first: usize) {
        let (dim, count) = (self.dim, rows.len() / self.dim);
        for (tile, nearest) in self.nearest.chunks_mut(TILE).enumerate() {
            let mut floors = [0f32; TILE];
            for panel in 0..codes.panels() {
                floors.iter_mut().zip(nearest.iter()).for_each(|(floor, nearest)| *floor = nearest.floor);
                let bits = codes.may_reach(panel, &self.codes, tile * TILE, &floors[..nearest.len()]);
                for ((nearest, mut bits), query) in nearest.iter_mut().zip(bits).zip(tile * TILE..) {
                    let query = &self.rows[query * dim..(query + 1) * dim];
                    while bits != 0 {
                        let row = panel * PANEL + bits.trailing_zeros() as usize;
                        bits &= bits - 1;
                        // The last panel is padded.
                        if row < count {
                            let similarity = dot(query, &rows[row * dim..(row + 1) * dim]);
                            nearest.offer((first + row) as u32, &[similarity]);
                        }
                    }
                }
            }
        }
    }
}

/// The scalar product, in sixteen sums.
#[cfg(target_arch = "x86_64")]
#[multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (whole, rest) = (a.chunks_exact(LANES), a.chunks_exact(LANES).remainder());
    for (a, b) in whole.zip(b.chunks_exact(LANES)) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum = a.mul_add(*b, *sum));
    }
    let tail: f32 = rest.iter().zip(&b[b.len() - rest.len()..]).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + tail
}

/// The nearest images so far.
#[derive(Debug)]
struct Nearest {
    k: usize,
    /// Up to 2k; beyond, all but the nearest k are dropped.
    entries: Vec<(f32, u32)>,
    /// What is not nearer than this cannot be among the nearest k, since what comes later loses ties.
    floor: f32,
}

impl Nearest {
    fn new(k: usize) -> Self {
        Self { k, entries: Vec::new(), floor: f32::NEG_INFINITY }
    }

    /// Images `first..` of the bank with their similarities; later calls have later images.
    fn offer(&mut self, first: u32, similarities: &[f32]) {
        for (index, similarity) in (first..).zip(similarities) {
            if *similarity > self.floor {
                self.entries.push((*similarity, index));
                if self.entries.len() >= self.k.saturating_mul(2) {
                    self.drop_the_farthest();
                }
            }
        }
    }

    fn drop_the_farthest(&mut self) {
        if self.entries.len() > self.k {
            self.entries.select_nth_unstable_by(self.k - 1, nearer);
            self.entries.truncate(self.k);
        }
        if self.entries.len() == self.k {
            self.floor = self.entries.iter().map(|(similarity, _)| *similarity).fold(f32::INFINITY, f32::min);
        }
    }

    fn sort(&mut self) {
        self.drop_the_farthest();
        self.entries.sort_unstable_by(nearer);
        self.entries.shrink_to_fit();
    }
}

fn nearer(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn blocks_find_what_sorting_all_similarities_finds_with_ties_to_the_earlier() {
        // Every similarity occurs several times.
        let similarity = |i: usize| ((i * 37) % 11) as f32 / 11.0;
        let bank = Features { dim: 1, values: (0..100).map(similarity).collect(), classes: vec![0; 100] };
        let queries = Features { dim: 1, values: vec![1.0, -1.0, 0.5], classes: vec![0; 3] };
        for k in [1, 3, 10, 99, 100, 1000] {
            let found = Neighbours::find_by::<Flex>(&bank, &queries, k, (7, 2), &Default::default());
            for (query, scale) in queries.values.iter().enumerate() {
                let mut sorted: Vec<(f32, u32)> = (0..100).map(|i| (similarity(i) * scale, i as u32)).collect();
                // A stable sort by similarity alone: of equal ones the earlier stays in front.
                sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
                sorted.truncate(k);
                assert_eq!(found.of(query), sorted, "k = {k}, query {query}");
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn codes_find_what_sorting_all_similarities_finds_with_ties_to_the_earlier() {
        if !codes::are_supported() {
            eprintln!("skipped: this processor has no AVX-512 VNNI");
            return;
        }
        // Rows that repeat, so that every similarity occurs several times, over several panels and blocks.
        let features = |rows: usize, step: usize| {
            let values =
                (0..rows).flat_map(|row| (0..37).map(move |i| ((row * step % 97 * 37 + i) as f32 * 0.7).sin()));
            Features { dim: 37, values: values.collect(), classes: vec![0; rows] }.normalised()
        };
        let (bank, queries) = (features(9001, 5), features(205, 3));
        for k in [1, 20, 200, 9001] {
            let found = Neighbours::find_by_codes(&bank, &queries, k);
            assert_eq!(found.len(), 205);
            for query in (0..205).step_by(17) {
                let similarity = |row: u32| dot(queries.row(query), bank.row(row as usize));
                let mut sorted: Vec<(f32, u32)> = (0..9001).map(|row| (similarity(row), row)).collect();
                sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
                sorted.truncate(k);
                assert_eq!(found.of(query), sorted, "k = {k}, query {query}");
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn codes_find_what_products_of_blocks_find() {
        if !codes::are_supported() {
            return;
        }
        let features = |rows: usize, phase: f32| {
            let values = (0..rows * 50).map(|i| ((i * i % 7919) as f32 * 0.37 + phase).sin()).collect();
            Features { dim: 50, values, classes: vec![0; rows] }.normalised()
        };
        let (bank, queries) = (features(3000, 0.0), features(100, 0.5));
        let by_codes = Neighbours::find_by_codes(&bank, &queries, 20);
        let by_blocks = Neighbours::find_by::<Flex>(&bank, &queries, 20, (700, 32), &Default::default());
        for query in 0..100 {
            for (a, b) in by_codes.of(query).iter().zip(by_blocks.of(query)) {
                assert!((a.0 - b.0).abs() < 1e-6, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn neighbours_are_bit_for_bit_the_same_with_1_and_3_threads() {
        // Large enough for products to be split over threads.
        let features = |rows: usize, phase: f32| {
            let values = (0..rows * 64).map(|i| (i as f32 * 0.37 + phase).sin()).collect();
            Features { dim: 64, values, classes: vec![0; rows] }.normalised()
        };
        let (bank, queries) = (features(2000, 0.0), features(300, 0.5));
        let find = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let found = pool.install(|| Neighbours::find::<Flex>(&bank, &queries, 20, &Default::default()));
            (0..queries.len()).map(|query| found.of(query).to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(find(1), find(3));
    }
}
