//! How a command comes by what Google lets it in with: an account's file, its text, the default file, the machine's own token; and
//! what is said when it has none, or another's, or the bucket is none.

use crate::run::text;
use crate::store_server::{PRIVATE_KEY, StoreServer};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// `status` of OUT on a server, with nothing in its environment that lets it in.
fn status(server: &StoreServer, out: &str, cache: &Path) -> Command {
    let mut command = server.command(&["status", "--out", out, "--cache", text(cache)]);
    command.env_remove("GOOGLE_SERVICE_ACCOUNT").env("HOME", cache).env("LAPIDARY_STORE_RETRY_SECS", "60");
    // Nobody listens there.
    command.env("GCE_METADATA_HOST", "127.0.0.1:1").env("GCE_METADATA_IP", "127.0.0.1:1");
    command
}

/// The exit code and what was said, which names no secret and did not take long.
fn ended(mut command: Command) -> (i32, String) {
    let begun = Instant::now();
    let output = command.output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}: {error}", begun.elapsed());
    assert!(!error.contains(PRIVATE_KEY), "{error}");
    (output.status.code().expect("no signal"), error)
}

#[test]
fn each_way_in_is_taken() {
    let Some(server) = StoreServer::google() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let account = server.account();
    let key = std::fs::read_to_string(&account).expect("reads");
    let (host, endpoint) = (server.host(), format!("http://{}", server.host()));
    let ways: [&[(&str, &str)]; 4] = [
        &[("GOOGLE_SERVICE_ACCOUNT", text(&account))],
        &[("GOOGLE_SERVICE_ACCOUNT_KEY", &key)],
        &[("GOOGLE_APPLICATION_CREDENTIALS", text(&account)), ("GOOGLE_BASE_URL", &endpoint)],
        &[("GCE_METADATA_HOST", &host), ("GOOGLE_BASE_URL", &endpoint)],
    ];
    for way in ways {
        let mut command = status(&server, "gs://bucket/out", &folder.path().join("cache"));
        command.envs(way.iter().copied());
        let (code, error) = ended(command);
        assert_eq!(code, 0, "{}: {error}", way[0].0);
    }
}

#[test]
fn what_google_refuses_is_said_at_once_and_by_its_name() {
    let Some(server) = StoreServer::google() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(server.bucket().with_file_name("locked")).expect("creates");
    // None.
    let (code, error) = ended(status(&server, "gs://bucket/out", &at("none")));
    assert!(code == 1 && error.contains("there are no credentials for `gs://bucket/out`"), "{code}: {error}");
    assert!(error.contains("GOOGLE_SERVICE_ACCOUNT"), "{error}");
    let mut source = server.command(&["ingest", "--data", "gs://bucket/data", "--out", text(&at("source"))]);
    source.env_remove("GOOGLE_SERVICE_ACCOUNT").env("HOME", folder.path()).env("GCE_METADATA_HOST", "127.0.0.1:1");
    let (code, error) = ended(source);
    assert!(code == 1 && error.contains("there are no credentials for `gs://bucket/data`"), "{code}: {error}");
    // A machine that has no account: its metadata service refuses the token.
    let mut machine = status(&server, "gs://bucket/out", &at("machine"));
    let metadata = without_account();
    machine.env("GCE_METADATA_HOST", &metadata).env("GCE_METADATA_IP", &metadata);
    machine.env("GOOGLE_BASE_URL", format!("http://{}", server.host()));
    let (code, error) = ended(machine);
    assert!(code == 1 && error.contains("there are no credentials for `gs://bucket/out`"), "{code}: {error}");
    // Another's.
    let account = std::fs::read_to_string(server.account()).expect("reads").replace("tests@", "nobody@");
    std::fs::write(at("account.json"), &account).expect("writes");
    let with = |out: &str, name: &str, variable: &str, value: &str| {
        let mut command = status(&server, out, &at(name));
        command.env(variable, value);
        ended(command)
    };
    let file = at("account.json");
    let (code, error) = with("gs://bucket/out", "another", "GOOGLE_SERVICE_ACCOUNT", text(&file));
    assert!(code == 1 && error.contains("refuses the credentials") && error.contains("gs://bucket/out"), "{error}");
    // No account at all.
    for (variable, value) in [
        ("GOOGLE_SERVICE_ACCOUNT", text(&at("nowhere.json"))),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", "{\"private_key\": \"hunter2\"}"),
        ("GOOGLE_APPLICATION_CREDENTIALS", text(&at("nowhere.json"))),
    ] {
        let (code, error) = with("gs://bucket/out", "no-account", variable, value);
        assert!(code == 1 && error.contains("does not fit the store") && error.contains("gs://bucket/out"), "{error}");
        assert!(error.contains("hint: set GOOGLE_SERVICE_ACCOUNT") && !error.contains("hunter2"), "{error}");
    }
    // No such bucket, and one that the account may not read.
    let account = server.account();
    let (code, error) = with("gs://none/out", "no-bucket", "GOOGLE_SERVICE_ACCOUNT", text(&account));
    assert!(code == 1 && error.contains("no such bucket") && error.contains("gs://none/out"), "{error}");
    let (code, error) = with("gs://locked/out", "locked", "GOOGLE_SERVICE_ACCOUNT", text(&account));
    assert!(
        code == 1 && error.contains("does not have storage.objects access") && error.contains("gs://locked/out"),
        "{error}"
    );
}

/// The metadata service of a machine without a service account; its address.
fn without_account() -> String {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let host = listener.local_addr().expect("has one").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().filter_map(|stream| stream.ok()) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    host
}
