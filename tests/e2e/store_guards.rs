//! What guards results in a store, over the binaries: the environment's options hold, a server that hangs is given up, another
//! endpoint's tree is another tree, commands share a cache, machines keep their choices, names are any texts, and a chain on Azure's
//! emulator.

use crate::azurite::Azurite;
use crate::run::{DRAWN, binary, facts, text};
use crate::store_server::{StoreServer, copy, serve_folder};
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const OUT: &str = "s3://bucket/out";

fn ended(output: Output) -> (i32, String) {
    (output.status.code().expect("no signal"), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn status(server: &StoreServer, cache: &Path) -> Command {
    server.command(&["status", "--out", OUT, "--cache", text(cache)])
}

#[test]
fn options_of_the_environment_hold() {
    let Some(server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let with = |name: &str, value: &str| {
        let begun = Instant::now();
        let mut command = status(&server, &folder.path().join(name));
        let (code, error) = ended(command.env(name, value).output().expect("it starts"));
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
        (code, error)
    };
    assert_eq!(with("AWS_REGION", "us-east-1").0, 0);
    // Nobody is at the proxy.
    let (code, error) = with("AWS_PROXY_URL", "http://127.0.0.1:1");
    assert!(code == 1 && error.contains("does not answer"), "{code}: {error}");
    let (code, error) = with("AWS_ALLOW_HTTP", "false");
    assert!(code == 1 && !error.contains("does not answer"), "{code}: {error}");
}

#[test]
fn without_credentials_a_command_ends_at_once() {
    let Some(server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    for source in [false, true] {
        let mut command = match source {
            false => status(&server, &cache),
            true => server.command(&["ingest", "--data", "s3://bucket/data", "--out", text(&cache)]),
        };
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
        command.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1").env("LAPIDARY_STORE_RETRY_SECS", "60");
        let begun = Instant::now();
        let (code, error) = ended(command.output().expect("it starts"));
        assert!(code == 1 && error.contains("there are no credentials for `s3://bucket/"), "{code}: {error}");
        assert!(error.contains("AWS_ACCESS_KEY_ID") && begun.elapsed() < Duration::from_secs(10), "{error}");
    }
}

/// Half a key, and no account.
#[test]
fn an_environment_that_does_not_fit_is_named() {
    let Some(server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    let mut half = status(&server, &cache);
    let (code, error) = ended(half.env_remove("AWS_SECRET_ACCESS_KEY").output().expect("it starts"));
    assert!(code == 1 && error.contains("does not fit") && error.contains("AWS_SECRET_ACCESS_KEY"), "{code}: {error}");
    let mut azure = server.command(&["status", "--out", "az://container/out", "--cache", text(&cache)]);
    let (code, error) = ended(azure.env_remove("AZURE_STORAGE_ACCOUNT_NAME").output().expect("it starts"));
    assert!(code == 1 && error.contains("Account") && error.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{code}: {error}");
}

/// It takes connections and never says a word.
#[test]
fn a_server_that_hangs_is_said_and_given_up() {
    let Some(server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let endpoint = format!("http://{}", listener.local_addr().expect("has one"));
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    let mut command = status(&server, &folder.path().join("cache"));
    command.env("AWS_ENDPOINT_URL", endpoint).env("LAPIDARY_STORE_RETRY_SECS", "12");
    let begun = Instant::now();
    let (code, error) = ended(command.output().expect("it starts"));
    assert!(code == 1 && error.contains("does not answer") && error.contains(OUT), "{code}: {error}");
    assert!(error.contains("the store is waited for"), "the user hears of it before: {error}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn nothing_of_a_url_is_dropped_in_silence() {
    let Some(server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    for (out, hint) in [("s3://bucket/run#2", "%23"), ("s3://bucket/run?sig=hunter2", "%3F")] {
        let output = server.command(&["status", "--out", out, "--cache", text(&cache)]).output().expect("it starts");
        let (code, error) = ended(output);
        assert!(code == 2 && error.contains(hint) && !error.contains("hunter2"), "{code}: {error}");
        let output = server.command(&["ingest", "--data", out, "--out", text(&cache)]).output().expect("it starts");
        let (code, error) = ended(output);
        assert!(code == 2 && error.contains(hint) && !error.contains("hunter2"), "{code}: {error}");
    }
}

/// One URL on two servers is two trees: a cache of one is refused by the other, and each has a cache of its own by default.
#[test]
fn another_endpoint_is_another_store() {
    of_two_servers(StoreServer::s3(), StoreServer::s3());
}

/// The endpoint stands in the account's file.
#[test]
fn another_endpoint_at_google_is_another_store() {
    of_two_servers(StoreServer::google(), StoreServer::google());
}

fn of_two_servers(server: Option<StoreServer>, other: Option<StoreServer>) {
    let (Some(server), Some(other)) = (server, other) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    server.facts(&cache, &["ingest", "--data", text(&DRAWN.pile()), "--name", "pile"]);
    let (code, error) = other.refusal(&cache, &["status"]);
    assert!(code == 2 && error.contains("--cache") && error.contains("http://127.0.0.1:"), "{code}: {error}");
    assert!(cache.join("pile/images/manifest.json").is_file(), "nothing was taken away");
    // The server is there and its bucket is empty: as after a restore that went wrong.
    let out = server.bucket().join("out");
    std::fs::rename(&out, server.bucket().join("away")).expect("renames");
    let (code, error) = server.refusal(&cache, &["status"]);
    assert!(code == 1 && error.contains("the store is empty, and this cache knew 1 results"), "{code}: {error}");
    assert!(cache.join("pile/images/manifest.json").is_file(), "nothing was taken away");
    std::fs::rename(server.bucket().join("away"), &out).expect("renames");
    server.facts(&cache, &["status"]);
    let stages = |server: &StoreServer| {
        let mut command = server.command(&["status", "--json", "--out", &server.url("out")]);
        let output = command.env("XDG_CACHE_HOME", folder.path()).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let states: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        states.as_array().expect("a list").len()
    };
    assert_eq!([stages(&server), stages(&other), stages(&server)], [1, 0, 1]);
    assert_eq!(std::fs::read_dir(folder.path().join("lapidary/stores")).expect("lists").count(), 2);
}

#[test]
fn commands_share_a_cache_and_machines_keep_their_choices() {
    let Some(server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    server.facts(&a, &["ingest", "--data", text(&DRAWN.pile()), "--name", "one"]);
    // Two commands on one cache.
    std::thread::scope(|scope| {
        let both = [scope.spawn(|| server.facts(&a, &["fingerprint"])), scope.spawn(|| server.facts(&a, &["embed"]))];
        for done in both {
            assert_eq!(done.join().expect("it does not panic").remove(0)["outcome"], "ran");
        }
    });
    // What another machine ingests meanwhile is not what this one goes on with.
    server.facts(&b, &["ingest", "--data", text(&DRAWN.probe()), "--name", "two"]);
    let next = server.facts(&a, &["fingerprint"]).remove(0);
    assert_eq!(next["outcome"], "up_to_date", "it is of `one`: {next}");
    let next = server.facts(&b, &["fingerprint"]).remove(0);
    assert_eq!(next["outcome"], "ran", "it is of `two`: {next}");
    for stage in ["one/fingerprints", "one/embeddings/descriptor", "two/fingerprints"] {
        assert!(server.bucket().join("out").join(stage).join("manifest.json").is_file(), "{stage}");
    }
    assert!(!server.bucket().join("out/two/embeddings").exists());
    assert!(a.join(".store/conditional").is_file() && b.join(".store/conditional").is_file());
}

/// Spaces, `#`, `%`, `+` and letters of every kind, in the names of sources and of files.
#[test]
fn names_are_any_texts() {
    of_any_texts(StoreServer::s3());
}

#[test]
fn names_at_google_are_any_texts() {
    of_any_texts(StoreServer::google());
}

fn of_any_texts(server: Option<StoreServer>) {
    let Some(server) = server else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [here, in_bucket] = [folder.path().join("here"), server.bucket().join("Größe #1/日本 100%")];
    let pictures: Vec<PathBuf> = pictures().into_iter().take(5).collect();
    let names = ["a b.jpg", "c#d.jpg", "100%25 + e.jpg", "größe.jpg", "画像?.jpg"];
    for to in [&here, &in_bucket] {
        std::fs::create_dir_all(to).expect("creates");
        for (path, name) in pictures.iter().zip(names) {
            std::fs::copy(path, to.join(name)).expect("copies");
        }
    }
    let disk = facts(&folder.path().join("disk"), &["ingest", "--data", text(&here), "--name", "größe 1"]).remove(0);
    assert_eq!(disk["rows"]["output"], 5, "{disk}");
    let data = server.url("Gr%C3%B6%C3%9Fe%20%231/日本%20100%25");
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    let stored = server.facts(&a, &["ingest", "--data", &data, "--name", "größe 1"]).remove(0);
    assert_eq!((&stored["digest"], &stored["rows"]), (&disk["digest"], &disk["rows"]));
    let prints = server.facts(&b, &["fingerprint"]).remove(0);
    assert_eq!(prints["rows"]["input"], 5, "{prints}");
}

/// A list that names what is not there, or is no path: the rest is ingested, and those are counted.
#[test]
fn a_list_on_the_web_may_name_what_is_not_there() {
    if StoreServer::s3().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let web = folder.path().join("web");
    std::fs::create_dir(&web).expect("creates");
    let mut lines = vec!["gone.jpg".to_owned(), "a//b.jpg".to_owned(), "/etc/passwd".to_owned()];
    for (number, path) in pictures().iter().take(4).enumerate() {
        std::fs::copy(path, web.join(format!("{number}.jpg"))).expect("copies");
        lines.push(format!("{number}.jpg"));
    }
    std::fs::write(web.join("list.txt"), lines.join("\n")).expect("writes");
    let list = format!("{}/list.txt?sig=hunter2", serve_folder(web));
    let out = folder.path().join("out");
    let listed =
        facts(&out, &["ingest", "--data", &list, "--name", "listed", "--set", "ingest.max_reject=0.5"]).remove(0);
    assert_eq!((&listed["rows"]["input"], &listed["rows"]["rejected"]), (&7.into(), &3.into()), "{listed}");
}

/// Pictures of the drawn pile.
fn pictures() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![DRAWN.pile()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("reads").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jpg") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// `lapidary` with Azurite in its environment.
fn command_on(azurite: &Azurite, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env("AZURE_STORAGE_USE_EMULATOR", "true").env("LAPIDARY_STORE_RETRY_SECS", "5");
    command.env("AZURITE_BLOB_STORAGE_URL", azurite.url());
    command
}

/// The facts of a command that must succeed.
fn facts_of(mut command: Command) -> Vec<Value> {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_chain_on_azures_emulator_has_the_digests_of_one_on_a_disk() {
    let Some(azurite) = StoreServer::s3().and_then(|_| Azurite::start()) else { return };
    let on_azure = |cache: &Path, arguments: &[&str]| {
        let common = ["--out", "az://container/out", "--cache", text(cache), "--json"];
        facts_of(command_on(&azurite, &[arguments, &common].concat()))
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (disk, pile) = (folder.path().join("disk"), DRAWN.pile());
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    let ingest = ["ingest", "--data", text(&pile), "--name", "pile", "--set", "ingest.shard_mib=1"];
    let chain: [&[&str]; 5] = [&ingest, &["fingerprint"], &["embed"], &["curate"], &["cut", "--size", "120"]];
    let expected: Vec<Value> = chain.iter().flat_map(|arguments| facts(&disk, arguments)).collect();
    let mut made = on_azure(&a, chain[0]);
    for share in ["1/2", "2/2"] {
        on_azure(if share == "1/2" { &a } else { &b }, &["fingerprint", "--shard", share]);
    }
    made.extend(on_azure(&a, &["finish", "fingerprint"]));
    made.extend(on_azure(&b, &["embed"]));
    made.extend(on_azure(&a, &["curate"]));
    made.extend(on_azure(&b, &["cut", "--size", "120"]));
    for (made, expected) in made.iter().zip(&expected) {
        assert_eq!(made["digest"], expected["digest"], "{made}");
    }
    assert!(a.join(".store/conditional").is_file(), "the emulator honours conditions");
    // And as a source, from a tree that was copied there by the tree of a stage: its shards are tables of images.
    let (data, out) = ("az://container/out/pile/images", folder.path().join("again"));
    let ingest = ["ingest", "--data", data, "--name", "again", "--out", text(&out), "--json"];
    let again = facts_of(command_on(&azurite, &ingest)).remove(0);
    assert_eq!(again["rows"]["output"], expected[0]["rows"]["output"], "{again}");
}

#[test]
fn a_long_listing_has_every_picture() {
    of_a_long_listing(StoreServer::s3());
}

#[test]
fn a_long_listing_at_google_has_every_picture() {
    of_a_long_listing(StoreServer::google());
}

fn of_a_long_listing(server: Option<StoreServer>) {
    let Some(server) = server else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let picture = pictures().remove(0);
    let data = server.bucket().join("many");
    copy(&DRAWN.probe(), &data.join("probe"));
    for number in 0..1_100 {
        std::fs::hard_link(&picture, data.join(format!("{number:04}.jpg")))
            .or_else(|_| std::fs::copy(&picture, data.join(format!("{number:04}.jpg"))).map(|_| ()))
            .expect("copies");
    }
    let many = server.facts(&folder.path().join("a"), &["ingest", "--data", &server.url("many")]).remove(0);
    assert!(many["rows"]["output"].as_u64().is_some_and(|rows| rows > 1_100), "{many}");
}
