use super::*;
use crate::ingest::sources::{Fetcher, Options, open_source};
use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use arrow::array::{
    ArrayRef, BinaryArray, BinaryViewArray, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, ListArray,
    StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Schema};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Begins as a PNG and is different for each number.
fn picture(number: u8) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n", &[number; 40][..]].concat()
}

fn pictures() -> Vec<Vec<u8>> {
    (0..4).map(picture).collect()
}

fn image_struct(bytes: ArrayRef, paths: ArrayRef) -> ArrayRef {
    let fields =
        vec![Field::new("bytes", bytes.data_type().clone(), true), Field::new("path", paths.data_type().clone(), true)];
    Arc::new(StructArray::new(fields.into(), vec![bytes, paths], None))
}

fn usual() -> ArrayRef {
    let bytes = BinaryArray::from_iter_values(pictures());
    image_struct(Arc::new(bytes), Arc::new(StringArray::from(vec!["0.png", "1.png", "2.png", "3.png"])))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, path: &str, columns: Vec<(&str, ArrayRef)>, metadata: Value, compression: Compression) {
        let fields: Vec<Field> =
            columns.iter().map(|(name, c)| Field::new(*name, c.data_type().clone(), true)).collect();
        let metadata = if metadata.is_null() {
            HashMap::new()
        } else {
            HashMap::from([("huggingface".to_owned(), json!({"info": {"features": metadata}}).to_string())])
        };
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, c)| c).collect()).expect("fits");
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("creates");
        let properties = WriterProperties::builder().set_compression(compression).build();
        let file = File::create(path).expect("creates");
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).expect("starts");
        writer.write(&batch).expect("writes");
        writer.close().expect("ends");
    }

    fn plain(&self, path: &str, columns: Vec<(&str, ArrayRef)>, metadata: Value) {
        self.write(path, columns, metadata, Compression::SNAPPY);
    }

    fn list(&self) -> Result<(Listing, Vec<Vec<u8>>)> {
        let spool = self.0.path().join(".spool");
        let listing = open_source(self.0.path(), &Options::default())?.list(&spool)?;
        let fetcher = Fetcher::new(&spool)?;
        let bytes = listing.entries.iter().map(|entry| fetcher.fetch(entry, 1 << 20).expect("fetches")).collect();
        Ok((listing, bytes))
    }
}

fn classes(listing: &Listing) -> Vec<Option<&str>> {
    listing.entries.iter().map(|e| e.label.map(|label| listing.classes[label as usize].as_str())).collect()
}

#[test]
fn every_codec_is_read() {
    let brotli = Compression::BROTLI(BrotliLevel::default());
    let (gzip, zstd) = (Compression::GZIP(GzipLevel::default()), Compression::ZSTD(ZstdLevel::default()));
    let all =
        [Compression::UNCOMPRESSED, Compression::SNAPPY, gzip, brotli, Compression::LZ4, Compression::LZ4_RAW, zstd];
    for compression in all {
        let folder = Folder::new();
        folder.write("train.parquet", vec![("image", usual())], Value::Null, compression);
        assert_eq!(folder.list().expect("lists").1, pictures(), "{compression:?}");
    }
}

#[test]
fn bytes_of_every_type_are_read_under_any_name() {
    let paths = || Arc::new(StringArray::from(vec![None::<&str>; 4])) as ArrayRef;
    let large: ArrayRef = Arc::new(LargeBinaryArray::from_iter_values(pictures()));
    let view: ArrayRef = Arc::new(BinaryViewArray::from_iter_values(pictures()));
    let binary: ArrayRef = Arc::new(BinaryArray::from_iter_values(pictures()));
    for column in
        [image_struct(large.clone(), paths()), image_struct(view.clone(), paths()), large, view, binary, usual()]
    {
        let folder = Folder::new();
        let kind = column.data_type().clone();
        folder.plain("0000.parquet", vec![("content", column)], Value::Null);
        assert_eq!(folder.list().expect("lists").1, pictures(), "{kind}");
    }
}

#[test]
fn the_image_is_what_metadata_calls_so_and_never_other_bytes() {
    let masks: ArrayRef = Arc::new(BinaryArray::from_iter_values((10..14).map(picture)));
    let masks = image_struct(masks, Arc::new(StringArray::from(vec!["m.png"; 4])));
    let image = json!({"_type": "Image"});
    let hashes: ArrayRef = Arc::new(BinaryArray::from_iter_values([b"abcd", b"efgh", b"ijkl", b"mnop"]));
    for (columns, metadata) in [
        (vec![("mask", masks.clone()), ("cover", usual())], json!({"mask": {"_type": "Value"}, "cover": image})),
        (vec![("mask", masks.clone()), ("image", usual())], json!({"mask": image, "image": image})),
        (vec![("mask", masks), ("image", usual())], Value::Null),
        (vec![("sha1", hashes.clone()), ("picture", usual())], Value::Null),
    ] {
        let folder = Folder::new();
        folder.plain("x.parquet", columns, metadata);
        assert_eq!(folder.list().expect("lists").1, pictures());
    }
    let lists = {
        let structs = usual();
        let item = Arc::new(Field::new("item", structs.data_type().clone(), true));
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1; 4]), structs, None)) as ArrayRef
    };
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"; 4]));
    for (column, said) in
        [(hashes, "no column holds images"), (text, "no column holds images"), (lists, "lists of images")]
    {
        let folder = Folder::new();
        folder.plain("train-00000.parquet", vec![("images", column)], Value::Null);
        let error = folder.list().expect_err("is refused").to_string();
        assert!(error.contains("train-00000.parquet") && error.contains(said), "{error}");
    }
}

