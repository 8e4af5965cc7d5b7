//! The same on servers over HTTP, of S3 and of Google's XML API: conditions that they refuse, parts, ranges, pages, names, and what
//! they say when they refuse.

use super::mirrored::{FILES, OTHERS, cache, text};
use super::servers::{Kind, SHORT, Server, address_at_google, address_in_s3, s3_at};
use super::store::{made, run};
use crate::StoreError;
use crate::address::Address;
use crate::manifest::KnownVersion;
use crate::mirror::Mirror;
use crate::retry::Retry;
use object_store::aws::AmazonS3Builder;
use object_store::{Error, ObjectStore, PutMode, PutOptions, UpdateVersion};
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

#[test]
fn a_server_refuses_what_conditions_forbid() {
    for server in Server::each() {
        run(async {
            let [a, b] = [cache(), cache()];
            made(a.path(), "x", "k", FILES);
            made(b.path(), "x", "other", OTHERS);
            let first = server.mirror(a.path());
            first.publish("x").await.expect("publishes");
            assert!(a.path().join(".store/conditional").is_file(), "both conditions were refused");
            let at = server.bucket().join("out/x/manifest.json");
            let before = text(&at);
            let object = first.address.at("x/manifest.json").expect("a path");
            let put = async |mode: PutMode| {
                let options = PutOptions { mode, ..PutOptions::default() };
                first.address.client.store.put_opts(&object, "theirs".into(), options).await.map(|_| ())
            };
            // Past the look, as somebody who looked before the first put: the server itself refuses.
            let refused = put(PutMode::Create).await.expect_err("is there");
            assert!(matches!(refused, Error::AlreadyExists { .. }), "{refused}");
            let e_tag = Some("\"00000000000000000000000000000000\"".to_owned());
            let stale = UpdateVersion { e_tag, version: Some("1".to_owned()) };
            let refused = put(PutMode::Update(stale)).await.expect_err("is another");
            assert!(matches!(refused, Error::Precondition { .. }), "{refused}");
            assert_eq!(text(&at), before, "nothing was overwritten");
            // And the version that is there may be replaced.
            let KnownVersion { e_tag, version, .. } = first.known_version("x").expect("was noted");
            put(PutMode::Update(UpdateVersion { e_tag, version })).await.expect("replaces");
            assert_eq!(text(&at), "theirs");
        });
    }
}

#[test]
fn two_at_once_have_one_winner_on_a_server() {
    for server in Server::each() {
        run(async {
            let [a, b] = [cache(), cache()];
            let [first, second] = [server.mirror(a.path()), server.mirror(b.path())];
            for round in 0..5 {
                let name = format!("x{round}");
                made(a.path(), &name, "k", FILES);
                made(b.path(), &name, "other", OTHERS);
                let (one, two) = tokio::join!(first.publish(&name), second.publish(&name));
                let outcomes = [one.is_ok(), two.is_ok()];
                assert!(outcomes.contains(&true), "{one:?} {two:?}");
                // A server whose condition is a look and a write may let both through; then each has noted what it put.
                let is_one = outcomes.iter().filter(|ok| **ok).count() == 1;
                assert!(is_one || server.kind == Kind::S3, "Google's conditions hold: {one:?} {two:?}");
                if is_one {
                    let winner = if outcomes[0] { &a } else { &b };
                    let there = text(&server.bucket().join("out").join(&name).join("manifest.json"));
                    assert_eq!(there, text(&winner.path().join(&name).join("manifest.json")), "{outcomes:?}");
                }
            }
        });
    }
}

/// A file of five parts, which comes back in two ranges.
#[test]
fn long_files_go_in_parts_and_come_in_ranges() {
    for server in Server::each() {
        run(async {
            let [a, b] = [cache(), cache()];
            let long: Vec<u8> = (0..(34_usize << 20) + 7).map(|at| (at / 1000 % 251) as u8).collect();
            made(a.path(), "x", "k", &[("long.parquet", &long), ("part-0.parquet", b"zero")]);
            let published = server.mirror(a.path()).publish("x").await.expect("publishes");
            assert_eq!(published.sent_bytes, long.len() as u64 + 4);
            let other = server.mirror(b.path());
            other.sync().await.expect("syncs");
            assert_eq!(other.fetch("x", None).await.expect("brings").0, 2);
            assert!(fs::read(b.path().join("x/long.parquet")).expect("reads") == long);
            // One that was changed is not sent, and its parts are taken back.
            made(a.path(), "y", "k", &[("long.parquet", &long)]);
            let path = a.path().join("y/long.parquet");
            fs::write(&path, [&long[1..], b"x"].concat()).expect("writes");
            assert!(matches!(server.mirror(a.path()).publish("y").await, Err(StoreError::Damaged { .. })));
            // s3s-fs keeps parts beside its buckets, our server in a folder there.
            let folders = [server.folder().to_owned(), server.folder().join(".writing")];
            let names = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
            let names = names.map(|entry| entry.expect("reads").file_name().into_string().expect("UTF-8"));
            let left: Vec<String> = names.filter(|name| name.contains("upload")).collect();
            assert!(left.is_empty(), "{:?}: {left:?}", server.kind);
        });
    }
}

