//! The Arrow schemas of every table, one function each, and the names of their columns.
//!
//! Readers find columns by name; writers build batches in the order given here. `images` carries the `huggingface`
//! schema metadata, so that `datasets.load_dataset` opens it as pictures with class names; the JSON sits in the Arrow
//! schema because pyarrow restores it from the embedded `ARROW:schema`.

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Key of `images`' schema metadata: category ids of the classes and their records, as JSON (`{"category_ids": [...],
/// "categories": [...], "licenses": [...]}`), so that a shard without its manifest still says what its annotations mean.
pub const LAPIDARY_KEY: &str = "lapidary";
/// The file every stage's folder ends with.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Inputs that are not in `images`, beside its shards.
pub const REJECTS_FILE: &str = "rejects.parquet";
/// What a source listed when it was ingested, beside the shards.
pub const LISTING_FILE: &str = "listing.parquet";
/// The curation's tables.
pub const DUPLICATES_FILE: &str = "duplicates.parquet";
/// Pairs of images with evidence that one is a copy of the other.
pub const PAIRS_FILE: &str = "pairs.parquet";
/// The map that whitens embeddings.
pub const WHITENING_FILE: &str = "whitening.parquet";
/// The images that were compared for copies.
pub const COMPARED_FILE: &str = "compared.parquet";
/// The images that stay: of each group its representative, or those that seeds retrieve.
pub const KEPT_FILE: &str = "kept.parquet";
/// The images that seeds retrieve.
pub const RETRIEVED_FILE: &str = "retrieved.parquet";
/// How often each keypoint occurs elsewhere.
pub const RARITY_FILE: &str = "rarity.parquet";
/// FAISS's index over the embeddings, where there are too many for an exact search.
pub const INDEX_FILE: &str = "neighbours.faiss";
/// The images in that index, in its order.
pub const INDEXED_FILE: &str = "indexed.parquet";
/// Cluster of each kept image at each level.
pub const CLUSTERS_FILE: &str = "clusters.parquet";
/// One row an image: its rank or why it has none.
pub const DECISIONS_FILE: &str = "decisions.parquet";
/// A subset: rank and image id.
pub const SUBSET_FILE: &str = "ids.parquet";

/// The centroids of a level, counted from 1, the finest.
pub fn centroids_file(level: usize) -> String {
    format!("centroids-level-{level}.parquet")
}

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

/// Fields of one annotation. `bbox` is x, y, width, height in pixels; `area` is in square pixels; `record` is the object as
/// its source wrote it (JSON: its own ids, segmentation, keypoints and whatever else), null when there is no more to it.
pub fn annotation_fields() -> Fields {
    vec![
        nullable("category_id", DataType::Int64),
        nullable("bbox", list_of(DataType::Float32)),
        nullable("area", DataType::Float32),
        nullable("iscrowd", DataType::Boolean),
        nullable("record", DataType::Utf8),
    ]
    .into()
}

/// `listing`: one row an input that was fetched, whether it was rejected or not, sorted by image id.
///
/// `stamp` is the first half of a BLAKE3 over what the source says of the input (split, url, license, objects, label) and
/// over a file's length and time, or the bytes of a row: an input with the same path and stamp is the same.
pub fn listing() -> SchemaRef {
    Arc::new(Schema::new(vec![field("path", DataType::Utf8), field("stamp", DataType::FixedSizeBinary(16))]))
}

/// `images`: one row an image, sorted by `image_id` among those that were ingested at once.
///
/// `labels` holds the distinct classes of the image as indices into `classes`, `label` the one that fills most of it
/// (null when the source says nothing). `phash` is the 64-bit DCT hash of the decoded image. `record` is the image's own entry
/// in the source's annotations (JSON), and `records` holds those of its annotations that are no objects with a box: captions,
/// bare masks, odd ones. Tables of before ingest's version 4 lack the two and the annotations' `record`.
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
        nullable("record", DataType::Utf8),
        nullable("records", list_of(DataType::Utf8)),
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
            "record": value("string"),
        })),
        "labels": list(class.clone()),
        "label": class,
        "phash": value("uint64"),
        "record": value("string"),
        "records": list(value("string")),
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

