//! The same on an S3 server over HTTP, in this process: conditions that it refuses, parts, ranges, pages, names, and what it says
//! when it refuses.

use super::mirrored::{FILES, OTHERS, cache, text};
use super::store::{made, run};
use super::test_server::serve;
use crate::StoreError;
use crate::address::Address;
use crate::clients::Client;
use crate::manifest::KnownVersion;
use crate::mirror::Mirror;
use crate::retry::Retry;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Location;
use object_store::{Error, ObjectStore, PutMode, PutOptions, UpdateVersion};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

const KEY: &str = "AKIDLAPIDARYTEST";
const SECRET: &str = "secret-of-the-lapidary-tests";
const SHORT: Retry = Retry::lasting(Duration::from_secs(1));

/// A server with a bucket called `bucket`; its port.
fn server(folder: &Path) -> u16 {
    fs::create_dir(folder.join("bucket")).expect("creates");
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("has one").port();
    let folder = folder.to_str().expect("UTF-8").to_owned();
    std::thread::spawn(move || serve(listener, &folder, KEY, SECRET));
    port
}

fn builder(port: u16, bucket: &str) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_endpoint(format!("http://127.0.0.1:{port}"))
        .with_access_key_id(KEY)
        .with_secret_access_key(SECRET)
}

fn address_of(builder: AmazonS3Builder, bucket: &str, retry: Retry) -> Address {
    let client = Client::of_s3(builder, retry).expect("builds");
    Address { client, prefix: Location::from("out"), shown: format!("s3://{bucket}/out") }
}

fn mirror(port: u16, cache: &Path) -> Mirror {
    Mirror::of(address_of(builder(port, "bucket"), "bucket", SHORT), cache, SHORT).expect("opens")
}

#[test]
fn a_server_refuses_what_conditions_forbid() {
    run(async {
        let (folder, [a, b]) = (cache(), [cache(), cache()]);
        let port = server(folder.path());
        made(a.path(), "x", "k", FILES);
        made(b.path(), "x", "other", OTHERS);
        let first = mirror(port, a.path());
        first.publish("x").await.expect("publishes");
        assert!(a.path().join(".store/conditional").is_file(), "both conditions were refused");
        let at = folder.path().join("bucket/out/x/manifest.json");
        let before = text(&at);
        let object = first.address.at("x/manifest.json").expect("a path");
        let put = async |mode: PutMode| {
            let options = PutOptions { mode, ..PutOptions::default() };
            first.address.client.store.put_opts(&object, "theirs".into(), options).await.map(|_| ())
        };
        // Past the look, as somebody who looked before the first put: the server itself refuses.
        let refused = put(PutMode::Create).await.expect_err("is there");
        assert!(matches!(refused, Error::AlreadyExists { .. }), "{refused}");
        let stale = UpdateVersion { e_tag: Some("\"00000000000000000000000000000000\"".to_owned()), version: None };
        let refused = put(PutMode::Update(stale)).await.expect_err("is another");
        assert!(matches!(refused, Error::Precondition { .. }), "{refused}");
        assert_eq!(text(&at), before, "nothing was overwritten");
        // And the version that is there may be replaced.
        let KnownVersion { e_tag, version, .. } = first.known_version("x").expect("was noted");
        put(PutMode::Update(UpdateVersion { e_tag, version })).await.expect("replaces");
        assert_eq!(text(&at), "theirs");
    });
}

#[test]
fn two_at_once_have_one_winner_on_a_server() {
    run(async {
        let (folder, [a, b]) = (cache(), [cache(), cache()]);
        let port = server(folder.path());
        let [first, second] = [mirror(port, a.path()), mirror(port, b.path())];
        for round in 0..5 {
            let name = format!("x{round}");
            made(a.path(), &name, "k", FILES);
            made(b.path(), &name, "other", OTHERS);
            let (one, two) = tokio::join!(first.publish(&name), second.publish(&name));
            let outcomes = [one.is_ok(), two.is_ok()];
            // A server whose condition is a look and a write may let both through; then each has noted what it put.
            let winner = if outcomes[0] { &a } else { &b };
            if outcomes.iter().filter(|ok| **ok).count() == 1 {
                let there = text(&folder.path().join("bucket/out").join(&name).join("manifest.json"));
                assert_eq!(there, text(&winner.path().join(&name).join("manifest.json")), "{outcomes:?}");
            }
            assert!(outcomes.contains(&true), "{one:?} {two:?}");
        }
    });
}

