//! The text of a JSON object, changed in one field and left as it is in all others.

use super::coco::{Id, span_of_value};
use std::ops::Range;

/// The text of a field's value.
pub fn field<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    span_of_field(object, name).map(|span| &object[span])
}

/// The object with a field set to a value, both as text.
pub fn with_field(object: &str, name: &str, value: &str) -> String {
    if let Some(span) = span_of_field(object, name) {
        return format!("{}{value}{}", &object[..span.start], &object[span.end..]);
    }
    let Some((before, after)) = object.split_once('{') else { return object.to_owned() };
    let comma = if after.trim_start().starts_with('}') { "" } else { ", " };
    format!("{before}{{{}: {value}{comma}{after}", serde_json::Value::from(name))
}

/// An id's text, the same for all ways to write it; none when the field holds no id.
pub fn id_in(object: &str, name: &str) -> Option<String> {
    let value = serde_json::from_str(field(object, name)?).ok()?;
    Id::of(&value).map(|id| id.text())
}

/// Where a field's value stands; of a name that comes twice the last, as JSON's readers have it.
fn span_of_field(object: &str, name: &str) -> Option<Range<usize>> {
    let bytes = object.as_bytes();
    let value_at = |at: usize| {
        let (mut depth, mut in_string, mut escaped) = (0, false, false);
        let (len, ended) = span_of_value(&bytes[at..], &mut depth, &mut in_string, &mut escaped);
        ended.then_some(at + len)
    };
    let token = |at: usize| bytes.get(at..)?.iter().position(|b| !b.is_ascii_whitespace()).map(|white| at + white);
    let (mut at, mut found) = (token(0).filter(|at| bytes[*at] == b'{')? + 1, None);
    loop {
        at = token(at)?;
        match bytes[at] {
            b'}' => return found,
            b',' => at += 1,
            b'"' => {
                let end = value_at(at)?;
                let key: String = serde_json::from_str(&object[at..end]).ok()?;
                let colon = token(end).filter(|at| bytes[*at] == b':')?;
                let start = token(colon + 1)?;
                at = value_at(start)?;
                if key == name {
                    found = Some(start..at);
                }
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_changes_and_the_rest_keeps_every_digit() {
        let object = r#" {"id" : 1.0, "x": {"id": [1, "}\""]}, "area":150.330,"s":"a"}"#;
        assert_eq!(field(object, "id"), Some("1.0"));
        assert_eq!(field(object, "area"), Some("150.330"));
        assert_eq!(field(object, "x"), Some(r#"{"id": [1, "}\""]}"#));
        assert_eq!(id_in(object, "id").as_deref(), Some("1"));
        assert_eq!(id_in(object, "x"), None);
        let changed = with_field(object, "id", "7");
        assert_eq!(changed, r#" {"id" : 7, "x": {"id": [1, "}\""]}, "area":150.330,"s":"a"}"#);
        assert_eq!(with_field("{}", "id", "7"), r#"{"id": 7}"#);
        assert_eq!(with_field(r#"{"a": 1}"#, "id", "7"), r#"{"id": 7, "a": 1}"#);
        for odd in ["", "7", "{", "{\"id\"", "{7}", "[{\"id\": 1}]"] {
            assert_eq!(field(odd, "id"), None, "{odd}");
        }
    }
}
