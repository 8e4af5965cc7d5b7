//! Valid inputs of every target, to begin from: images of all kinds that people have (those of tests/golden/formats.py), and
//! tables and texts that are written here.

use arrow::array::{
    ArrayRef, BinaryArray, DictionaryArray, Int64Array, LargeBinaryArray, RecordBatch, StringArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema};
use lapidary_pipeline::cli::{resolve, to_toml};
use lapidary_pipeline::stage::{TableWriter, table_properties};
use lapidary_schemas::PRESETS;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The corpus of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let texts = |texts: Vec<String>| texts.into_iter().map(String::into_bytes).collect();
    match target {
        "jpeg" => images(|b| b.starts_with(&[0xff, 0xd8])),
        "png" => images(|b| b.starts_with(b"\x89PNG")),
        "gif" => images(|b| b.starts_with(b"GIF8")),
        "tiff" => images(|b| b.starts_with(b"II") || b.starts_with(b"MM")),
        "bmp" => images(|b| b.starts_with(b"BM")),
        "webp" => images(|b| b.starts_with(b"RIFF")),
        "coco_json" => texts(coco()),
        "parquet" => parquet(),
        "manifest" => texts(manifests()),
        "safetensors" => checkpoints(),
        "weights" => weights(),
        "npy" => matrices(),
        "truth_csv" => texts(vec![
            "path,copy_of,kind\nb.jpg,a.jpg,crop\nx.jpg,,broken\n".to_owned(),
            "path,copy_of,kind\r\n\"c, d.jpg\",\"the \"\"best\"\"\n.jpg\",flip\r\na.jpg,b.jpg,exact".to_owned(),
            "\u{feff}path,copy_of,kind\n\u{e9}.jpg,a.jpg,crop\n".to_owned(),
        ]),
        "pairs_csv" => texts(vec![
            "a,b,score\na.jpg,b.jpg,0.9\na.jpg,\"c, d.jpg\",0.5\n".to_owned(),
            "a.jpg,b.jpg,1\r\nb.jpg,a.jpg,-1e-3,more\r\n".to_owned(),
            "\"x\n\"\"y\"\"\",z,inf\nz,z,0\n".to_owned(),
        ]),
        "config_toml" => texts(configurations()),
        other => panic!("no corpus for `{other}`"),
    }
}

fn images(is_of_kind: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/formats.safetensors");
    let bytes = std::fs::read(path).expect("golden data");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut files: Vec<Vec<u8>> = tensors
        .tensors()
        .into_iter()
        .filter(|(name, _)| name.starts_with("file."))
        .map(|(_, tensor)| tensor.data().to_vec())
        .filter(|file| file.len() < 20_000 && is_of_kind(file))
        .collect();
    // The order of the tensors in the file is the writer's business.
    files.sort();
    files
}

fn coco() -> Vec<String> {
    let images = json!([
        {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30, "license": 1, "coco_url": "http://x/a.jpg"},
        {"id": 2, "file_name": "b.jpg", "width": 40, "height": 30, "license": 2, "flickr_url": "http://x/b"},
        {"id": 3, "file_name": "c.jpg", "width": 40, "height": 30, "date_captured": "2013-11-14 17:02:52"},
    ]);
    let objects = json!([
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1.5, 2, 3, 4], "area": 12.0, "iscrowd": 0,
         "segmentation": [[1, 2, 4, 2, 4, 6]]},
        {"id": 2, "image_id": 2, "category_id": 7, "bbox": [0, 0, 40, 30], "area": 1200, "iscrowd": 1,
         "segmentation": {"size": [30, 40], "counts": [0, 1200]}},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [5, 5, 1, 1], "area": 1, "iscrowd": 0, "num_keypoints": 1,
         "segmentation": {"size": [30, 40], "counts": "PPYo0"}, "keypoints": [5, 5, 2, 0, 0, 0]},
        {"id": 4, "image_id": 3, "caption": "a scene"},
    ]);
    let categories = json!([
        {"id": 1, "name": "cat", "supercategory": "animal"},
        {"id": 7, "name": "person", "keypoints": ["nose", "eye"], "skeleton": [[1, 2]]},
    ]);
    let licenses = json!([{"id": 1, "name": "CC0", "url": ""}, {"id": 2, "name": "CC BY", "url": "http://cc"}]);
    let whole = json!({"info": {"year": 2017}, "images": images, "annotations": objects, "categories": categories,
                       "licenses": licenses});
    let only_images = json!({"images": images, "categories": categories});
    let odd = json!({"images": [{"id": "x", "file_name": "./a.jpg"}, {"id": 1.0, "file_name": "sub/../b.jpg"}],
                     "annotations": [{"id": null, "image_id": 1, "category_id": 1, "bbox": [], "area": null,
                                      "iscrowd": true}], "categories": []});
    [whole.to_string(), serde_json::to_string_pretty(&whole).expect("JSON"), only_images.to_string(), odd.to_string()]
        .into_iter()
        .chain([format!("\u{feff}{only_images}")])
        .collect()
}

