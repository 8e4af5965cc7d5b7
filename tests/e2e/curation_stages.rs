//! A curation in four stages: what another setting leaves alone, what a killed stage makes again, and other thresholds.

use crate::run::{DRAWN, binary, curated, facts, lapidary, refusal, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

const STAGES: [&str; 4] = ["pairs", "groups", "clusters", "ranking"];

/// What became of each stage, and its digest.
fn stages(said: &Value) -> BTreeMap<String, (String, String)> {
    let all = said["stages"].as_array().expect("a list").iter();
    let text = |stage: &Value, key: &str| stage[key].as_str().expect("text").to_owned();
    all.map(|stage| (text(stage, "stage"), (text(stage, "outcome"), text(stage, "digest")))).collect()
}

fn outcomes(said: &Value) -> [String; 4] {
    let stages = stages(said);
    STAGES.map(|stage| stages[stage].0.clone())
}

/// The bytes of a stage's manifest.
fn manifest(out: &Path, stage: &str) -> Vec<u8> {
    std::fs::read(out.join("pile/curation").join(stage).join("manifest.json")).expect("a manifest")
}

fn copies(said: &Value) -> u64 {
    let kept = said["facts"]["images_by_reason"]["kept"].as_u64().expect("a count");
    said["rows"]["output"].as_u64().expect("rows") - kept
}

#[test]
fn another_threshold_groups_again_and_another_order_only_ranks() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let first = curated(&out, "120").remove(3);
    assert_eq!(outcomes(&first), ["ran"; 4]);
    let before = STAGES.map(|stage| manifest(&out, stage));

    // A threshold that little passes: the pairs are those that were there, the groups are not.
    let truth = format!("curate.truth={}", text(&DRAWN.pile().join("truth.csv")));
    let curate = |set: &str| facts(&out, &["curate", "--set", &truth, "--set", set]).remove(0);
    let strict = curate("curate.score_min=0.999");
    assert_eq!(outcomes(&strict), ["up_to_date", "ran", "ran", "ran"]);
    assert_eq!(manifest(&out, "pairs"), before[0]);
    assert_ne!(stages(&strict)["groups"].1, stages(&first)["groups"].1);
    assert!(copies(&strict) < copies(&first), "{} of {}", copies(&strict), copies(&first));

    // What was grouped at the first threshold is found again, and all that follows from it.
    let back = curate("curate.score_min=0.5");
    assert_eq!(outcomes(&back), ["up_to_date"; 4]);
    assert_eq!(STAGES.map(|stage| manifest(&out, stage)), before);

    let farthest = curate("curate.leaf_order=farthest");
    assert_eq!(outcomes(&farthest), ["up_to_date", "up_to_date", "up_to_date", "ran"]);
    assert_eq!(STAGES[..3].iter().map(|stage| manifest(&out, stage)).collect::<Vec<_>>(), before[..3]);
    assert_ne!(farthest["digest"], first["digest"]);
    assert_eq!(farthest["facts"]["images_by_reason"], first["facts"]["images_by_reason"]);
    let spread = curate("curate.leaf_order=farthest-point");
    assert_eq!(outcomes(&spread), ["up_to_date", "up_to_date", "up_to_date", "ran"]);

    // Other clusters leave pairs and groups alone; a mark that drops nothing only ranks.
    assert_eq!(outcomes(&curate("curate.clusters=[20, 3]"))[..3], ["up_to_date", "up_to_date", "ran"]);
    let marked = curate("curate.quality.dark_max=0.5");
    assert_eq!(outcomes(&marked), ["up_to_date", "up_to_date", "up_to_date", "ran"]);
    // What is dropped is not compared.
    assert_eq!(outcomes(&curate("curate.quality.drop=[\"too_dark\"]"))[0], "ran");

    let dry = facts(&out, &["curate", "--dry-run", "--set", "curate.score_min=0.8", "--set", &truth]).remove(0);
    assert_eq!((&dry["outcome"], &dry["facts"]), (&"would_run".into(), &Value::Null));
}

