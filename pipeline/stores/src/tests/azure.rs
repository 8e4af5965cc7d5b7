//! The same on Azurite, the emulator of Azure's blob store, where it is installed.

use super::azurite::{Azurite, KEY};
use super::mirrored::{FILES, OTHERS, cache, text};
use super::store::{made, run};
use crate::StoreError;
use crate::address::Address;
use crate::clients::Client;
use crate::listing::list;
use crate::mirror::Mirror;
use crate::receive::fetch_listed;
use crate::retry::Retry;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::path::Path as Location;
use object_store::{Error, ObjectStore, PutMode, PutOptions};
use std::fs;
use std::path::Path;
use std::time::Duration;

const SHORT: Retry = Retry::lasting(Duration::from_secs(2));
const ACCOUNT: &str = "devstoreaccount1";

fn address(azurite: &Azurite, prefix: &str) -> Address {
    let builder = MicrosoftAzureBuilder::new()
        .with_account(ACCOUNT)
        .with_access_key(KEY)
        .with_container_name("container")
        .with_endpoint(format!("{}/{ACCOUNT}", azurite.url()));
    let client = Client::of_azure(builder, SHORT).expect("builds");
    Address { client, prefix: Location::from(prefix), shown: format!("az://container/{prefix}") }
}

fn mirror(azurite: &Azurite, cache: &Path) -> Mirror {
    Mirror::of(address(azurite, "out"), cache, SHORT).expect("opens")
}

#[test]
fn a_tree_lives_on_azure() {
    let Some(azurite) = Azurite::start() else { return };
    run(async {
        let [a, b] = [cache(), cache()];
        let [first, second] = [mirror(&azurite, a.path()), mirror(&azurite, b.path())];
        let long: Vec<u8> = (0..(34_usize << 20) + 7).map(|at| (at / 1000 % 251) as u8).collect();
        let files: Vec<(&str, &[u8])> = [FILES, &[("long.parquet", &long)]].concat();
        made(a.path(), "größe #1/images", "k", &files);
        first.publish("größe #1/images").await.expect("publishes");
        assert!(a.path().join(".store/conditional").is_file(), "both conditions were refused");
        second.sync().await.expect("syncs");
        second.fetch("größe #1/images", None).await.expect("brings");
        assert!(fs::read(b.path().join("größe #1/images/long.parquet")).expect("reads") == long);
        // What has not changed is not read again: a listing's version is that of a header.
        let listed = second.list("größe #1").await.expect("lists");
        let (_, meta) = listed.iter().find(|(name, _)| name.ends_with("manifest.json")).expect("is there");
        for mirror in [&first, &second] {
            assert!(mirror.known_version("größe #1/images").expect("was noted").is_of(meta), "{meta:?}");
        }
        // Another's is refused, by a look and by the server.
        made(b.path(), "größe #1/images", "other", OTHERS);
        made(a.path(), "größe #1/images", "again", FILES);
        first.publish("größe #1/images").await.expect("replaces what it knew");
        assert!(matches!(second.publish("größe #1/images").await, Err(StoreError::Conflict { .. })));
        let object = first.address.at("größe #1/images/manifest.json").expect("a path");
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let refused = first.address.client.store.put_opts(&object, "x".into(), options).await.expect_err("is there");
        assert!(matches!(refused, Error::AlreadyExists { .. }), "{refused}");
        // What nothing names any more.
        let swept = first.sweep(Duration::ZERO, &[], false).await.expect("sweeps");
        assert_eq!(swept.len(), 1, "{swept:?}");
        second.sync().await.expect("syncs");
        fs::remove_dir_all(b.path().join("größe #1")).expect("removes");
        second.sync().await.expect("syncs");
        second.fetch("größe #1/images", None).await.expect("brings");
        assert_eq!(text(&b.path().join("größe #1/images/part-00001.parquet")), "second");
    });
}

/// Blocks are known by their number, and who puts them together first takes them from the other.
#[test]
fn two_writers_of_one_long_file_on_azure() {
    let Some(azurite) = Azurite::start() else { return };
    run(async {
        let [a, b] = [cache(), cache()];
        let long: Vec<u8> = (0..20_usize << 20).map(|at| (at / 1000 % 251) as u8).collect();
        for cache in [&a, &b] {
            made(cache.path(), "x", "k", &[("long.parquet", &long)]);
        }
        let [first, second] = [mirror(&azurite, a.path()), mirror(&azurite, b.path())];
        let (one, two) = tokio::join!(first.publish("x"), second.publish("x"));
        one.expect("publishes");
        two.expect("publishes the same");
        let c = cache();
        let other = mirror(&azurite, c.path());
        other.sync().await.expect("syncs");
        other.fetch("x", None).await.expect("brings");
        assert!(fs::read(c.path().join("x/long.parquet")).expect("reads") == long);
    });
}

#[test]
fn objects_of_azure_are_of_the_version_that_was_listed() {
    let Some(azurite) = Azurite::start() else { return };
    run(async {
        let a = cache();
        let address = address(&azurite, "in");
        let put = async |text: &'static str| {
            let object = address.at("a b.json").expect("a path");
            address.client.store.put_opts(&object, text.into(), PutOptions::default()).await.expect("puts");
        };
        put("first").await;
        let listing = list(&address, SHORT, &address.prefix).await.expect("lists");
        let meta = listing.objects.into_values().next().expect("is there");
        fetch_listed(&address, SHORT, &meta, &a.path().join("x")).await.expect("is of that version");
        assert_eq!(text(&a.path().join("x")), "first");
        put("other").await;
        let error = fetch_listed(&address, SHORT, &meta, &a.path().join("x")).await.expect_err("is another");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        // Keys that are no paths are set aside, or named.
        azurite.put("container/in//no%20path.jpg");
        put("third").await;
        match list(&address, SHORT, &address.prefix).await {
            Ok(listing) => assert_eq!((listing.objects.len(), listing.bad_keys.len()), (1, 1)),
            Err(error) => assert!(matches!(error, StoreError::BadKey { .. }), "{error}"),
        }
    });
}
