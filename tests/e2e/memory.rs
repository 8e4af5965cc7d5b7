//! Finding copies within a budget of memory: the same groups, in more time; many near-identical images.

use crate::drawing::Numbers;
use crate::run::{facts, lapidary, text};
use image::{Rgb, RgbImage};
use std::path::Path;

fn duplicates(out: &Path, folder: &Path, sets: &[&str]) -> serde_json::Value {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    facts(out, &["duplicates", text(folder), "--name", "pile"].into_iter().chain(sets).collect::<Vec<_>>()).remove(0)
}

#[test]
fn a_small_budget_finds_what_an_unlimited_one_finds() {
    let temporary = tempfile::tempdir().expect("a folder");
    let pile = temporary.path().join("pile");
    assert!(lapidary(&["draw", text(&pile)]).status.success());
    let found = [("small", "curate.memory_mib=216"), ("large", "curate.memory_mib=100000")].map(|(out, set)| {
        let out = temporary.path().join(out);
        let found = duplicates(&out, &pile, &[set]);
        (found["digest"].clone(), found["facts"]["groups"].as_u64().expect("groups"))
    });
    assert_eq!(found[0], found[1]);
    assert!(found[0].1 > 10, "{} groups", found[0].1);
    // Another budget is no reason to look again.
    assert_eq!(
        duplicates(&temporary.path().join("small"), &pile, &["curate.memory_mib=4000"])["outcome"],
        "up_to_date"
    );
    let out = temporary.path().join("none");
    let refused = lapidary(&["duplicates", text(&pile), "--out", text(&out), "--set", "curate.memory_mib=20"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("curate.memory_mib is 20") && said.contains("hint: set curate.memory_mib="), "{said}");
}

/// A frame of a still camera: a scene of 60 boxes, its own noise, a clock that runs along the lower edge.
fn frame(number: u32) -> RgbImage {
    let mut numbers = Numbers(5);
    let boxes: Vec<[u32; 5]> = (0..60).map(|_| [256, 180, 60, 50, 200].map(|end| numbers.below(end) as u32)).collect();
    let mut noise = Numbers(u64::from(number) + 1);
    RgbImage::from_fn(256, 192, |x, y| {
        let is_in = |of: &&[u32; 5]| (of[0]..of[0] + of[2]).contains(&x) && (of[1]..of[1] + of[3]).contains(&y);
        let is_clock = y > 186 && x / 8 == number % 32;
        let level = if is_clock { 255 } else { 30 + boxes.iter().rev().find(is_in).map_or(0, |of| of[4]) };
        let level = (level + noise.below(7) as u32).min(255) as u8;
        Rgb([level, level / 2 + 40, 255 - level])
    })
}

#[test]
fn near_identical_frames_bring_pairs_in_their_number() {
    let temporary = tempfile::tempdir().expect("a folder");
    let (folder, out) = (temporary.path().join("frames"), temporary.path().join("out"));
    std::fs::create_dir(&folder).expect("a folder");
    let count = 300;
    for number in 0..count {
        frame(number).save(folder.join(format!("{number:03}.png"))).expect("saves");
    }
    let found = duplicates(&out, &folder, &[]);
    assert_eq!((&found["facts"]["groups"], &found["facts"]["images_in_groups"]), (&1.into(), &count.into()), "{found}");
    let pairs = found["facts"]["pairs"].as_u64().expect("pairs");
    assert!((u64::from(count) - 1..u64::from(count) * 3).contains(&pairs), "{pairs} pairs of {count} frames");
}