#[test]
fn a_row_without_bytes_is_the_file_beside_the_table_or_a_reject() {
    let folder = Folder::new();
    let bytes: ArrayRef =
        Arc::new(BinaryArray::from(vec![None, None, None, None, Some(b"\x89PNG\r\n\x1a\nx" as &[u8])]));
    let paths = vec![Some("1.png"), Some("gone.png"), Some("../../../etc/passwd"), None, None];
    folder.plain(
        "data/train.parquet",
        vec![("image", image_struct(bytes, Arc::new(StringArray::from(paths))))],
        Value::Null,
    );
    std::fs::write(folder.0.path().join("data/1.png"), picture(1)).expect("writes");
    std::fs::write(folder.0.path().join("logo.png"), picture(9)).expect("writes");
    let (listing, bytes) = folder.list().expect("lists");
    assert_eq!(bytes, [picture(1), b"\x89PNG\r\n\x1a\nx".to_vec()]);
    let rejects: Vec<_> = listing.rejects.iter().map(|r| (r.path.as_str(), r.reason.code(), r.offset_bytes)).collect();
    assert_eq!(
        rejects,
        [
            ("data/train.parquet#1", "missing_file", Some(1)),
            ("data/train.parquet#2", "path_escapes", Some(2)),
            ("data/train.parquet#3", "missing_file", Some(3)),
            ("logo.png", "other_layout", None),
        ]
    );
}

#[test]
fn labels_are_classes_however_they_are_typed_and_odd_ones_are_rejects() {
    let named = json!({"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}});
    let words: ArrayRef = Arc::new(LargeStringArray::from(vec![Some("dog"), Some("cat"), None, Some("dog")]));
    let folder = Folder::new();
    folder.plain("a.parquet", vec![("image", usual()), ("label", words)], Value::Null);
    let (listing, _) = folder.list().expect("lists");
    assert_eq!(classes(&listing), [Some("dog"), Some("cat"), None, Some("dog")]);
    assert_eq!(listing.classes, ["cat", "dog"]);
    let folder = Folder::new();
    let odd: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(7), Some(-1), None]));
    folder.plain("a.parquet", vec![("image", usual()), ("label", odd)], named.clone());
    let (listing, _) = folder.list().expect("lists");
    assert_eq!(classes(&listing), [Some("dog"), None, None]);
    assert_eq!((listing.rejects.len(), listing.rejects[0].reason), (1, RejectReason::BadLabel));
    assert!(listing.rejects[0].path == "a.parquet#1" && listing.rejects[0].detail.contains('7'));
    // Files that number their classes differently: the class is the name that its own file gives.
    let folder = Folder::new();
    let ones = || Arc::new(Int64Array::from(vec![0; 4])) as ArrayRef;
    folder.plain("a.parquet", vec![("image", usual()), ("label", ones())], named);
    let swapped = json!({"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["dog", "eel"]}});
    folder.plain("b.parquet", vec![("image", usual()), ("label", ones())], swapped);
    let (listing, _) = folder.list().expect("lists");
    assert_eq!(classes(&listing), [vec![Some("cat"); 4], vec![Some("dog"); 4]].concat());
    assert_eq!(listing.classes, ["cat", "dog", "eel"]);
}

#[test]
fn a_stray_table_does_not_hide_a_folder_of_images() {
    for (images, tables, layout, rejects) in
        [(9, 1, "image folder", 1), (3, 1, "Parquet", 3), (9, 0, "image folder", 0)]
    {
        let folder = Folder::new();
        for image in 0..images {
            std::fs::write(folder.0.path().join(format!("{image}.png")), picture(image)).expect("writes");
        }
        for table in 0..tables {
            folder.plain(&format!("{table}.parquet"), vec![("image", usual())], Value::Null);
        }
        folder.plain("notes.parquet", vec![("text", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)], Value::Null);
        std::fs::write(folder.0.path().join("broken.txt"), "no table").expect("writes");
        let source = open_source(folder.0.path(), &Options::default()).expect("opens");
        assert_eq!(source.layout(), layout);
        let (listing, _) = folder.list().expect("lists");
        assert!(listing.rejects.iter().all(|reject| reject.reason == RejectReason::OtherLayout));
        assert_eq!(listing.rejects.len(), rejects, "{layout}");
        assert_eq!(
            listing.entries.len() + listing.rejects.len(),
            images as usize + if layout == "Parquet" { 4 } else { tables }
        );
    }
}

#[test]
fn rows_of_a_damaged_row_group_are_rejects_and_the_others_are_read() {
    let folder = Folder::new();
    folder.write("train.parquet", vec![("image", usual())], Value::Null, Compression::UNCOMPRESSED);
    folder.plain("whole.parquet", vec![("image", usual())], Value::Null);
    std::fs::write(folder.0.path().join("cut.parquet"), b"PAR1 and no more").expect("writes");
    let path = folder.0.path().join("train.parquet");
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[4..400].fill(0xff);
    std::fs::write(&path, bytes).expect("writes");
    let options = Options { layout: crate::ingest::sources::LayoutChoice::Parquet, leave_out: Vec::new() };
    let source = open_source(folder.0.path(), &options).expect("opens");
    let listing = source.list(&folder.0.path().join(".spool")).expect("lists");
    assert_eq!(listing.entries.len(), 4);
    assert!(listing.rejects.iter().all(|reject| reject.reason == RejectReason::Broken), "{:?}", listing.rejects);
    assert!(listing.rejects.iter().any(|reject| reject.path == "cut.parquet"));
}
