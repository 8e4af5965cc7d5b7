//! The Arrow schemas of every table, one function each, and the names of their columns.
//!
//! Readers find columns by name; writers build batches in the order given here. `images` carries the `huggingface`
//! schema metadata, so that `datasets.load_dataset` opens it as pictures with class names; the JSON sits in the Arrow
//! schema because pyarrow restores it from the embedded `ARROW:schema`.

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// The file every stage's folder ends with.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Inputs that are not in `images`, beside its shards.
pub const REJECTS_FILE: &str = "rejects.parquet";
/// The curation's tables.
pub const DUPLICATES_FILE: &str = "duplicates.parquet";
/// Cluster of each kept image at each level.
pub const CLUSTERS_FILE: &str = "clusters.parquet";
/// One row an image: its rank or why it has none.
pub const DECISIONS_FILE: &str = "decisions.parquet";
/// A subset: rank and image id.
pub const SUBSET_FILE: &str = "ids.parquet";

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn nullable(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(nullable("item", item)))
}

/// Fields of the `image` struct, as Hugging Face `datasets` has them: bytes first, path second, both nullable.
pub fn image_fields() -> Fields {
    vec![nullable("bytes", DataType::Binary), nullable("path", DataType::Utf8)].into()
}

/// Fields of one annotation. `bbox` is x, y, width, height in pixels; `area` is in square pixels.
pub fn annotation_fields() -> Fields {
    vec![
        nullable("category_id", DataType::Int64),
        nullable("bbox", list_of(DataType::Float32)),
        nullable("area", DataType::Float32),
        nullable("iscrowd", DataType::Boolean),
    ]
    .into()
}

/// `images`: one row an image, sorted by `image_id`.
///
/// `labels` holds the distinct classes of the image as indices into `classes`, `label` the one that fills most of it
/// (null when the source says nothing). `phash` is the 64-bit DCT hash of the decoded image.
pub fn images(classes: &[String]) -> SchemaRef {
    let fields = vec![
        field("image_id", DataType::UInt64),
        field("digest", DataType::Utf8),
        nullable("image", DataType::Struct(image_fields())),
        field("width", DataType::UInt32),
        field("height", DataType::UInt32),
        field("format", DataType::Utf8),
        field("split", DataType::Utf8),
        field("source", DataType::Utf8),
        nullable("url", DataType::Utf8),
        nullable("license", DataType::Utf8),
        nullable("annotations", list_of(DataType::Struct(annotation_fields()))),
        nullable("labels", list_of(DataType::Int64)),
        nullable("label", DataType::Int64),
        field("phash", DataType::UInt64),
    ];
    let metadata = HashMap::from([("huggingface".to_owned(), huggingface_features(classes).to_string())]);
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// The `huggingface` metadata of `images`: a feature for each column, class names on `label` and `labels`.
fn huggingface_features(classes: &[String]) -> Value {
    let value = |dtype: &str| json!({"dtype": dtype, "_type": "Value"});
    let list = |feature: Value| json!({"feature": feature, "_type": "List"});
    // datasets refuses a ClassLabel without names.
    let class = if classes.is_empty() { value("int64") } else { json!({"names": classes, "_type": "ClassLabel"}) };
    json!({"info": {"features": {
        "image_id": value("uint64"),
        "digest": value("string"),
        "image": {"_type": "Image"},
        "width": value("uint32"),
        "height": value("uint32"),
        "format": value("string"),
        "split": value("string"),
        "source": value("string"),
        "url": value("string"),
        "license": value("string"),
        "annotations": list(json!({
            "category_id": value("int64"),
            "bbox": list(value("float32")),
            "area": value("float32"),
            "iscrowd": value("bool"),
        })),
        "labels": list(class.clone()),
        "label": class,
        "phash": value("uint64"),
    }}})
}

/// `rejects`: one row an input that is not in `images`. `offset_bytes` is its place when it lay in an archive or table.
pub fn rejects() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("path", DataType::Utf8),
        nullable("offset_bytes", DataType::Int64),
        field("reason", DataType::Utf8),
        field("detail", DataType::Utf8),
    ]))
}

/// `embeddings`: one row an image, sorted by `image_id`; L2-normalised, `dim` values of f32.
///
/// The encoder's name and digest stand in the schema metadata (`encoder`, `encoder_digest`).
pub fn embeddings(dim: usize, encoder: &str, encoder_digest: &str) -> SchemaRef {
    let dim = i32::try_from(dim).expect("an embedding has fewer than 2^31 values");
    let item = Arc::new(field("item", DataType::Float32));
    Arc::new(Schema::new_with_metadata(
        vec![field("image_id", DataType::UInt64), field("embedding", DataType::FixedSizeList(item, dim))],
        HashMap::from([
            ("encoder".to_owned(), encoder.to_owned()),
            ("encoder_digest".to_owned(), encoder_digest.to_owned()),
        ]),
    ))
}

