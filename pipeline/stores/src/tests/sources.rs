//! Sources laid out as folders: lengths and times are those of the objects, bytes come when they are asked for.

use super::store::{Faulty, run};
use crate::StoreError;
use crate::retry::Retry;
use crate::source::Source;
use object_store::ObjectStoreExt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

const NEVER: Retry = Retry { tried: Duration::ZERO };

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
        let (source, laid) = Source::lay_out_of(store.address("in"), &files, &scratch, NEVER).await.expect("lays out");
        assert_eq!((laid.objects, laid.bytes), (3, (1 << 20) + 14 + (300 << 10)), "{laid:?}");
        let meta = fs::metadata(files.join("a/1.jpg")).expect("is there");
        let listed = store.address("in").store.head(&"in/a/1.jpg".into()).await.expect("is there").last_modified;
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
        source.want(vec!["a/1.jpg".to_owned(), "t.parquet".to_owned()]);
        assert_eq!(fs::read(source.bring("a/1.jpg").await.expect("brings")).expect("reads"), picture);
        assert_eq!(fs::read(source.bring("t.parquet").await.expect("brings")).expect("reads"), table);
        assert!(matches!(source.bring("none.jpg").await, Err(StoreError::NotFound { .. })));
        // An object that has changed since it was listed.
        store.put_raw("in/a/1.jpg", b"short").await;
        assert!(matches!(source.bring("a/1.jpg").await, Err(StoreError::Damaged { .. })));
    });
}

#[test]
fn one_object_is_a_source_and_nothing_is_an_error() {
    run(async {
        let (store, folder) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
        store.put_raw("in/t.parquet", b"PAR1").await;
        let (files, scratch) = (folder.path().join("files"), folder.path().join("scratch"));
        let lay_out = async |prefix: &str| Source::lay_out_of(store.address(prefix), &files, &scratch, NEVER).await;
        let (_, laid) = lay_out("in/t.parquet").await.expect("lays out");
        assert_eq!((laid.objects, fs::metadata(files.join("t.parquet")).expect("is there").len()), (1, 4));
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
        let (_, laid) = Source::lay_out_of(store.address("in"), &files, &scratch, NEVER).await.expect("lays out");
        assert_eq!((laid.objects, laid.unusable.len()), (1, 2), "{laid:?}");
    });
}
