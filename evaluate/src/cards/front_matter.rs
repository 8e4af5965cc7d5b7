//! The YAML in front of a card: as much of YAML as cards need, written so that every reader of YAML reads the same.

use std::fmt::Write;

/// A value of a front matter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Yaml {
    Text(String),
    /// A number with three decimals at most.
    Number(f64),
    List(Vec<Yaml>),
    Map(Vec<(&'static str, Yaml)>),
}

impl Yaml {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }
}

/// A front matter with its fences.
pub(super) fn front_matter(fields: &[(&'static str, Yaml)]) -> String {
    let mut out = "---\n".to_owned();
    write_map(&mut out, fields, 0, false);
    out.push_str("---\n");
    out
}

fn write_map(out: &mut String, fields: &[(&'static str, Yaml)], indent: usize, is_item: bool) {
    for (i, (key, value)) in fields.iter().enumerate() {
        // The first field of a list's item stands behind its dash.
        if i > 0 || !is_item {
            out.push_str(&" ".repeat(indent));
        }
        let _ = write!(out, "{key}:");
        write_value(out, value, indent);
    }
}

fn write_value(out: &mut String, value: &Yaml, indent: usize) {
    match value {
        Yaml::Text(text) => {
            let _ = writeln!(out, " {}", scalar(text));
        }
        Yaml::Number(number) => {
            let _ = writeln!(out, " {}", (number * 1e3).round() / 1e3);
        }
        Yaml::List(items) if items.is_empty() => out.push_str(" []\n"),
        Yaml::List(items) => {
            out.push('\n');
            for item in items {
                let _ = write!(out, "{}-", " ".repeat(indent));
                match item {
                    Yaml::Map(fields) => {
                        out.push(' ');
                        write_map(out, fields, indent + 2, true);
                    }
                    other => write_value(out, other, indent + 2),
                }
            }
        }
        Yaml::Map(fields) => {
            out.push('\n');
            write_map(out, fields, indent + 2, false);
        }
    }
}

/// A text, quoted as JSON is, which is YAML as well, unless it is a plain word.
fn scalar(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_maps_and_odd_texts_are_written() {
        let metric = Yaml::Map(vec![("type", Yaml::text("accuracy")), ("value", Yaml::Number(0.41666))]);
        let fields = [
            ("license", Yaml::texts(["cc-by-2.0", "other"])),
            ("pretty_name", Yaml::text("a: \"b\" #c")),
            ("empty", Yaml::List(Vec::new())),
            (
                "results",
                Yaml::List(vec![Yaml::Map(vec![("name", Yaml::text("no")), ("metrics", Yaml::List(vec![metric]))])]),
            ),
        ];
        let expected = "---\nlicense:\n- cc-by-2.0\n- other\npretty_name: \"a: \\\"b\\\" #c\"\nempty: []\nresults:\n- name: \"no\"\n  \
                        metrics:\n  - type: accuracy\n    value: 0.417\n---\n";
        assert_eq!(front_matter(&fields), expected);
    }
}
