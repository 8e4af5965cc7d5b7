//! Images added to what is there already: only they are read, hashed, embedded and compared, and what comes out is what
//! curating everything at once would have found.

use crate::run::{DRAWN, facts, refusal, text};
use arrow::array::{Array, StringArray, UInt32Array, UInt64Array};
use lapidary_pipeline::stage::{column, read_table};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The pile's pictures, broken ones included, by name.
fn pictures() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(DRAWN.pile().join("pile"))
        .expect("drawn")
        .map(|entry| entry.expect("reads").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jpg"))
        .collect();
    files.sort();
    files
}

fn add(pictures: &[PathBuf], folder: &Path) {
    std::fs::create_dir_all(folder).expect("creates");
    for picture in pictures {
        std::fs::copy(picture, folder.join(picture.file_name().expect("a name"))).expect("copies");
    }
}

/// Ingest, fingerprint, embed and curate, with more arguments for the first and the last.
fn chain(out: &Path, data: &Path, more: &[&str]) -> Vec<Value> {
    let ingest = [&["ingest", "--data", text(data), "--set", "ingest.max_reject=0.5"], more].concat();
    let mut said = facts(out, &ingest);
    said.extend(facts(out, &["fingerprint"]));
    said.extend(facts(out, &["embed"]));
    said.extend(facts(out, &[&["curate"], more].concat()));
    said
}

/// The groups of copies, each by its images.
fn groups(out: &Path) -> BTreeSet<Vec<u64>> {
    let mut groups: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for batch in read_table(&out.join("data/curation/groups/duplicates.parquet"), &[]).expect("reads") {
        let (ids, numbers): (&UInt64Array, &UInt32Array) =
            (column(&batch, "image_id").expect("there"), column(&batch, "group").expect("there"));
        for row in 0..ids.len() {
            groups.entry(numbers.value(row)).or_default().push(ids.value(row));
        }
    }
    groups.into_values().collect()
}

/// The ranked images of each leaf in their order, and what became of every image.
fn decisions(out: &Path) -> (BTreeMap<u32, Vec<u64>>, BTreeMap<u64, String>) {
    let (mut leaves, mut reasons) = (BTreeMap::<u32, Vec<u64>>::new(), BTreeMap::new());
    for batch in read_table(&out.join("data/curation/ranking/decisions.parquet"), &[]).expect("reads") {
        let (ids, all): (&UInt64Array, &StringArray) =
            (column(&batch, "image_id").expect("there"), column(&batch, "reason").expect("there"));
        let of_leaf: &UInt32Array = column(&batch, "leaf").expect("there");
        for row in 0..ids.len() {
            reasons.insert(ids.value(row), all.value(row).to_owned());
            if of_leaf.is_valid(row) {
                leaves.entry(of_leaf.value(row)).or_default().push(ids.value(row));
            }
        }
    }
    (leaves, reasons)
}

