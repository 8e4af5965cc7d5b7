//! What differs between two specifications of a stage, key by key, for a reader.

use super::spec::StageSpec;
use lapidary_schemas::Digest;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Keys that are named; the others are counted.
const NAMED: usize = 6;

/// `key before -> now` for each configured value that differs, and the inputs that do; "its version" when nothing does.
pub(crate) fn differences(config: &Value, inputs: &BTreeMap<String, Digest>, now: &StageSpec) -> Vec<String> {
    let (before, after) = (flat(config), flat(&now.config));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let shown = |value: Option<&String>| value.cloned().unwrap_or_else(|| "none".to_owned());
    let mut all: Vec<String> = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| format!("{key} {} -> {}", shown(before.get(key)), shown(after.get(key))))
        .collect();
    let names: BTreeSet<&String> = inputs.keys().chain(now.inputs.keys()).collect();
    all.extend(
        names.into_iter().filter(|name| inputs.get(*name) != now.inputs.get(*name)).map(|name| format!("input {name}")),
    );
    if all.is_empty() {
        all.push("its version".to_owned());
    }
    if all.len() > NAMED {
        let others = all.len() - NAMED;
        all.truncate(NAMED);
        all.push(format!("and {others} more"));
    }
    all
}

/// Every value under its dotted key.
pub fn flat(value: &Value) -> BTreeMap<String, String> {
    fn walk(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&key, value, into);
                }
            }
            other => {
                into.insert(prefix.to_owned(), other.to_string());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk("", value, &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Previous;
    use serde_json::json;

    #[test]
    fn keys_and_inputs_that_differ_are_named() {
        let now = StageSpec {
            stage: "pretrain",
            version: 1,
            out: "out".into(),
            folder: "out/x".into(),
            config: json!({"seed": 1, "pretrain": {"rate": 0.001, "batch": 8}}),
            inputs: BTreeMap::from([("x/images".to_owned(), Digest("b".to_owned()))]),
            resumable: true,
            previous: Previous::Kept,
        };
        let before = json!({"seed": 1, "pretrain": {"rate": 0.0005, "batch": 8, "old": true}});
        let inputs = BTreeMap::from([("x/images".to_owned(), Digest("a".to_owned()))]);
        let expected = ["pretrain.old true -> none", "pretrain.rate 0.0005 -> 0.001", "input x/images"];
        assert_eq!(differences(&before, &inputs, &now), expected);
        assert_eq!(differences(&now.config, &now.inputs, &now), ["its version"]);
    }
}
