//! Curation in depth on the built-in images: copies, contamination, seeds, filters, and what must not change.

use crate::run::{DRAWN, curated, facts, lapidary, refusal, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Pictures of the pile, by size, the largest first: no broken ones among them.
fn pictures(count: usize) -> Vec<PathBuf> {
    let mut files: Vec<(u64, PathBuf)> = std::fs::read_dir(DRAWN.pile().join("pile"))
        .expect("drawn")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let bytes = std::fs::read(&path).ok()?;
            lapidary_pipeline::decode(&bytes, u64::MAX).ok()?;
            Some((bytes.len() as u64, path))
        })
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    files.into_iter().take(count).map(|(_, path)| path).collect()
}

fn folder_of(pictures: &[PathBuf], folder: &Path) {
    std::fs::create_dir_all(folder).expect("creates");
    for picture in pictures {
        std::fs::copy(picture, folder.join(picture.file_name().expect("a name"))).expect("copies");
    }
}

/// Ingests a folder beside the source, with all that curation compares it by.
fn beside(out: &Path, folder: &Path, name: &str) {
    facts(out, &["ingest", "--data", text(folder), "--name", name, "--aside"]);
    facts(out, &["fingerprint", "--source", name]);
    facts(out, &["embed", "--source", name]);
}

fn reasons(curated: &Value) -> BTreeMap<String, u64> {
    serde_json::from_value(curated["facts"]["images_by_reason"].clone()).expect("counts")
}

#[test]
fn planted_copies_of_every_kind_are_found_from_a_folder() {
    let out = tempfile::tempdir().expect("a folder");
    let pile = DRAWN.pile();
    let truth = format!("curate.truth={}", text(&pile.join("truth.csv")));
    let all = &facts(out.path(), &["duplicates", text(&pile), "--set", &truth])[0];
    assert_eq!((&all["rows"]["output"], &all["rows"]["rejected"]), (&576.into(), &6.into()));
    let truth_of = |said: &Value, key: &str| said["facts"]["truth"][key].as_f64().expect("a share");
    assert!(truth_of(all, "recall") >= 0.97 && truth_of(all, "precision") >= 0.97, "{:#}", all["facts"]);
    assert!(all["facts"]["truth"]["pairs"]["micro_ap"].as_f64() >= Some(0.97), "{:#}", all["facts"]);
    let again = &facts(out.path(), &["duplicates", text(&pile), "--set", &truth])[0];
    assert_eq!((&again["outcome"], &again["digest"]), (&"up_to_date".into(), &all["digest"]));

    let by_hash = [
        "duplicates",
        text(&pile),
        "--name",
        "hash",
        "--set",
        &truth,
        "--set",
        "curate.evidence=[\"exact\", \"hash\"]",
    ];
    let kinds = &facts(out.path(), &by_hash)[0]["facts"]["truth"]["by_kind"];
    for (kind, least) in [("exact", 1.0), ("reencoded", 1.0), ("flipped", 1.0)] {
        assert_eq!(kinds[kind]["recall"], least, "{kind}");
    }
    assert!(kinds["cropped"]["recall"].as_f64() < Some(0.5), "hashes alone lose crops: {kinds}");
}

#[test]
fn copies_of_an_evaluation_set_go_and_eval_says_when_none_was_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let before = reasons(&curated(&out, "60")[3]);
    assert!(!before.contains_key("contaminates"));
    let chosen = pictures(5);
    folder_of(&chosen, &folder.path().join("test-set"));
    beside(&out, &folder.path().join("test-set"), "test-set");
    let after = &facts(&out, &["curate", "--set", "curate.against=[\"test-set\"]"])[0];
    assert!(reasons(after)["contaminates"] >= 5, "{after:#}");
    assert_eq!(reasons(after).values().sum::<u64>(), 576);
    let name = format!("pile/{}", chosen[0].file_name().expect("a name").to_string_lossy());
    let decision = &facts(&out, &["explain", &name])[0]["decision"];
    assert_eq!(decision["reason"], "contaminates");
    assert!(decision["detail"].as_str().is_some_and(|detail| detail.starts_with("test-set: ")), "{decision}");

    facts(&out, &["cut", "--size", "60"]);
    crate::run::tiny(&out, &["plan"]);
    crate::run::tiny(&out, &["pretrain", "--device", "cpu"]);
    facts(&out, &["ingest", "--data", text(&DRAWN.probe()), "--as-probe"]);
    let eval = [&["eval", "--device", "cpu", "--out", text(&out)], crate::run::TINY].concat();
    let said = String::from_utf8(lapidary(&eval).stderr).expect("UTF-8");
    assert!(said.contains("not compared with probe `probe`"), "{said}");
}