#[test]
fn added_images_are_merged_and_nothing_else_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    let all = pictures();
    let (new, old): (Vec<_>, Vec<_>) = all.iter().cloned().enumerate().partition(|(i, _)| i % 8 == 3);
    let (new, old): (Vec<PathBuf>, Vec<PathBuf>) =
        (new.into_iter().map(|(_, p)| p).collect(), old.into_iter().map(|(_, p)| p).collect());
    add(&old, &data);
    let before = chain(&out, &data, &[]);
    let (leaves_before, reasons_before) = decisions(&out);
    let shard = out.join("data/images/part-00000.parquet");
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("there"));
    let shard_before = inode(&shard);

    // The new ones, and the very bytes of an old one under another name.
    add(&new, &data);
    std::fs::copy(&old[5], data.join("again.jpg")).expect("copies");
    let after = chain(&out, &data, &[]);
    let added = |said: &Value| said["facts"]["added"].as_u64().expect("a number");
    let images = after[0]["rows"]["output"].as_u64().expect("rows");
    assert_eq!(added(&after[0]), images - before[0]["rows"]["output"].as_u64().expect("rows"));
    assert!(
        after.iter().all(|said| added(said) == added(&after[0])),
        "each stage makes the new ones alone: {after:#?}"
    );
    assert_eq!(inode(&shard), shard_before, "what was there stays");
    assert!(out.join("data/images/part-00001.parquet").is_file());
    let again = chain(&out, &data, &[]);
    assert!(again.iter().zip(&after).all(|(a, b)| a["outcome"] == "up_to_date" && a["digest"] == b["digest"]));

    // The same from nothing elsewhere: the same images, the same groups, the same verdicts.
    let elsewhere = folder.path().join("elsewhere");
    let whole = chain(&elsewhere, &data, &[]);
    assert_eq!(whole[0]["rows"], after[0]["rows"]);
    assert_eq!(groups(&out), groups(&elsewhere));
    let ((leaves, reasons), (_, reasons_whole)) = (decisions(&out), decisions(&elsewhere));
    let is_kept = |reasons: &BTreeMap<u64, String>| -> BTreeSet<u64> {
        reasons.iter().filter(|(_, reason)| *reason == "kept").map(|(id, _)| *id).collect()
    };
    assert_eq!(is_kept(&reasons), is_kept(&reasons_whole));
    assert_eq!(reasons.len() as u64, images);

    // An old image without a new copy is decided on as before, in the leaf it was in, in the order it was in.
    let touched: BTreeSet<u64> = groups(&out)
        .into_iter()
        .filter(|group| group.iter().any(|id| !reasons_before.contains_key(id)))
        .flatten()
        .collect();
    let untouched = |id: &&u64| reasons_before.contains_key(id) && !touched.contains(id);
    assert!(reasons_before.iter().filter(|(id, _)| untouched(id)).all(|(id, reason)| reasons[id] == *reason));
    for (leaf, ids) in &leaves_before {
        let order = |ids: &[u64]| -> Vec<u64> { ids.iter().filter(untouched).copied().collect() };
        assert_eq!(order(ids), order(&leaves[leaf]), "leaf {leaf}");
    }
    let drift = &after[3]["facts"]["tree"];
    assert!(drift["added_share"].as_f64() > Some(0.1) && drift["distance_ratio"].as_f64() < Some(1.5), "{drift}");
    assert!(after[3]["facts"]["rebuild_because"].is_null());

    facts(&out, &["report"]);
    let report = std::fs::read_to_string(out.join("data/report.html")).expect("a report");
    assert!(report.contains("were merged into it since"));

    // Asked to, everything is made again, as if it had been there from the start.
    let rebuilt = chain(&out, &data, &["--rebuild"]);
    let digests = |said: &[Value]| -> Vec<Value> { said.iter().map(|said| said["digest"].clone()).collect() };
    assert_eq!(digests(&rebuilt), digests(&whole));
    assert!(chain(&out, &data, &["--rebuild"]).iter().all(|said| said["outcome"] == "up_to_date"));
}

#[test]
fn a_large_set_resumes_from_its_index_and_its_whitening_and_drift_offers_a_rebuild() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    let all = pictures();
    add(&all[..200], &data);
    let set =
        ["curate.flat_max_images=50", "curate.whiten_dim=32", "curate.drift_max=0.01", "curate.clusters=[20, 4, 2]"];
    let mut curate = vec!["curate"];
    set.iter().for_each(|set| curate.extend(["--set", set]));
    chain(&out, &data, &[]);
    let before = facts(&out, &curate).remove(0);
    assert_eq!(before["facts"]["neighbours"]["index"], "inverted");
    assert!(before["facts"]["rebuild_because"].is_null() && out.join("data/curation/pairs/neighbours.faiss").is_file());
    add(&all[200..220], &data);
    chain(&out, &data, &[]);
    // Another configuration was curated in between: there is nothing to resume from.
    assert_eq!(facts(&out, &curate).remove(0)["facts"]["neighbours"]["index"], "inverted");
    add(&all[220..240], &data);
    for verb in ["fingerprint", "embed"] {
        facts(&out, &["ingest", "--data", text(&data), "--set", "ingest.max_reject=0.5"]);
        facts(&out, &[verb]);
    }
    let after = facts(&out, &curate).remove(0);
    assert_eq!(after["facts"]["neighbours"]["index"], "restored", "{after:#}");
    assert!(after["facts"]["added"].as_u64() > Some(10) && after["facts"]["neighbours"]["recall"].as_f64() > Some(0.5));
    assert!(after["facts"]["rebuild_because"].as_str().is_some_and(|why| why.contains("drift_max")), "{after:#}");
    let sum: u64 =
        after["facts"]["neighbours"]["nearest"].as_array().expect("bins").iter().filter_map(Value::as_u64).sum();
    assert_eq!(Some(sum), after["rows"]["output"].as_u64(), "each image's nearest is counted once");

    // A file that changed is read again, and what was made of the images is stale.
    std::fs::copy(&all[300], data.join(all[3].file_name().expect("a name"))).expect("overwrites");
    let changed = facts(&out, &["ingest", "--data", text(&data), "--set", "ingest.max_reject=0.5"]).remove(0);
    assert_eq!((&changed["outcome"], &changed["facts"]["added"]), (&"ran".into(), &1.into()));
    let (code, error) = refusal(&["curate", "--out", text(&out)]);
    assert!(code == 1 && error.contains("is stale") && error.contains("lapidary fingerprint"), "{error}");
}

