//! What a record of COCO's JSON says, read leniently: ids may be numbers, floats or text, numbers may be text, flags may be
//! `true`. What has no plain meaning is none, or of a kind that is counted.

use serde_json::{Map, Value};

/// An id. `10`, `10.0` and `"10"` are the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::ingest::sources) enum Id {
    Number(i64),
    Text(Box<str>),
}

impl Id {
    pub(in crate::ingest::sources) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => Some(match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Number(whole),
                (None, Some(float)) if float.fract() == 0.0 && float.abs() < 9e15 => Self::Number(float as i64),
                _ => Self::Text(number.to_string().into()),
            }),
            Value::String(text) => {
                let text = text.trim();
                let number = text.parse().ok().or_else(|| match text.parse::<f64>() {
                    Ok(float) if float.fract() == 0.0 && float.abs() < 9e15 => Some(float as i64),
                    _ => None,
                });
                Some(number.map_or_else(|| Self::Text(text.into()), Self::Number))
            }
            _ => None,
        }
    }

    /// The id as a class's name, where it has no other.
    pub(in crate::ingest::sources) fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.to_string(),
        }
    }
}

/// A finite number, also one that is written as text.
pub(super) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.trim().is_empty())
}

fn flag(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        Value::String(text) => text.eq_ignore_ascii_case("true") || number(value).is_some_and(|n| n != 0.0),
        _ => number(value).is_some_and(|n| n != 0.0),
    }
}

