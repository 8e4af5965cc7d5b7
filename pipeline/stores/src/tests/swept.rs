//! Removing and sweeping: only what no manifest and no marker names goes, only when it is old, and at no moment is a named object
//! missing.

use super::mirrored::{FILES, OTHERS, cache, shard};
use super::store::{Fault, Faulty, digest, made, run};
use crate::StoreError;
use crate::manifest::{Manifest, object_name};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is removed by name.
const GONE: &str = "pile/subsets/60";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Every manifest in a store has its files.
async fn assert_whole(store: &Arc<Faulty>, when: &str) {
    let content = store.content().await;
    for (name, text) in content.iter().filter(|(name, _)| name.ends_with("/manifest.json")) {
        let folder = name.strip_suffix("/manifest.json").expect("has it");
        for object in Manifest::from_json(text).expect("parses").objects(folder) {
            assert!(content.contains_key(&object), "{when}: `{object}` is named and not there");
        }
    }
}

async fn age_all(store: &Arc<Faulty>, age: Duration) {
    for name in store.content().await.into_keys() {
        store.age(&name, age);
    }
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
        assert!(mirror.sweep(DAY, &[], false).await.expect("sweeps").is_empty(), "nothing is old");
        age_all(&store, DAY + DAY).await;
        let swept = mirror.sweep(DAY, &[], true).await.expect("looks");
        assert_eq!(swept.len(), 2);
        assert_eq!(store.content().await.len(), 5, "a dry run removes nothing");
        assert_eq!(mirror.sweep(DAY, &[], false).await.expect("sweeps"), swept);
        let b = cache();
        let other = store.mirror(b.path());
        other.sync().await.expect("syncs");
        assert_eq!(other.fetch("x", None).await.expect("brings").0, 2, "what is named is there");
    });
}

#[test]
fn what_was_sent_again_since_the_listing_stays() {
    run(async {
        let (store, a) = (Faulty::new(), cache());
        let mirror = store.mirror(a.path());
        made(a.path(), "x", "1", FILES);
        mirror.publish("x").await.expect("publishes");
        let orphan = format!("out/x/{}", object_name("part-00009.parquet", &digest(b"nine")));
        store.put_raw(&orphan, b"nine").await;
        age_all(&store, DAY + DAY).await;
        // A publisher finds it old and sends it again, between the sweep's listing and its deletion.
        store.is_renewed_on_head.store(true, Ordering::SeqCst);
        assert!(mirror.sweep(DAY, &[], false).await.expect("sweeps").is_empty());
        assert!(store.content().await.contains_key(&orphan));
    });
}

/// A manifest that comes at any moment of a sweep, naming an object that was sent again: it has its files.
#[test]
fn a_manifest_that_comes_meanwhile_has_its_files() {
    let theirs = cache();
    made(theirs.path(), "y", "2", &[("part-0.parquet", b"zero")]);
    let manifest = fs::read(theirs.path().join("y/manifest.json")).expect("reads");
    let object = format!("out/y/{}", object_name("part-0.parquet", &digest(b"zero")));
    // Up to the look at the object's age before it is deleted. A publisher that sends again what it found old looks for it once
    // more after that.
    let mut kept = 0;
    for number in 1..=6 {
        run(async {
            let (store, a) = (Faulty::new(), cache());
            let mirror = store.mirror(a.path());
            made(a.path(), "y", "1", FILES);
            mirror.publish("y").await.expect("publishes");
            store.put_raw(&object, b"zero").await;
            age_all(&store, DAY + DAY).await;
            store.fail(Fault::Never);
            // As a publisher does: the data, and then the manifest.
            store.intervene(number, &object, b"zero");
            store.intervene(number, "out/y/manifest.json", &manifest);
            mirror.sweep(DAY, &[], false).await.expect("sweeps");
            assert!(store.operations() >= number, "it never came so far");
            assert_whole(&store, &format!("at operation {number}")).await;
            kept += u64::from(store.content().await.contains_key(&object));
        });
    }
    assert_eq!(kept, 6);
}

