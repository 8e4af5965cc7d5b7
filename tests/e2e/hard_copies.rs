//! Copies of which little is as it was, and images of one template of which little differs, drawn as pairs.

use crate::drawing::{Numbers, fill};
use crate::run::{facts, text};
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::path::Path;

/// A scene: slow light with 240 spots and boxes of all shades and sizes.
fn scene(seed: u64) -> RgbImage {
    let mut numbers = Numbers(seed);
    let rates: [f32; 4] = std::array::from_fn(|_| 0.006 + numbers.below(100) as f32 / 10_000.0);
    let mut image = RgbImage::from_fn(480, 360, |x, y| {
        let (x, y) = (x as f32, y as f32);
        let wave = |c: usize| 120.0 + 50.0 * (x * rates[c] + c as f32).sin() + 40.0 * (y * rates[3 - c] + 2.0).cos();
        Rgb([wave(0) as u8, wave(1) as u8, wave(2) as u8])
    });
    for _ in 0..240 {
        let side = 5 + numbers.below(26) as u32;
        let (left, top) = (numbers.below(460) as u32, numbers.below(340) as u32);
        let shade = [numbers.below(256) as u8, numbers.below(256) as u8, numbers.below(256) as u8];
        if numbers.below(2) == 0 {
            fill(&mut image, left, top, (side, 4 + numbers.below(20) as u32), shade);
        } else {
            let inside = |x: u32, y: u32| x.abs_diff(side / 2).pow(2) + y.abs_diff(side / 2).pow(2) < side * side / 5;
            for (x, y) in (0..side).flat_map(|y| (0..side).map(move |x| (x, y))).filter(|(x, y)| inside(*x, *y)) {
                fill(&mut image, left + x, top + y, (1, 1), shade);
            }
        }
    }
    image
}

/// A screen of one application: the same bar, menu and cards, other marks in them.
fn screen(numbers: &mut Numbers) -> RgbImage {
    let mut page = RgbImage::from_pixel(640, 480, Rgb([240, 242, 246]));
    fill(&mut page, 0, 0, (640, 44), [36, 60, 90]);
    let mut chrome = Numbers(5);
    for mark in 0..40 {
        fill(&mut page, 14 + 15 * mark, 12 + chrome.below(8) as u32, (3 + chrome.below(9) as u32, 14), [230; 3]);
    }
    for row in 0..10 {
        fill(&mut page, 10, 60 + 40 * row, (30 + chrome.below(60) as u32, 12), [90, 100, 120]);
        fill(&mut page, 12, 78 + 40 * row, (20 + chrome.below(40) as u32, 6), [150, 60, 60]);
    }
    for card in 0..12u32 {
        let (left, top) = (130 + 125 * (card % 4), 60 + 138 * (card / 4));
        fill(&mut page, left, top, (115, 128), [255; 3]);
        fill(&mut page, left, top, (115, 10), [70, 130, 200]);
        for line in 0..5 {
            for sign in 0..8 {
                if numbers.below(3) > 0 {
                    let wide = 4 + numbers.below(8) as u32;
                    fill(&mut page, left + 8 + 13 * sign, top + 22 + 20 * line, (wide, 10), [40; 3]);
                }
            }
        }
    }
    page
}

fn duplicates(out: &Path, folder: &Path, name: &str) -> Value {
    facts(out, &["duplicates", text(folder), "--name", name])[0]["facts"].clone()
}

/// Scenes with one altered copy each, by `alter`; how many of 6 are in a group.
fn found(alter: impl Fn(&RgbImage, u64) -> RgbImage) -> Value {
    let temporary = tempfile::tempdir().expect("a folder");
    let (folder, out) = (temporary.path().join("in"), temporary.path().join("out"));
    std::fs::create_dir(&folder).expect("a folder");
    for seed in 0..6 {
        let image = scene(seed);
        alter(&image, seed).save(folder.join(format!("copy-{seed}.png"))).expect("saves");
        image.save(folder.join(format!("scene-{seed}.png"))).expect("saves");
    }
    let found = duplicates(&out, &folder, "pairs");
    assert_eq!(found["images_in_groups"].as_u64(), found["groups"].as_u64().map(|groups| 2 * groups), "{found}");
    found["groups"].clone()
}

#[test]
fn negatives_are_found() {
    assert_eq!(found(|image, _| RgbImage::from_fn(480, 360, |x, y| Rgb(image.get_pixel(x, y).0.map(|v| 255 - v)))), 6);
}

#[test]
fn half_of_a_copy_may_lie_under_a_panel() {
    let covered = |image: &RgbImage, seed: u64| {
        let mut image = image.clone();
        let shade = [40 * seed as u8, 200 - 30 * seed as u8, 90];
        let (left, size) = [(0, (290, 360)), (190, (290, 360)), (0, (480, 215))][seed as usize % 3];
        fill(&mut image, left, 0, size, shade);
        image
    };
    assert_eq!(found(covered), 6);
}

#[test]
fn screens_of_one_application_are_in_no_group_and_a_smaller_copy_of_one_is() {
    let temporary = tempfile::tempdir().expect("a folder");
    let (folder, out) = (temporary.path().join("in"), temporary.path().join("out"));
    std::fs::create_dir(&folder).expect("a folder");
    let mut numbers = Numbers(9);
    let pages: Vec<RgbImage> = (0..14).map(|_| screen(&mut numbers)).collect();
    let save = |image: &RgbImage, name: String| image.save(folder.join(name)).expect("saves");
    pages.iter().enumerate().for_each(|(i, page)| save(page, format!("screen-{i:02}.png")));
    assert_eq!(duplicates(&out, &folder, "screens")["groups"], 0);
    save(&image::imageops::thumbnail(&pages[4], 480, 360), "small.png".to_owned());
    let with_copy = duplicates(&out, &folder, "with-copy");
    assert_eq!((&with_copy["groups"], &with_copy["images_in_groups"]), (&1.into(), &2.into()));
}

#[test]
fn colours_that_differ_by_little_more_than_encoding_leaves_are_no_copies() {
    let temporary = tempfile::tempdir().expect("a folder");
    let (folder, out) = (temporary.path().join("in"), temporary.path().join("out"));
    std::fs::create_dir(&folder).expect("a folder");
    for (name, shift) in [("one", 0u8), ("other", 14)] {
        let light = RgbImage::from_fn(320, 240, |x, y| {
            let level = 60 + (x / 4 + y / 6) as u8;
            Rgb([level + shift, level, 200 - level + shift / 2])
        });
        light.save(folder.join(format!("{name}.png"))).expect("saves");
    }
    assert_eq!(duplicates(&out, &folder, "gradients")["groups"], 0);
}
