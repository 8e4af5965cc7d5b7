//! Similarities in 8 bits, four times as fast as in 32, and how far they may be off: what is surely not near enough is told from
//! what must be looked at exactly.
//!
//! A row x is rounded to a scale times whole numbers of -127 to 127, so that x = s q + e; then
//! |<x, y> - s_x s_y <q_x, q_y>| <= ||e_x|| ||y|| + (||x|| + ||e_x||) ||e_y|| (Cauchy-Schwarz). Sums of the codes' products are
//! exact, by AVX-512's VNNI; processors without it have no codes.

use std::arch::x86_64::{
    __m512i, _CMP_GE_OQ, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_loadu_epi8, _mm512_loadu_epi32, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_si512, _mm512_sub_epi32,
};

/// Rows of the bank in a panel: four vectors of 16 sums.
pub(super) const PANEL: usize = 64;
/// Queries of a tile.
pub(super) const TILE: usize = 6;
/// Codes that one instruction adds up for each sum.
const GROUP: usize = 4;
/// What rounding in f32 may add to a similarity of rows of unit length, and to the bound itself.
const SLACK: f32 = 1e-4;

/// Whether this processor has what it takes.
pub(super) fn are_supported() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

/// A row's codes: its scale and the norm of what rounding left.
fn encode(row: &[f32], codes: &mut Vec<i8>) -> (f32, f32) {
    let greatest = row.iter().fold(0f32, |greatest, value| greatest.max(value.abs()));
    let scale = if greatest > 0.0 { greatest / 127.0 } else { 1.0 };
    codes.extend(row.iter().map(|value| (value / scale).round() as i8));
    let codes = &codes[codes.len() - row.len()..];
    let square: f32 = row.iter().zip(codes).map(|(value, code)| (value - scale * f32::from(*code)).powi(2)).sum();
    (scale, square.sqrt())
}

/// Codes of queries, as unsigned numbers 128 higher.
#[derive(Debug)]
pub(super) struct QueryCodes {
    /// Shape `[queries, width]`, padded with 128.
    codes: Vec<u8>,
    width: usize,
    scales: Vec<f32>,
    errors: Vec<f32>,
}

impl QueryCodes {
    /// Those of rows of `dim` values each.
    pub(super) fn of(values: &[f32], dim: usize) -> Self {
        let width = dim.next_multiple_of(GROUP);
        let mut codes = Self { codes: Vec::new(), width, scales: Vec::new(), errors: Vec::new() };
        let mut row_codes = Vec::with_capacity(dim);
        for row in values.chunks_exact(dim) {
            row_codes.clear();
            let (scale, error) = encode(row, &mut row_codes);
            codes.scales.push(scale);
            codes.errors.push(error);
            codes.codes.extend(row_codes.iter().map(|code| (i16::from(*code) + 128) as u8));
            codes.codes.resize(codes.scales.len() * width, 128);
        }
        codes
    }
}

/// Codes of a block of the bank, panel by panel.
#[derive(Debug)]
pub(super) struct BankCodes {
    /// Shape `[panels, width / 4, 64, 4]`; rows beyond the last are zeros.
    codes: Vec<i8>,
    width: usize,
    /// 128 times the sum of a row's codes, its scale and its bound, shape `[panels * 64]`.
    offsets: Vec<i32>,
    scales: Vec<f32>,
    errors: Vec<f32>,
}

impl BankCodes {
    /// Those of rows of `dim` values each.
    pub(super) fn of(values: &[f32], dim: usize) -> Self {
        let (rows, width) = (values.len() / dim, dim.next_multiple_of(GROUP));
        let padded = rows.next_multiple_of(PANEL);
        let mut bank = Self {
            codes: vec![0; padded * width],
            width,
            offsets: vec![0; padded],
            scales: vec![0.0; padded],
            errors: vec![0.0; padded],
        };
        let mut row_codes = Vec::with_capacity(dim);
        for (index, row) in values.chunks_exact(dim).enumerate() {
            row_codes.clear();
            (bank.scales[index], bank.errors[index]) = encode(row, &mut row_codes);
            bank.offsets[index] = 128 * row_codes.iter().map(|code| i32::from(*code)).sum::<i32>();
            let panel = &mut bank.codes[index / PANEL * PANEL * width..][..PANEL * width];
            for (group, codes) in row_codes.chunks(GROUP).enumerate() {
                panel[(group * PANEL + index % PANEL) * GROUP..][..codes.len()].copy_from_slice(codes);
            }
        }
        bank
    }

    /// Panels.
    pub(super) fn panels(&self) -> usize {
        self.scales.len() / PANEL
    }