#[test]
fn files_of_a_stage_that_never_had_a_manifest_are_swept() {
    run(async {
        let (store, a) = (Faulty::new(), cache());
        let mirror = store.mirror(a.path());
        let object = |folder: &str| format!("out/{folder}/{}", object_name("part-00000.parquet", &digest(b"x")));
        // Below a source's stage; anywhere else it is somebody's own, as is what is not called after its content.
        let [orphan, foreign] = [object("pile/images"), object("photos")];
        for name in [&orphan, &foreign, "out/pile/images/own.jpg", "out/pile/report.html"] {
            store.put_raw(name, b"x").await;
        }
        // One that a share's marker names is on its way.
        let shares = "pile/.images.shares/0123456789abcdef";
        shard(a.path(), shares, "part-1.parquet", b"ones");
        mirror.publish_shard(shares, "part-1.parquet").await.expect("publishes");
        age_all(&store, DAY + DAY).await;
        let swept = mirror.sweep(DAY, &[], false).await.expect("sweeps");
        assert_eq!(swept.len(), 1, "{swept:?}");
        assert!(!store.content().await.contains_key(&orphan) && store.content().await.contains_key(&foreign));
        assert_eq!(store.content().await.len(), 3 + 2);
    });
}

/// The folders of shares of two keys of one stage.
const SHARES: [&str; 2] = ["pile/.images.shares/0123456789abcdef", "pile/.images.shares/fedcba9876543210"];

#[test]
fn shares_that_nobody_goes_on_with_are_taken_with_their_data() {
    run(async {
        let (store, a) = (Faulty::new(), cache());
        let mirror = store.mirror(a.path());
        for (folder, name, bytes) in [(SHARES[0], "part-0.parquet", b"zero"), (SHARES[1], "part-1.parquet", b"ones")] {
            shard(a.path(), folder, name, bytes);
            mirror.publish_shard(folder, name).await.expect("publishes");
        }
        let asked = SHARES.map(str::to_owned);
        assert!(mirror.remove_shares(&asked, DAY).await.expect("looks").is_empty(), "both are young");
        age_all(&store, DAY + DAY).await;
        // Somebody makes one more shard of the second key.
        shard(a.path(), SHARES[1], "part-2.parquet", b"twos");
        mirror.publish_shard(SHARES[1], "part-2.parquet").await.expect("publishes");
        let found = mirror.list_shares().await.expect("lists");
        assert_eq!(found.iter().map(|shares| shares.folder.as_str()).collect::<Vec<_>>(), SHARES);
        assert!(found[0].idle_secs >= 2 * DAY.as_secs() && found[1].idle_secs < 60, "{found:?}");
        assert!(found[0].bytes > 0 && found[1].bytes > found[0].bytes, "{found:?}");
        // A dry run shows what would go with the markers.
        assert!(mirror.sweep(DAY, &[], true).await.expect("looks").is_empty(), "markers name it all");
        let would = mirror.sweep(DAY, &asked[..1], true).await.expect("looks");
        assert!(would.len() == 1 && would[0].bytes == 4 && would[0].url.contains("part-0."), "{would:?}");
        assert_eq!(store.content().await.len(), 6, "a dry run removes nothing");
        assert_eq!(mirror.remove_shares(&asked, DAY).await.expect("removes"), asked[..1]);
        assert_eq!(mirror.sweep(DAY, &asked[..1], false).await.expect("sweeps"), would);
        let content = store.content().await;
        assert!(content.len() == 4 && content.keys().all(|name| !name.contains("part-0.")), "{:?}", content.keys());
        let error = mirror.remove_shares(&["pile/images".to_owned()], DAY).await.expect_err("are no shares");
        assert!(error.is_usage(), "{error}");
    });
}

