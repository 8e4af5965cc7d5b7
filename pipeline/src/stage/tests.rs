//! The runtime's promises: whole or not there, nothing lost between two renames, nothing of other settings deleted.

use super::places::Places;
use super::recover::{install, recover};
use super::run::KEY_FILE;
use super::*;
use crate::PipelineError;
use lapidary_schemas::tables::MANIFEST_FILE;
use lapidary_schemas::{Manifest, Rows};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const ROWS: Rows = Rows { input: 3, output: 2, rejected: 1 };

fn spec(folder: &Path, config: Value) -> StageSpec {
    StageSpec {
        stage: "test",
        version: 1,
        out: folder.parent().expect("has one").to_owned(),
        folder: folder.to_owned(),
        config,
        inputs: BTreeMap::new(),
        resumable: false,
        previous: Previous::Replaced,
    }
}

fn kept(folder: &Path, setting: u32) -> StageSpec {
    StageSpec { resumable: true, previous: Previous::Kept, ..spec(folder, json!({"setting": setting})) }
}

fn run(spec: StageSpec) -> StageRun {
    match spec.open(false).expect("opens") {
        Opened::Run(run) => run,
        other => panic!("expected to run, got {other:?}"),
    }
}

/// Makes a folder with one file that holds `text`.
fn made(spec: StageSpec, text: &str) -> Manifest {
    let stage = run(spec);
    fs::write(stage.path("a.txt"), text).expect("writes");
    stage.finish(ROWS, json!({}), &[]).expect("finishes")
}

fn text_in(folder: &Path) -> String {
    fs::read_to_string(folder.join("a.txt")).expect("reads")
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = temporary.path().join("stage");
    (temporary, folder)
}

#[test]
fn a_stage_is_whole_or_not_there() {
    let (_temporary, folder) = folder();
    let stage = run(spec(&folder, json!(1)));
    fs::write(stage.path("a.txt"), "x").expect("writes");
    assert!(!folder.exists());
    stage.finish(ROWS, json!({}), &[]).expect("finishes");
    assert!(matches!(spec(&folder, json!(1)).open(false), Ok(Opened::UpToDate(_))));
    assert!(!folder.join(KEY_FILE).exists(), "no mark of work in progress is left");
    fs::write(folder.join("a.txt"), "xy").expect("writes");
    assert!(spec(&folder, json!(1)).up_to_date().is_none(), "a changed output is not up to date");
}

#[test]
fn rows_must_add_up() {
    let (_temporary, folder) = folder();
    let stage = run(spec(&folder, json!(1)));
    let error = stage.finish(Rows { input: 3, output: 1, rejected: 1 }, json!({}), &[]).expect_err("one is lost");
    assert!(error.to_string().contains("3 rows in"), "{error}");
}