#[test]
fn coco_and_parquet_grow_too_and_a_changed_label_reads_its_image_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let ingest = |data: &Path| {
        let said = facts(&out, &["ingest", "--data", text(data), "--set", "ingest.max_reject=0.5"]).remove(0);
        (said["facts"]["added"].as_u64().expect("a number"), said["rows"]["output"].as_u64().expect("a number"))
    };
    let json = std::fs::read_dir(DRAWN.pile().join("annotations")).expect("drawn").next().expect("one").expect("reads");
    let whole: Value = serde_json::from_slice(&std::fs::read(json.path()).expect("reads")).expect("JSON");
    let coco = folder.path().join("coco");
    std::fs::create_dir_all(coco.join("annotations")).expect("creates");
    // The first images of the pile, with their objects, of which the very first may be of another class.
    let of_so_many = |count: usize, first_class: Option<i64>| {
        let mut part = whole.clone();
        let images = part["images"].as_array_mut().expect("a list");
        images.truncate(count);
        let ids: BTreeSet<i64> = images.iter().filter_map(|image| image["id"].as_i64()).collect();
        let names: Vec<String> = images.iter().filter_map(|i| i["file_name"].as_str().map(str::to_owned)).collect();
        let objects = part["annotations"].as_array_mut().expect("a list");
        objects.retain(|object| object["image_id"].as_i64().is_some_and(|id| ids.contains(&id)));
        if let Some(class) = first_class {
            objects[0]["category_id"] = class.into();
        }
        let path = coco.join("annotations").join(json.file_name());
        std::fs::write(path, part.to_string()).expect("writes");
        let of_pile = |name: &String| DRAWN.pile().join("pile").join(name);
        let there: Vec<PathBuf> = names.iter().map(of_pile).filter(|path| path.is_file()).collect();
        let new: Vec<PathBuf> =
            there.into_iter().filter(|p| !coco.join("pile").join(p.file_name().expect("a name")).exists()).collect();
        add(&new, &coco.join("pile"));
    };
    of_so_many(40, None);
    let (_, first) = ingest(&coco);
    of_so_many(52, None);
    let (added, all) = ingest(&coco);
    assert!(first >= 30 && added == all - first && added > 5, "{first}, then {added} of {all}");
    let class = whole["annotations"][0]["category_id"].as_i64().expect("a number");
    let other = whole["categories"].as_array().expect("a list").iter().filter_map(|c| c["id"].as_i64());
    of_so_many(52, other.into_iter().find(|id| *id != class));
    assert_eq!(ingest(&coco), (1, all));

    let parquet = folder.path().join("rows");
    std::fs::create_dir(&parquet).expect("creates");
    let shard = out.join("coco/images/part-00000.parquet");
    std::fs::copy(&shard, parquet.join("train-00000.parquet")).expect("copies");
    let in_shard: usize = read_table(&shard, &["image_id"]).expect("reads").iter().map(|batch| batch.num_rows()).sum();
    let in_shard = in_shard as u64;
    assert_eq!(in_shard, first - 1, "without the image whose label changed");
    assert_eq!(ingest(&parquet), (in_shard, in_shard));
    std::fs::copy(&shard, parquet.join("train-00001.parquet")).expect("copies");
    assert_eq!(ingest(&parquet), (in_shard, 2 * in_shard));
}

