//! Publishing, fetching, shares and sweeping: what is there is whole, nobody's manifest is overwritten, and what was cut off at
//! any operation goes on.

use super::store::{Fault, Faulty, digest, made, run};
use crate::StoreError;
use crate::manifest::object_name;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

const FILES: &[(&str, &[u8])] =
    &[("part-00000.parquet", b"first"), ("part-00001.parquet", b"second"), ("a/b.json", b"{}")];
const OTHERS: &[(&str, &[u8])] = &[("part-00000.parquet", b"other"), ("part-00001.parquet", b"second")];

fn cache() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn text(path: &Path) -> String {
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
        assert_eq!((synced.folders, synced.taken, synced.objects), (1, 1, 4));
        let at = b.path().join("pile/images");
        assert_eq!(text(&at.join("manifest.json")), text(&a.path().join("pile/images/manifest.json")));
        assert!(!at.join("part-00000.parquet").exists(), "files come when they are asked for");
        let one = BTreeSet::from(["part-00001.parquet".to_owned()]);
        assert_eq!(other.fetch("pile/images", Some(&one)).await.expect("brings"), (1, 6));
        assert_eq!(text(&at.join("part-00001.parquet")), "second");
        assert_eq!(other.fetch("pile/images", None).await.expect("brings"), (2, 7));
        assert_eq!(text(&at.join("a/b.json")), "{}");
        assert_eq!(other.sync().await.expect("syncs").taken, 0);
    });
}

#[test]
fn publishing_goes_on_wherever_it_was_cut_off() {
    let mut faults = 0;
    for number in 1.. {
        let done = run(async {
            let mut done = true;
            for fault in [Fault::Before(number), Fault::After(number)] {
                let (store, a) = (Faulty::new(), cache());
                made(a.path(), "pile/images", "k", FILES);
                store.fail(fault);
                let first = store.mirror(a.path()).publish("pile/images").await;
                let reached = store.operations() >= number;
                done &= !reached;
                if reached {
                    first.expect_err("it was cut off");
                }
                store.fail(Fault::Never);
                let has_manifest = store.content().await.contains_key("out/pile/images/manifest.json");
                assert!(!has_manifest || store.content().await.len() == 4, "{fault:?}: a manifest without its files");
                store.mirror(a.path()).publish("pile/images").await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
                let content = store.content().await;
                assert_eq!(
                    content["out/pile/images/manifest.json"],
                    text(&a.path().join("pile/images/manifest.json")).into_bytes()
                );
                assert_eq!(content.len(), 4, "{fault:?}");
                let puts = store.puts.lock().expect("unpoisoned").clone();
                assert_eq!(
                    puts.iter().collect::<BTreeSet<_>>().len(),
                    puts.len(),
                    "{fault:?}: nothing is sent twice: {puts:?}"
                );
            }
            done
        });
        if done {
            break;
        }
        faults += 1;
    }
    assert!(faults >= 6, "only {faults} operations were cut off");
}

#[test]
fn another_writers_manifest_is_never_overwritten() {
    run(async {
        let (store, [a, b]) = (Faulty::new(), [cache(), cache()]);
        let [first, second] = [store.mirror(a.path()), store.mirror(b.path())];
        made(a.path(), "pile/images", "k", FILES);
        first.publish("pile/images").await.expect("publishes");
        let before = store.content().await;
        // Another result.
        made(b.path(), "pile/images", "other", OTHERS);
        let error = second.publish("pile/images").await.expect_err("is refused");
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        assert!(error.to_string().contains("memory://out/pile/images/manifest.json"), "{error}");
        assert_eq!(store.content().await, before, "nothing was written");
        assert_eq!(text(&b.path().join("pile/images/part-00000.parquet")), "other", "what was made here stays");
        second.sync().await.expect("syncs");
        assert_eq!(text(&b.path().join("pile/images/part-00000.parquet")), "other", "a look takes nothing away");
        // The same result, at another time.
        made(b.path(), "pile/images", "k", FILES);
        assert!(second.publish("pile/images").await.expect("is the same").was_there);
        assert_eq!(store.content().await, before);
        assert_eq!(
            text(&b.path().join("pile/images/manifest.json")),
            text(&a.path().join("pile/images/manifest.json"))
        );
    });
}

