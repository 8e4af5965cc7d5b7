//! Images that look alike and are no copies: pages of text on one letterhead, gradients of other colours.

use crate::drawing::{Numbers, fill};
use crate::run::{facts, text};
use image::{Rgb, RgbImage};
use std::path::Path;

/// A page with a letterhead that all have, and lines of signs of its own: each sign is a pattern of 3 x 4 dots.
fn letter(numbers: &mut Numbers) -> RgbImage {
    let mut page = RgbImage::from_pixel(480, 640, Rgb([255; 3]));
    fill(&mut page, 40, 30, (60, 40), [30, 60, 140]);
    fill(&mut page, 120, 40, (200, 6), [30, 60, 140]);
    fill(&mut page, 120, 56, (140, 4), [90, 90, 90]);
    for line in 0..24 {
        for sign in 0..26 {
            let dots = if numbers.below(6) == 0 { 0 } else { numbers.below(4096) };
            for dot in (0..12).filter(|dot| dots >> dot & 1 == 1) {
                fill(&mut page, 44 + 15 * sign + 4 * (dot % 3), 110 + 21 * line + 4 * (dot / 3), (3, 3), [20; 3]);
            }
        }
    }
    page
}

/// A gradient from left to right, by `shade` from one colour to another.
fn gradient(shade: u8) -> RgbImage {
    RgbImage::from_fn(320, 240, |x, _| {
        let light = 60 + (x / 4) as u8;
        Rgb([light, light.saturating_add(shade), 200 - shade])
    })
}

fn groups(out: &Path, folder: &Path, name: &str) -> serde_json::Value {
    facts(out, &["duplicates", text(folder), "--name", name])[0]["facts"]["groups"].clone()
}

#[test]
fn what_only_looks_alike_is_in_no_group_and_its_copies_are() {
    let temporary = tempfile::tempdir().expect("a folder");
    let (folder, out) = (temporary.path().join("in"), temporary.path().join("out"));
    std::fs::create_dir(&folder).expect("a folder");
    let mut numbers = Numbers(7);
    let pages: Vec<RgbImage> = (0..12).map(|_| letter(&mut numbers)).collect();
    let save = |image: &RgbImage, name: String| image.save(folder.join(name)).expect("saves");
    pages.iter().enumerate().for_each(|(i, page)| save(page, format!("letter-{i}.png")));
    [0u8, 40, 80, 120].iter().for_each(|shade| save(&gradient(*shade), format!("gradient-{shade}.png")));
    assert_eq!(groups(&out, &folder, "lookalikes"), 0);
    // Smaller copies of two of them are found beside the rest.
    for (name, image) in [("letter", &pages[3]), ("gradient", &gradient(80))] {
        let (width, height) = (image.width() * 3 / 4, image.height() * 3 / 4);
        save(&image::imageops::thumbnail(image, width, height), format!("small-{name}.png"));
    }
    assert_eq!(groups(&out, &folder, "with-copies"), 2);
}
