//! Vectors made elsewhere: curated with as with one's own, and every fault in them named or counted.

use crate::run::{DRAWN, curated, facts, refusal, say, text};
use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, ListArray, RecordBatch, StringArray, StructArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use lapidary_pipeline::Layout;
use lapidary_pipeline::stage::{Table, TableWriter, column, list_values, read_table};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An image's vector.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: u64,
    vector: Option<Vec<f32>>,
}

/// The vectors of an encoder, in the order of ids.
fn embeddings(out: &Path, encoder: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for shard in Layout::shards(&out.join("pile/embeddings").join(encoder)).expect("shards") {
        for batch in read_table(&shard, &[]).expect("reads") {
            let ids: &UInt64Array = column(&batch, "image_id").expect("there");
            let (values, dim) = list_values(&batch, "embedding").expect("vectors");
            let vectors = values.chunks_exact(dim).map(|vector| Some(vector.to_vec()));
            rows.extend(ids.values().iter().zip(vectors).map(|(id, vector)| Row { id: *id, vector }));
        }
    }
    rows.sort_by_key(|row| row.id);
    rows
}

/// Rows in an order that is nobody's.
fn shuffled(rows: &[Row]) -> Vec<Row> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    rows
}

/// The path of each image in its source.
fn paths(out: &Path) -> BTreeMap<u64, String> {
    let mut paths = BTreeMap::new();
    for shard in Layout::shards(&out.join("pile/images")).expect("shards") {
        for batch in read_table(&shard, &["image_id", "image"]).expect("reads") {
            let ids: &UInt64Array = column(&batch, "image_id").expect("there");
            let image: &StructArray = column(&batch, "image").expect("there");
            let texts = image.column_by_name("path").expect("there").as_any().downcast_ref::<StringArray>();
            let texts = texts.expect("text").iter().map(|path| path.expect("a path").to_owned());
            paths.extend(ids.values().iter().copied().zip(texts));
        }
    }
    paths
}

fn write_table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let mut table = TableWriter::create(path, schema.clone()).expect("creates");
    table.write(&RecordBatch::try_new(schema, columns).expect("fits")).expect("writes");
    table.finish().expect("finishes");
}

fn ids(rows: &[Row]) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(row.id)).collect::<UInt64Array>())
}

/// Vectors as lists, which may be of different lengths.
fn lists(rows: &[Row]) -> ArrayRef {
    let row = |row: &Row| row.vector.as_ref().map(|vector| vector.iter().copied().map(Some).collect::<Vec<_>>());
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows.iter().map(row)))
}

/// Vectors as lists of one length.
fn fixed(rows: &[Row]) -> ArrayRef {
    let values: Vec<f32> = rows.iter().flat_map(|row| row.vector.clone().expect("a vector")).collect();
    let dim = (values.len() / rows.len()) as i32;
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    Arc::new(FixedSizeListArray::new(item, dim, Arc::new(Float32Array::from(values)), None))
}

/// A matrix as NumPy writes it.
fn write_npy(path: &Path, rows: &[Row], descr: &str, fortran: &str) {
    let values: Vec<f32> = rows.iter().flat_map(|row| row.vector.clone().expect("a vector")).collect();
    let shape = format!("({}, {})", rows.len(), values.len() / rows.len());
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    header.push_str(&" ".repeat((64 - (header.len() + 11) % 64) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    for value in values {
        match descr {
            "<f8" => bytes.extend(f64::from(value).to_le_bytes()),
            _ => bytes.extend(value.to_le_bytes()),
        }
    }
    std::fs::write(path, bytes).expect("writes");
}

/// What was decided for each image: the whole table, row by row.
fn decisions(out: &Path) -> Vec<String> {
    let batches = read_table(&out.join("pile/curation/ranking/decisions.parquet"), &[]).expect("reads");
    let row = |batch: &RecordBatch, row: usize| format!("{:?}", batch.slice(row, 1).columns());
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|index| row(batch, index)).collect::<Vec<_>>()).collect()
}