/// `duplicates`: one row an image that shares its group with another, sorted by group then `image_id`.
///
/// `similarity` is the cosine to the representative; `neighbour` is the image that tied this one in, by `kind`.
pub fn duplicates() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("image_id", DataType::UInt64),
        field("group", DataType::UInt32),
        field("representative", DataType::UInt64),
        field("kind", DataType::Utf8),
        field("similarity", DataType::Float32),
        field("hash_distance_bits", DataType::UInt32),
        field("neighbour", DataType::UInt64),
    ]))
}

/// `clusters`: one row a kept image, sorted by `image_id`; its cluster at each level (1 is the finest) and its L2
/// distance to that cluster's centroid. The centroids lie in `centroids-level-L.parquet`.
pub fn clusters(levels: usize) -> SchemaRef {
    let mut fields = vec![field("image_id", DataType::UInt64)];
    for level in 1..=levels {
        fields.push(field(&format!("cluster_level_{level}"), DataType::UInt32));
        fields.push(field(&format!("distance_level_{level}"), DataType::Float32));
    }
    Arc::new(Schema::new(fields))
}

/// `centroids-level-L`: one row a cluster; `parent` is its cluster at the next level, null at the top.
pub fn centroids(dim: usize) -> SchemaRef {
    let dim = i32::try_from(dim).expect("an embedding has fewer than 2^31 values");
    Arc::new(Schema::new(vec![
        field("cluster", DataType::UInt32),
        nullable("parent", DataType::UInt32),
        field("images", DataType::UInt32),
        field("centroid", DataType::FixedSizeList(Arc::new(field("item", DataType::Float32)), dim)),
    ]))
}

/// `decisions`: one row an image; the ranked first, by rank, then the excluded by `image_id`.
///
/// `rank` counts from 0 and is null when the image is excluded. `leaf` and `leaf_position` say from which finest cluster
/// an image was kept and as its how-manieth; `duplicate_of`, `similarity` and `neighbour` why another was not.
pub fn decisions() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("image_id", DataType::UInt64),
        nullable("rank", DataType::UInt32),
        field("reason", DataType::Utf8),
        nullable("leaf", DataType::UInt32),
        nullable("leaf_position", DataType::UInt32),
        nullable("duplicate_of", DataType::UInt64),
        nullable("similarity", DataType::Float32),
        nullable("neighbour", DataType::UInt64),
    ]))
}

/// `ids` of a subset: rank and image id, by rank.
pub fn subset() -> SchemaRef {
    Arc::new(Schema::new(vec![field("rank", DataType::UInt32), field("image_id", DataType::UInt64)]))
}

/// `plan`: one row a view, in training order.
///
/// `position` is the image's place in the epoch. `crop_*_px` is the box in the decoded image. Jitter factors are 1 (hue 0)
/// and `jitter_order` is [`NO_JITTER`] when no jitter applies; `blur_radius_px` is 0 when no blur does.
pub fn plan() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("epoch", DataType::UInt32),
        field("position", DataType::UInt32),
        field("image_id", DataType::UInt64),
        field("view", DataType::UInt8),
        field("kind", DataType::Utf8),
        field("size_px", DataType::UInt16),
        field("interpolation", DataType::Utf8),
        field("crop_x_px", DataType::UInt16),
        field("crop_y_px", DataType::UInt16),
        field("crop_width_px", DataType::UInt16),
        field("crop_height_px", DataType::UInt16),
        field("flip", DataType::Boolean),
        field("brightness", DataType::Float32),
        field("contrast", DataType::Float32),
        field("saturation", DataType::Float32),
        field("hue", DataType::Float32),
        field("jitter_order", DataType::UInt8),
        field("grayscale", DataType::Boolean),
        field("blur_radius_px", DataType::Float32),
        field("blur", DataType::Utf8),
        field("solarize", DataType::Boolean),
    ]))
}

/// `jitter_order` of a view without colour jitter; else it is the index (0 to 23) of a permutation of the four factors.
pub const NO_JITTER: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_column_has_a_huggingface_feature() {
        let schema = images(&["cat".to_owned()]);
        let features: Value = serde_json::from_str(&schema.metadata()["huggingface"]).expect("JSON");
        let features = features["info"]["features"].as_object().expect("an object");
        let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(features.keys().map(String::as_str).collect::<Vec<_>>(), columns);
        // `datasets` drops the feature of a column that is not nullable, and its pictures become bytes.
        for (column, feature) in schema.fields().iter().zip(features.values()) {
            assert!(column.is_nullable() || feature["_type"] == "Value", "{column}");
        }
    }
}