#[test]
fn a_killed_stage_of_a_curation_is_made_again_and_those_above_it_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, out) = (folder.path().join("whole"), folder.path().join("out"));
    let expected = stages(&curated(&whole, "120")[3]);
    facts(&out, &["ingest", "--data", text(&DRAWN.pile())]);
    facts(&out, &["fingerprint"]);
    facts(&out, &["embed"]);
    let truth = format!("curate.truth={}", text(&DRAWN.pile().join("truth.csv")));
    let curate = ["curate", "--set", &truth];
    for (number, stage) in STAGES.iter().enumerate() {
        // Each kill comes while this stage ends; those above it are there from the kill before.
        let killed = Command::new(binary())
            .args(curate)
            .args(["--out", text(&out)])
            .env("LAPIDARY_TEST_KILL_AT", "finish:digested#1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("it starts");
        assert_eq!(killed.code(), None, "{stage} was not killed");
        let is_whole = |stage: &str| out.join("pile/curation").join(stage).join("manifest.json").is_file();
        assert_eq!(STAGES.map(is_whole), std::array::from_fn(|other| other < number), "killed in {stage}");
        // The same command, killed one stage later, makes it whole.
        let next = Command::new(binary())
            .args(curate)
            .args(["--out", text(&out)])
            .env("LAPIDARY_TEST_KILL_AT", "finish:cleared#1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("it starts");
        assert_eq!(next.code(), None, "{stage} did not come to its end");
        assert!(is_whole(stage), "{stage}");
    }
    let resumed = facts(&out, &curate).remove(0);
    assert_eq!(outcomes(&resumed), ["up_to_date"; 4]);
    assert_eq!(stages(&resumed).into_values().map(|(_, digest)| digest).collect::<Vec<_>>(), {
        expected.into_values().map(|(_, digest)| digest).collect::<Vec<_>>()
    });
}

#[test]
fn thresholds_are_compared_without_computing_anything_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let first = curated(&out, "120").remove(3);
    let pile = DRAWN.pile();
    let before = manifest(&out, "pairs");
    let at = |arguments: &[&str]| facts(&out, &[&["duplicates"], arguments].concat()).remove(0);
    let said = at(&["--at", "0.4,0.5,0.999"]);
    let copies_at: Vec<u64> =
        said["at"].as_array().expect("a list").iter().map(|at| at["copies"].as_u64().expect("a count")).collect();
    assert_eq!(copies_at[1], copies(&first), "at the threshold that was curated by");
    assert!(copies_at[0] >= copies_at[1] && copies_at[1] > copies_at[2], "{copies_at:?}");
    let strict = facts(&out, &["curate", "--set", "curate.score_min=0.999"]).remove(0);
    assert_eq!(copies_at[2], copies(&strict));
    assert_eq!(manifest(&out, "pairs"), before);

    // Of a folder that was looked through by itself, too; the same pairs, as all evidence is the same.
    let (code, error) = refusal(&["duplicates", text(&pile), "--at", "0.5", "--out", text(&out)]);
    assert!(code == 1 && error.contains("lapidary duplicates DIR"), "{code}: {error}");
    let alone = facts(&out, &["duplicates", text(&pile)]).remove(0);
    let said = at(&[text(&pile), "--at", "0.5"]);
    assert_eq!(said["at"][0]["copies"], alone["facts"]["copies"]);
    assert_eq!(said["at"][0]["groups"], alone["facts"]["groups"]);
    let (code, error) = refusal(&["duplicates", "--at", "1.5", "--out", text(&out)]);
    assert!(code == 2 && error.contains("1.5"), "{error}");
    assert!(!lapidary(&["duplicates", "--out", text(&out)]).status.success(), "neither a folder nor thresholds");
}

#[test]
fn an_older_curation_of_one_stage_is_kept_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    // As it was: the tables and the manifest of one stage in the folder that holds four now.
    let curation = out.join("pile/curation");
    std::fs::remove_dir_all(&curation).expect("removes");
    std::fs::create_dir(&curation).expect("creates");
    std::fs::copy(out.join("pile/embeddings/descriptor/manifest.json"), curation.join("manifest.json"))
        .expect("copies");
    let again = facts(&out, &["curate"]).remove(0);
    assert_eq!(outcomes(&again), ["ran"; 4]);
    let names = std::fs::read_dir(out.join("pile")).expect("lists").map(|entry| entry.expect("reads").file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().starts_with("curation~")).count(), 1);
    assert!(!curation.join("manifest.json").exists());
}
