//! Several processes make a stage's shards, one is killed, two make the same ones: what comes out is what one process makes.

use crate::kill::kill_when;
use crate::run::{DRAWN, binary, facts, refusal, text};
use crate::stores::content;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

fn started(out: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--out", text(out)]).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("it starts")
}

/// A tree into which the pile was ingested, in several shards.
fn ingested(out: &Path) -> PathBuf {
    let pile = DRAWN.pile();
    facts(out, &["ingest", "--data", text(&pile), "--set", "ingest.shard_mib=1", "--set", "ingest.row_group_mib=1"]);
    out.to_owned()
}

fn digest(facts: &[Value]) -> &Value {
    &facts[0]["digest"]
}

#[test]
fn shares_of_several_processes_become_what_one_makes() {
    let folder = tempfile::tempdir().expect("a folder");
    let [alone, out] = ["alone", "shared"].map(|name| ingested(&folder.path().join(name)));
    let shards = std::fs::read_dir(out.join("pile/images")).expect("images").filter_map(|entry| entry.ok());
    let shards = shards.filter(|entry| entry.file_name().to_string_lossy().starts_with("part-")).count();
    assert!(shards >= 3, "{shards} shards");
    for stage in ["fingerprint", "embed"] {
        let made = out.join(if stage == "embed" { "pile/embeddings/descriptor" } else { "pile/fingerprints" });
        let begun = made.with_file_name(format!(".{}.shares", made.file_name().expect("a name").to_string_lossy()));
        // One share is killed as soon as its first file is there, whole or not.
        let is_begun = || {
            let keys = std::fs::read_dir(&begun).into_iter().flatten().filter_map(|entry| entry.ok());
            let mut files =
                keys.flat_map(|key| std::fs::read_dir(key.path()).into_iter().flatten()).filter_map(Result::ok);
            files.any(|entry| entry.file_name().to_string_lossy().contains("part-"))
        };
        kill_when(&out, &[stage, "--shard", "1/3"], &is_begun);
        let second = facts(&out, &[stage, "--shard", "2/3"]).remove(0);
        assert_eq!(second["outcome"], "shared");
        assert!(!made.exists(), "a share does not finish the stage");
        let (code, error) = refusal(&["finish", stage, "--out", text(&out)]);
        assert!(code == 2 && error.contains("are not there") && error.contains("--shard"), "{error}");
        // Two processes make the last share, beside one that makes the first again.
        let mut others = ["3/3", "3/3", "1/3"].map(|share| started(&out, &[stage, "--shard", share]));
        assert!(others.iter_mut().all(|child| child.wait().expect("waits").success()));
        assert_eq!(digest(&facts(&out, &["finish", stage])), digest(&facts(&alone, &[stage])), "{stage}");
        assert!(!begun.exists(), "what shares left is taken over");
        assert_eq!(facts(&out, &[stage, "--shard", "1/3"]).remove(0)["outcome"], "up_to_date");
    }
}

/// Shares in any order, one of them twice, then the end of the stage, as a shell would run them.
fn in_shares(out: &Path, stage: &[&str]) -> Value {
    for share in ["3/3", "1/3", "2/3", "1/3"] {
        assert_eq!(facts(out, &[stage, &["--shard", share]].concat()).pop().expect("a line")["outcome"], "shared");
    }
    facts(out, &[&["finish"], stage].concat()).pop().expect("a line")
}