/// A file of five parts, which comes back in two ranges.
#[test]
fn long_files_go_in_parts_and_come_in_ranges() {
    run(async {
        let (folder, [a, b]) = (cache(), [cache(), cache()]);
        let port = server(folder.path());
        let long: Vec<u8> = (0..(34_usize << 20) + 7).map(|at| (at / 1000 % 251) as u8).collect();
        made(a.path(), "x", "k", &[("long.parquet", &long), ("part-0.parquet", b"zero")]);
        let published = mirror(port, a.path()).publish("x").await.expect("publishes");
        assert_eq!(published.sent_bytes, long.len() as u64 + 4);
        let other = mirror(port, b.path());
        other.sync().await.expect("syncs");
        assert_eq!(other.fetch("x", None).await.expect("brings").0, 2);
        assert!(fs::read(b.path().join("x/long.parquet")).expect("reads") == long);
        // One that was changed is not sent, and its parts are taken back.
        made(a.path(), "y", "k", &[("long.parquet", &long)]);
        let path = a.path().join("y/long.parquet");
        fs::write(&path, [&long[1..], b"x"].concat()).expect("writes");
        assert!(matches!(mirror(port, a.path()).publish("y").await, Err(StoreError::Damaged { .. })));
        let left: Vec<_> = fs::read_dir(folder.path())
            .expect("lists")
            .map(|entry| entry.expect("reads").file_name().into_string().expect("UTF-8"))
            .filter(|name| name.contains("upload"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn listings_have_pages_and_names_are_any_texts() {
    run(async {
        let (folder, [a, b]) = (cache(), [cache(), cache()]);
        let port = server(folder.path());
        let many = folder.path().join("bucket/out/many");
        fs::create_dir_all(&many).expect("creates");
        for number in 0..2_345 {
            fs::write(many.join(format!("{number:04}.jpg")), b"x").expect("writes");
        }
        let first = mirror(port, a.path());
        assert_eq!(first.list("many").await.expect("lists").len(), 2_345);
        for source in ["größe und maß", "a#b", "100% + ~x", "日本"] {
            let stage = format!("{source}/images");
            made(a.path(), &stage, "1", FILES);
            first.publish(&stage).await.unwrap_or_else(|e| panic!("{source}: {e}"));
            let other = mirror(port, b.path());
            other.sync().await.expect("syncs");
            other.fetch(&stage, None).await.unwrap_or_else(|e| panic!("{source}: {e}"));
            assert_eq!(text(&b.path().join(&stage).join("part-00001.parquet")), "second", "{source}");
        }
    });
}

#[test]
fn refusals_are_told_apart_by_status_and_code() {
    run(async {
        let (folder, a) = (cache(), cache());
        let port = server(folder.path());
        let error = async |builder: AmazonS3Builder, bucket: &str| {
            let at = a.path().join(bucket);
            let mirror = Mirror::of(address_of(builder, bucket, SHORT), &at, SHORT).expect("opens");
            mirror.sync().await.expect_err("is refused")
        };
        let wrong = error(builder(port, "bucket").with_secret_access_key("hunter2-hunter2"), "bucket").await;
        assert!(
            matches!(wrong, StoreError::Denied { .. }) && wrong.to_string().contains("SignatureDoesNotMatch"),
            "{wrong}"
        );
        let none = error(builder(port, "none"), "none").await;
        assert!(matches!(none, StoreError::NoBucket { .. }), "{none}");
        // Nobody listens.
        let gone = error(builder(1, "gone"), "gone").await;
        assert!(matches!(gone, StoreError::Unreachable { .. }), "{gone}");
        // A bucket that is called like a refusal.
        fs::create_dir(folder.path().join("accessdenied")).expect("creates");
        let called = address_of(builder(port, "accessdenied"), "accessdenied", SHORT);
        let called = Mirror::of(called, &a.path().join("called"), SHORT).expect("opens");
        assert_eq!(called.sync().await.expect("syncs").objects, 0);
    });
}

/// A server that takes a connection and never says a word.
#[test]
fn a_server_that_hangs_is_given_up() {
    run(async {
        let a = cache();
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("has one").port();
        std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
        let begun = Instant::now();
        let retry = Retry { tried: Duration::from_secs(1), silence: Duration::from_secs(1) };
        let address = address_of(builder(port, "bucket"), "bucket", retry);
        let error = Mirror::of(address, a.path(), retry).expect("opens").sync().await.expect_err("nothing comes");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
}

#[test]
fn without_credentials_it_is_said_at_once() {
    run(async {
        let builder = AmazonS3Builder::new().with_bucket_name("bucket").with_metadata_endpoint("http://127.0.0.1:1");
        let address = address_of(builder, "bucket", SHORT);
        let begun = Instant::now();
        let error = address.client.refuse_without_credentials(&address.shown).await.expect_err("there are none");
        assert!(matches!(error, StoreError::NoCredentials { .. }), "{error}");
        assert!(
            error.to_string().contains("AWS_ACCESS_KEY_ID") && error.to_string().contains("s3://bucket/out"),
            "{error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(3));
        // A metadata service that is there and gives none.
        let denied = StoreError::Denied { url: String::new(), detail: "forbidden".to_owned() };
        let error = address.client.explained(&address.shown, denied);
        assert!(matches!(&error, StoreError::NoCredentials { detail, .. } if detail == "forbidden"), "{error}");
        let named = address_of(self::builder(1, "bucket"), "bucket", SHORT);
        named.client.refuse_without_credentials(&named.shown).await.expect("there are some");
    });
}
