//! A contact sheet: every view of an image in an epoch as the trainer sees it, with the parameters that made it.

use super::View;
use crate::pixels::{Executor, Raster};
use crate::{PipelineError, Result};
use font8x8::UnicodeFonts;
use image::{Rgb, RgbImage, imageops};
use lapidary_schemas::config::BlurKind;
use std::path::Path;

const CELL_PX: u32 = 240;
const LETTER_PX: u32 = 8;
const LINE_PX: u32 = 11;
const LINES: u32 = 7;
const COLUMNS: u32 = 5;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const INK: Rgb<u8> = Rgb([40, 40, 40]);

/// A view with its parameters in words.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ShownView {
    /// Its index among those of the image.
    pub view: u8,
    /// Its parameters, a line each.
    pub parameters: Vec<String>,
}

/// Draws the views of an image into a PNG at `path` and returns what was written below each.
///
/// # Errors
/// When a view does not fit the image, or the file cannot be written.
pub fn show(image: &Raster, views: &[View], path: &Path) -> Result<Vec<ShownView>> {
    let rows = (views.len() as u32).div_ceil(COLUMNS);
    let cell_height = CELL_PX + LINES * LINE_PX + 12;
    let width = COLUMNS.min(views.len() as u32) * (CELL_PX + 8) + 8;
    let mut sheet = RgbImage::from_pixel(width, rows * cell_height + 8, PAPER);
    let mut executor = Executor::default();
    let mut shown = Vec::with_capacity(views.len());
    for (i, view) in views.iter().enumerate() {
        let (left, top) = (8 + i as u32 % COLUMNS * (CELL_PX + 8), 8 + i as u32 / COLUMNS * cell_height);
        let rgb = executor.render(image, view)?.to_rgb();
        // Small views are enlarged by a whole factor, so that their pixels can be seen.
        let factor = (CELL_PX / rgb.width()).max(1);
        let side = (rgb.width() * factor).min(CELL_PX);
        let rgb = imageops::resize(&rgb, side, side, imageops::FilterType::Nearest);
        imageops::replace(&mut sheet, &rgb, i64::from(left), i64::from(top));
        let parameters = parameters_of(view);
        for (line, text) in parameters.iter().enumerate() {
            write_line(&mut sheet, left, top + CELL_PX + 4 + line as u32 * LINE_PX, text);
        }
        shown.push(ShownView { view: view.view, parameters });
    }
    sheet.save(path).map_err(|e| PipelineError::format(path, e))?;
    Ok(shown)
}

fn parameters_of(view: &View) -> Vec<String> {
    let mut lines = vec![
        format!("view {} {} {} px", view.view, view.kind.name(), view.size_px),
        format!("{}", view.crop),
        format!("{}{}", view.interpolation.name(), if view.flip { ", mirrored" } else { "" }),
    ];
    lines.extend(match view.jitter {
        Some(jitter) => {
            let order = jitter.steps().map(|step| ["b", "c", "s", "h"][usize::from(step)]).concat();
            [
                format!("b {:.3} c {:.3} s {:.3}", jitter.brightness, jitter.contrast, jitter.saturation),
                format!("h {:+.4} in order {order}", jitter.hue),
            ]
        }
        None => ["no jitter".to_owned(), String::new()],
    });
    let blur = match view.blur {
        _ if view.blur_radius_px == 0.0 => "no blur".to_owned(),
        BlurKind::Pillow => format!("blur {:.3} px", view.blur_radius_px),
        BlurKind::Torchvision => format!("blur {:.3} px (kernel 9)", view.blur_radius_px),
    };
    lines.push(blur);
    let rest = [(view.grayscale, "gray"), (view.solarize, "solarised")];
    lines.push(rest.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect::<Vec<_>>().join(", "));
    lines.retain(|line| !line.is_empty());
    lines
}

fn write_line(sheet: &mut RgbImage, left: u32, top: u32, text: &str) {
    for (i, letter) in text.chars().take((CELL_PX / LETTER_PX) as usize).enumerate() {
        let Some(rows) = font8x8::BASIC_FONTS.get(letter) else { continue };
        for (y, row) in rows.into_iter().enumerate() {
            for x in (0..LETTER_PX).filter(|x| row >> x & 1 == 1) {
                sheet.put_pixel(left + i as u32 * LETTER_PX + x, top + y as u32, INK);
            }
        }
    }
}