#[test]
fn what_is_listed_is_ingested_in_shares() {
    let folder = tempfile::tempdir().expect("a folder");
    let (alone, shared, data) = (folder.path().join("alone"), folder.path().join("shared"), folder.path().join("data"));
    let pile = DRAWN.pile();
    std::fs::create_dir(&data).expect("creates");
    let images: Vec<_> =
        content(&pile).into_keys().filter(|path| path.extension().is_some_and(|e| e == "jpg")).collect();
    let (first, later) = images.split_at(images.len() * 3 / 4);
    let copy = |images: &[PathBuf]| {
        for image in images {
            std::fs::copy(image, data.join(image.file_name().expect("a name"))).expect("copies");
        }
    };
    copy(first);
    for i in 0..5 {
        std::fs::write(data.join(format!("broken-{i}.jpg")), b"no image").expect("writes");
    }
    let data = text(&data);
    let ingest =
        ["ingest", "--data", data, "--name", "n", "--set", "ingest.shard_mib=1", "--set", "ingest.max_reject=0.5"];
    for added in [&[][..], later] {
        copy(added);
        let expected = facts(&alone, &ingest).remove(0);
        let made = in_shares(&shared, &ingest);
        assert_eq!((&made["digest"], &made["rows"]), (&expected["digest"], &expected["rows"]));
        for fact in ["rejected_by_reason", "added", "next_shard", "shards"] {
            assert_eq!(made["facts"][fact], expected["facts"][fact], "{fact}");
        }
        assert!(expected["rows"]["rejected"].as_u64().is_some_and(|rejected| rejected >= 5));
        assert!(expected["facts"]["shards"].as_object().expect("shards").len() >= 3);
        assert!(!shared.join("n/.images.shares").exists(), "what shares left is taken over");
    }
}

#[test]
fn a_subset_is_exported_in_shares() {
    let folder = tempfile::tempdir().expect("a folder");
    let (alone, shared) = (folder.path().join("alone"), folder.path().join("shared"));
    let pile = DRAWN.pile();
    for out in [&alone, &shared] {
        facts(out, &["ingest", "--data", text(&pile), "--set", "ingest.shard_mib=1"]);
        for verb in ["fingerprint", "embed", "curate"] {
            facts(out, &[verb]);
        }
    }
    let cut = ["cut", "--size", "20", "--export", "parquet"];
    let made = in_shares(&shared, &cut);
    assert_eq!(made["digest"], facts(&alone, &cut).pop().expect("a line")["digest"]);
    assert_eq!(made["rows"]["output"], 20);
    let folder = shared.join(made["folder"].as_str().expect("a folder"));
    let exported = std::fs::read_dir(folder).expect("lists").filter_map(|entry| entry.ok());
    let rows = exported.filter(|entry| entry.file_name().to_string_lossy().starts_with("part-")).count();
    assert!(rows >= 2, "a shard of each shard that has some of the subset");
    let (code, error) =
        refusal(&["cut", "--size", "20", "--export", "folder", "--shard", "1/2", "--out", text(&shared)]);
    assert!(code == 2 && error.contains("one process"), "{error}");
}

/// The digests of a curation's stages, by name.
fn stages_of(out: &Path, arguments: &[&str]) -> BTreeMap<String, Value> {
    let made = facts(out, arguments).pop().expect("a line");
    let stages = made["stages"].as_array().expect("stages").iter();
    stages.map(|stage| (stage["stage"].as_str().expect("a name").to_owned(), stage["digest"].clone())).collect()
}

