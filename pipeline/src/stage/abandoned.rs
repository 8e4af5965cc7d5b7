//! Shares that nobody finishes: of a stage that is whole by now, of inputs that have changed, or of other settings than the last
//! that somebody worked on.
//!
//! What a share's process has written to within a day is never among them, whatever it is of: it may be at work. Which key a stage
//! would have now only the command knows that makes it; here it is the key of what is whole and of the inputs as they are, and
//! where nothing is, that of the shares that were written to last.

use super::files::{remove_tree, rename_folder};
use super::lineage::has_changed;
use super::places::Places;
use super::run::KeyRecord;
use super::stages::MAX_DEPTH;
use super::{Layout, is_outside, manifest_in_place};
use crate::Result;
use crate::ingest::sources::path_of_text;
use crate::remote::StoredShares;
use lapidary_schemas::Manifest;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Shares that nobody has written to for so long are nobody's.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// The shares of one key of a stage, that nobody finishes.
#[derive(Debug, Clone)]
pub(crate) struct AbandonedShares {
    /// Their folder; in a store, the one that stands for it.
    pub(crate) folder: PathBuf,
    /// What their markers take up in the store; none where they are not in one.
    pub(crate) bytes_in_store: Option<u64>,
    /// Why nobody finishes them.
    pub(crate) why: &'static str,
}

/// The shares of one key.
#[derive(Debug)]
struct Begun {
    folder: PathBuf,
    /// When they were last written to, here or in the store.
    written: SystemTime,
    bytes_in_store: Option<u64>,
}

/// The shares under OUT, and of those that a store has, that nobody finishes.
pub(crate) fn abandoned_shares(layout: &Layout, stored: &[StoredShares]) -> Vec<AbandonedShares> {
    let mut abandoned = Vec::new();
    for (stage, begun) in begun_by_stage(layout, stored) {
        // Somebody makes all of it, or finishes it.
        if Places::of(&stage).is_locked() {
            continue;
        }
        let manifest = manifest_in_place(&stage).ok();
        let is_current = manifest.as_ref().is_some_and(|manifest| is_current(layout, manifest));
        let is_whole = |shares: &Begun| manifest.as_ref().is_some_and(|manifest| shares.is_of(manifest));
        let can_be_finished = |shares: &Begun| !is_whole(shares) && !is_of_changed_inputs(layout, &shares.folder);
        let last = begun.iter().filter(|shares| can_be_finished(shares)).map(|shares| shares.written).max();
        for shares in begun {
            if !is_idle(shares.written) {
                continue;
            }
            let why = if is_whole(&shares) {
                "shares of a stage that is whole"
            } else if is_of_changed_inputs(layout, &shares.folder) {
                "shares of inputs that have changed since"
            } else if is_current {
                "shares of other settings than the stage was made with"
            } else if last > Some(shares.written) {
                "shares of other settings than those made last"
            } else {
                continue;
            };
            abandoned.push(AbandonedShares { folder: shares.folder, bytes_in_store: shares.bytes_in_store, why });
        }
    }
    abandoned
}

/// Removes shares here, unless somebody has come to finish them, or to make more of them; whether they went.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn remove_abandoned(folder: &Path) -> Result<bool> {
    let Some(stage) = stage_of(folder) else { return Ok(false) };
    let places = Places::of(&stage);
    let Some(_lock) = places.try_lock()? else { return Ok(false) };
    if !written_below(folder).is_some_and(is_idle) {
        return Ok(false);
    }
    // All at once: who comes now begins anew, and finds no marker whose shard has gone.
    let key = folder.file_name().unwrap_or_default().to_string_lossy();
    let gone = places.shares().with_extension(format!("{key}.old"));
    rename_folder(folder, &gone)?;
    remove_tree(&gone)?;
    // Shares of other keys stay, and with them the folder of all.
    let _ = fs::remove_dir(places.shares());
    Ok(true)
}

impl Begun {
    /// Whether their key is the one that a manifest was made with.
    fn is_of(&self, manifest: &Manifest) -> bool {
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        !name.is_empty() && manifest.key.0.starts_with(&*name)
    }
}