#[test]
fn vectors_that_went_out_and_came_back_curate_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    let (own, expected) = (embeddings(&out, "descriptor"), decisions(&out));
    let rows = shuffled(&own);
    assert!(rows != own && expected.len() == rows.len(), "{} decisions", expected.len());
    let truth = format!("curate.truth={}", text(&DRAWN.pile().join("truth.csv")));

    let table = folder.path().join("clip.parquet");
    write_table(&table, vec![("image_id", ids(&rows)), ("embedding", fixed(&rows))]);
    let embed = ["embed", "--from", text(&table)];
    let said = facts(&out, &embed).remove(0);
    let name = said["facts"]["encoder"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("clip-") && name.len() == 13, "{name}");
    let counts = json!({"rows": rows.len(), "of_images": rows.len(), "unknown": 0, "not_finite": 0, "zero": 0,
        "null": 0, "file": "clip.parquet", "ids": null, "by": "image_id"});
    assert_eq!(said["facts"]["from"], counts);
    assert_eq!(facts(&out, &embed)[0]["outcome"], "up_to_date");
    assert_eq!(embeddings(&out, &name), own, "bit for bit");
    let shard = Layout::shards(&out.join("pile/embeddings").join(&name)).expect("shards").remove(0);
    let metadata = Table::open(&shard, &[], 1).expect("opens").schema().metadata().clone();
    let bytes = std::fs::read(&table).expect("reads");
    assert_eq!(metadata["encoder"], name);
    assert_eq!(metadata["encoder_digest"], lapidary_pipeline::stage::digest_of_bytes(&bytes).0);

    let encoder = format!("embed.encoder={name}");
    facts(&out, &["curate", "--set", &truth, "--set", &encoder]);
    assert_eq!(decisions(&out), expected);
    // The file itself names its embeddings as well.
    let by_file = format!("embed.encoder={}", text(&table));
    assert_eq!(facts(&out, &["curate", "--set", &truth, "--set", &by_file])[0]["outcome"], "up_to_date");

    let paths = paths(&out);
    let matrix = folder.path().join("sscd.npy");
    write_npy(&matrix, &rows, "<f4", "False");
    let keys = folder.path().join("ids.parquet");
    let of_rows: StringArray = rows.iter().map(|row| Some(paths[&row.id].as_str())).collect();
    write_table(&keys, vec![("path", Arc::new(of_rows))]);
    let embed = ["embed", "--from", text(&matrix), "--ids", text(&keys), "--encoder-name", "sscd"];
    let said = facts(&out, &embed).remove(0);
    assert_eq!((&said["facts"]["encoder"], &said["facts"]["from"]["by"]), (&json!("sscd"), &json!("path")));
    assert_eq!(embeddings(&out, "sscd"), own);
    facts(&out, &["curate", "--set", &truth, "--set", "embed.encoder=sscd"]);
    assert_eq!(decisions(&out), expected);

    // A changed file makes its embeddings out of date, and other vectors decide otherwise.
    let state = |out: &Path| -> Value {
        let status: Value = serde_json::from_str(&say(&["status", "--out", text(out), "--json"])).expect("JSON");
        let stages = status.as_array().expect("a list").iter();
        stages.clone().find(|stage| stage["folder"] == "pile/embeddings/sscd").expect("there")["state"].clone()
    };
    assert_eq!(state(&out), "up_to_date");
    let next = |(index, row): (usize, &Row)| Row { id: row.id, ..rows[(index + 1) % rows.len()].clone() };
    let turned: Vec<Row> = rows.iter().enumerate().map(next).collect();
    write_npy(&matrix, &turned, "<f4", "False");
    assert_eq!(state(&out), "stale");
    assert_eq!(facts(&out, &embed)[0]["outcome"], "ran");
    assert_eq!(state(&out), "up_to_date");
    facts(&out, &["curate", "--set", &truth, "--set", "embed.encoder=sscd"]);
    assert_ne!(decisions(&out), expected);
}