#[test]
fn images_are_assigned_in_shares_to_a_tree_that_was_fitted_on_a_sample() {
    let folder = tempfile::tempdir().expect("a folder");
    let (alone, shared, data) = (folder.path().join("alone"), folder.path().join("shared"), folder.path().join("data"));
    std::fs::create_dir(&data).expect("creates");
    let pile = DRAWN.pile();
    let images: Vec<_> =
        content(&pile).into_keys().filter(|path| path.extension().is_some_and(|e| e == "jpg")).collect();
    let (first, later) = images.split_at(images.len() * 9 / 10);
    let few = ["--set", "curate.tree_max_images=150"];
    let curate = [&["curate"][..], &few].concat();
    let mut trees = Vec::new();
    for added in [first, later] {
        for image in added {
            std::fs::copy(image, data.join(image.file_name().expect("a name"))).expect("copies");
        }
        let [images, _] = [&alone, &shared].map(|out| {
            let made = facts(out, &["ingest", "--data", text(&data), "--name", "n", "--set", "ingest.shard_mib=1"]);
            facts(out, &["fingerprint"]);
            facts(out, &["embed"]);
            made[0]["rows"]["output"].clone()
        });
        // Before the tree is there, or while it is that of fewer images, nothing is assigned.
        let (code, error) = refusal(&[&["assign", "--shard", "1/2", "--out", text(&shared)], &few[..]].concat());
        assert!(code != 0 && error.contains("lapidary curate"), "{error}");
        stages_of(&shared, &[&["curate", "--until", "tree"], &few[..]].concat());
        let assigned = in_shares(&shared, &[&["assign"][..], &few].concat());
        assert_eq!(assigned["rows"]["output"], images);
        let (expected, made) = (stages_of(&alone, &curate), stages_of(&shared, &curate));
        assert_eq!(expected, made);
        assert_eq!(expected.keys().collect::<Vec<_>>(), ["assign", "clusters", "groups", "pairs", "ranking", "tree"]);
        trees.push(expected["tree"].clone());
    }
    assert_eq!(trees[0], trees[1], "a tree stays as it is while images are added to it");
    let clusters = facts(&shared, &curate).pop().expect("a line");
    assert_eq!(clusters["outcome"], "up_to_date");
    assert!(clusters["facts"]["tree"]["added_share"].as_f64().is_some_and(|share| share > 0.02), "{clusters}");
    let rebuilt = stages_of(&alone, &[&["curate", "--rebuild"], &few[..]].concat());
    assert!(rebuilt["tree"] != trees[0] && rebuilt["assign"] != Value::Null);
    // Fitted on all, the tree needs no assignment; its finest clusters are not much tighter.
    let (code, error) = refusal(&["assign", "--out", text(&alone)]);
    assert!(code == 2 && error.contains("fitted on all"), "{error}");
    let distance = |stages: &[Value]| {
        stages[0]["facts"]["fit_by_level"][0]["mean_squared_distance"].as_f64().expect("of a tree that was built")
    };
    let of_sample = distance(&facts(&alone, &curate));
    let of_all = distance(&facts(&alone, &["curate"]));
    assert!(of_sample > 0.5 * of_all && of_sample < 2.0 * of_all, "{of_sample}, {of_all}");
}

#[test]
fn a_share_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    facts(&out, &["ingest", "--data", text(&DRAWN.pile())]);
    for share in ["0/3", "4/3", "x"] {
        let (code, error) = refusal(&["fingerprint", "--shard", share, "--out", text(&out)]);
        assert!(code == 2 && error.contains("is no share"), "{error}");
    }
    for arguments in [["finish", "curate", "--out", text(&out)], ["--out", text(&out), "finish", "curate"]] {
        let (code, error) = refusal(&arguments);
        assert!(code == 2 && error.contains("ingest, fingerprint, embed, assign, cut"), "{error}");
    }
}

#[test]
fn shares_of_other_settings_are_not_mixed() {
    let folder = tempfile::tempdir().expect("a folder");
    let [alone, out] = ["alone", "shared"].map(|name| ingested(&folder.path().join(name)));
    let few = ["fingerprint", "--set", "fingerprint.keypoints=8"];
    let shares_of_few = facts(&out, &[&few[..], &["--shard", "1/1"]].concat()).remove(0)["shares"].clone();
    let shares_of_many = facts(&out, &["fingerprint", "--shard", "1/2"]).remove(0)["shares"].clone();
    assert_ne!(shares_of_few, shares_of_many);
    let (code, error) = refusal(&["finish", "fingerprint", "--out", text(&out)]);
    assert!(code == 2 && error.contains("are not there"), "{error}");
    let finished = facts(&out, &["finish", "fingerprint", "--set", "fingerprint.keypoints=8"]);
    assert_eq!(digest(&finished), digest(&facts(&alone, &few)));
    let at = |shares: &Value| out.join(shares.as_str().expect("a path"));
    assert!(!at(&shares_of_few).exists() && at(&shares_of_many).is_dir(), "only what was finished goes");

    // A file that is not what its marker says is made again, not taken over.
    let shard = at(&shares_of_many).join("part-00000.parquet");
    let mut bytes = std::fs::read(&shard).expect("a shard");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&shard, bytes).expect("writes");
    let (code, error) = refusal(&["finish", "fingerprint", "--out", text(&out)]);
    assert!(code == 2 && error.contains("are not there"), "{error}");
    assert_eq!(digest(&facts(&out, &["fingerprint"])), digest(&facts(&alone, &["fingerprint"])));
    assert!(!out.join("pile/.fingerprints.shares").exists(), "nothing is left of any share");
}