/// `fingerprints`: one row an image, sorted by `image_id`; what is kept of its pixels to find its copies and to judge it.
///
/// `pdq` holds eight 256-bit hashes of 32 bytes, little-endian: of the image as it is, mirrored, upside down, turned by half,
/// transposed, turned left, turned right, transposed along the other diagonal. `thumbnail` is 32 x 32 luma, row after row, `detail`
/// 64 x 64;
/// `mean_rgb` the mean level of red, green and blue.
/// A keypoint is four little-endian u16: x and y in 64ths of a working pixel, sigma in 256ths, angle in 65,536ths of a turn;
/// its signature 32 bytes; the strongest first. The measures are those of `lapidary_curate::Quality`.
pub fn fingerprints() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("image_id", DataType::UInt64),
        field("pdq", DataType::FixedSizeBinary(256)),
        field("pdq_quality", DataType::UInt8),
        field("brightness_p99", DataType::Float32),
        field("brightness_p5", DataType::Float32),
        field("entropy_bits", DataType::Float32),
        field("sharpness", DataType::Float32),
        field("aspect", DataType::Float32),
        field("short_side_px", DataType::UInt32),
        field("grayscale", DataType::Boolean),
        field("thumbnail", DataType::FixedSizeBinary(1024)),
        field("detail", DataType::FixedSizeBinary(4096)),
        field("mean_rgb", DataType::FixedSizeBinary(3)),
        field("working_width_px", DataType::UInt16),
        field("working_height_px", DataType::UInt16),
        field("keypoints", DataType::Binary),
        field("signatures", DataType::Binary),
    ]))
}

/// `pairs`: one row a pair of images with evidence that one is a copy of the other, the strongest first.
///
/// `score` (0 to 1) links the two from `curate.score_min` on. `hash_distance_bits` is the distance of their PDQ hashes with `a`
/// under the dihedral transform `turn` (of an image and its negative nearly 256, and the correlation near -1), `correlation` that of
/// their thumbnails, `similarity` the cosine of their embeddings;
/// `inliers` keypoints of `a`, `rare` when counted by their rarity, lie in `b` where the affine map `map` carries them (working pixels:
/// x' = m0 x + m1 y + m2, y' = m3 x + m4 y + m5), out of `visible_a` that could and `visible_b` the other way; under it `a`
/// covers the share `covered_b` of `b` and `b` the share `covered_a` of `a`; the share `agreement` of what both show agrees, and
/// correlates to `agreeing_correlation`. What was not looked for is null.
pub fn pairs() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("a", DataType::UInt64),
        field("b", DataType::UInt64),
        field("path_a", DataType::Utf8),
        field("path_b", DataType::Utf8),
        field("score", DataType::Float32),
        field("kind", DataType::Utf8),
        nullable("similarity", DataType::Float32),
        nullable("hash_distance_bits", DataType::UInt32),
        nullable("turn", DataType::Utf8),
        nullable("correlation", DataType::Float32),
        nullable("inliers", DataType::UInt32),
        nullable("rare", DataType::Float32),
        nullable("visible_a", DataType::UInt32),
        nullable("visible_b", DataType::UInt32),
        nullable("covered_a", DataType::Float32),
        nullable("covered_b", DataType::Float32),
        nullable("agreement", DataType::Float32),
        nullable("agreeing_correlation", DataType::Float32),
        nullable("map", list_of(DataType::Float32)),
    ]))
}

/// `duplicates`: one row an image that shares its group with another, sorted by group then `image_id`.
///
/// `representative` stands for the image, and is itself when the image stays; `neighbour` is the image that linked this one
/// in, by `kind` and `score`; `contaminates` is an image of an evaluation set that the group holds.
pub fn duplicates() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("image_id", DataType::UInt64),
        field("path", DataType::Utf8),
        field("group", DataType::UInt32),
        field("representative", DataType::UInt64),
        field("kind", DataType::Utf8),
        field("score", DataType::Float32),
        field("neighbour", DataType::UInt64),
        nullable("contaminates", DataType::UInt64),
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