/// Whoever resumes shares of long ago has written nothing yet, and is at work all the same.
#[test]
fn who_goes_on_with_old_shares_is_not_robbed_of_them() {
    run(async {
        let (store, [a, b]) = (Faulty::new(), [cache(), cache()]);
        let [first, second] = [store.mirror(a.path()), store.mirror(b.path())];
        for name in ["part-0.parquet", "part-1.parquet"] {
            shard(a.path(), SHARES[0], name, name.as_bytes());
            first.publish_shard(SHARES[0], name).await.expect("publishes");
        }
        age_all(&store, DAY + DAY).await;
        let before = store.content().await;
        let own = ["part-3.parquet".to_owned()];
        assert_eq!(second.fetch_markers(SHARES[0], Some(&own)).await.expect("looks").len(), 2);
        let asked = [SHARES[0].to_owned()];
        assert!(first.remove_shares(&asked, DAY).await.expect("looks").is_empty());
        assert_eq!(store.content().await, before);
        // A marker that was put again between the look and its removal stays.
        age_all(&store, DAY + DAY).await;
        store.is_renewed_on_head.store(true, Ordering::SeqCst);
        first.remove_shares(&asked, DAY).await.expect("looks");
        assert!(first.sweep(DAY, &asked, false).await.expect("sweeps").is_empty());
        assert_eq!(store.content().await, before);
    });
}

#[test]
fn sweeping_and_removing_go_on_wherever_they_were_cut_off() {
    let (mut faults, mut number) = (0, 1);
    loop {
        let reached = run(async {
            let mut reached = false;
            for fault in [Fault::Before(number), Fault::After(number)] {
                let (store, a) = (Faulty::new(), cache());
                let mirror = store.mirror(a.path());
                for (folder, key, files) in
                    [("pile/images", "1", FILES), ("pile/images", "2", OTHERS), (GONE, "1", FILES)]
                {
                    made(a.path(), folder, key, files);
                    mirror.publish(folder).await.expect("publishes");
                }
                age_all(&store, DAY + DAY).await;
                store.fail(fault);
                let removed = mirror.remove(GONE).await;
                let swept = mirror.sweep(DAY, &[], false).await;
                let is_cut_off = store.operations() >= number;
                reached |= is_cut_off;
                assert_eq!(removed.is_err() || swept.is_err(), is_cut_off, "{fault:?}");
                assert_whole(&store, &format!("{fault:?}")).await;
                store.fail(Fault::Never);
                mirror.remove(GONE).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
                mirror.sweep(DAY, &[], false).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
                let content = store.content().await;
                assert_eq!(content.len(), 3, "{fault:?}: {:?}", content.keys());
                assert_whole(&store, &format!("{fault:?}")).await;
            }
            reached
        });
        if !reached {
            break;
        }
        (faults, number) = (faults + 1, number + 1);
    }
    assert!(faults >= 12, "only {faults} operations were cut off");
}

#[test]
fn what_another_machine_has_published_since_is_not_removed() {
    run(async {
        let (store, [a, b]) = (Faulty::new(), [cache(), cache()]);
        let [first, second] = [store.mirror(a.path()), store.mirror(b.path())];
        made(a.path(), "x", "1", FILES);
        first.publish("x").await.expect("publishes");
        assert!(first.check_removal("x").await.expect("may go"));
        second.sync().await.expect("syncs");
        made(b.path(), "x", "2", OTHERS);
        second.publish("x").await.expect("replaces");
        let before = store.content().await;
        let error = first.check_removal("x").await.expect_err("is another");
        assert!(matches!(error, StoreError::Superseded { .. }), "{error}");
        assert!(error.to_string().contains("memory://out/x/manifest.json"), "{error}");
        assert!(matches!(first.remove("x").await, Err(StoreError::Superseded { .. })));
        assert_eq!(store.content().await, before, "nothing was removed");
        // What was made here and is not in the store may go here.
        made(a.path(), "x", "3", FILES);
        assert!(!first.check_removal("x").await.expect("is ours alone"));
        fs::remove_dir_all(a.path().join("x")).expect("removes");
        first.sync().await.expect("syncs");
        assert!(first.check_removal("x").await.expect("knows theirs now"));
        first.remove("x").await.expect("removes");
        assert!(!store.content().await.contains_key("out/x/manifest.json"));
        first.remove("x").await.expect("it has gone");
    });
}
