//! An annotation's `segmentation`: a list of polygons, or run lengths with their size.

use super::Mask;
use super::polygon::of_polygon;
use super::run_lengths::{counts_of_text, of_counts};
use serde_json::Value;

/// What an annotation says of its pixels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Segmentation {
    /// Nothing, or an empty list.
    Absent,
    /// Something that is no mask of this image.
    Bad,
    /// Its pixels.
    Whole(Mask),
}

impl Segmentation {
    /// Of an annotation's record, in an image of this width and height. Parts of a polygon with fewer than three corners fill
    /// nothing when another part does (pycocotools takes four numbers for a box: here they are no polygon).
    pub(crate) fn of(record: &Value, size_px: (u32, u32)) -> Self {
        match &record["segmentation"] {
            Value::Null => Self::Absent,
            Value::Array(parts) if parts.is_empty() => Self::Absent,
            Value::Array(parts) => Self::of_polygons(parts, size_px),
            run_lengths => Self::of_run_lengths(run_lengths, size_px).map_or(Self::Bad, Self::Whole),
        }
    }

    fn of_polygons(parts: &[Value], size_px: (u32, u32)) -> Self {
        let numbers = |part: &Value| part.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>();
        // A list of numbers alone is one polygon.
        let flat = parts.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>();
        let polygons =
            flat.map_or_else(|| parts.iter().map(numbers).collect::<Option<Vec<_>>>(), |flat| Some(vec![flat]));
        let masks: Vec<Mask> = polygons.iter().flatten().filter_map(|polygon| of_polygon(polygon, size_px)).collect();
        if masks.is_empty() { Self::Bad } else { Self::Whole(Mask::union(size_px, &masks)) }
    }

    fn of_run_lengths(record: &Value, size_px: (u32, u32)) -> Option<Mask> {
        let size = record["size"].as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>()?;
        if size != [u64::from(size_px.1), u64::from(size_px.0)] {
            return None;
        }
        let counts = match &record["counts"] {
            Value::String(text) => counts_of_text(text)?,
            Value::Array(counts) => {
                counts.iter().map(|count| u32::try_from(count.as_u64()?).ok()).collect::<Option<Vec<u32>>>()?
            }
            _ => return None,
        };
        of_counts(&counts, size_px)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::golden::golden;
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::HashMap;
    use std::path::PathBuf;

    #[test]
    fn masks_are_pycocotools_to_the_pixel() {
        let cases = golden()["masks"].as_array().expect("a list").clone();
        assert!(cases.len() > 40);
        for case in cases {
            let name = case["name"].as_str().expect("a name");
            let (height, width) = (case["size"][0].as_u64().expect("rows"), case["size"][1].as_u64().expect("columns"));
            let size = (width as u32, height as u32);
            let Segmentation::Whole(mask) = Segmentation::of(&case, size) else { panic!("{name}: no mask") };
            assert_eq!(mask.area_px(), case["area"].as_u64().expect("an area"), "{name}: area");
            let expected: Vec<u32> = case["decoded"]
                .as_array()
                .expect("runs")
                .iter()
                .map(|run| run.as_u64().expect("whole") as u32)
                .collect();
            assert_eq!(Some(mask), of_counts(&expected, size), "{name}");
        }
    }

    #[test]
    fn cocos_own_masks_are_pycocotools() {
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
        let folder = std::env::var_os("LAPIDARY_DATA").map_or(beside, PathBuf::from).join("coco/annotations");
        for (name, expected) in golden()["coco"].as_object().expect("by file") {
            let Ok(text) = std::fs::read_to_string(folder.join(name)) else {
                eprintln!("skipped: `{}` is not there (set LAPIDARY_DATA)", folder.join(name).display());
                continue;
            };
            let all: Value = serde_json::from_str(&text).expect("JSON");
            let number = |value: &Value| value.as_u64().expect("a whole number");
            let size = |image: &Value| (number(&image["width"]) as u32, number(&image["height"]) as u32);
            let images = all["images"].as_array().expect("a list");
            let sizes: HashMap<u64, (u32, u32)> = images.iter().map(|i| (number(&i["id"]), size(i))).collect();
            let (mut masks, mut area, mut checksum) = (0u64, 0u64, 0u64);
            for annotation in all["annotations"].as_array().expect("a list") {
                let size = sizes[&number(&annotation["image_id"])];
                let Segmentation::Whole(mask) = Segmentation::of(annotation, size) else { panic!("{annotation}") };
                (masks, area) = (masks + 1, area + mask.area_px());
                checksum += mask.filled.iter().map(|run| u64::from(run.start) + 31 * u64::from(run.end)).sum::<u64>();
            }
            let found = json!({"masks": masks, "area": area, "checksum": checksum % (1 << 32)});
            assert_eq!(&found, expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_mask_is_said_to_be_bad_and_nothing_to_be_absent() {
        let of = |segmentation: Value| Segmentation::of(&json!({"segmentation": segmentation}), (8, 6));
        assert_eq!(of(Value::Null), Segmentation::Absent);
        assert_eq!(of(json!([])), Segmentation::Absent);
        for bad in [
            json!([[1, 1, 5, 5]]),
            json!([[1, 1, 5, 5, 2]]),
            json!([[1, 1, 5, 1e300, 2, 4]]),
            json!([["1", 1, 5, 5, 2, 4]]),
            json!("polygon"),
            json!({"size": [6, 8], "counts": [1, 2]}),
            json!({"size": [8, 6], "counts": [48]}),
            json!({"size": [6, 8], "counts": "o"}),
            json!({"size": [6, 8], "counts": [-1, 49]}),
            json!({"counts": [48]}),
        ] {
            assert_eq!(of(bad.clone()), Segmentation::Bad, "{bad}");
        }
        let Segmentation::Whole(mask) = of(json!([[1, 1, 5, 1, 5, 4, 1, 4], [0, 0]])) else { panic!("a polygon") };
        assert_eq!(mask.area_px(), 12);
        assert_eq!(of(json!([1, 1, 5, 1, 5, 4, 1, 4])), Segmentation::Whole(mask), "one polygon without its list");
    }

    proptest! {
        #[test]
        fn whatever_a_record_holds_there_is_no_panic_and_no_pixel_beside_the_image(
            text in ".{0,24}",
            counts in prop::collection::vec(any::<u32>(), 0..6),
            polygon in prop::collection::vec(-1e5..1e5f64, 0..12),
            near in prop::collection::vec(-9.0..19.0f64, 6..20),
            odd in any::<f64>(),
            (width, height) in (1u32..12, 1u32..9),
        ) {
            let size = [height, width];
            let mut extreme = near.clone();
            extreme[0] = odd;
            for segmentation in [
                json!({"size": size, "counts": text}),
                json!({"size": size, "counts": counts}),
                json!([polygon]),
                json!([near, polygon]),
                json!([extreme]),
            ] {
                if let Segmentation::Whole(mask) = Segmentation::of(&json!({"segmentation": segmentation}), (width, height)) {
                    let inside = mask.pixels().iter().filter(|pixel| **pixel).count() as u64;
                    prop_assert_eq!(inside, mask.area_px());
                }
            }
        }
    }
}
