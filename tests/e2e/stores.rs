//! Images and results in a store, on an S3 server and on ours of Google's API: the digests are those of a disk, several caches share
//! nothing but the store, and a store that goes away, refuses or is somebody else's is named and loses nothing.

use crate::run::{DRAWN, binary, facts, text};
use crate::shares::age;
use crate::store_server::{ACCESS_KEY, PRIVATE_KEY, SECRET_KEY, StoreServer, copy, serve_folder};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SMALL: [&str; 4] = ["--set", "ingest.shard_mib=1", "--set", "ingest.row_group_mib=1"];
const OUT: &str = "s3://bucket/out";

/// All files below a folder and their bytes.
pub(crate) fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for path in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("reads").path()) {
        if path.is_dir() {
            all.extend(content(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).expect("reads"));
        }
    }
    all
}

fn shards(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok());
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("part-")).count()
}

/// The shards in the folder of any key below a folder of shares.
fn shards_of_shares(folder: &Path) -> usize {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|key| Some(shards(&key.ok()?.path()))).sum()
}

/// The digests of a chain on a disk: ingest, fingerprint, embed, each stage of the curation, cut.
fn on_a_disk(out: &Path) -> Vec<Value> {
    let pile = DRAWN.pile();
    let mut all = facts(out, &[&["ingest", "--data", text(&pile), "--name", "pile"], &SMALL[..]].concat());
    all.extend(facts(out, &["fingerprint"]));
    all.extend(facts(out, &["embed"]));
    all.extend(facts(out, &["curate"]));
    all.extend(facts(out, &["cut", "--size", "120"]));
    all
}

fn ingest_from(data: &str) -> Vec<&str> {
    [&["ingest", "--data", data, "--name", "pile"], &SMALL[..]].concat()
}

#[test]
fn a_chain_in_a_store_has_the_digests_of_one_on_a_disk() {
    chain_in(StoreServer::s3());
}

#[test]
fn a_chain_at_google_has_the_digests_of_one_on_a_disk() {
    chain_in(StoreServer::google());
}

fn chain_in(server: Option<StoreServer>) {
    let Some(server) = server else { return };
    let data = server.url("data/pile");
    let folder = tempfile::tempdir().expect("a folder");
    let expected = on_a_disk(&folder.path().join("disk"));
    copy(&DRAWN.pile(), &server.bucket().join("data/pile"));
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| folder.path().join(name));

    let ingested = server.facts(&a, &ingest_from(&data)).remove(0);
    assert_eq!((&ingested["digest"], &ingested["rows"]), (&expected[0]["digest"], &expected[0]["rows"]));
    assert!(
        !a.join(".sources").read_dir().expect("lists").any(|e| e.expect("reads").path().is_dir()),
        "no source is left"
    );
    assert_eq!(server.facts(&a, &ingest_from(&data)).remove(0)["outcome"], "up_to_date");

    // Two machines that share only the store make shares, one of them twice; a third finishes.
    let share = |cache: &Path, share: &str| server.facts(cache, &["fingerprint", "--shard", share]).remove(0);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| share(&a, "1/2"));
        let second = scope.spawn(|| share(&b, "2/2"));
        for done in [first, second] {
            assert_eq!(done.join().expect("it does not panic")["outcome"], "shared");
        }
    });
    assert_eq!(share(&c, "2/2")["outcome"], "shared");
    let all = shards(&a.join("pile/images"));
    assert!(all >= 3 && shards(&b.join("pile/images")) < all, "a share brings its own shards alone");
    assert_eq!(shards(&c.join("pile/images")), 0, "what is made already needs no image");
    assert_eq!(server.facts(&c, &["finish", "fingerprint"]).remove(0)["digest"], expected[1]["digest"]);
    assert_eq!(shards(&c.join("pile/images")), 0, "who finishes reads no image");

    assert_eq!(server.facts(&b, &["embed"]).remove(0)["digest"], expected[2]["digest"]);
    let curated = server.facts(&a, &["curate"]).remove(0);
    assert_eq!(curated["digest"], expected[3]["digest"], "{curated}");
    assert_eq!(server.facts(&c, &["cut", "--size", "120"]).remove(0)["digest"], expected[4]["digest"]);

    // Who has nothing here sees all of it, and brings what is read.
    let states = server.facts(&d, &["status"]).remove(0);
    let states = states.as_array().expect("a list");
    assert!(states.len() >= 8 && states.iter().all(|state| state["state"] == "up_to_date"), "{states:?}");
    assert_eq!(shards(&d.join("pile/images")), 0);
    assert_eq!(server.facts(&d, &["fingerprint"]).remove(0)["outcome"], "up_to_date");
    let verified = server.facts(&d, &["verify"]).remove(0);
    assert!(verified.as_array().expect("a list").iter().all(|stage| stage["faults"] == serde_json::json!([])));
    assert_eq!(shards(&d.join("pile/images")), all);
    // Other settings keep what was there; a removed result is gone for all.
    server.facts(&a, &["cut", "--size", "60"]);
    server.facts(&b, &["rm", "subsets/60"]);
    assert!(!a.join("pile/subsets/60/manifest.json").exists() || server.facts(&a, &["status"]).len() == 1);
    assert!(!a.join("pile/subsets/60").exists(), "what another removes goes here too");

    let secrets = [ACCESS_KEY, SECRET_KEY, PRIVATE_KEY].map(str::as_bytes);
    let written = [folder.path(), &server.bucket()].map(content).into_iter().flatten();
    for (path, bytes) in written {
        let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!secrets.iter().any(|secret| holds(secret)), "`{}` holds a credential", path.display());
    }
}

