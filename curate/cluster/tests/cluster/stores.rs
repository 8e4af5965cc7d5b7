//! A cluster whose OUT lies on an S3 server: executors share nothing but the store, and each has a cache of its own.

use crate::commands::{binary, digests, text};
use crate::fleet::{Fleet, wait_until};
use crate::loopback::{ALONE, ALONE_ON_A_SAMPLE, ON_A_SAMPLE, made_by_executors};
use crate::store_server::{ACCESS_KEY, SECRET_KEY, StoreServer};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SMALL: [&str; 4] = ["--set", "ingest.shard_mib=1", "--set", "ingest.row_group_mib=1"];

/// A fleet whose executors know the server, with a secret.
fn fleet(server: &StoreServer, secret: &str) -> Fleet {
    let endpoint = endpoint_of(server);
    let environment = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_REGION", "us-east-1"),
        ("LAPIDARY_STORE_RETRY_SECS", "2"),
    ];
    Fleet::start_with(3, 10, &environment)
}

/// The server's address, as it gives it to its own commands.
fn endpoint_of(server: &StoreServer) -> String {
    let command = server.command(&[]);
    let variable = command.get_envs().find(|(name, _)| *name == "AWS_ENDPOINT_URL").and_then(|(_, value)| value);
    variable.and_then(|value| value.to_str()).expect("it has one").to_owned()
}

fn shards_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok());
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("part-")).count()
}

/// The image shards in the folder that stands for the store on an executor.
fn images_of_executor(work_dir: &Path) -> usize {
    let stores = std::fs::read_dir(work_dir.join("stores")).into_iter().flatten().filter_map(|entry| entry.ok());
    stores.map(|store| shards_in(&store.path().join("pile/images"))).sum()
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn executors_that_share_a_store_make_what_one_machine_makes() {
    let Some(server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [writer, client] = ["writer", "client"].map(|name| folder.path().join(name));
    server.facts(&writer, &[&["ingest", "--data", text(&ALONE.pile()), "--name", "pile"], &SMALL[..]].concat());
    let all = shards_in(&writer.join("pile/images"));
    assert!(all >= 3, "{all} shards");
    let fleet = fleet(&server, SECRET_KEY);
    let output = server.run(&client, &["fingerprint", "--cluster", &fleet.url()]);
    assert!(output.status.success(), "{}{}", error_of(&output), fleet.executor_logs());
    let made = made_by_executors(&output.stdout);
    assert_eq!(made[0]["shards"].as_u64(), Some(all as u64), "{made:?}");
    assert!(made[0]["executors"].as_u64().is_some_and(|executors| executors >= 2), "{made:?}");
    assert!(server.bucket().join("out/pile/fingerprints/manifest.json").is_file(), "it is published");
    // Who asks needs no image, and executors bring those that they work on.
    assert_eq!(shards_in(&client.join("pile/images")), 0);
    let brought: Vec<usize> = fleet.work_dirs().into_iter().map(images_of_executor).collect();
    assert!(
        brought.iter().sum::<usize>() >= all && brought.iter().all(|brought| *brought < all),
        "{brought:?} of {all}"
    );
    let output = server.run(&client, &["curate", "--cluster", &fleet.url()]);
    assert!(output.status.success(), "{}{}", error_of(&output), fleet.executor_logs());
    assert_eq!(digests(&client, "pile"), ALONE.digests);
    assert!(server.bucket().join("out/pile/curation/ranking/manifest.json").is_file(), "all is published");
    let url = fleet.url();
    let output = server.run(&client, &[&["curate", "--cluster", &url], &ON_A_SAMPLE[..]].concat());
    assert!(output.status.success(), "{}{}", error_of(&output), fleet.executor_logs());
    assert_eq!(digests(&client, "pile"), *ALONE_ON_A_SAMPLE);
    let output = server.run(&client, &["curate"]);
    assert!(output.status.success(), "{}", error_of(&output));
    // Another machine sees all of it, with no cluster.
    let again = server.run(&folder.path().join("third"), &["curate", "--cluster", "df://127.0.0.1:1"]);
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.matches("up_to_date").count() >= 3, "{said}{}", error_of(&again));
}

#[test]
fn a_store_that_goes_away_or_refuses_executors_is_named_and_the_same_command_goes_on() {
    let Some(mut server) = StoreServer::s3() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let client = folder.path().join("client");
    server.facts(&client, &[&["ingest", "--data", text(&ALONE.pile()), "--name", "pile"], &SMALL[..]].concat());
    let refused = fleet(&server, "wrong-secret");
    let output = server.run(&client, &["fingerprint", "--cluster", &refused.url()]);
    let error = error_of(&output);
    assert!(output.status.code() == Some(1) && error.contains("refuses the credentials"), "{error}");
    assert!(!error.contains("wrong-secret") && !error.contains(SECRET_KEY), "{error}");
    drop(refused);

    let fleet = fleet(&server, SECRET_KEY);
    let mut command = server.command(&["fingerprint", "--cluster", &fleet.url()]);
    command.args(["--out", "s3://bucket/out", "--cache", text(&client)]).stdout(Stdio::null()).stderr(Stdio::piped());
    let running = command.spawn().expect("it starts");
    let marker = || objects_below(&server.bucket().join("out"), ".shares");
    wait_until("a shard is in the store", || marker() > 0);
    server.kill();
    let output = running.wait_with_output().expect("waits");
    let error = error_of(&output);
    assert!(output.status.code() == Some(1) && error.contains("does not answer"), "{error}");
    server.start_again();
    let output = server.run(&client, &["curate", "--cluster", &fleet.url()]);
    assert!(output.status.success(), "{}{}", error_of(&output), fleet.executor_logs());
    assert_eq!(digests(&client, "pile"), ALONE.digests);
}

/// How many markers of shares lie below a folder.
fn objects_below(folder: &Path, part: &str) -> usize {
    let find = Command::new("find").arg(folder).args(["-path", &format!("*{part}/*/*.parquet.json")]).output();
    String::from_utf8_lossy(&find.expect("find runs").stdout).lines().count()
}

#[test]
fn a_build_without_stores_says_what_to_build() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["lapidary", "lapidary-cluster"] {
        std::fs::copy(binary(name), folder.path().join(name)).expect("copies");
    }
    let mut command = Command::new(folder.path().join("lapidary"));
    command.args(["fingerprint", "--cluster", "df://127.0.0.1:1", "--out", "s3://bucket/out"]);
    let output = command.arg("--cache").arg(folder.path().join("cache")).output().expect("it starts");
    let error = error_of(&output);
    assert!(output.status.code() == Some(2) && error.contains("STORES=1"), "{error}");
}