#[test]
fn two_processes_do_not_write_one_folder() {
    let (_temporary, folder) = folder();
    let _first = run(spec(&folder, json!(1)));
    let error = spec(&folder, json!(1)).open(false).expect_err("locked");
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn a_finished_partial_folder_is_adopted_wherever_its_renaming_stopped() {
    let (_temporary, folder) = folder();
    let places = Places::of(&folder);
    // Stopped after the manifest was written, with nothing there before.
    made(kept(&folder, 1), "one");
    fs::rename(&folder, places.partial()).expect("renames");
    assert!(matches!(kept(&folder, 1).open(false), Ok(Opened::UpToDate(_))));
    assert_eq!(text_in(&folder), "one");
    // A reader finds it as well, without running the stage.
    fs::rename(&folder, places.partial()).expect("renames");
    assert_eq!(read_manifest(&folder).expect("is adopted").config, json!({"setting": 1}));
    // One whose files are not all there is not adopted.
    fs::rename(&folder, places.partial()).expect("renames");
    fs::remove_file(places.partial().join("a.txt")).expect("removes");
    assert!(read_manifest(&folder).is_err());
}

#[test]
fn what_made_room_comes_back_when_its_successor_is_not_whole() {
    for out_of_the_way in [Places::replaced, Places::leaving] {
        let (_temporary, folder) = folder();
        let places = Places::of(&folder);
        made(spec(&folder, json!(1)), "one");
        fs::rename(&folder, out_of_the_way(&places)).expect("renames");
        assert_eq!(read_manifest(&folder).expect("is brought back").config, json!(1));
        assert_eq!(text_in(&folder), "one");
        assert!(!out_of_the_way(&places).exists());
    }
}

/// Every point between two steps of putting a folder into its place, by undoing the later ones by hand.
#[test]
fn an_earlier_result_survives_every_moment_of_being_succeeded() {
    let keep_both = |folder: &Path| {
        made(kept(folder, 1), "one");
        let second = run(kept(folder, 2));
        fs::write(second.path("a.txt"), "two").expect("writes");
        let key = kept(folder, 1).key();
        second.finish(ROWS, json!({}), &[]).expect("finishes");
        (Places::of(folder), Places::of(folder).aside(&key).folder)
    };
    let is_settled = |places: &Places, aside: &Path| {
        assert_eq!((text_in(&places.folder), text_in(aside)), ("two".to_owned(), "one".to_owned()));
        assert!(![places.partial(), places.leaving(), places.replaced()].iter().any(|place| place.exists()));
        assert!(!places.folder.join(KEY_FILE).exists());
    };
    let write_key = |places: &Places, at: &Path| {
        let spec = kept(&places.folder, 2);
        write_json(&at.join(KEY_FILE), &super::run::KeyRecord::of(&spec, spec.key())).expect("writes");
    };

    let (_a, first) = folder();
    let (places, aside) = keep_both(&first);
    is_settled(&places, &aside);
    // Before room was made.
    fs::rename(&places.folder, places.partial()).expect("renames");
    fs::rename(&aside, &places.folder).expect("renames");
    write_key(&places, &places.partial());
    recover(&places).expect("recovers");
    is_settled(&places, &aside);
    // After room was made, before the new one came.
    fs::rename(&places.folder, places.partial()).expect("renames");
    fs::rename(&aside, places.leaving()).expect("renames");
    write_key(&places, &places.partial());
    recover(&places).expect("recovers");
    is_settled(&places, &aside);
    // After the new one came, before the earlier one was kept: the same command is up to date, and tidies up.
    fs::rename(&aside, places.leaving()).expect("renames");
    write_key(&places, &places.folder);
    assert!(matches!(kept(&first, 2).open(false), Ok(Opened::UpToDate(_))));
    is_settled(&places, &aside);
}

#[test]
fn other_settings_are_kept_and_found_again() {
    let (_temporary, folder) = folder();
    made(kept(&folder, 1), "one");
    made(kept(&folder, 2), "two");
    assert_eq!(text_in(&folder), "two");
    let first = Places::of(&folder).aside(&kept(&folder, 1).key()).folder;
    assert_eq!(text_in(&first), "one");
    assert!(matches!(kept(&folder, 1).open(false), Ok(Opened::UpToDate(_))), "nothing is made again");
    assert_eq!(text_in(&folder), "one");
    assert!(!first.exists(), "it has its place again");
    assert!(matches!(kept(&folder, 2).open(false), Ok(Opened::UpToDate(_))));
}

#[test]
fn unfinished_work_of_other_settings_is_kept_and_resumed() {
    let (_temporary, folder) = folder();
    fs::write(run(kept(&folder, 1)).path("half"), "x").expect("writes");
    let other = run(kept(&folder, 2));
    assert!(!other.resumed && !other.path("half").exists());
    drop(other);
    let again = run(kept(&folder, 1));
    assert!(again.resumed && again.path("half").exists());
}

#[test]
fn replaced_stages_keep_nothing_of_another_key() {
    let (_temporary, folder) = folder();
    fs::write(run(spec(&folder, json!(1))).path("half"), "x").expect("writes");
    assert!(!run(spec(&folder, json!(1))).path("half").exists(), "it is not resumable");
    made(spec(&folder, json!(1)), "one");
    made(spec(&folder, json!(2)), "two");
    let names: Vec<_> = fs::read_dir(folder.parent().expect("has one")).expect("lists").collect();
    assert_eq!(names.len(), 2, "the folder and its lock: {names:?}");
}

#[test]
fn a_folder_without_a_manifest_is_not_ours_to_replace() {
    let (_temporary, folder) = folder();
    fs::create_dir(&folder).expect("creates");
    made(spec(&folder, json!(1)), "an empty folder is in nobody's way");
    fs::remove_file(folder.join(MANIFEST_FILE)).expect("removes");
    let error = spec(&folder, json!(1)).open(false).expect_err("it holds files");
    assert!(error.exit_code() == 2 && error.to_string().contains("no manifest"), "{error}");
}

#[test]
fn a_resumed_stage_knows_its_whole_shards_and_no_others() {
    let (_temporary, folder) = folder();
    let spec = || StageSpec { resumable: true, ..spec(&folder, json!(1)) };
    let mut first = run(spec());
    let table =
        |text: &str| WrittenTable { rows: 1, bytes: text.len() as u64, digest: digest_of_bytes(text.as_bytes()) };
    for name in ["part-0", "part-1", "part-2"] {
        fs::write(first.path(name), name).expect("writes");
        first.note_shard(name, table(name), json!({"rows": 1})).expect("notes");
    }
    // One was cut short after it was noted, a note was cut off, and a file was being written.
    fs::write(first.path("part-1"), "par").expect("writes");
    fs::write(first.path("part-3.12-0.writing"), "x").expect("writes");
    let notes = first.path(super::run::TABLES_FILE);
    let text = fs::read_to_string(&notes).expect("reads");
    fs::write(&notes, &text[..text.trim_end().len() - 9]).expect("writes");
    drop(first);
    let mut second = run(spec());
    assert_eq!(second.shards().keys().collect::<Vec<_>>(), ["part-0"]);
    assert_eq!(second.shards()["part-0"].facts, json!({"rows": 1}));
    for name in ["part-1", "part-2"] {
        fs::write(second.path(name), name).expect("writes");
        second.note_shard(name, table(name), json!({})).expect("notes");
    }
    let manifest = second.finish(ROWS, json!({}), &[]).expect("finishes");
    assert_eq!(manifest.outputs.keys().collect::<Vec<_>>(), ["part-0", "part-1", "part-2"]);
}

#[test]
fn an_input_that_was_made_again_meanwhile_is_noticed() {
    let (_temporary, folder) = folder();
    let input = folder.with_file_name("input");
    let before = made(spec(&input, json!(1)), "before");
    let mut of_it = spec(&folder, json!(1));
    of_it.inputs = BTreeMap::from([("input".to_owned(), before.digest)]);
    let stage = run(of_it);
    made(spec(&input, json!(2)), "after");
    let error = stage.finish(ROWS, json!({}), &[]).expect_err("it read who knows what");
    assert!(matches!(error, PipelineError::Usage(_)) && error.to_string().contains("made again"), "{error}");
}

#[test]
fn what_extends_the_folder_replaces_it() {
    let (_temporary, folder) = folder();
    let before = made(kept(&folder, 1), "one");
    let mut stage = run(kept(&folder, 2));
    stage.extend(&before);
    fs::write(stage.path("a.txt"), "one and more").expect("writes");
    stage.finish(ROWS, json!({}), &[]).expect("finishes");
    assert!(!Places::of(&folder).aside(&before.key).folder.exists(), "all of it is in the new one");
}

#[test]
fn installing_over_a_folder_that_is_leaving_loses_neither() {
    let (_temporary, folder) = folder();
    let places = Places::of(&folder);
    let one = made(kept(&folder, 1), "one");
    fs::rename(&folder, places.leaving()).expect("renames");
    let two = made(kept(&folder, 2), "two");
    // The first was brought back before the second came, and then kept.
    assert_eq!(text_in(&places.aside(&one.key).folder), "one");
    fs::rename(&folder, places.partial()).expect("renames");
    install(&places, &two, Previous::Kept).expect("installs");
    assert_eq!(text_in(&folder), "two");
}