#[test]
fn seeds_retrieve_their_neighbours_and_nothing_else_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "60");
    let chosen = pictures(3);
    folder_of(&chosen, &folder.path().join("seeds"));
    beside(&out, &folder.path().join("seeds"), "seeds");
    let seeded = |extra: &[&str]| {
        let asked = [&["curate", "--set", "curate.seeds=seeds"][..], extra].concat();
        reasons(&facts(&out, &asked)[0])
    };
    let four = seeded(&["--set", "curate.seed_neighbours=4"]);
    assert!((4..=12).contains(&four["kept"]), "{four:?}");
    assert_eq!(four.values().sum::<u64>(), 576);
    let more = seeded(&["--set", "curate.seed_neighbours=32"]);
    assert!(more["kept"] > four["kept"], "{more:?}");
    let clusters = seeded(&["--set", "curate.seed_mode=clusters", "--set", "curate.seed_cluster_min=1"]);
    assert!(clusters["kept"] > 0 && clusters["off_topic"] > 0, "{clusters:?}");
    // A list of paths serves as well; an empty one retrieves nothing.
    let list = folder.path().join("seeds.txt");
    let kept = first_kept(&out);
    std::fs::write(&list, format!("{kept}\n")).expect("writes");
    let listed = format!("curate.seeds={}", text(&list));
    assert!(reasons(&facts(&out, &["curate", "--set", &listed])[0])["kept"] <= 4);
    let table = format!("curate.seeds={}", text(&out.join("pile/subsets/1/ids.parquet")));
    assert!(reasons(&facts(&out, &["curate", "--set", &table, "--set", "curate.seed_neighbours=7"])[0])["kept"] <= 7);
    std::fs::write(&list, "\n").expect("writes");
    let (code, error) = refusal(&["curate", "--set", &listed, "--out", text(&out)]);
    assert!(code == 4 && error.contains("no seeds"), "{error}");
}

/// The id of the image ranked first.
fn first_kept(out: &Path) -> String {
    facts(out, &["cut", "--size", "1"]);
    lapidary_pipeline::plan::subset_ids(&out.join("pile/subsets/1")).expect("a subset")[0].to_string()
}

#[test]
fn filters_apply_before_counting_and_subsets_are_compared() {
    use lapidary_pipeline::plan::subset_ids;
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "100");
    let cut = |size: &str, more: &[&str]| facts(&out, &[&["cut", "--size", size][..], more].concat()).remove(0);
    let ids = |said: &Value| subset_ids(&out.join(said["folder"].as_str().expect("a folder"))).expect("a subset");
    let rings = cut("10", &["--classes", "ring,disc"]);
    assert_eq!((rings["rows"]["output"].as_u64(), &rings["facts"]["without_filter"]), (Some(10), &10.into()));
    let all = cut("all", &["--classes", "ring,disc"]);
    assert_eq!(all["rows"]["output"], rings["facts"]["passing"]);
    assert_eq!(ids(&all)[..10], ids(&rings)[..], "nested");
    let everything = ids(&cut("all", &[]));
    let mut places = ids(&all).into_iter().map(|id| everything.iter().position(|other| *other == id).expect("ranked"));
    let first = places.next().expect("one");
    assert!(
        places.try_fold(first, |before, place| (place > before).then_some(place)).is_some(),
        "in the ranking's order"
    );
    assert_eq!(cut("all", &["--min-short-side", "128"])["facts"]["ranked"].as_u64(), Some(everything.len() as u64));
    let (code, error) = refusal(&["cut", "--size", "9", "--classes", "rings", "--out", text(&out)]);
    assert!(code == 2 && error.contains("no class `rings`"), "{error}");
    let (code, error) = refusal(&["cut", "--size", "2", "--min-short-side", "9999", "--out", text(&out)]);
    assert!(code == 2 && error.contains("0 images pass the filter") || code == 4, "{error}");

    let diff = &facts(&out, &["diff", "100", "all"])[0];
    assert_eq!((&diff["shared"], &diff["only_a"]), (&100.into(), &0.into()));
    assert_eq!(diff["b"]["images"].as_u64(), Some(everything.len() as u64));
    let same = &facts(&out, &["diff", "100", "100"])[0];
    assert_eq!((same["jaccard"].as_f64(), same["classes"]["distance"].as_f64()), (Some(1.0), Some(0.0)));
}

#[test]
fn an_image_is_explained_with_its_neighbours_and_a_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "60");
    let truth = std::fs::read_to_string(DRAWN.pile().join("truth.csv")).expect("a table");
    let flipped = truth.lines().find(|line| line.ends_with(",flipped")).and_then(|line| line.split(',').next());
    let said = &facts(&out, &["explain", flipped.expect("a flipped copy")])[0];
    assert!(said["quality"]["sharpness"].is_number() && said["digest"].is_string(), "{said:#}");
    assert!(
        !said["group"].as_array().expect("a list").is_empty() && !said["pairs"].as_array().expect("a list").is_empty()
    );
    assert_eq!(said["nearest"].as_array().expect("a list").len(), 8);
    let page = std::fs::read_to_string(said["page"].as_str().expect("a page")).expect("reads");
    assert!(page.contains("Nearest neighbours") && page.contains("data:image/jpeg;base64"));
}

