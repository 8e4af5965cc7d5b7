//! What a GIF shows around a first frame that is smaller than its canvas: the transparent entry of the frame's palette where
//! it has one, else the first, as Pillow shows it.

use image::RgbImage;

/// The first frame's place on the canvas, and the colour around it.
struct Ground {
    left: u32,
    top: u32,
    right: u32,
    bottom: u32,
    colour: [u8; 3],
}

/// Fills what the first frame leaves of the canvas.
pub(super) fn fill_ground(bytes: &[u8], canvas: &mut RgbImage) {
    let Some(ground) = ground_of(bytes) else { return };
    if (ground.left, ground.top) == (0, 0) && ground.right >= canvas.width() && ground.bottom >= canvas.height() {
        return;
    }
    for (x, y, pixel) in canvas.enumerate_pixels_mut() {
        if x < ground.left || y < ground.top || x >= ground.right || y >= ground.bottom {
            pixel.0 = ground.colour;
        }
    }
}

/// Reads up to the first image descriptor (GIF89a, 18 to 23).
fn ground_of(bytes: &[u8]) -> Option<Ground> {
    let palette = |at: usize, flags: u8| -> Option<&[u8]> {
        let entries = 2 << (flags & 7);
        if flags & 0x80 == 0 { None } else { bytes.get(at..at + 3 * entries) }
    };
    let global = palette(13, *bytes.get(10)?);
    let mut at = 13 + global.map_or(0, <[u8]>::len);
    let mut transparent = 0;
    loop {
        match bytes.get(at)? {
            0x21 => {
                // A graphic control extension says which entry is transparent.
                if bytes.get(at + 1..at + 3) == Some(&[0xf9, 4]) && bytes.get(at + 3)? & 1 == 1 {
                    transparent = usize::from(*bytes.get(at + 6)?);
                }
                at += 2;
                while *bytes.get(at)? != 0 {
                    at += 1 + usize::from(bytes[at]);
                }
                at += 1;
            }
            0x2c => {
                let word = |at: usize| Some(u32::from(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
                let (left, top) = (word(at + 1)?, word(at + 3)?);
                let (right, bottom) = (left + word(at + 5)?, top + word(at + 7)?);
                let colours = palette(at + 10, *bytes.get(at + 9)?).or(global)?;
                let colour = *colours.as_chunks::<3>().0.get(transparent)?;
                return Some(Ground { left, top, right, bottom, colour });
            }
            _ => return None,
        }
    }
}
