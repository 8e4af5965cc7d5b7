//! Publishing: the files first, the manifest last and under a condition, wherever it is cut off; and what is old is sent again.

use super::mirrored::{FILES, OTHERS, cache, text};
use super::store::{Fault, Faulty, digest, made, run};
use crate::StoreError;
use crate::manifest::object_name;
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

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
    assert!(faults >= 9, "only {faults} operations were cut off");
}

#[test]
fn a_file_of_parts_leaves_none_behind_wherever_it_was_cut_off() {
    let long = vec![7_u8; (17 << 20) + 5];
    let files: &[(&str, &[u8])] = &[("long.parquet", &long), ("part-0.parquet", b"zero")];
    let mut faults = 0;
    for number in 1.. {
        let reached = run(async {
            let (store, a) = (Faulty::new(), cache());
            made(a.path(), "x", "k", files);
            store.fail(Fault::Before(number));
            let first = store.mirror(a.path()).publish("x").await;
            let reached = store.operations() >= number;
            let is_whole =
                store.content().await.contains_key(&format!("out/x/{}", object_name("long.parquet", &digest(&long))));
            let aborted = store.aborted.load(Ordering::SeqCst);
            // Look, list, put, and then the parts: from the second of those on there is something to take back.
            assert_eq!(first.is_err(), reached);
            assert!(is_whole || aborted == 1 || number <= 4, "{number}: {aborted} aborted");
            store.fail(Fault::Never);
            store.mirror(a.path()).publish("x").await.unwrap_or_else(|e| panic!("{number}: {e}"));
            let name = format!("out/x/{}", object_name("long.parquet", &digest(&long)));
            assert!(store.content().await[&name] == long, "{number}");
            reached
        });
        if !reached {
            break;
        }
        faults += 1;
    }
    assert!(faults >= 10, "only {faults} operations were cut off");
}

