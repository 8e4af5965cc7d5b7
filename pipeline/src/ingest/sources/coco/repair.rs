//! A record's text as JSON, where its writer took liberties: `NaN` and infinities, bytes that are not UTF-8, halves of
//! surrogate pairs (as Python writes names that are not UTF-8).

use serde_json::Value;
use std::borrow::Cow;
use std::fmt::Write;

/// A record and its text; the text is the record's own where it is JSON already.
pub(super) fn understood(text: &[u8]) -> Option<(Value, Cow<'_, str>)> {
    if let Ok(text) = std::str::from_utf8(text)
        && let Ok(value) = serde_json::from_str(text)
    {
        return Some((value, Cow::Borrowed(text)));
    }
    let text = repaired(text);
    serde_json::from_str(&text).ok().map(|value| (value, Cow::Owned(text)))
}

/// Not-numbers become null; bytes that are not UTF-8 and the surrogates that stand for them become `%XX`, as in paths.
fn repaired(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "%{byte:02X}").expect("a string takes all that is written");
        }
    }
    let (mut out, mut rest, mut in_string) = (String::with_capacity(text.len()), text.as_str(), false);
    while let Some(c) = rest.chars().next() {
        if in_string && c == '\\' {
            let taken = escape(rest, &mut out);
            rest = &rest[taken..];
            continue;
        }
        if c == '"' {
            in_string = !in_string;
        } else if !in_string
            && let Some(word) =
                ["NaN", "-NaN", "Infinity", "-Infinity", "inf", "-inf", "nan"].iter().find(|w| rest.starts_with(**w))
        {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// Takes the escape that `rest` begins with; how long it was.
fn escape(rest: &str, out: &mut String) -> usize {
    let unit = |at: usize| {
        let digits = rest.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let taken = match (unit(0), unit(6)) {
        (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
        (Some(low @ 0xdc80..0xdd00), _) => {
            write!(out, "%{:02X}", low - 0xdc00).expect("a string takes all that is written");
            return 6;
        }
        (Some(0xd800..0xe000), _) => {
            out.push('\u{fffd}');
            return 6;
        }
        (Some(_), _) => 6,
        (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
    };
    out.push_str(&rest[..taken]);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn liberties_are_understood_and_plain_text_is_left_alone() {
        let plain = br#"{"a": 1.10, "b": "NaN"}"#;
        assert!(matches!(understood(plain), Some((_, Cow::Borrowed(text))) if text.as_bytes() == plain));
        for (text, value) in [
            (
                &b"{\"a\": [NaN, -Infinity, 1], \"b\": \"NaN \\\" Infinity\"}"[..],
                json!({"a": [null, null, 1], "b": "NaN \" Infinity"}),
            ),
            (b"{\"n\": \"latin-\xe9.png\"}", json!({"n": "latin-%E9.png"})),
            (
                br#"{"n": "latin-\udce9.png", "m": "\ud83d\ude00", "o": "\ud83d"}"#,
                json!({"n": "latin-%E9.png", "m": "\u{1f600}", "o": "\u{fffd}"}),
            ),
        ] {
            assert_eq!(understood(text).expect("understood").0, value);
        }
        for text in [&b"{oops}"[..], b"", b"{\"a\": 1e999}", b"\\", b"\"\\u", b"\"\\\xc3\xa9"] {
            assert!(understood(text).is_none(), "{text:?}");
        }
    }
}