/// A shard of `assignment`: one row an image of the shard of embeddings of its name, in its order; `cluster` is the image's finest
/// one, `distance` the L2 distance to its centroid.
pub fn assigned() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("image_id", DataType::UInt64),
        field("cluster", DataType::UInt32),
        field("distance", DataType::Float32),
    ]))
}

/// `compared`: one row an image that was compared with the others, those of the source first, sorted by `image_id`.
///
/// With `pairs` it is all that groups are made of: `digest` is the first 8 bytes, big-endian, of the BLAKE3 of its bytes, by which
/// an image is known to be still the same; `pixels` and `digest` say which of a group is its representative; the size of the
/// working image says where the parts of a collage lie. `source` names the evaluation set that an image comes from, and is null
/// for the source's own.
pub fn compared() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("image_id", DataType::UInt64),
        field("digest", DataType::UInt64),
        field("pixels", DataType::UInt64),
        field("working_width_px", DataType::Float32),
        field("working_height_px", DataType::Float32),
        field("path", DataType::Utf8),
        nullable("source", DataType::Utf8),
    ]))
}

/// `kept`: one row an image that stays, sorted by `image_id`, with `digest` as in [`compared`]. `groups` has those that are nobody's
/// copy; `clusters` has those of them that the tree holds, all where there are no seeds.
pub fn kept() -> SchemaRef {
    Arc::new(Schema::new(vec![field("image_id", DataType::UInt64), field("digest", DataType::UInt64)]))
}

/// `retrieved`: one row an image that a seed retrieved, sorted by `image_id`, with its cosine to the nearest seed that did. Only
/// where there are seeds.
pub fn retrieved() -> SchemaRef {
    Arc::new(Schema::new(vec![field("image_id", DataType::UInt64), field("similarity", DataType::Float32)]))
}

/// `rarity`: one row an image with keypoints that were matched, sorted by `image_id`; `met` holds a byte for each of its
/// keypoints, in the order of `fingerprints`: in how many other groups, and at how many other places of its own image, it
/// was met, up to 255.
pub fn rarity() -> SchemaRef {
    Arc::new(Schema::new(vec![field("image_id", DataType::UInt64), field("met", DataType::Binary)]))
}

/// `indexed`: one row a vector of the index over embeddings, in its order; `u64::MAX` where its image has gone or was touched
/// since.
pub fn indexed() -> SchemaRef {
    Arc::new(Schema::new(vec![field("image_id", DataType::UInt64)]))
}

/// `whitening`: row 0 is what the zero vector is carried to, row `i + 1` what a unit of value `i` adds to it.
pub fn whitening(dim: usize) -> SchemaRef {
    let dim = i32::try_from(dim).expect("an embedding has fewer than 2^31 values");
    let list = DataType::FixedSizeList(Arc::new(field("item", DataType::Float32)), dim);
    Arc::new(Schema::new(vec![field("row", DataType::UInt32), field("values", list)]))
}

/// `decisions`: one row an image; the ranked first, by rank, then the excluded by `image_id`.
///
/// `rank` counts from 0 and is null when the image is excluded. `leaf` and `leaf_position` say from which finest cluster
/// an image was kept and as its how-manieth; `duplicate_of`, `score` and `neighbour` why another was not; `detail` says the
/// rest for a reader. `issues` lists the codes of the image's quality issues, which do not exclude it by themselves.
pub fn decisions() -> SchemaRef {
    Arc::new(Schema::new(vec![
        field("image_id", DataType::UInt64),
        nullable("rank", DataType::UInt32),
        field("reason", DataType::Utf8),
        nullable("leaf", DataType::UInt32),
        nullable("leaf_position", DataType::UInt32),
        nullable("duplicate_of", DataType::UInt64),
        nullable("score", DataType::Float32),
        nullable("neighbour", DataType::UInt64),
        nullable("detail", DataType::Utf8),
        field("issues", list_of(DataType::Utf8)),
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