/// All shares by their stage's folder.
fn begun_by_stage(layout: &Layout, stored: &[StoredShares]) -> BTreeMap<PathBuf, Vec<Begun>> {
    let mut all: BTreeMap<PathBuf, Begun> = BTreeMap::new();
    for folder in folders_of_shares(layout) {
        if let Some(written) = written_below(&folder) {
            all.insert(folder.clone(), Begun { folder, written, bytes_in_store: None });
        }
    }
    for shares in stored {
        let begun = || Begun { folder: shares.folder.clone(), written: shares.written, bytes_in_store: None };
        let begun = all.entry(shares.folder.clone()).or_insert_with(begun);
        begun.written = begun.written.max(shares.written);
        begun.bytes_in_store = Some(shares.bytes);
    }
    let mut by_stage: BTreeMap<PathBuf, Vec<Begun>> = BTreeMap::new();
    for (folder, begun) in all {
        if let Some(stage) = stage_of(&folder) {
            by_stage.entry(stage).or_default().push(begun);
        }
    }
    by_stage
}

/// The folders of shares under OUT, of every stage and key.
fn folders_of_shares(layout: &Layout) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(&layout.out).max_depth(MAX_DEPTH + 1).into_iter().filter_map(|e| e.ok());
    entries
        .filter(|entry| entry.file_type().is_dir())
        .map(|entry| entry.into_path())
        .filter(|path| stage_of(path).is_some())
        .collect()
}

/// The stage's folder that a key's folder of shares belongs to.
fn stage_of(folder: &Path) -> Option<PathBuf> {
    let shares = folder.parent()?;
    let name = shares.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(".shares")?;
    Some(shares.with_file_name(name))
}

/// When anything in a folder was last written to; none when it has gone.
fn written_below(folder: &Path) -> Option<SystemTime> {
    let entries = walkdir::WalkDir::new(folder).into_iter().filter_map(|entry| entry.ok());
    entries.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()
}

/// A clock that is ahead of ours wrote just now.
fn is_idle(written: SystemTime) -> bool {
    SystemTime::now().duration_since(written).is_ok_and(|since| since >= IDLE)
}

/// Whether a stage is made of its inputs as they are.
fn is_current(layout: &Layout, manifest: &Manifest) -> bool {
    !manifest.inputs.iter().any(|(name, digest)| has_changed(layout, name, digest, false))
}

/// Whether shares are of inputs that are others now. An input that cannot be seen from here may be as it was.
fn is_of_changed_inputs(layout: &Layout, folder: &Path) -> bool {
    let Some(record) = KeyRecord::read(folder) else { return false };
    let can_be_seen = |name: &str| !is_outside(name) || path_of_text(name).exists();
    record.inputs.iter().any(|(name, digest)| can_be_seen(name) && has_changed(layout, name, digest, false))
}

#[cfg(test)]
mod tests {
    use super::super::share::Share;
    use super::super::{Opened, Previous, StageRun, StageSpec, WrittenTable, digest_of_bytes};
    use super::*;
    use lapidary_schemas::{Digest, Rows};
    use serde_json::json;
    use std::fs::File;

    const ROWS: Rows = Rows { input: 1, output: 1, rejected: 0 };
    const LONG_AGO: Duration = Duration::from_secs(3 * 24 * 3600);

