//! A cache and its store: what one publishes another finds and brings, shares are finished by a third, and what is damaged, or of
//! another store, is refused.

use super::store::{Faulty, digest, made, run};
use crate::StoreError;
use crate::address::Address;
use crate::manifest::object_name;
use crate::mirror::Mirror;
use crate::retry::Retry;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

const NEVER: Retry = Retry::lasting(Duration::ZERO);
pub(super) const FILES: &[(&str, &[u8])] =
    &[("part-00000.parquet", b"first"), ("part-00001.parquet", b"second"), ("a/b.json", b"{}")];
pub(super) const OTHERS: &[(&str, &[u8])] = &[("part-00000.parquet", b"other"), ("part-00001.parquet", b"second")];

pub(super) fn cache() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

pub(super) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_one_cache_publishes_another_finds_and_brings() {
    run(async {
        let (store, [a, b]) = (Faulty::new(), [cache(), cache()]);
        made(a.path(), "pile/images", "k", FILES);
        let published = store.mirror(a.path()).publish("pile/images").await.expect("publishes");
        assert_eq!((published.sent, published.sent_bytes, published.found), (3, 13, 0));
        let puts = store.puts.lock().expect("unpoisoned").clone();
        assert_eq!(puts.last().map(String::as_str), Some("out/pile/images/manifest.json"), "the manifest goes last");
        assert_eq!(store.mirror(a.path()).publish("pile/images").await.expect("is there"), Default::default());
        let other = store.mirror(b.path());
        let synced = other.sync().await.expect("syncs");
        assert_eq!((synced.folders, synced.adopted, synced.objects), (1, 1, 4));
        let at = b.path().join("pile/images");
        assert_eq!(text(&at.join("manifest.json")), text(&a.path().join("pile/images/manifest.json")));
        assert!(!at.join("part-00000.parquet").exists(), "files come when they are asked for");
        let one = BTreeSet::from(["part-00001.parquet".to_owned()]);
        assert_eq!(other.fetch("pile/images", Some(&one)).await.expect("brings"), (1, 6));
        assert_eq!(text(&at.join("part-00001.parquet")), "second");
        assert_eq!(other.fetch("pile/images", None).await.expect("brings"), (2, 7));
        assert_eq!(text(&at.join("a/b.json")), "{}");
        assert_eq!(other.sync().await.expect("syncs").adopted, 0);
    });
}

#[test]
fn what_is_damaged_is_neither_taken_nor_sent() {
    run(async {
        let (store, [a, b]) = (Faulty::new(), [cache(), cache()]);
        made(a.path(), "x", "1", FILES);
        store.mirror(a.path()).publish("x").await.expect("publishes");
        let object = format!("out/x/{}", object_name("part-00000.parquet", &digest(b"first")));
        store.put_raw(&object, b"flips").await;
        let other = store.mirror(b.path());
        other.sync().await.expect("syncs");
        let error = other.fetch("x", None).await.expect_err("is damaged");
        assert!(
            matches!(error, StoreError::Damaged { .. }) && error.to_string().contains("memory://out/x/part-"),
            "{error}"
        );
        let left =
            fs::read_dir(b.path().join("x")).expect("lists").filter_map(|e| e.ok()?.file_name().into_string().ok());
        assert!(left.into_iter().all(|name| !name.contains("part-00000")), "no half of it stays");
        // A file that was changed after its manifest.
        made(b.path(), "y", "1", FILES);
        fs::write(b.path().join("y/part-00000.parquet"), b"later").expect("writes");
        assert!(matches!(other.publish("y").await, Err(StoreError::Damaged { .. })));
        assert!(!store.content().await.contains_key("out/y/manifest.json"));
        store.put_raw("out/z/manifest.json", b"no manifest").await;
        assert!(matches!(other.sync().await, Err(StoreError::Damaged { .. })));
    });
}

/// Where shares of one key lie.
const SHARES: &str = "x/.made.shares/0123456789abcdef";

pub(super) fn shard(cache: &Path, folder: &str, name: &str, bytes: &[u8]) {
    let at = cache.join(folder);
    fs::create_dir_all(&at).expect("creates");
    fs::write(at.join(name), bytes).expect("writes");
    let marker =
        serde_json::json!({"name": name, "rows": 1, "bytes": bytes.len(), "digest": digest(bytes), "facts": {}});
    fs::write(at.join(format!("{name}.json")), marker.to_string()).expect("writes");
}