fn parquet() -> Vec<Vec<u8>> {
    let pictures: Vec<&[u8]> = vec![b"first", b"", b"\xff\xd8\xff\xe0", b"the fourth picture, which is longer"];
    let paths = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"];
    let labels: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), None, Some(-1)]));
    let fields: Fields =
        vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)].into();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BinaryArray::from(pictures.iter().map(|p| Some(*p)).collect::<Vec<_>>())),
        Arc::new(StringArray::from(paths.to_vec())),
    ];
    let image: ArrayRef = Arc::new(StructArray::new(fields.clone(), columns, None));
    let large: ArrayRef = Arc::new(LargeBinaryArray::from(pictures.clone()));
    let plain: ArrayRef = Arc::new(BinaryArray::from(pictures));
    let classes: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::from_iter(["cat", "dog", "cat", "cat"]));
    let about = json!({"info": {"features": {
        "image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}});
    let tables = [
        vec![("image", image.clone()), ("label", labels.clone())],
        vec![("img", large), ("label", labels.clone())],
        vec![("image", plain), ("label", classes)],
        vec![("image", image)],
        vec![("label", labels)],
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let write = |columns: &Vec<(&str, ArrayRef)>| {
        let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
        let metadata = [("huggingface".to_owned(), about.to_string())].into();
        let fields = columns.iter().map(field).collect::<Vec<_>>();
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
        let batch = RecordBatch::try_new(schema.clone(), arrays).expect("a batch");
        let path = folder.path().join("table.parquet");
        let mut table = TableWriter::create_with(&path, schema, table_properties().build()).expect("creates");
        table.write(&batch).expect("writes");
        table.end_row_group().expect("writes");
        table.write(&batch).expect("writes");
        table.finish().expect("writes");
        std::fs::read(&path).expect("reads")
    };
    tables.iter().map(write).collect()
}

fn manifests() -> Vec<String> {
    let whole: Value = json!({
        "stage": "ingest", "version": 3, "lapidary": "0.1.0", "config": {"name": "a", "ingest": {"max_bytes": 9}},
        "inputs": {"/data/a": "00ff"}, "key": "11", "digest": "22", "extends": ["33"],
        "rows": {"input": 3, "output": 2, "rejected": 1},
        "outputs": {"part-00000.parquet": {"rows": 2, "bytes": 99, "digest": "44"}},
        "facts": {"classes": ["cat"]}, "wall_secs": 0.5, "rows_per_sec": 6.0, "peak_memory_mib": 40.0,
    });
    vec![whole.to_string(), serde_json::to_string_pretty(&whole).expect("JSON")]
}

fn checkpoints() -> Vec<Vec<u8>> {
    let values: Vec<u8> = [0.5f32, -1.0, 3.25, f32::MIN_POSITIVE].iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = |shape: &[usize]| TensorView::new(Dtype::F32, shape.to_vec(), &values).expect("four values");
    let about = [("lapidary".to_owned(), r#"{"format": "lapidary checkpoint 1", "step": 3}"#.to_owned())].into();
    let two = vec![("student.backbone.a", view(&[2, 2])), ("teacher.backbone.a", view(&[4]))];
    let none: Vec<(&str, TensorView<'_>)> = Vec::new();
    vec![
        safetensors::serialize(two, Some(about)).expect("serialises"),
        safetensors::serialize(none, None).expect("serialises"),
    ]
}

/// Weights of other libraries (tests/golden/weights.py), those that must be refused among them.
fn weights() -> Vec<Vec<u8>> {
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("golden data");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let cases = list(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/weights"));
    let files = cases.iter().filter(|path| path.is_dir()).flat_map(|case| list(case));
    let is_weights = |path: &PathBuf| path.extension().is_some_and(|extension| extension != "json");
    files.filter(is_weights).map(|path| std::fs::read(path).expect("reads")).collect()
}

/// Matrices as NumPy writes them, and some that must be refused.
fn matrices() -> Vec<Vec<u8>> {
    let matrix = |version: u8, descr: &str, fortran: &str, shape: &str, value_bytes: usize| {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
        while !(header.len() + 11).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        let length = (header.len() as u32).to_le_bytes();
        bytes.extend(&length[..if version == 1 { 2 } else { 4 }]);
        bytes.extend(header.as_bytes());
        bytes.extend((0..12 * value_bytes).map(|i| (i * 37) as u8));
        bytes
    };
    vec![
        matrix(1, "<f4", "False", "(3, 4)", 4),
        matrix(2, "<f2", "False", "(4, 3)", 2),
        matrix(1, "<f8", "False", "(12, 1)", 8),
        matrix(1, ">f4", "False", "(3, 4)", 4),
        matrix(1, "<f4", "True", "(3, 4)", 4),
        matrix(3, "<f4", "False", "(3, 4)", 4),
    ]
}

fn configurations() -> Vec<String> {
    let resolved = |name: Option<&str>| to_toml(&resolve(name, None, &[]).expect("a preset resolves"));
    let presets = PRESETS.iter().map(|(_, text)| (*text).to_owned());
    presets
        .chain([resolved(None), resolved(Some("demo")), "[ingest]\nmax_pixels = 3\nicc = \"convert\"\n".to_owned()])
        .collect()
}