    fn spec(out: &Path, setting: u32, inputs: &[(&str, &Digest)]) -> StageSpec {
        StageSpec {
            stage: "test",
            version: 1,
            out: out.to_owned(),
            folder: out.join("pile/prints"),
            config: json!({"setting": setting}),
            inputs: inputs.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).clone())).collect(),
            resumable: true,
            previous: Previous::Replaced,
        }
    }

    fn run(spec: StageSpec, share: Share) -> StageRun {
        match spec.open_share(false, share).expect("opens") {
            Opened::Run(run) => run,
            other => panic!("expected to run, got {other:?}"),
        }
    }

    /// Makes a share with one shard in it; the folder that it lies in.
    fn begun(spec: StageSpec) -> PathBuf {
        let mut share = run(spec, Share::Part { index: 1, of: 2 });
        let name = "part-00000.parquet";
        fs::write(share.path(name), name).expect("writes");
        let table = WrittenTable { rows: 1, bytes: name.len() as u64, digest: digest_of_bytes(name.as_bytes()) };
        share.note_shard(name, table, json!({})).expect("notes");
        share.folder()
    }

    fn made(spec: StageSpec) -> Manifest {
        let stage = run(spec, Share::All);
        fs::write(stage.path("a.txt"), "a").expect("writes");
        stage.finish(ROWS, json!({}), &[]).expect("finishes")
    }

    /// Everything in a folder of shares, and the folder, was written so long ago.
    fn age(folder: &Path, age: Duration) {
        for entry in walkdir::WalkDir::new(folder).contents_first(true) {
            let path = entry.expect("lists").into_path();
            File::open(path).expect("opens").set_modified(SystemTime::now() - age).expect("sets");
        }
    }

    fn whys(out: &Path) -> Vec<(PathBuf, &'static str)> {
        abandoned_shares(&Layout::new(out), &[]).into_iter().map(|shares| (shares.folder, shares.why)).collect()
    }

    #[test]
    fn what_is_written_to_or_last_stays_and_other_settings_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path();
        let [first, second] = [1, 2].map(|setting| begun(spec(out, setting, &[])));
        assert!(whys(out).is_empty(), "both are at work");
        age(&first, LONG_AGO);
        assert_eq!(whys(out), [(first.clone(), "shares of other settings than those made last")]);
        age(&second, LONG_AGO / 2);
        assert_eq!(whys(out).len(), 1, "those that were made last can be finished");
        // Who goes on with them is at work before it has made a shard.
        run(spec(out, 1, &[]), Share::Part { index: 2, of: 2 });
        assert_eq!(whys(out), [(second.clone(), "shares of other settings than those made last")]);
        assert!(!remove_abandoned(&first).expect("looks") && first.is_dir());
        assert!(remove_abandoned(&second).expect("removes") && !second.exists());
        let left: Vec<String> = fs::read_dir(out.join("pile"))
            .expect("lists")
            .map(|entry| entry.expect("reads").file_name().to_string_lossy().into_owned())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        assert_eq!(left, [".prints.shares"]);
    }

    #[test]
    fn a_stage_that_is_whole_needs_no_shares() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path();
        made(spec(out, 1, &[]));
        let other = begun(spec(out, 2, &[]));
        let late = Places::of(&out.join("pile/prints")).shares_of(&spec(out, 1, &[]).key());
        fs::create_dir_all(&late).expect("creates");
        assert!(whys(out).is_empty(), "both were written to just now");
        for shares in [&other, &late] {
            age(shares, LONG_AGO);
        }
        let mut found = whys(out);
        found.sort_by_key(|(folder, _)| *folder != late);
        let expected = ["shares of a stage that is whole", "shares of other settings than the stage was made with"];
        assert_eq!(found, [(late.clone(), expected[0]), (other, expected[1])]);
        // While somebody makes the stage nothing is touched.
        let at_work = run(spec(out, 3, &[]), Share::All);
        assert!(whys(out).is_empty());
        assert!(!remove_abandoned(&late).expect("looks"));
        drop(at_work);
        assert!(remove_abandoned(&late).expect("removes"));
    }

    #[test]
    fn shares_of_inputs_that_are_no_more_go_and_those_of_the_present_ones_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path();
        let images = |setting: u32| StageSpec { folder: out.join("pile/images"), ..spec(out, setting, &[]) };
        let before = made(images(1)).digest;
        let whole = made(spec(out, 1, &[("pile/images", &before)]));
        let of_before = begun(spec(out, 2, &[("pile/images", &before)]));
        // Made again, of other content.
        let stage = run(images(2), Share::All);
        fs::write(stage.path("a.txt"), "other").expect("writes");
        let now = stage.finish(ROWS, json!({}), &[]).expect("finishes").digest;
        assert_ne!(now, before);
        let of_now = begun(spec(out, 1, &[("pile/images", &now)]));
        for shares in [&of_before, &of_now] {
            age(shares, LONG_AGO);
        }
        assert_eq!(whys(out), [(of_before, "shares of inputs that have changed since")]);
        assert_ne!(whole.key, spec(out, 1, &[("pile/images", &now)]).key());
    }

    /// In a store, shares that are here as well are of the time that either was written to.
    #[test]
    fn shares_in_a_store_are_judged_with_those_here() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path();
        made(spec(out, 1, &[]));
        let here = begun(spec(out, 2, &[]));
        age(&here, LONG_AGO);
        let there = here.with_file_name("0123456789abcdef");
        let stored = |folder: &Path, age: Duration| StoredShares {
            folder: folder.to_owned(),
            written: SystemTime::now() - age,
            bytes: 7,
        };
        let found = |stored: &[StoredShares]| {
            let found = abandoned_shares(&Layout::new(out), stored);
            found.into_iter().map(|shares| (shares.folder, shares.bytes_in_store)).collect::<Vec<_>>()
        };
        let mut expected = [(here.clone(), None), (there.clone(), Some(7))];
        expected.sort();
        assert_eq!(found(&[stored(&there, LONG_AGO)]), expected);
        assert_eq!(found(&[stored(&there, LONG_AGO), stored(&here, Duration::ZERO)]), [(there, Some(7))]);
    }
}