/// Whether a field is there and says something.
fn says(fields: &Map<String, Value>, key: &str) -> bool {
    match fields.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

/// An entry of `images`.
#[derive(Debug)]
pub(super) struct ImageRecord {
    pub(super) id: Option<Id>,
    pub(super) name: Option<String>,
    /// The name is the end of a web address, below the folder that the address names.
    pub(super) from_url: bool,
    pub(super) url: Option<String>,
    pub(super) license: Option<LicenseOf>,
    /// Width and height in pixels, as the JSON has them.
    pub(super) size_px: Option<(f64, f64)>,
}

/// What an image says of its license.
#[derive(Debug)]
pub(super) struct LicenseOf {
    pub(super) id: Id,
    /// The license itself, where it is no id.
    pub(super) text: Option<String>,
}

impl ImageRecord {
    pub(super) fn of(record: &Value) -> Option<Self> {
        let fields = record.as_object()?;
        let field = |name: &str| fields.get(name).unwrap_or(&Value::Null);
        let address = |name: &str| text(field(name)).map(str::to_owned);
        let url = address("coco_url").or_else(|| address("flickr_url")).or_else(|| address("url"));
        let file_name = ["file_name", "filename", "path"].into_iter().find_map(|name| text(field(name)));
        let is_url =
            |name: &str| ["http://", "https://", "s3://", "gs://"].iter().any(|scheme| name.starts_with(scheme));
        let plain = file_name.filter(|name| !is_url(name)).map(str::to_owned);
        let address = file_name.filter(|name| is_url(name)).or(text(field("coco_url")));
        let from_url = plain.is_none() && address.is_some();
        let license =
            Id::of(field("license")).map(|id| LicenseOf { text: matches!(id, Id::Text(_)).then(|| id.text()), id });
        let size_px = number(field("width")).zip(number(field("height"))).filter(|(w, h)| *w > 0.0 && *h > 0.0);
        let name = plain.or_else(|| address.map(end_of_address));
        Some(Self { id: Id::of(field("id")), name, from_url, url, license, size_px })
    }
}

/// The folder and file that an address ends with: `train2017/000000000009.jpg`, as LVIS names images.
fn end_of_address(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or(address);
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let parts: Vec<&str> = path.split('/').skip(1).filter(|part| !part.is_empty() && *part != "..").collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

/// What an annotation's box is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Boxed {
    /// x, y, width, height in pixels, finite, of some size.
    Plain([f32; 4]),
    /// There is none, and the annotation says other things: a caption, a mask.
    Absent,
    /// It cannot be used: the kind.
    Bad(&'static str),
}

/// An entry of `annotations`.
#[derive(Debug)]
pub(super) struct ObjectRecord {
    pub(super) image_id: Option<Id>,
    pub(super) category: Option<Id>,
    pub(super) boxed: Boxed,
    pub(super) area_px: Option<f32>,
    pub(super) iscrowd: bool,
}

impl ObjectRecord {
    pub(super) fn of(record: &Value) -> Option<Self> {
        let fields = record.as_object()?;
        let field = |name: &str| fields.get(name).unwrap_or(&Value::Null);
        let other_content =
            ["caption", "segments_info", "segmentation", "keypoints"].iter().any(|key| says(fields, key));
        let boxed = match field("bbox") {
            Value::Null if other_content => Boxed::Absent,
            Value::Array(list) if list.is_empty() && other_content => Boxed::Absent,
            Value::Array(list) if !list.is_empty() => box_of(list),
            _ => Boxed::Bad("no_box"),
        };
        let area_px = number(field("area")).map(|area| area as f32).filter(|area| area.is_finite() && *area >= 0.0);
        Some(Self {
            image_id: Id::of(field("image_id")),
            category: Id::of(field("category_id")),
            boxed,
            area_px,
            iscrowd: flag(field("iscrowd")),
        })
    }
}

fn box_of(list: &[Value]) -> Boxed {
    if list.len() != 4 {
        return Boxed::Bad("box_not_of_four_numbers");
    }
    let mut bbox = [0.0; 4];
    for (place, value) in bbox.iter_mut().zip(list) {
        match number(value).map(|value| value as f32).filter(|value| value.is_finite()) {
            Some(value) => *place = value,
            None => return Boxed::Bad("box_not_of_four_numbers"),
        }
    }
    if bbox[2] > 0.0 && bbox[3] > 0.0 { Boxed::Plain(bbox) } else { Boxed::Bad("box_of_no_size") }
}

/// Whether a box shares no pixel with an image of this size.
pub(super) fn lies_outside(bbox_px: [f32; 4], (width, height): (f64, f64)) -> bool {
    let [x, y, w, h] = bbox_px.map(f64::from);
    x >= width || y >= height || x + w <= 0.0 || y + h <= 0.0
}

/// A category's id and name; a category without a name is called by its id.
pub(super) fn category_of(record: &Value) -> Option<(Id, String)> {
    named(record, &["name"]).map(|(id, name)| {
        let name = name.unwrap_or_else(|| id.text());
        (id, name)
    })
}

/// A license's id and name, or where it stands on the web.
pub(super) fn license_of(record: &Value) -> Option<(Id, String)> {
    named(record, &["name", "url"]).and_then(|(id, name)| Some((id, name?)))
}

fn named(record: &Value, keys: &[&str]) -> Option<(Id, Option<String>)> {
    let fields = record.as_object()?;
    let id = Id::of(fields.get("id")?)?;
    let name = keys.iter().find_map(|key| match fields.get(*key)? {
        Value::String(name) if !name.is_empty() => Some(name.clone()),
        Value::Number(name) => Some(name.to_string()),
        _ => None,
    });
    Some((id, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_id_is_one_however_it_is_written() {
        for same in [json!(10), json!(10.0), json!("10"), json!(" 10 "), json!("10.0")] {
            assert_eq!(Id::of(&same), Some(Id::Number(10)), "{same}");
        }
        let huge = json!(10u64 + (1 << 63));
        assert_eq!(Id::of(&huge), Id::of(&json!(huge.to_string())));
        assert_ne!(Id::of(&json!(1.5)), Id::of(&json!(1)));
        for none in [json!(null), json!(true), json!([1]), json!({})] {
            assert_eq!(Id::of(&none), None, "{none}");
        }
    }

    #[test]
    fn boxes_are_plain_absent_or_of_a_kind() {
        let boxed = |record: Value| ObjectRecord::of(&record).expect("an object").boxed;
        assert_eq!(boxed(json!({"bbox": ["1", 2, 3.5, 4]})), Boxed::Plain([1.0, 2.0, 3.5, 4.0]));
        assert_eq!(boxed(json!({"bbox": [-5, -5, 10, 10]})), Boxed::Plain([-5.0, -5.0, 10.0, 10.0]));
        assert_eq!(boxed(json!({"caption": "a cat"})), Boxed::Absent);
        assert_eq!(boxed(json!({"bbox": [], "segmentation": [[1, 2, 3, 4, 5, 6]]})), Boxed::Absent);
        for (bbox, kind) in [
            (json!([]), "no_box"),
            (json!(null), "no_box"),
            (json!("x"), "no_box"),
            (json!([1, 2, 3]), "box_not_of_four_numbers"),
            (json!([1, 2, 3, 4, 0.5]), "box_not_of_four_numbers"),
            (json!([null, 1, 2, 3]), "box_not_of_four_numbers"),
            (json!([1, 1, 1e300, 3]), "box_not_of_four_numbers"),
            (json!([1, 1, 0, 3]), "box_of_no_size"),
            (json!([1, 1, 3, -3]), "box_of_no_size"),
        ] {
            assert_eq!(boxed(json!({"bbox": bbox})), Boxed::Bad(kind), "{bbox}");
        }
        assert!(
            lies_outside([600.0, 1.0, 9.0, 9.0], (64.0, 48.0)) && lies_outside([-9.0, 1.0, 9.0, 9.0], (64.0, 48.0))
        );
        assert!(!lies_outside([-5.0, -5.0, 10.0, 10.0], (64.0, 48.0)));
        for (flag, crowd) in [(json!(true), true), (json!("1"), true), (json!(0), false), (json!(null), false)] {
            assert_eq!(ObjectRecord::of(&json!({"iscrowd": flag})).expect("an object").iscrowd, crowd);
        }
    }

    #[test]
    fn a_name_may_be_the_end_of_an_address() {
        let record = |value: Value| ImageRecord::of(&value).expect("an object");
        let lvis = record(json!({"id": 1, "coco_url": "http://images.cocodataset.org/train2017/000000391895.jpg"}));
        assert_eq!((lvis.name.as_deref(), lvis.from_url), (Some("train2017/000000391895.jpg"), true));
        let studio = record(json!({"id": 1, "file_name": "https://host/data/upload/a.jpg?token=../x"}));
        assert_eq!(studio.name.as_deref(), Some("upload/a.jpg"));
        assert_eq!(record(json!({"id": 1, "file_name": null})).name, None);
    }
}