/// The paths of the images of a shard.
fn names_in(shard: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for batch in read_table(shard, &["image"]).expect("reads") {
        let image: &arrow::array::StructArray = column(&batch, "image").expect("there");
        let paths = image.column_by_name("path").expect("there").as_any().downcast_ref::<StringArray>().expect("text");
        names.extend(paths.iter().flatten().map(str::to_owned));
    }
    names
}

/// The rows of a table of shards, image by image, as text.
fn rows_by_image(folder: &Path) -> BTreeMap<u64, String> {
    let mut rows = BTreeMap::new();
    for shard in lapidary_pipeline::Layout::shards(folder).expect("shards") {
        for batch in read_table(&shard, &[]).expect("reads") {
            let ids: &UInt64Array = column(&batch, "image_id").expect("there");
            for row in 0..batch.num_rows() {
                let text = format!("{:?}", batch.slice(row, 1).columns());
                assert!(rows.insert(ids.value(row), text).is_none(), "an image is there twice");
            }
        }
    }
    rows
}

#[test]
fn removed_images_leave_and_touched_ones_are_read_again_and_nothing_else_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    let all = pictures();
    add(&all[..240], &data);
    // Several shards, so that some are as they were.
    let small = ["--set", "ingest.shard_mib=1", "--set", "ingest.row_group_mib=1"];
    let ingest = [&["ingest", "--data", text(&data), "--set", "ingest.max_reject=0.5"], &small[..]].concat();
    let chain = || -> Vec<Value> {
        [&ingest[..], &["fingerprint"], &["embed"], &["curate"]].map(|verb| facts(&out, verb).remove(0)).into()
    };
    let before = chain();
    let inodes = |stage: &str| -> BTreeSet<u64> {
        let shards = lapidary_pipeline::Layout::shards(&out.join(stage)).expect("shards");
        let inode = |path: &PathBuf| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).expect("there"));
        shards.iter().map(inode).collect()
    };
    let stages = ["data/images", "data/fingerprints", "data/embeddings/descriptor"];
    let inodes_before = stages.map(inodes);
    assert!(inodes_before[0].len() > 1, "one shard: {before:#?}");

    // Two go, and one is another picture now, written by a clock that went back.
    let of_first_shard = names_in(&out.join("data/images/part-00000.parquet"));
    for gone in [&of_first_shard[3], &of_first_shard[20]] {
        std::fs::remove_file(data.join(gone)).expect("removes");
    }
    let touched = data.join(&of_first_shard[11]);
    std::fs::copy(&all[300], &touched).expect("overwrites");
    let file = std::fs::File::options().append(true).open(&touched).expect("opens");
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(86_400)).expect("sets");
    let after = chain();
    let images = |said: &Value| said["rows"]["output"].as_u64().expect("a count");
    assert!(images(&after[0]) < images(&before[0]));
    assert!(after.iter().all(|said| said["facts"]["added"] == 1), "the touched one alone: {after:#?}");
    for (stage, before) in stages.iter().zip(&inodes_before) {
        assert!(!inodes(stage).is_disjoint(before), "{stage}: no shard stayed");
    }

    // The same as from nothing elsewhere, row for row, and group for group.
    let elsewhere = folder.path().join("elsewhere");
    let whole: Vec<Value> =
        [&ingest[..], &["fingerprint"], &["embed"], &["curate"]].map(|verb| facts(&elsewhere, verb).remove(0)).into();
    assert_eq!(after[0]["rows"], whole[0]["rows"]);
    for stage in stages {
        assert_eq!(rows_by_image(&out.join(stage)), rows_by_image(&elsewhere.join(stage)), "{stage}");
    }
    assert_eq!(groups(&out), groups(&elsewhere));
    let ((_, reasons), (_, expected)) = (decisions(&out), decisions(&elsewhere));
    let is_kept = |reasons: BTreeMap<u64, String>| -> BTreeSet<u64> {
        reasons.into_iter().filter(|(_, reason)| reason == "kept").map(|(id, _)| id).collect()
    };
    assert_eq!(is_kept(reasons), is_kept(expected));
    assert!(chain().iter().all(|said| said["outcome"] == "up_to_date"));
}