#[test]
fn parts_that_were_put_together_unheard_are_whole() {
    let long = vec![7_u8; 9 << 20];
    run(async {
        let mut unheard = 0;
        for number in 1..=12 {
            let (store, a) = (Faulty::new(), cache());
            made(a.path(), "x", "k", &[("long.parquet", &long)]);
            let patient = crate::retry::Retry::lasting(Duration::from_secs(5));
            let mirror = crate::mirror::Mirror::of(store.address("out"), a.path(), patient).expect("opens");
            store.fail(Fault::Unheard(number));
            mirror.publish("x").await.unwrap_or_else(|e| panic!("{number}: {e}"));
            unheard += u64::from(store.operations() >= number);
            assert!(store.content().await.len() == 2, "{number}");
        }
        assert!(unheard >= 9, "only {unheard} answers were lost");
    });
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

/// Whenever another's manifest comes, before a look or after: there is one winner, and its manifest stays.
#[test]
fn who_comes_second_is_refused_at_every_moment() {
    run(async {
        let theirs = tempfile::tempdir().expect("a folder");
        made(theirs.path(), "x", "other", OTHERS);
        let manifest = fs::read(theirs.path().join("x/manifest.json")).expect("reads");
        let (mut refused, mut first) = (0, 0);
        for number in 1..=10 {
            let (store, a) = (Faulty::new(), cache());
            made(a.path(), "x", "k", FILES);
            store.intervene(number, "out/x/manifest.json", &manifest);
            store.fail(Fault::Never);
            match store.mirror(a.path()).publish("x").await {
                Err(error) => {
                    assert!(matches!(error, StoreError::Conflict { .. }), "{number}: {error}");
                    assert_eq!(store.content().await["out/x/manifest.json"], manifest, "{number}");
                    refused += 1;
                }
                Ok(_) => {
                    let puts = store.puts.lock().expect("unpoisoned").clone();
                    assert!(puts.contains(&"out/x/manifest.json".to_owned()), "{number}: it was there first");
                    first += 1;
                }
            }
        }
        // A look, a list, three files, a look; and the seventh is the put itself, whose condition decides.
        assert!(refused == 7 && first == 3, "{refused} were refused, {first} were first");
    });
}

#[test]
fn two_at_once_have_one_winner() {
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
fn a_server_that_ignores_conditions_is_refused() {
    run(async {
        let (store, a) = (Faulty::new(), cache());
        store.ignores_conditions.store(true, Ordering::SeqCst);
        made(a.path(), "x", "k", FILES);
        let mirror = store.mirror(a.path());
        for _ in 0..2 {
            let error = mirror.publish("x").await.expect_err("is refused each time");
            assert!(matches!(error, StoreError::Unconditional { .. }), "{error}");
            assert!(
                error.to_string().contains("ignores conditional puts") && error.to_string().contains("memory://out/x")
            );
        }
        assert!(a.path().join("x/part-00000.parquet").is_file(), "nothing was removed");
        assert!(!a.path().join(".store/conditional").exists());
        store.ignores_conditions.store(false, Ordering::SeqCst);
        mirror.publish("x").await.expect("now it honours them");
        assert!(a.path().join(".store/conditional").is_file());
        // Once for a cache.
        let before = store.operations();
        made(a.path(), "y", "k", FILES);
        mirror.publish("y").await.expect("publishes");
        assert_eq!(store.operations() - before, 1 + 1 + 3 + 1 + 1, "a look, a list, three files, a look, a manifest");
    });
}

#[test]
fn what_a_sweep_may_take_is_sent_again_before_it_is_named() {
    run(async {
        let (store, a) = (Faulty::new(), cache());
        let mirror = store.mirror(a.path());
        let object = |name: &str, bytes: &[u8]| format!("out/x/{}", object_name(name, &digest(bytes)));
        let [old, young] = [object("part-00000.parquet", b"first"), object("part-00001.parquet", b"second")];
        store.put_raw(&old, b"first").await;
        store.put_raw(&young, b"second").await;
        store.age(&old, 13 * HOUR);
        store.age(&young, 11 * HOUR);
        made(a.path(), "x", "k", FILES);
        let published = mirror.publish("x").await.expect("publishes");
        assert_eq!((published.sent, published.renewed, published.found), (2, 1, 1));
        let puts = store.puts.lock().expect("unpoisoned").clone();
        assert!(puts.contains(&old) && !puts.contains(&young), "{puts:?}");
        // A sweep takes one after it was sent again and before it is named: it is sent once more.
        made(a.path(), "x", "2", &[("part-9.parquet", b"nine")]);
        let nine = object("part-9.parquet", b"nine");
        store.put_raw(&nine, b"nine").await;
        store.age(&nine, 30 * HOUR);
        store.fail(Fault::Never);
        // A look, a list, the file; then it goes, and the second list does not find it.
        store.withdraw(4, &nine);
        mirror.publish("x").await.expect("publishes");
        assert_eq!(store.content().await[&nine], b"nine");
    });
}

/// An increment sends what is new: what the manifest names that it replaces is kept until then, however old it is.
#[test]
fn what_a_replaced_manifest_keeps_is_not_sent_again() {
    run(async {
        let (store, a) = (Faulty::new(), cache());
        let mirror = store.mirror(a.path());
        made(a.path(), "x", "1", FILES);
        mirror.publish("x").await.expect("publishes");
        for name in store.content().await.into_keys() {
            store.age(&name, 30 * HOUR);
        }
        let more: Vec<(&str, &[u8])> = [FILES, &[("part-00002.parquet", b"third")]].concat();
        made(a.path(), "x", "2", &more);
        let published = mirror.publish("x").await.expect("publishes");
        assert_eq!((published.sent, published.found, published.old), (1, 3, 3));
        // The same for what is kept beside it of other settings.
        for name in store.content().await.into_keys() {
            store.age(&name, 30 * HOUR);
        }
        fs::rename(a.path().join("x"), a.path().join("x~0a1b2c3d")).expect("renames");
        made(a.path(), "x", "3", OTHERS);
        store.puts.lock().expect("unpoisoned").clear();
        mirror.publish("x").await.expect("publishes both");
        assert_eq!(store.puts.lock().expect("unpoisoned").len(), 3, "two manifests and a file");
        // One that went all the same, after the look and before the manifest, is sent once more.
        for name in store.content().await.into_keys() {
            store.age(&name, 30 * HOUR);
        }
        made(a.path(), "x", "4", &[OTHERS, &[("part-9.parquet", b"nine")]].concat());
        let object = format!("out/x/{}", object_name("part-00000.parquet", &digest(b"other")));
        store.fail(Fault::Never);
        // A look, a list, a file, a look; and before the manifest is put.
        store.withdraw(5, &object);
        mirror.publish("x").await.expect("publishes");
        assert_eq!(store.content().await[&object], b"other");
    });
}

#[test]
fn a_result_replaces_what_its_cache_knew_and_nothing_else() {
    run(async {
        let (store, [a, b]) = (Faulty::new(), [cache(), cache()]);
        let [first, second] = [store.mirror(a.path()), store.mirror(b.path())];
        made(a.path(), "other", "1", OTHERS);
        first.publish("other").await.expect("publishes");
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
        assert_eq!(first.sync().await.expect("syncs").adopted, 1);
        first.fetch("x", None).await.expect("brings");
        assert_eq!(text(&a.path().join("x/part-00000.parquet")), "other");
        // What another removes goes here as well.
        second.remove("x").await.expect("removes");
        assert_eq!(first.sync().await.expect("syncs").dropped, 1);
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
        // Removing one leaves the other whole, now and when what it alone named is swept.
        mirror.remove("x/ranking").await.expect("removes");
        assert_eq!(store.content().await.len(), 1 + 4, "objects go with a sweep");
        assert_eq!(mirror.sweep(Duration::ZERO, &[], false).await.expect("sweeps").len(), 1);
        let b = cache();
        let other = store.mirror(b.path());
        other.sync().await.expect("syncs");
        assert_eq!(other.fetch("x/ranking~0a1b2c3d", None).await.expect("brings").0, 3);
        assert_eq!(store.content().await.len(), 1 + 3);
    });
}