#[test]
fn what_cannot_be_curated_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "60");
    let refused = |set: &str| refusal(&["curate", "--set", set, "--out", text(&out)]);
    let (code, error) = refused("curate.clusters=[9999]");
    assert!(code == 2 && error.contains("9999 clusters cannot be made of"), "{error}");
    let (code, error) = refused("curate.whiten_dim=9999");
    assert!(code == 2 && error.contains("whiten_dim"), "{error}");
    let embeddings = out.join("pile/embeddings");
    std::fs::create_dir(embeddings.join("other")).expect("creates");
    for file in ["part-00000.parquet", "manifest.json"] {
        std::fs::copy(embeddings.join("descriptor").join(file), embeddings.join("other").join(file)).expect("copies");
    }
    let (code, error) = refused("embed.encoder=other");
    assert!(code == 1 && error.contains("was made by `descriptor`, not by `other`"), "{error}");
    // Every picture is smaller than this: none is left. Then only the small ones go, and say all that is wrong with them.
    let tiny =
        |least: u32| [format!("curate.quality.short_side_min_px={least}"), "curate.quality.drop=[\"tiny\"]".to_owned()];
    let [least, drop] = tiny(9999);
    let (code, error) = refusal(&["curate", "--set", &least, "--set", &drop, "--out", text(&out)]);
    assert!(code == 4 && error.contains("none is kept"), "{error}");
    let [least, drop] = tiny(110);
    let dropped = reasons(&facts(&out, &["curate", "--set", &least, "--set", &drop])[0]);
    assert!(dropped["low_quality"] > 0 && dropped.values().sum::<u64>() == 576, "{dropped:?}");
    let whitened = &facts(&out, &["curate", "--set", "curate.whiten_dim=64"])[0];
    assert!(out.join("pile/curation/pairs/whitening.parquet").is_file() && reasons(whitened)["kept"] > 400);
}

#[test]
fn curating_what_was_kept_drops_nothing_and_a_stranger_changes_no_pair() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "all");
    facts(&out, &["cut", "--size", "all", "--export", "folder"]);
    let kept = out.join("pile/subsets/all.folder");
    let again = &facts(&folder.path().join("again"), &["duplicates", text(&kept)])[0];
    assert_eq!(again["facts"]["copies"], 0, "{:#}", again["facts"]);

    // The first twenty of the pile, and the same with a picture that is none of theirs.
    let chosen = pictures(40);
    let (few, more) = (folder.path().join("few"), folder.path().join("more"));
    folder_of(&chosen, &few);
    folder_of(&chosen, &more);
    let stranger = std::fs::read_dir(DRAWN.probe()).expect("drawn").filter_map(|e| Some(e.ok()?.path()));
    let stranger = stranger.flat_map(|path| walk(&path)).find(|path| path.extension().is_some_and(|e| e == "jpg"));
    std::fs::copy(stranger.expect("a picture"), more.join("stranger.jpg")).expect("copies");
    let groups = |data: &Path| {
        let out = folder.path().join("groups").join(data.file_name().expect("a name"));
        let said = facts(&out, &["duplicates", text(data), "--name", "same"]).remove(0);
        (said["facts"]["groups"].clone(), said["facts"]["copies"].clone(), said["facts"]["images_in_groups"].clone())
    };
    assert_eq!(groups(&few), groups(&more));
}

fn walk(path: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.filter_map(|e| Some(e.ok()?.path())).flat_map(|path| walk(&path)).collect(),
        Err(_) => vec![path.to_owned()],
    }
}

/// The tables of `duplicates` for a folder, as their digests, on so many threads.
fn digest_of_copies(data: &Path, out: &Path, threads: &str) -> Value {
    let arguments = ["duplicates", text(data), "--name", "same", "--out", text(out), "--json"];
    let said = std::process::Command::new(crate::run::binary())
        .args(arguments)
        .envs([("RAYON_NUM_THREADS", threads), ("OMP_NUM_THREADS", threads)])
        .output()
        .expect("it starts");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice::<Value>(&said.stdout).expect("JSON")["digest"].clone()
}

#[test]
fn neither_the_order_of_files_nor_the_number_of_threads_changes_what_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = pictures(usize::MAX);
    let chosen: Vec<PathBuf> = all.into_iter().step_by(4).collect();
    let reversed: Vec<PathBuf> = chosen.iter().rev().cloned().collect();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    folder_of(&chosen, &here);
    folder_of(&reversed, &there);
    let digest = digest_of_copies(&here, &folder.path().join("one"), "1");
    assert_eq!(digest, digest_of_copies(&here, &folder.path().join("two"), "2"));
    assert_eq!(digest, digest_of_copies(&there, &folder.path().join("three"), "3"));
}