    /// Of each query from `first` on, at most [`TILE`], a bit for each row of a panel whose similarity may be `floors` or more.
    ///
    /// # Panics
    /// When this processor lacks what [`are_supported`] asks for, or the panel is not there.
    pub(super) fn may_reach(&self, panel: usize, queries: &QueryCodes, first: usize, floors: &[f32]) -> [u64; TILE] {
        assert!(are_supported() && panel < self.panels() && queries.width == self.width && floors.len() <= TILE);
        // A tile of fewer queries repeats the last.
        let rows: [&[u8]; TILE] = std::array::from_fn(|query| {
            let row = first + query.min(floors.len() - 1);
            &queries.codes[row * self.width..(row + 1) * self.width]
        });
        // SAFETY: the processor has the instructions, which was just checked.
        #[expect(unsafe_code, reason = "instructions that not all processors have")]
        let sums = unsafe { sums(&self.codes[panel * PANEL * self.width..][..PANEL * self.width], rows) };
        let range = panel * PANEL..(panel + 1) * PANEL;
        let (offsets, scales, errors) =
            (&self.offsets[range.clone()], &self.scales[range.clone()], &self.errors[range]);
        let mut bits = [0; TILE];
        for ((bits, floor), (query, sums)) in bits.iter_mut().zip(floors).zip((first..).zip(sums)) {
            let (scale, error) = (queries.scales[query], queries.errors[query]);
            // <x, y> <= s_x s_y <q_x, q_y> + e_x + (1 + e_x) e_y, where ||x|| = ||y|| = 1.
            let rest = [scale, 1.0 + error + SLACK, floor - error - SLACK];
            // SAFETY: as above.
            #[expect(unsafe_code, reason = "instructions that not all processors have")]
            let reached = unsafe { reached(&sums, [scales, errors], offsets, rest) };
            *bits = reached;
        }
        bits
    }
}

/// The sums of products of the codes of a panel and of some queries.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sums(panel: &[i8], queries: [&[u8]; TILE]) -> [[__m512i; 4]; TILE] {
    let mut sums = [[_mm512_setzero_si512(); 4]; TILE];
    for (group, codes) in panel.chunks_exact(PANEL * GROUP).enumerate() {
        let vectors: [__m512i; 4] = std::array::from_fn(|vector| {
            let part = &codes[vector * 64..(vector + 1) * 64];
            // SAFETY: the part has the 64 bytes that are read.
            #[expect(unsafe_code, reason = "a load by pointer")]
            unsafe {
                _mm512_loadu_epi8(part.as_ptr())
            }
        });
        for (sums, query) in sums.iter_mut().zip(queries) {
            let four = &query[group * GROUP..(group + 1) * GROUP];
            let four = _mm512_set1_epi32(i32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = _mm512_dpbusd_epi32(*sum, four, vector);
            }
        }
    }
    sums
}

/// A bit for each row whose `(sum - offset) * scale * rest[0] + error * rest[1]` is `rest[2]` or more.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn reached(sums: &[__m512i; 4], [scales, errors]: [&[f32]; 2], offsets: &[i32], rest: [f32; 3]) -> u64 {
    let [query_scale, stretch, floor] = rest.map(|value| _mm512_set1_ps(value));
    let mut bits = 0;
    for (vector, sum) in sums.iter().enumerate() {
        let range = vector * 16..(vector + 1) * 16;
        let (scales, errors, offsets) = (&scales[range.clone()], &errors[range.clone()], &offsets[range]);
        // SAFETY: each part has the 16 values that are read.
        #[expect(unsafe_code, reason = "loads by pointers")]
        let (scale, error, offset) = unsafe {
            (_mm512_loadu_ps(scales.as_ptr()), _mm512_loadu_ps(errors.as_ptr()), _mm512_loadu_epi32(offsets.as_ptr()))
        };
        let product = _mm512_cvtepi32_ps(_mm512_sub_epi32(*sum, offset));
        let product = _mm512_mul_ps(_mm512_mul_ps(product, scale), query_scale);
        let bound = _mm512_fmadd_ps(error, stretch, product);
        bits |= u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(bound, floor)) << (16 * vector);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_reaches_the_floor_is_passed_over_and_most_of_the_rest_is() {
        if !are_supported() {
            eprintln!("skipped: this processor has no AVX-512 VNNI");
            return;
        }
        let unit = |rows: usize, dim: usize, phase: f32| -> Vec<f32> {
            let mut values: Vec<f32> = (0..rows * dim).map(|i| ((i * i % 7919) as f32 * 0.37 + phase).sin()).collect();
            for row in values.chunks_exact_mut(dim) {
                let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                row.iter_mut().for_each(|v| *v /= norm);
            }
            values
        };
        for dim in [1, 5, 64, 385] {
            let (bank, queries) = (unit(150, dim, 0.1), unit(TILE, dim, 0.5));
            let (bank_codes, query_codes) = (BankCodes::of(&bank, dim), QueryCodes::of(&queries, dim));
            assert_eq!(bank_codes.panels(), 3);
            let floors: Vec<f32> = (0..TILE).map(|query| -0.2 + 0.1 * query as f32).collect();
            let (mut reached, mut looked_at) = (0, 0);
            for panel in 0..3 {
                let bits = bank_codes.may_reach(panel, &query_codes, 0, &floors);
                for (query, bits) in bits.iter().enumerate() {
                    for row in (panel * PANEL..(panel + 1) * PANEL).filter(|row| *row < 150) {
                        let product = |i: usize| bank[row * dim + i] * queries[query * dim + i];
                        let similarity: f32 = (0..dim).map(product).sum();
                        let may = bits >> (row % PANEL) & 1 == 1;
                        assert!(may || similarity < floors[query], "dim {dim}, query {query}, row {row}: {similarity}");
                        reached += usize::from(similarity >= floors[query]);
                        looked_at += usize::from(may);
                    }
                }
            }
            println!("dim {dim}: {reached} reach the floor, {looked_at} are looked at");
            assert!(looked_at <= reached + 150 * TILE / 5, "dim {dim}: {looked_at} for {reached}");
        }
    }
}