/// Everything in a folder counts as written two days ago.
pub(crate) fn age(folder: &Path) {
    for path in std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("reads").path()) {
        if path.is_dir() {
            age(&path);
        } else {
            set_back(&path);
        }
    }
    set_back(folder);
}

fn set_back(path: &Path) {
    let before = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    std::fs::File::open(path).expect("opens").set_modified(before).expect("sets");
}

#[test]
fn shares_that_nobody_finishes_are_garbage() {
    let folder = tempfile::tempdir().expect("a folder");
    let [alone, out] = ["alone", "shared"].map(|name| ingested(&folder.path().join(name)));
    let share = |more: &[&str]| {
        let made = facts(&out, &[&["fingerprint", "--shard"], more].concat()).remove(0);
        out.join(made["shares"].as_str().expect("a path"))
    };
    let few = share(&["1/2", "--set", "fingerprint.keypoints=8"]);
    let many = share(&["1/2"]);
    let garbage = |more: &[&str]| facts(&out, &[&["gc"], more].concat()).remove(0);
    assert_eq!(garbage(&[]), Value::Array(Vec::new()), "both may be at work");
    age(&few);
    let would = garbage(&["--dry-run"]);
    assert_eq!(would.as_array().map(Vec::len), Some(1), "{would}");
    assert_eq!((&would[0]["path"], few.is_dir()), (&text(&few).into(), true), "{would}");
    assert!(would[0]["why"].as_str().is_some_and(|why| why.contains("other settings")), "{would}");
    assert!(would[0]["bytes"].as_u64() > Some(1000), "{would}");
    // Those that were made last stay however old they are, and are finished.
    age(&many);
    assert_eq!(garbage(&[]), would);
    assert!(!few.exists() && many.is_dir());
    assert_eq!(share(&["2/2"]), many);
    assert_eq!(digest(&facts(&out, &["finish", "fingerprint"])), digest(&facts(&alone, &["fingerprint"])));
    // What was begun with other settings beside a stage that is whole.
    let few = share(&["1/2", "--set", "fingerprint.keypoints=8"]);
    assert_eq!(garbage(&[]), Value::Array(Vec::new()));
    age(&few);
    assert_eq!(garbage(&[]).as_array().map(Vec::len), Some(1));
    assert!(!out.join("pile/.fingerprints.shares").exists());
    assert_eq!(facts(&out, &["fingerprint"]).remove(0)["outcome"], "up_to_date");
}

#[test]
fn a_share_that_ends_after_the_stage_was_finished_is_no_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    facts(
        &out,
        &["ingest", "--data", text(&DRAWN.pile()), "--set", "ingest.shard_mib=1", "--set", "ingest.row_group_mib=1"],
    );
    let mut late = started(&out, &["fingerprint", "--shard", "1/1"]);
    let begun = out.join("pile/.fingerprints.shares");
    while !begun.is_dir() && late.try_wait().expect("looks").is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // Another process makes all of it at once, and removes the shares.
    facts(&out, &["fingerprint"]);
    assert!(late.wait().expect("waits").success());
}

#[test]
fn a_cluster_without_its_binary_says_what_to_build() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("lapidary");
    std::fs::copy(binary(), &copy).expect("copies");
    for arguments in [["curate", "--cluster", "df://a:1"], ["embed", "--cluster=df://a:1", "--quiet"]] {
        let output = Command::new(&copy).args(arguments).env("PATH", "").output().expect("it starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("lapidary-cluster") && error.contains("`make cluster`"), "{error}");
    }
}