/// Both look, both send, one is first: the condition on the manifest's object decides.
#[test]
fn who_comes_second_between_a_look_and_a_put_is_refused() {
    run(async {
        let (store, [a, b]) = (Faulty::new(), [cache(), cache()]);
        made(a.path(), "x", "k", FILES);
        made(b.path(), "x", "other", OTHERS);
        let [first, second] = [store.mirror(a.path()), store.mirror(b.path())];
        let (one, two) = tokio::join!(first.publish("x"), second.publish("x"));
        let outcomes = [one.is_ok(), two.is_ok()];
        assert_eq!(outcomes.iter().filter(|ok| **ok).count(), 1, "{outcomes:?}");
        let winner = if outcomes[0] { &a } else { &b };
        assert_eq!(
            store.content().await["out/x/manifest.json"],
            text(&winner.path().join("x/manifest.json")).into_bytes()
        );
        // The objects of both are whole, whoever sent them.
        let object = format!("out/x/{}", object_name("part-00000.parquet", &digest(b"first")));
        assert_eq!(store.content().await[&object], b"first");
    });
}

#[test]
fn a_result_replaces_what_its_cache_knew_and_nothing_else() {
    run(async {
        let (store, [a, b]) = (Faulty::new(), [cache(), cache()]);
        let [first, second] = [store.mirror(a.path()), store.mirror(b.path())];
        made(a.path(), "x", "1", FILES);
        first.publish("x").await.expect("publishes");
        second.sync().await.expect("syncs");
        made(b.path(), "x", "2", OTHERS);
        let published = second.publish("x").await.expect("replaces what it knew");
        assert_eq!((published.sent, published.found), (1, 1), "what both hold is there once");
        made(a.path(), "x", "3", FILES);
        assert!(matches!(first.publish("x").await, Err(StoreError::Conflict { .. })), "it knew another");
        // Without the result of its own it takes theirs.
        fs::remove_dir_all(a.path().join("x")).expect("removes");
        assert_eq!(first.sync().await.expect("syncs").taken, 1);
        first.fetch("x", None).await.expect("brings");
        assert_eq!(text(&a.path().join("x/part-00000.parquet")), "other");
        // What another removes goes here as well.
        second.remove("x").await.expect("removes");
        assert_eq!(first.sync().await.expect("syncs").gone, 1);
        assert!(!a.path().join("x").exists());
    });
}

#[test]
fn results_of_other_settings_share_their_files() {
    run(async {
        let (store, a) = (Faulty::new(), cache());
        let mirror = store.mirror(a.path());
        made(a.path(), "x/ranking", "1", FILES);
        mirror.publish("x/ranking").await.expect("publishes");
        // As the runtime keeps it: renamed under its key.
        fs::rename(a.path().join("x/ranking"), a.path().join("x/ranking~0a1b2c3d")).expect("renames");
        made(a.path(), "x/ranking", "2", OTHERS);
        mirror.publish("x/ranking").await.expect("publishes both");
        let content = store.content().await;
        assert!(content.contains_key("out/x/ranking~0a1b2c3d/manifest.json"));
        assert_eq!(content.len(), 2 + 4, "{:?}", content.keys());
        // Removing one leaves the other whole.
        mirror.remove("x/ranking").await.expect("removes");
        let b = cache();
        let other = store.mirror(b.path());
        other.sync().await.expect("syncs");
        assert_eq!(other.fetch("x/ranking~0a1b2c3d", None).await.expect("brings").0, 3);
        assert_eq!(store.content().await.len(), 1 + 3);
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

fn shard(cache: &Path, name: &str, bytes: &[u8]) {
    let at = cache.join(SHARES);
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
            shard(cache.path(), name, bytes);
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

#[test]
fn what_nothing_names_is_swept_when_it_is_old() {
    run(async {
        let (store, a) = (Faulty::new(), cache());
        let mirror = store.mirror(a.path());
        made(a.path(), "x", "1", FILES);
        mirror.publish("x").await.expect("publishes");
        made(a.path(), "x", "2", OTHERS);
        mirror.publish("x").await.expect("publishes");
        assert_eq!(store.content().await.len(), 5);
        assert!(mirror.sweep(Duration::from_secs(60), false).await.expect("sweeps").is_empty(), "nothing is old");
        let swept = mirror.sweep(Duration::ZERO, true).await.expect("looks");
        assert_eq!(swept.len(), 2);
        assert_eq!(store.content().await.len(), 5, "a dry run removes nothing");
        assert_eq!(mirror.sweep(Duration::ZERO, false).await.expect("sweeps"), swept);
        let b = cache();
        let other = store.mirror(b.path());
        other.sync().await.expect("syncs");
        assert_eq!(other.fetch("x", None).await.expect("brings").0, 2, "what is named is there");
    });
}

#[test]
fn a_cache_is_of_one_store() {
    let (store, a) = (Faulty::new(), cache());
    store.mirror(a.path());
    let other =
        crate::mirror::Mirror::of(store.address("elsewhere"), a.path(), crate::retry::Retry { tried: Duration::ZERO });
    let error = other.expect_err("it mirrors another");
    assert!(error.is_usage() && error.to_string().contains("--cache"), "{error}");
}