#[test]
fn the_report_goes_into_the_store_and_the_doctor_names_it() {
    let Some(server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    server.facts(&a, &["ingest", "--data", text(&DRAWN.pile())]);
    server.facts(&b, &["report"]);
    assert!(server.bucket().join("out/pile/report.html").is_file());
    let doctor = server.facts(&b, &["doctor"]).remove(0);
    assert_eq!((&doctor["out"], &doctor["store"]["url"]), (&OUT.into(), &OUT.into()), "{doctor}");
}

#[test]
fn what_is_added_in_the_bucket_is_merged_by_another_machine() {
    let Some(server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, here) = (folder.path().join("disk"), folder.path().join("pictures"));
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    let in_bucket = server.bucket().join("pictures");
    let pictures = content(&DRAWN.pile()).into_keys().filter(|path| text(path).ends_with(".jpg"));
    let pictures: Vec<PathBuf> = pictures.take(60).collect();
    let put = |pictures: &[PathBuf]| {
        for to in [&here, &in_bucket] {
            std::fs::create_dir_all(to).expect("creates");
            for path in pictures {
                std::fs::copy(path, to.join(path.file_name().expect("a name"))).expect("copies");
            }
        }
    };
    put(&pictures[..50]);
    let stored = [&["ingest", "--data", "s3://bucket/pictures"], &SMALL[..]].concat();
    let local = [&["ingest", "--data", text(&here)], &SMALL[..]].concat();
    assert_eq!(server.facts(&a, &stored)[0]["digest"], facts(&disk, &local)[0]["digest"]);
    server.facts(&a, &["fingerprint"]);
    facts(&disk, &["fingerprint"]);
    put(&pictures[50..]);
    let (merged, expected) = (server.facts(&b, &stored).remove(0), facts(&disk, &local).remove(0));
    assert_eq!((&merged["digest"], &merged["facts"]["added"]), (&expected["digest"], &Value::from(10)), "{merged}");
    let (prints, expected) = (server.facts(&b, &["fingerprint"]).remove(0), facts(&disk, &["fingerprint"]).remove(0));
    assert_eq!((&prints["digest"], &prints["facts"]["added"]), (&expected["digest"], &Value::from(10)), "{prints}");
    // The first machine sees what the second made, and what that replaced is no garbage before a day has passed.
    assert_eq!(server.facts(&a, &["fingerprint"]).remove(0)["outcome"], "up_to_date");
    assert_eq!(server.facts(&a, &["gc"]), [Value::Array(Vec::new())]);
}

#[test]
fn shares_in_a_store_that_nobody_finishes_are_garbage() {
    let_go(StoreServer::s3());
}

#[test]
fn shares_at_google_that_nobody_finishes_are_garbage() {
    let_go(StoreServer::google());
}

/// One machine lets go of shares of other settings, another goes on with its own, a third collects and finishes.
fn let_go(server: Option<StoreServer>) {
    let Some(server) = server else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
    server.facts(&a, &[&["ingest", "--data", text(&DRAWN.pile())], &SMALL[..]].concat());
    server.facts(&a, &["fingerprint", "--shard", "1/2", "--set", "fingerprint.keypoints=8"]);
    server.facts(&b, &["fingerprint", "--shard", "1/2"]);
    let garbage = |more: &[&str]| server.facts(&c, &[&["gc"], more].concat()).remove(0);
    assert_eq!(garbage(&[]), Value::Array(Vec::new()), "both may be at work");
    age(&server.bucket());
    server.facts(&b, &["fingerprint", "--shard", "2/2"]);
    let before = content(&server.bucket());
    let would = garbage(&["--dry-run"]);
    let entries = would.as_array().expect("a list");
    let of = |word: &str| -> Vec<&str> {
        let is_of = |entry: &&Value| entry["why"].as_str().is_some_and(|why| why.contains(word));
        entries.iter().filter(is_of).filter_map(|entry| entry["path"].as_str()).collect()
    };
    let (markers, data) = (of("other settings"), of("no manifest"));
    assert!(markers.len() == 1 && markers[0].starts_with(&server.url("out/pile/.fingerprints.shares/")), "{would}");
    assert!(!data.is_empty() && data.len() + 1 == entries.len(), "{would}");
    assert!(data.iter().all(|url| url.starts_with(&server.url("out/pile/fingerprints/part-"))), "{would}");
    assert_eq!(content(&server.bucket()), before, "a dry run removes nothing");
    assert_eq!(garbage(&[]), would);
    assert_eq!(content(&server.bucket()).len(), before.len() - 2 * data.len(), "each shard and its marker");
    let finished = server.facts(&c, &["finish", "fingerprint"]).remove(0);
    assert_eq!(finished["outcome"], "ran", "{finished}");
    let verified = server.facts(&c, &["verify", "fingerprint"]).remove(0);
    assert_eq!(verified[0]["faults"], serde_json::json!([]), "{verified}");
}

/// Runs a verb and kills the server as soon as `reached` holds; the exit code and what was said.
fn cut_off(server: &mut StoreServer, cache: &Path, arguments: &[&str], reached: &dyn Fn() -> bool) -> (i32, String) {
    let common = ["--out", &server.url("out"), "--cache", text(cache)];
    let mut command = server.command(&[arguments, &common].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{arguments:?} never came so far");
        std::thread::sleep(Duration::from_millis(1));
    }
    server.kill();
    let output = child.wait_with_output().expect("waits");
    (output.status.code().expect("no signal"), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_store_that_goes_away_is_named_and_the_next_call_goes_on() {
    goes_away(StoreServer::s3());
}

#[test]
fn googles_that_goes_away_is_named_and_the_next_call_goes_on() {
    goes_away(StoreServer::google());
}

fn goes_away(server: Option<StoreServer>) {
    let Some(mut server) = server else { return };
    let (out, data) = (server.url("out"), server.url("data/pile"));
    let folder = tempfile::tempdir().expect("a folder");
    let expected = on_a_disk(&folder.path().join("disk"));
    copy(&DRAWN.pile(), &server.bucket().join("data/pile"));
    let cache = folder.path().join("cache");

    // While the source is read: what was written stays, nothing is rejected for it.
    let begun = || shards(&cache.join("pile/.images.partial")) > 0;
    let (code, error) = cut_off(&mut server, &cache, &ingest_from(&data), &begun);
    assert!(code == 1 && error.contains("does not answer") && error.contains(&server.url("")), "{code}: {error}");
    let has_secret = [SECRET_KEY, PRIVATE_KEY].iter().any(|secret| error.contains(secret));
    assert!(error.contains("goes on where it stopped") && !has_secret, "{error}");
    let (code, error) = server.refusal(&cache, &["status"]);
    assert!(code == 1 && error.contains("does not answer") && error.contains(&out), "{error}");
    server.start_again();
    let ingested = server.facts(&cache, &ingest_from(&data)).remove(0);
    assert_eq!((&ingested["digest"], &ingested["rows"]), (&expected[0]["digest"], &expected[0]["rows"]));

    // While a stage is made: it is made, and published when the store is back.
    let begun = || shards(&cache.join("pile/.fingerprints.partial")) > 0;
    let (code, error) = cut_off(&mut server, &cache, &["fingerprint"], &begun);
    assert!(code == 1 && error.contains("does not answer"), "{error}");
    assert!(!server.bucket().join("out/pile/fingerprints/manifest.json").exists());
    server.start_again();
    let published = server.facts(&cache, &["fingerprint"]).remove(0);
    assert_eq!((&published["outcome"], &published["digest"]), (&"up_to_date".into(), &expected[1]["digest"]));
    assert!(server.bucket().join("out/pile/fingerprints/manifest.json").is_file());

    // While a share is made.
    let begun = || shards_of_shares(&cache.join("pile/embeddings/.descriptor.shares")) > 0;
    let (code, error) = cut_off(&mut server, &cache, &["embed", "--shard", "1/1"], &begun);
    assert!(code == 1 && error.contains("does not answer"), "{error}");
    server.start_again();
    assert_eq!(server.facts(&cache, &["embed", "--shard", "1/1"]).remove(0)["outcome"], "shared");
    let other = folder.path().join("other");
    assert_eq!(server.facts(&other, &["finish", "embed"]).remove(0)["digest"], expected[2]["digest"]);
}

#[test]
fn a_manifest_that_somebody_else_wrote_first_is_not_overwritten() {
    somebody_was_first(StoreServer::s3());
}

#[test]
fn a_manifest_at_google_that_somebody_else_wrote_first_is_not_overwritten() {
    somebody_was_first(StoreServer::google());
}

fn somebody_was_first(server: Option<StoreServer>) {
    let Some(mut server) = server else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
    let pile = DRAWN.pile();
    let ingest = ["ingest", "--data", text(&pile)];
    let other = [&ingest[..], &["--set", "ingest.shard_mib=1"]].concat();
    // Both are made before either is published.
    for (cache, arguments) in [(&b, &other[..]), (&c, &ingest[..])] {
        // Its shares in the store have been looked for by then.
        let begun = || shards(&cache.join("pile/.images.partial")) > 0;
        let (code, error) = cut_off(&mut server, cache, arguments, &begun);
        assert!(code == 1 && cache.join("pile/images/manifest.json").is_file(), "{error}");
        server.start_again();
    }
    server.facts(&a, &ingest);
    let before = content(&server.bucket().join("out/pile"));
    let (code, error) = server.refusal(&b, &other);
    assert!(code == 1 && error.contains("nothing was overwritten"), "{code}: {error}");
    assert!(error.contains(&server.url("out/pile/images/manifest.json")), "{error}");
    assert_eq!(content(&server.bucket().join("out/pile")), before);
    // The same digest counts as done.
    assert_eq!(server.facts(&c, &ingest).remove(0)["outcome"], "up_to_date");
    assert_eq!(content(&server.bucket().join("out/pile")), before);
}

#[test]
fn what_cannot_be_reached_is_refused_by_its_name() {
    let Some(server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    let said = |mut command: Command| {
        let output = command.output().expect("it starts");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            ![ACCESS_KEY, SECRET_KEY, "wrong-secret", "hunter2"].iter().any(|secret| error.contains(secret)),
            "{error}"
        );
        (output.status.code().expect("no signal"), error)
    };
    let at = |out: &str| server.command(&["status", "--out", out, "--cache", text(&cache)]);
    let mut wrong = at(OUT);
    wrong.env("AWS_SECRET_ACCESS_KEY", "wrong-secret");
    let (code, error) = said(wrong);
    assert!(code == 1 && error.contains("refuses the credentials") && error.contains(OUT), "{error}");
    let mut unknown = at(OUT);
    unknown.env("AWS_ACCESS_KEY_ID", "nobody");
    let (code, error) = said(unknown);
    assert!(code == 1 && error.contains("refuses the credentials"), "{error}");
    let other = folder.path().join("other");
    let no_bucket = server.command(&["status", "--out", "s3://none/out", "--cache", text(&other)]);
    let (code, error) = said(no_bucket);
    assert!(code == 1 && error.contains("no such bucket") && error.contains("s3://none/out"), "{error}");
    let third = folder.path().join("third");
    let named = server.command(&["status", "--out", "s3://me:hunter2@bucket/out", "--cache", text(&third)]);
    let (code, error) = said(named);
    assert!(code == 2 && error.contains("credentials in a URL") && error.contains("`s3://bucket/out`"), "{error}");
    let (code, error) = said(server.command(&["ingest", "--data", "s3://bucket/none", "--out", text(&third)]));
    assert!(code == 1 && error.contains("s3://bucket/none"), "{error}");
    let (code, error) = said(server.command(&["status", "--out", "https://host/out", "--cache", text(&third)]));
    assert!(code == 2 && error.contains("can be read, not written"), "{error}");
    // A build without stores.
    let alone = folder.path().join("lapidary");
    std::fs::copy(binary(), &alone).expect("copies");
    let mut command = Command::new(&alone);
    command.args(["status", "--out", "s3://me:hunter2@bucket/out"]);
    let (code, error) = said(command);
    assert!(code == 2 && error.contains("STORES=1") && error.contains("lapidary-stores/stores"), "{error}");
}

#[test]
fn files_on_the_web_and_file_urls_are_sources() {
    if StoreServer::s3().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let pile = DRAWN.pile();
    facts(&out, &["ingest", "--data", &format!("file://{}", text(&pile)), "--name", "pile"]);
    let table = std::fs::read_dir(out.join("pile/images")).expect("lists").map(|entry| entry.expect("reads").path());
    let table = table.into_iter().find(|path| text(path).ends_with("part-00000.parquet")).expect("a shard");
    let web = folder.path().join("web");
    std::fs::create_dir_all(web.join("set")).expect("creates");
    std::fs::create_dir(web.join("no-ranges")).expect("creates");
    for folder in ["set", "no-ranges"] {
        std::fs::copy(&table, web.join(folder).join("part-00000.parquet")).expect("copies");
    }
    let pictures = content(&pile).into_keys().filter(|path| text(path).ends_with(".jpg")).take(3);
    let names: Vec<String> = pictures
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            std::fs::copy(&path, web.join("set").join(&name)).expect("copies");
            name
        })
        .collect();
    std::fs::write(web.join("set/list.txt"), format!("# three\n{}\n", names.join("\n"))).expect("writes");
    let address = serve_folder(web.clone());
    let [list, single] = ["list.txt", "part-00000.parquet?token=hunter2"].map(|name| format!("{address}/set/{name}"));
    let listed = facts(&out, &["ingest", "--data", &list, "--name", "listed"]).remove(0);
    assert_eq!(listed["rows"]["input"], 3, "{listed}");
    let from_table = facts(&out, &["ingest", "--data", &single, "--name", "table"]).remove(0);
    assert!(from_table["rows"]["output"].as_u64().expect("rows") > 10, "{from_table}");
    let whole = format!("{address}/no-ranges/part-00000.parquet");
    let whole = facts(&out, &["ingest", "--data", &whole, "--name", "whole"]).remove(0);
    assert_eq!(whole["rows"], from_table["rows"]);
    let alone = folder.path().join("alone");
    std::fs::create_dir(&alone).expect("creates");
    std::fs::copy(&table, alone.join("part-00000.parquet")).expect("copies");
    let here = facts(&out, &["ingest", "--data", text(&alone), "--name", "table-here"]).remove(0);
    assert_eq!(here["rows"], from_table["rows"]);
    let manifest = std::fs::read_to_string(out.join("table/images/manifest.json")).expect("reads");
    assert!(
        manifest.contains("/set/part-00000.parquet") && !manifest.contains("hunter2"),
        "a query may be a credential"
    );
}

#[test]
fn readmes_commands_run() {
    let Some(server) = StoreServer::s3() else { return };
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("reads");
    let section = readme.split("## Images and results in a store").nth(1).expect("has the section");
    let block = section.split("```").nth(1).expect("has a block");
    let commands: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("lapidary ")).collect();
    assert!(commands.len() >= 6, "{commands:?}");
    copy(&DRAWN.pile(), &server.bucket().join("coco"));
    let caches = tempfile::tempdir().expect("a folder");
    for command in commands {
        let words: Vec<&str> = command.split('#').next().expect("has a first part").split_whitespace().collect();
        let output = server.command(&words).env("XDG_CACHE_HOME", caches.path()).output().expect("it starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lapidary {command}: {error}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(OUT) && !said.contains(text(caches.path())), "the URL is named, not the cache: {said}");
    }
    assert!(server.bucket().join("out/coco/subsets/300/manifest.json").is_file());
}
