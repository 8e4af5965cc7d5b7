//! Sources layout out as folders: lengths and times are those of the objects, bytes come when they are asked for.

use super::store::{Faulty, run};
use crate::StoreError;
use crate::retry::Retry;
use crate::source::Source;
use object_store::ObjectStoreExt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

const NEVER: Retry = Retry::lasting(Duration::ZERO);

#[test]
fn objects_become_files_with_holes_and_are_brought_by_name() {
    run(async {
        let (store, folder) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
        let picture = vec![7_u8; 1 << 20];
        let mut table = vec![1_u8; 300 << 10];
        let at = table.len() - 8;
        table[at..at + 4].copy_from_slice(&(100_000_u32).to_le_bytes());
        for (name, bytes) in [
            ("in/a/1.jpg", &picture[..]),
            ("in/b.json", b"{\"images\": []}"),
            ("in/t.parquet", &table),
            ("inside/x.jpg", b"x"),
        ] {
            store.put_raw(name, bytes).await;
        }
        let (files, scratch) = (folder.path().join("files"), folder.path().join("scratch"));
        let (source, layout) =
            Source::lay_out_of(store.address("in"), &files, &scratch, NEVER).await.expect("lays out");
        assert_eq!((layout.objects, layout.bytes), (3, (1 << 20) + 14 + (300 << 10)), "{layout:?}");
        let meta = fs::metadata(files.join("a/1.jpg")).expect("is there");
        let listed = store.address("in").client.store.head(&"in/a/1.jpg".into()).await.expect("is there").last_modified;
        assert_eq!(meta.modified().expect("has a time"), SystemTime::from(listed));
        assert!(meta.len() == 1 << 20 && meta.blocks() == 0, "its bytes are not here");
        let [json, parquet, jpg] = ["b.json", "t.parquet", "a/1.jpg"].map(|name| vec![name.to_owned()]);
        source.fill(&json, &parquet, &jpg).await.expect("fills");
        assert_eq!(fs::read(files.join("b.json")).expect("reads"), b"{\"images\": []}");
        assert_eq!(fs::read(files.join("a/1.jpg")).expect("reads")[..70], [[7; 64].as_slice(), &[0; 6]].concat());
        let filled = fs::read(files.join("t.parquet")).expect("reads");
        assert!(filled[table.len() - 100_008..] == table[table.len() - 100_008..] && filled[0] == 0, "its end is here");
        assert_eq!(
            fs::metadata(files.join("a/1.jpg")).expect("is there").modified().expect("has a time"),
            SystemTime::from(listed)
        );
        let source = Rc::new(source);
        source.prefetch(vec!["a/1.jpg".to_owned(), "t.parquet".to_owned()]);
        assert_eq!(fs::read(source.fetch("a/1.jpg").await.expect("brings")).expect("reads"), picture);
        assert_eq!(fs::read(source.fetch("t.parquet").await.expect("brings")).expect("reads"), table);
        assert!(matches!(source.fetch("none.jpg").await, Err(StoreError::NotFound { .. })));
        // An object that has changed since it was listed.
        store.put_raw("in/a/1.jpg", b"short").await;
        assert!(matches!(source.fetch("a/1.jpg").await, Err(StoreError::Damaged { .. })));
        // Also to one of the same length.
        store.put_raw("in/b.json", b"[\"other one\"]!").await;
        let error = source.fetch("b.json").await.expect_err("is another");
        assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains("has changed"), "{error}");
    });
}

/// One that may not be read, or has gone, is set aside; credentials that are refused for all end the work.
#[test]
fn one_bad_object_is_of_itself_alone() {
    run(async {
        let (store, folder) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
        let names = ["a.json", "b.json", "c", "d", "e.jpg", "f.jpg", "g.parquet"];
        for name in names {
            store.put_raw(&format!("in/{name}"), b"0123456789").await;
        }
        let (files, scratch) = (folder.path().join("files"), folder.path().join("scratch"));
        let (source, layout) =
            Source::lay_out_of(store.address("in"), &files, &scratch, NEVER).await.expect("lays out");
        assert_eq!(layout.objects, 7);
        *store.denied.lock().expect("unpoisoned") = ["a.json", "e.jpg"].map(|name| format!("in/{name}")).to_vec();
        store.remove_raw("in/c").await;
        store.remove_raw("in/f.jpg").await;
        store.put_raw("in/g.parquet", b"9876543210").await;
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let unusable =
            source.fill(&of(&["a.json", "b.json"]), &of(&["g.parquet"]), &of(&["c", "d"])).await.expect("fills");
        let paths: Vec<&str> = unusable.iter().map(|unusable| unusable.path.as_str()).collect();
        assert_eq!(paths, ["a.json", "c", "g.parquet"], "{unusable:?}");
        assert!(
            unusable[0].detail.contains("may not be read") && unusable[2].detail.contains("has changed"),
            "{unusable:?}"
        );
        assert!(!files.join("a.json").exists() && files.join("b.json").exists());
        assert!(matches!(source.fetch("e.jpg").await, Err(StoreError::ObjectDenied { .. })));
        assert!(matches!(source.fetch("f.jpg").await, Err(StoreError::NotFound { .. })));
        // Now the source itself is refused.
        store.is_denied.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(matches!(source.fetch("e.jpg").await, Err(StoreError::Denied { .. })));
        assert!(matches!(source.fill(&of(&["b.json"]), &[], &[]).await, Err(StoreError::Denied { .. })));
    });
}

#[test]
fn keys_that_are_no_paths_are_named() {
    run(async {
        let (store, folder) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
        store.put_raw("in/a.jpg", b"x").await;
        store.bad_keys.lock().expect("unpoisoned").push("in/b//c.jpg".to_owned());
        let (files, scratch) = (folder.path().join("files"), folder.path().join("scratch"));
        let (_, layout) = Source::lay_out_of(store.address("in"), &files, &scratch, NEVER).await.expect("lays out");
        assert_eq!((layout.objects, layout.unusable[0].path.as_str()), (1, "in/b//c.jpg"));
        assert!(layout.unusable[0].detail.contains("no path"), "{layout:?}");
    });
}

#[test]
fn one_object_is_a_source_and_nothing_is_an_error() {
    run(async {
        let (store, folder) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
        store.put_raw("in/t.parquet", b"PAR1").await;
        let (files, scratch) = (folder.path().join("files"), folder.path().join("scratch"));
        let lay_out = async |prefix: &str| Source::lay_out_of(store.address(prefix), &files, &scratch, NEVER).await;
        let (_, layout) = lay_out("in/t.parquet").await.expect("lays out");
        assert_eq!((layout.objects, fs::metadata(files.join("t.parquet")).expect("is there").len()), (1, 4));
        let error = lay_out("none").await.expect_err("is not there");
        assert!(matches!(error, StoreError::NotFound { .. }) && error.to_string().contains("memory://none"), "{error}");
    });
}

#[test]
fn an_object_that_no_file_can_stand_for_is_named() {
    run(async {
        let (store, folder) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
        store.put_raw("in/a", b"x").await;
        store.put_raw("in/a/b.jpg", b"x").await;
        store.put_raw(&format!("in/{}.jpg", "x".repeat(300)), b"x").await;
        let (files, scratch) = (folder.path().join("files"), folder.path().join("scratch"));
        let (_, layout) = Source::lay_out_of(store.address("in"), &files, &scratch, NEVER).await.expect("lays out");
        assert_eq!((layout.objects, layout.unusable.len()), (1, 2), "{layout:?}");
    });
}