/// Who puts its parts together first has made the object; the other makes it again, of the same bytes.
#[test]
fn two_writers_of_one_long_file() {
    for server in Server::each() {
        run(async {
            let [a, b, c] = [cache(), cache(), cache()];
            let long: Vec<u8> = (0..20_usize << 20).map(|at| (at / 1000 % 251) as u8).collect();
            for cache in [&a, &b] {
                made(cache.path(), "x", "k", &[("long.parquet", &long)]);
            }
            let [first, second] = [server.mirror(a.path()), server.mirror(b.path())];
            let (one, two) = tokio::join!(first.publish("x"), second.publish("x"));
            one.expect("publishes");
            two.expect("publishes the same");
            let other = server.mirror(c.path());
            other.sync().await.expect("syncs");
            other.fetch("x", None).await.expect("brings");
            assert!(fs::read(c.path().join("x/long.parquet")).expect("reads") == long);
        });
    }
}

#[test]
fn listings_have_pages_and_names_are_any_texts() {
    for server in Server::each() {
        run(async {
            let [a, b] = [cache(), cache()];
            let many = server.bucket().join("out/many");
            fs::create_dir_all(&many).expect("creates");
            for number in 0..2_345 {
                fs::write(many.join(format!("{number:04}.jpg")), b"x").expect("writes");
            }
            let first = server.mirror(a.path());
            assert_eq!(first.list("many").await.expect("lists").len(), 2_345);
            for source in ["größe und maß", "a#b", "100% + ~x", "日本", "<a> & 'b'"] {
                let stage = format!("{source}/images");
                made(a.path(), &stage, "1", FILES);
                first.publish(&stage).await.unwrap_or_else(|e| panic!("{source}: {e}"));
                let other = server.mirror(b.path());
                other.sync().await.expect("syncs");
                other.fetch(&stage, None).await.unwrap_or_else(|e| panic!("{source}: {e}"));
                assert_eq!(text(&b.path().join(&stage).join("part-00001.parquet")), "second", "{source}");
            }
        });
    }
}

#[test]
fn refusals_are_told_apart_by_status_and_code() {
    for server in Server::each() {
        run(async {
            let a = cache();
            let error = async |name: &str, address: Address| {
                let mirror = Mirror::of(address, &a.path().join(name), SHORT).expect("opens");
                mirror.sync().await.expect_err("is refused")
            };
            let wrong = error("nobody", server.address_of_nobody()).await;
            let code = if server.kind == Kind::S3 { "SignatureDoesNotMatch" } else { "AuthenticationRequired" };
            assert!(matches!(wrong, StoreError::Denied { .. }) && wrong.to_string().contains(code), "{wrong}");
            let none = error("none", server.address("none")).await;
            assert!(matches!(none, StoreError::NoBucket { .. }), "{none}");
            // Nobody listens.
            let nowhere = match server.kind {
                Kind::S3 => address_in_s3(s3_at(1), "gone"),
                Kind::Google => {
                    let nowhere = server.account().replace(&format!(":{}", server.port), ":1");
                    address_at_google(&nowhere, "gone")
                }
            };
            let gone = error("gone", nowhere).await;
            assert!(matches!(gone, StoreError::Unreachable { .. }), "{gone}");
            // A bucket that is called like a refusal.
            fs::create_dir(server.folder().join("accessdenied")).expect("creates");
            let called = Mirror::of(server.address("accessdenied"), &a.path().join("called"), SHORT).expect("opens");
            assert_eq!(called.sync().await.expect("syncs").objects, 0);
        });
    }
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
        let address = address_in_s3(s3_at(port), "bucket");
        let error = Mirror::of(address, a.path(), retry).expect("opens").sync().await.expect_err("nothing comes");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
}

#[test]
fn without_credentials_it_is_said_at_once() {
    run(async {
        let builder = AmazonS3Builder::new().with_metadata_endpoint("http://127.0.0.1:1");
        let address = address_in_s3(builder, "bucket");
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
        let named = address_in_s3(s3_at(1), "bucket");
        named.client.refuse_without_credentials(&named.shown).await.expect("there are some");
    });
}
