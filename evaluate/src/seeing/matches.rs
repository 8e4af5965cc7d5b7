//! Patches of two pictures that are each other's nearest: an image beside its own upper left part, enlarged, and beside its nearest
//! train image.

use super::Shown;
use super::canvas::{Canvas, scaled};
use crate::Result;
use crate::csv_file::CsvFile;
use crate::matrix::{Matrix, multiply};
use image::{Rgb, RgbImage};
use lapidary_pipeline::PipelineError;
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;
use std::path::Path;

/// The list's file.
pub const MATCHES_FILE: &str = "matches.csv";
/// The folder of pictures, one a pair.
pub const MATCHES: &str = "matches";

const SIDE_PX: u32 = 256;
/// Lines in a picture, the nearest matches.
const LINES: usize = 32;

/// Two pictures to be matched.
pub(super) struct Pair {
    /// `view` or `neighbour`.
    pub(super) kind: &'static str,
    /// What the two are called: the images' ids.
    pub(super) names: [String; 2],
    /// Their views are of one side.
    pub(super) shown: [Shown; 2],
}

/// Patches of the first and second picture, row by row, and their cosine.
type Match = (usize, usize, f32);

/// Writes `matches.csv` and `matches/NUMBER.png` into a folder. Columns: `pair` (the number), `kind` (`view`, `neighbour`), `image_a`,
/// `image_b`, `x_a`, `y_a`, `x_b`, `y_b` (middles of patches, 0 to 1 of the view's side), `similarity` (cosine). A picture shows the
/// nearest 32 of a pair's matches.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write_matches<B: Operators>(folder: &Path, network: &FrozenVit<B>, pairs: &[Pair]) -> Result<()> {
    let heading = ["pair", "kind", "image_a", "image_b", "x_a", "y_a", "x_b", "y_b", "similarity"];
    let mut file = CsvFile::create(&folder.join(MATCHES_FILE), &heading)?;
    let pictures = folder.join(MATCHES);
    std::fs::create_dir_all(&pictures).map_err(PipelineError::io("create folder", &pictures))?;
    for (number, pair) in (1..).zip(pairs) {
        let tokens = network.patch_features(&pair.shown.each_ref().map(|shown| shown.view.clone()));
        let (a, b) = tokens.split_at(tokens.len() / 2);
        let matches = mutual_nearest(a, b, network.dim());
        let grid = pair.shown[0].view.width() as usize / network.patch_px();
        let place = |at: usize| (at as f32 + 0.5) / grid as f32;
        for (a, b, similarity) in &matches {
            let places = [a % grid, a / grid, b % grid, b / grid].map(|at| format!("{:.4}", place(at)));
            let names = [format!("{number}"), pair.kind.to_owned(), pair.names[0].clone(), pair.names[1].clone()];
            file.row(names.into_iter().chain(places).chain([format!("{similarity:.6}")]))?;
        }
        let path = pictures.join(format!("{number}.png"));
        drawn(pair, &matches, grid).save(&path).map_err(|e| PipelineError::format(&path, e))?;
    }
    file.finish()
}

/// The pairs of rows that are each other's nearest by cosine, the nearest pair first.
fn mutual_nearest(a: &[f32], b: &[f32], dim: usize) -> Vec<Match> {
    let (a, b) = (normalised(a, dim), normalised(b, dim));
    let (rows, columns) = (a.len() / dim, b.len() / dim);
    let mut similarities = vec![0f32; rows * columns];
    multiply(&mut similarities, Matrix::new(&a, dim), Matrix::new(&b, dim).transposed(), false);
    let greater = |best: usize, at: usize, of: &dyn Fn(usize) -> f32| if of(at) > of(best) { at } else { best };
    let of_row =
        |row: usize| (1..columns).fold(0, |best, at| greater(best, at, &|at| similarities[row * columns + at]));
    let of_column =
        |column: usize| (1..rows).fold(0, |best, at| greater(best, at, &|at| similarities[at * columns + column]));
    let back: Vec<usize> = (0..columns).map(of_column).collect();
    let there = (0..rows).map(|row| (row, of_row(row)));
    let mut matches: Vec<Match> = there
        .filter(|(row, column)| back[*column] == *row)
        .map(|(row, column)| (row, column, similarities[row * columns + column]))
        .collect();
    matches.sort_by(|x, y| y.2.total_cmp(&x.2).then(x.0.cmp(&y.0)));
    matches
}

fn normalised(values: &[f32], dim: usize) -> Vec<f32> {
    let mut values = values.to_vec();
    for row in values.chunks_exact_mut(dim) {
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
        row.iter_mut().for_each(|value| *value /= norm);
    }
    values
}

/// Both pictures, a line for each of the nearest matches.
fn drawn(pair: &Pair, matches: &[Match], grid: usize) -> RgbImage {
    let mut canvas = Canvas::new(2, 1, SIDE_PX);
    for (shown, column) in pair.shown.iter().zip(0..) {
        canvas.place(column, 0, &scaled(&shown.picture, SIDE_PX));
    }
    let right = canvas.corner(1, 0).0 as f32;
    let place = |at: usize| (at as f32 + 0.5) / grid as f32 * SIDE_PX as f32;
    for (number, (a, b, _)) in matches.iter().take(LINES).enumerate() {
        // A golden turn of the colour circle from one line to the next.
        let turn = number as f32 * 0.618 * 6.0;
        let colour = [5.0, 3.0, 1.0].map(|offset: f32| {
            let k = (offset + turn).rem_euclid(6.0);
            (255.0 * (1.0 - k.min(4.0 - k).clamp(0.0, 1.0))) as u8
        });
        let (from, to) = ((place(a % grid), place(a / grid)), (right + place(b % grid), place(b / grid)));
        canvas.line(from, to, Rgb(colour));
    }
    canvas.image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::wave;

    #[test]
    fn rows_find_themselves_when_they_are_moved_and_one_sided_neighbours_are_none() {
        let a = wave(12 * 6, 0.3);
        let moved: Vec<f32> = (0..12).flat_map(|row| a[(row * 5 % 12) * 6..][..6].iter().map(|v| v * 2.0)).collect();
        let matches = mutual_nearest(&a, &moved, 6);
        assert_eq!(matches.len(), 12);
        assert!(matches.iter().all(|(a, b, similarity)| *a == b * 5 % 12 && (similarity - 1.0).abs() < 1e-5));
        // Both rows of the first are nearest to the one of the second, which is nearest to the second of them.
        assert_eq!(
            mutual_nearest(&[1.0, 0.4, 1.0, 0.1], &[1.0, 0.0], 2).iter().map(|m| (m.0, m.1)).collect::<Vec<_>>(),
            [(1, 0)]
        );
    }
}
