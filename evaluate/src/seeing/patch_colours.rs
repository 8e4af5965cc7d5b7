//! Patch tokens in colour: their first three principal components as red, green and blue, in one basis for all pictures shown, so that
//! a colour means the same in each (Oquab et al. 2024, fig. 1).

use super::Shown;
use super::canvas::{Canvas, of_patches, scaled};
use super::pca::Pca;
use image::{Rgb, RgbImage};
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;

/// The picture's file.
pub const PATCH_COLOURS_FILE: &str = "patch_colours.png";

const SIDE_PX: u32 = 128;

/// The pictures above, the patches of their views in colour below.
pub(super) fn patch_colours<B: Operators>(network: &FrozenVit<B>, shown: &[Shown]) -> RgbImage {
    let grid = shown.first().map_or(1, |shown| shown.view.width() / network.patch_px() as u32);
    let mut tokens = Vec::new();
    for shown in shown {
        tokens.extend(network.patch_features(std::slice::from_ref(&shown.view)));
    }
    let colours = colours(&tokens, network.dim());
    let mut canvas = Canvas::new(shown.len() as u32, 2, SIDE_PX);
    for ((column, shown), colours) in (0..).zip(shown).zip(colours.chunks_exact((grid * grid) as usize)) {
        canvas.place(column, 0, &scaled(&shown.picture, SIDE_PX));
        canvas.place(column, 1, &of_patches(grid, SIDE_PX, |patch| colours[patch]));
    }
    canvas.image
}

/// A colour for each row: each of three components from the least (0) to the greatest (255) of all rows.
fn colours(tokens: &[f32], dim: usize) -> Vec<Rgb<u8>> {
    let pca = Pca::fit(tokens, dim, 3);
    let places = pca.coordinates(tokens);
    let components = dim.min(3);
    let ranges: Vec<(f64, f64)> = (0..components)
        .map(|component| {
            let along = places.iter().skip(component).step_by(components);
            along.fold((f64::MAX, f64::MIN), |(low, high), place| (low.min(*place), high.max(*place)))
        })
        .collect();
    let level =
        |(place, (low, high)): (&f64, &(f64, f64))| ((place - low) / (high - low).max(1e-12) * 255.0).round() as u8;
    places
        .chunks_exact(components)
        .map(|row| {
            let mut colour = [0; 3];
            colour.iter_mut().zip(row.iter().zip(&ranges).map(level)).for_each(|(channel, level)| *channel = level);
            Rgb(colour)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::wave;

    #[test]
    fn equal_tokens_have_one_colour_and_each_channel_its_whole_range() {
        let mut tokens = wave(30 * 5, 0.3);
        let first = tokens[..5].to_vec();
        tokens.extend(first);
        let colours = colours(&tokens, 5);
        assert_eq!((colours.len(), colours[0]), (31, colours[30]));
        for channel in 0..3 {
            let levels = || colours.iter().map(|colour| colour.0[channel]);
            assert_eq!((levels().min(), levels().max()), (Some(0), Some(255)));
        }
        assert!(super::colours(&[1.0, 2.0, 3.0], 1).iter().all(|colour| colour.0[1..] == [0, 0]));
    }
}
