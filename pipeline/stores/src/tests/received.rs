//! Objects that come in pieces: what came is kept, the time counts from the last byte, and all of it is of one version.

use super::mirrored::cache;
use super::store::{Faulty, made, run};
use crate::StoreError;
use crate::mirror::Mirror;
use crate::receive::{fetch_listed, fetch_object};
use crate::retry::Retry;
use object_store::{GetRange, ObjectStoreExt};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const OBJECT: &str = "in/x.bin";

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

async fn fetch(store: &Arc<Faulty>, retry: Retry, to: &Path) -> crate::Result<u64> {
    fetch_object(&store.address("in"), retry, &OBJECT.into(), to, None).await
}

/// Nothing of an attempt is left.
fn assert_clean(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).expect("lists").map(|entry| entry.expect("reads").file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Twelve failures with pauses of a tenth of a second take longer than the time that is tried; each of them came further.
#[test]
fn time_counts_from_the_last_byte() {
    run(async {
        let (store, folder) = (Faulty::new(), cache());
        store.put_raw(OBJECT, &bytes(12_345)).await;
        store.stream_max.store(1_000, Ordering::SeqCst);
        let (to, begun) = (folder.path().join("x.bin"), Instant::now());
        let retry = Retry::lasting(Duration::from_millis(400));
        assert_eq!(fetch(&store, retry, &to).await.expect("comes in pieces"), 12_345);
        assert_eq!(fs::read(&to).expect("reads"), bytes(12_345));
        assert!(begun.elapsed() > 2 * retry.tried, "it was tried for longer than the time");
        let ranges = store.ranges.lock().expect("unpoisoned").clone();
        assert_eq!(ranges.len(), 13);
        assert_eq!(ranges[0], None);
        assert_eq!(ranges[12], Some(GetRange::Bounded(12_000..12_345)), "what came is not asked for again");
    });
}

#[test]
fn one_that_comes_no_further_is_given_up() {
    run(async {
        let (store, folder) = (Faulty::new(), cache());
        store.put_raw(OBJECT, &bytes(100)).await;
        store.stream_max.store(0, Ordering::SeqCst);
        let error = fetch(&store, Retry::lasting(Duration::from_millis(400)), &folder.path().join("x")).await;
        let error = error.expect_err("nothing comes");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("memory://in/x.bin") && store.operations() >= 3, "{error}");
        assert_clean(folder.path());
    });
}

#[test]
fn without_ranges_it_begins_again() {
    run(async {
        let (store, folder) = (Faulty::new(), cache());
        store.put_raw(OBJECT, &bytes(5_000)).await;
        store.has_no_ranges.store(true, Ordering::SeqCst);
        store.stream_max.store(3_000, Ordering::SeqCst);
        let retry = Retry::lasting(Duration::from_millis(500));
        let error = fetch(&store, retry, &folder.path().join("x")).await.expect_err("it never comes further");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        store.stream_max.store(6_000, Ordering::SeqCst);
        fetch(&store, retry, &folder.path().join("x")).await.expect("comes whole");
        assert_eq!(fs::read(folder.path().join("x")).expect("reads"), bytes(5_000));
    });
}

#[test]
fn an_object_is_of_one_version() {
    run(async {
        let (store, folder) = (Faulty::new(), cache());
        store.put_raw(OBJECT, &bytes(2_000)).await;
        let retry = Retry::lasting(Duration::from_millis(400));
        // Between two pieces.
        store.stream_max.store(1_500, Ordering::SeqCst);
        store.intervene(2, OBJECT, &vec![9; 2_000]);
        let error = fetch(&store, retry, &folder.path().join("x")).await.expect_err("it is another");
        assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains("has changed"), "{error}");
        // Between the listing and the first.
        store.stream_max.store(u64::MAX, Ordering::SeqCst);
        let address = store.address("in");
        let meta = address.client.store.head(&OBJECT.into()).await.expect("is there");
        store.put_raw(OBJECT, &vec![8; 2_000]).await;
        let error = fetch_listed(&address, retry, &meta, &folder.path().join("x")).await.expect_err("it is another");
        assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains("has changed"), "{error}");
        assert_clean(folder.path());
    });
}

/// A store that takes a request and says nothing is given up in the time of a silence, here the shortest.
#[test]
fn silence_is_given_up() {
    run(async {
        let (store, folder) = (Faulty::new(), cache());
        store.put_raw(OBJECT, b"x").await;
        store.is_silent.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        let retry = Retry { tried: Duration::ZERO, silence: Duration::from_secs(1) };
        let mirror = Mirror::of(store.address("out"), folder.path(), retry).expect("opens");
        made(folder.path(), "x", "1", &[("part-0.parquet", b"zero")]);
        for error in [
            fetch(&store, retry, &folder.path().join("x.bin")).await.expect_err("nothing comes"),
            mirror.sync().await.expect_err("nothing comes"),
            mirror.publish("x").await.expect_err("nothing comes"),
            mirror.put_file("x/manifest.json").await.expect_err("nothing comes"),
        ] {
            assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
            assert!(error.to_string().contains("nothing came for 1 s"), "{error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn the_disks_refusal_is_the_disks() {
    run(async {
        let (store, folder) = (Faulty::new(), cache());
        store.put_raw(OBJECT, b"x").await;
        let to = folder.path().join("n".repeat(250));
        let error = fetch(&store, Retry::lasting(Duration::ZERO), &to).await.expect_err("no file can be called so");
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
        assert!(error.to_string().contains("File name too long"), "{error}");
    });
}