/// An ingested and embedded pile.
fn embedded() -> (tempfile::TempDir, PathBuf, Vec<Row>) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    facts(&out, &["ingest", "--data", text(&DRAWN.pile())]);
    facts(&out, &["embed"]);
    let rows = embeddings(&out, "descriptor");
    (folder, out, rows)
}

#[test]
fn what_is_set_aside_is_counted_and_each_form_is_read() {
    let (folder, out, own) = embedded();
    let dim = own[0].vector.as_ref().expect("a vector").len();
    let mut rows = shuffled(&own);
    let nan: Vec<f32> = [vec![f32::NAN], vec![0.5; dim - 1]].concat();
    let infinite: Vec<f32> = [vec![f32::INFINITY], vec![0.5; dim - 1]].concat();
    let odd = [Some(vec![1.0; dim]), Some(vec![2.0; dim]), Some(nan), Some(infinite), Some(vec![0.0; dim]), None];
    for (index, vector) in odd.into_iter().enumerate() {
        rows.insert(index * 7, Row { id: index as u64, vector });
    }
    let table = folder.path().join("more.parquet");
    let texts: StringArray = rows.iter().map(|row| Some(format!("{:016x}", row.id))).collect();
    write_table(&table, vec![("embedding", lists(&rows)), ("image_id", Arc::new(texts))]);
    let said = facts(&out, &["embed", "--from", text(&table), "--encoder-name", "more"]).remove(0);
    let expected = json!({"rows": rows.len(), "of_images": own.len(), "unknown": 2, "not_finite": 2, "zero": 1,
        "null": 1, "file": "more.parquet", "ids": null, "by": "image_id"});
    assert_eq!(said["facts"]["from"], expected);
    assert_eq!(said["rows"], json!({"input": rows.len(), "output": own.len(), "rejected": 6}));
    assert_eq!(embeddings(&out, "more"), own);

    // A matrix alone is of the images in the order of their ids, and the line says so. What is longer than 1 is scaled.
    let matrix = folder.path().join("ordered.npy");
    let twice =
        |row: &Row| Row { id: row.id, vector: row.vector.as_ref().map(|v| v.iter().map(|x| x * 2.0).collect()) };
    write_npy(&matrix, &own.iter().map(twice).collect::<Vec<_>>(), "<f8", "False");
    let lines = say(&["embed", "--from", text(&matrix), "--encoder-name", "ordered", "--out", text(&out)]);
    assert!(lines.contains("in the order of their ids") && lines.contains("embed.encoder=ordered"), "{lines}");
    for (row, expected) in embeddings(&out, "ordered").iter().zip(&own) {
        let pairs = row.vector.iter().flatten().zip(expected.vector.iter().flatten());
        assert!(row.id == expected.id && pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-6), "{:016x}", row.id);
    }
}