#[test]
fn shares_of_two_caches_are_finished_by_a_third() {
    run(async {
        let (store, [a, b, c]) = (Faulty::new(), [cache(), cache(), cache()]);
        for (cache, name, bytes) in [(&a, "part-0.parquet", b"zero"), (&b, "part-1.parquet", b"ones")] {
            shard(cache.path(), SHARES, name, bytes);
            let mirror = store.mirror(cache.path());
            mirror.publish_shard(SHARES, name).await.expect("publishes");
            mirror.publish_shard(SHARES, name).await.expect("a second time does no harm");
        }
        let finisher = store.mirror(c.path());
        // A share asks for its own markers, and hears of all.
        let own = ["part-1.parquet".to_owned()];
        assert_eq!(finisher.fetch_markers(SHARES, Some(&own)).await.expect("brings a marker").len(), 2);
        assert!(c.path().join(SHARES).join("part-1.parquet.json").is_file());
        assert!(!c.path().join(SHARES).join("part-0.parquet.json").exists());
        // Shares of other settings lie elsewhere.
        let of_others = SHARES.replace("0123", "4567");
        assert!(finisher.fetch_markers(&of_others, None).await.expect("looks").is_empty());
        let mut names = finisher.fetch_markers(SHARES, None).await.expect("brings markers");
        names.sort();
        assert_eq!(names, ["part-0.parquet", "part-1.parquet"]);
        for name in &names {
            assert_eq!(finisher.fetch_shard(SHARES, name).await.expect("brings"), 4);
        }
        assert_eq!(text(&c.path().join(SHARES).join("part-1.parquet")), "ones");
        // What is whole needs no shard sent again.
        made(c.path(), "x/made", "k", &[("part-0.parquet", b"zero"), ("part-1.parquet", b"ones")]);
        let published = finisher.publish("x/made").await.expect("publishes");
        assert_eq!((published.sent, published.found), (0, 2));
        finisher.clear_shares(SHARES).await.expect("clears");
        assert_eq!(store.content().await.len(), 3);
    });
}

/// How two caches of the same URL differ: by the endpoint or the account.
#[test]
fn a_cache_is_of_one_store() {
    let (store, a) = (Faulty::new(), cache());
    store.mirror(a.path());
    let refusal = |address: Address| {
        let error = Mirror::of(address, a.path(), NEVER).expect_err("it mirrors another");
        assert!(error.is_usage() && error.to_string().contains("--cache"), "{error}");
        error.to_string()
    };
    refusal(store.address("elsewhere"));
    let mut same_url = store.address("out");
    same_url.client.account = Some("http://127.0.0.1:9000".to_owned());
    assert!(refusal(same_url).contains("http://127.0.0.1:9000"), "the endpoint is named");
}

#[test]
fn a_store_that_has_nothing_where_it_had_results_takes_nothing_away() {
    run(async {
        let (store, a) = (Faulty::new(), cache());
        let mirror = store.mirror(a.path());
        assert_eq!(mirror.sync().await.expect("is empty at first"), Default::default());
        for folder in ["x", "y"] {
            made(a.path(), folder, "1", FILES);
            mirror.publish(folder).await.expect("publishes");
        }
        let error = Faulty::new().mirror(a.path()).sync().await.expect_err("is refused");
        assert!(matches!(error, StoreError::Emptied { known: 2, .. }), "{error}");
        assert!(error.to_string().contains("knew 2 results") && error.to_string().contains("memory://out"), "{error}");
        assert_eq!(text(&a.path().join("x/part-00000.parquet")), "first", "nothing was removed");
        assert_eq!(mirror.sync().await.expect("syncs").dropped, 0, "and nothing forgotten");
        assert_eq!(mirror.publish("x").await.expect("is there"), Default::default());
    });
}

/// A: ingests a; B: ingests b; what A goes on with is a.
#[test]
fn what_a_machine_works_on_is_its_own_choice() {
    run(async {
        let (store, [a, b]) = (Faulty::new(), [cache(), cache()]);
        let [first, second] = [store.mirror(a.path()), store.mirror(b.path())];
        let current = |cache: &tempfile::TempDir| cache.path().join("current.json");
        fs::write(current(&a), "of a").expect("writes");
        first.put_file("current.json").await.expect("puts");
        second.sync().await.expect("syncs");
        assert_eq!(text(&current(&b)), "of a", "a new cache begins where the last command ended");
        fs::write(current(&b), "of b").expect("writes");
        second.put_file("current.json").await.expect("puts");
        first.sync().await.expect("syncs");
        assert_eq!(text(&current(&a)), "of a", "and keeps its own after that");
    });
}

/// Names that URLs, or shells, read otherwise.
#[test]
fn names_are_any_texts() {
    run(async {
        let (store, [a, b]) = (Faulty::new(), [cache(), cache()]);
        for folder in ["größe und maß/images", "a#b?c/images", "100% + ~x/images", "日本/画像"] {
            made(a.path(), folder, "1", FILES);
            store.mirror(a.path()).publish(folder).await.unwrap_or_else(|e| panic!("{folder}: {e}"));
            let other = store.mirror(b.path());
            other.sync().await.expect("syncs");
            other.fetch(folder, None).await.unwrap_or_else(|e| panic!("{folder}: {e}"));
            assert_eq!(text(&b.path().join(folder).join("part-00001.parquet")), "second");
        }
    });
}