#[test]
fn vectors_that_do_not_fit_are_refused_by_name() {
    let (folder, out, own) = embedded();
    let rows = shuffled(&own);
    let paths = paths(&out);
    let refused = |arguments: &[&str]| refusal(&[&["embed"], arguments, &["--out", text(&out)]].concat());
    let table = folder.path().join("t.parquet");
    let of_rows = |rows: &[Row]| {
        write_table(&table, vec![("image_id", ids(rows)), ("embedding", lists(rows))]);
        let (code, error) = refused(&["--from", text(&table)]);
        assert_eq!(code, 1, "{error}");
        error
    };
    let changed = |change: fn(&mut Vec<Row>)| {
        let mut rows = rows.clone();
        change(&mut rows);
        of_rows(&rows)
    };
    let error = changed(|rows| rows[5].vector.as_mut().expect("a vector").truncate(511));
    assert!(error.contains("(row 5) has 511 values, that of row 0 has 512"), "{error}");
    let error = changed(|rows| rows[9].id = rows[4].id);
    let twice = format!("image `{:016x}` has two vectors, in the rows 4 and 9", rows[4].id);
    assert!(error.contains(&twice), "{error}");
    let error = changed(|rows| rows.truncate(rows.len() - 5));
    let mut gone: Vec<u64> = rows[rows.len() - 5..].iter().map(|row| row.id).collect();
    gone.sort_unstable();
    let names: Vec<String> = gone[..3].iter().map(|id| format!("`{}`", paths[id])).collect();
    let missing = format!("5 of {} images have no vector: {}, ...", rows.len(), names.join(", "));
    assert!(error.contains(&missing) && error.contains("ingest again"), "{error}");
    let error = changed(|rows| rows[3].vector.as_mut().expect("a vector")[7] = f32::NAN);
    assert!(
        error.contains("1 of ") && error.contains(&paths[&rows[3].id]) && error.contains("1 not finite"),
        "{error}"
    );
    let error = changed(|rows| rows[3].vector.as_mut().expect("a vector").fill(0.0));
    assert!(error.contains(&paths[&rows[3].id]) && error.contains("1 zero"), "{error}");
    let error = changed(|rows| rows.iter_mut().for_each(|row| row.id ^= 1 << 40));
    assert!(error.contains(&format!("none of its {} rows is of an image here", rows.len())), "{error}");
    let error = changed(|rows| rows.clear());
    assert!(error.contains("holds no vectors"), "{error}");
    write_table(&table, vec![("name", ids(&rows)), ("embedding", lists(&rows))]);
    let (_, error) = refused(&["--from", text(&table)]);
    assert!(error.contains("no column `image_id`, `path` or `file_name`"), "{error}");
    write_table(&table, vec![("image_id", ids(&rows)), ("vector", lists(&rows))]);
    assert!(refused(&["--from", text(&table)]).1.contains("no column `embedding`"));
    std::fs::write(&table, b"PAR1 and no more").expect("writes");
    assert_eq!(refused(&["--from", text(&table)]).0, 1);

    let matrix = folder.path().join("m.npy");
    let keys = folder.path().join("keys.parquet");
    write_table(&keys, vec![("image_id", ids(&rows[1..]))]);
    write_npy(&matrix, &rows, "<f4", "True");
    let (code, error) = refused(&["--from", text(&matrix)]);
    assert!(code == 1 && error.contains("Fortran order"), "{error}");
    write_npy(&matrix, &rows, ">f4", "False");
    assert!(refused(&["--from", text(&matrix)]).1.contains("'>f4'"));

    // Wrong usage.
    write_npy(&matrix, &rows[1..], "<f4", "False");
    let usage = |arguments: &[&str], part: &str| {
        let (code, error) = refused(arguments);
        assert!(code == 2 && error.contains(part), "{arguments:?}: {code}: {error}");
    };
    usage(&["--from", text(&matrix)], "--ids IDS.parquet");
    write_npy(&matrix, &rows, "<f4", "False");
    usage(&["--from", text(&matrix), "--ids", text(&keys)], "one id or path for each row");
    usage(&["--from", text(&table), "--ids", text(&keys)], "--ids goes with an .npy file");
    usage(&["--from", text(&folder.path().join("v.csv"))], "neither .parquet nor .npy");
    usage(&["--ids", text(&keys)], "--from");
    usage(&["--from", text(&matrix), "--encoder", "descriptor"], "--encoder");
    usage(&["--from", text(&matrix), "--encoder-name", "descriptor"], "built-in");
    usage(&["--from", text(&matrix), "--encoder-name", "../up"], "the name `../up`");

    // Nothing of all this is left, and what was there is as it was.
    let left = std::fs::read_dir(out.join("pile/embeddings")).expect("lists");
    let mut left: Vec<String> = left.map(|e| e.expect("reads").file_name().to_string_lossy().into_owned()).collect();
    left.retain(|name| !name.ends_with(".lock"));
    assert_eq!(left, ["descriptor"]);
    assert_eq!(embeddings(&out, "descriptor"), own);
}
