//! The command that makes a stage's folder again: the verb, the names, and every setting that is not the default.

use lapidary_pipeline::stage::{Layout, flat, is_outside, read_manifest};
use lapidary_schemas::{Config, Manifest};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The command that made a folder, in a shell's words; empty for a stage that has none.
pub(crate) fn command(layout: &Layout, folder: &Path, manifest: &Manifest) -> String {
    let name = layout.name_of(folder);
    let mut parts = name.split('/');
    let source = parts.next().unwrap_or_default();
    let last = parts.next_back().unwrap_or_default();
    let config = &manifest.config;
    // What is kept aside has its key behind its name.
    let named = |name: &str| name.split('~').next().unwrap_or(name).to_owned();
    let input = |kind: &str| {
        let of_kind = manifest.inputs.keys().find_map(|input| input.split_once(&format!("/{kind}/")));
        of_kind.map(|(_, name)| name.split('/').next().unwrap_or(name).to_owned()).unwrap_or_default()
    };
    let from_source = |words: &[&str]| -> Vec<String> {
        [&words[..1], &["--source", source], &words[1..]].concat().into_iter().map(str::to_owned).collect()
    };
    let words = match manifest.stage.as_str() {
        "ingest" => {
            let address = manifest.inputs.keys().find(|name| is_outside(name));
            let mut words = vec!["ingest".to_owned(), "--data".to_owned(), address.cloned().unwrap_or_default()];
            words.extend(["--name".to_owned(), source.to_owned()]);
            [words, settings(config, &[("ingest", "ingest")])].concat()
        }
        "fingerprint" => [from_source(&["fingerprint"]), settings(config, &[("fingerprint", "fingerprint")])].concat(),
        "embed" => match config["encoder"].as_str() {
            Some(encoder) if config["from"] == true => {
                from_source(&["embed", "--from", "FILE", "--encoder-name", encoder])
            }
            Some(encoder) if encoder != "descriptor" => from_source(&["embed", "--encoder", encoder]),
            _ => from_source(&["embed"]),
        },
        "pairs" | "groups" | "clusters" | "ranking" => {
            [from_source(&["curate"]), curation_settings(folder, manifest)].concat()
        }
        "cut" => {
            let size = config["size"].to_string();
            [from_source(&["cut", "--size", &size]), cut_filter(&config["filter"])].concat()
        }
        "plan" => {
            let keys =
                [("recipe", "plan.recipe"), ("epochs", "plan.epochs"), ("store", "plan.store"), ("seed", "seed")];
            [
                from_source(&["plan", "--subset", &named(&input("subsets")), "--name", &named(last)]),
                settings(config, &keys),
            ]
            .concat()
        }
        "pretrain" => {
            let file = folder.join("config.toml");
            let file = file.to_string_lossy();
            from_source(&["pretrain", "--plan", &named(&input("plans")), "--run", &named(last), "--config", &file])
        }
        "eval" => {
            let run = folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
            let words = from_source(&["eval", "--run", &run, "--probe", &named(last)]);
            [words, settings(config, &[("eval", "eval"), ("seed", "seed")])].concat()
        }
        _ => return String::new(),
    };
    let out = layout.out.to_string_lossy();
    let elsewhere = (out != "out").then(|| ["--out".to_owned(), out.into_owned()]);
    let words = std::iter::once("lapidary".to_owned()).chain(words).chain(elsewhere.into_iter().flatten());
    words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// The settings of a curation: of its four stages, which one command runs. Where those beside a stage are not there, its own.
fn curation_settings(folder: &Path, manifest: &Manifest) -> Vec<String> {
    let beside = folder.parent().unwrap_or(folder);
    let others = ["pairs", "groups", "clusters", "ranking"].map(|stage| read_manifest(&beside.join(stage)).ok());
    let all = others.iter().flatten().filter(|other| other.stage != manifest.stage).chain([manifest]);
    let keys = [("", "curate"), ("encoder", "embed.encoder"), ("seed", "seed")];
    let found: BTreeSet<String> =
        all.flat_map(|stage| settings(&stage.config, &keys)).filter(|word| word != "--set").collect();
    found.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
}

fn cut_filter(filter: &Value) -> Vec<String> {
    let list = |key: &str| -> String {
        filter[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
    };
    let short_side = filter["short_side_min_px"].as_u64().filter(|px| *px > 0).map(|px| px.to_string());
    let flags = [
        ("--allow-licenses", list("licenses")),
        ("--classes", list("classes")),
        ("--min-short-side", short_side.unwrap_or_default()),
    ];
    let given = flags.into_iter().filter(|(_, value)| !value.is_empty());
    given.flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

/// `--set key=value` for what differs from the defaults. `keys` pairs a key of a stage's configuration, or "" for all of it, with
/// the key of the whole configuration that it is.
fn settings(config: &Value, keys: &[(&str, &str)]) -> Vec<String> {
    let defaults = flat(&json!(Config::default()));
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (own, whole) in keys {
        let value = if own.is_empty() { config } else { &config[*own] };
        for (key, value) in flat(&json!({ "x": value })) {
            let key = format!("{whole}{}", key.trim_start_matches('x'));
            // null is what a setting does not bear on.
            if value != "null" && defaults.get(&key).is_some_and(|default| *default != value) {
                found.insert(key, value);
            }
        }
    }
    found.into_iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]).collect()
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,%+@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(stage: &str, config: Value, inputs: &[&str]) -> Manifest {
        let inputs: serde_json::Map<String, Value> =
            inputs.iter().map(|name| ((*name).to_owned(), json!("d"))).collect();
        serde_json::from_value(json!({
            "stage": stage, "version": 1, "lapidary": "0", "config": config, "inputs": inputs, "key": "k", "digest": "d",
            "rows": {"input": 0, "output": 0, "rejected": 0}, "outputs": {}, "facts": {}, "wall_secs": 0.0,
            "rows_per_sec": 0.0, "peak_memory_mib": 0.0,
        }))
        .expect("a manifest")
    }

    #[test]
    fn a_command_names_what_is_not_the_default_and_quotes_it() {
        let layout = Layout::new("out");
        let of = |folder: &str, stage: &str, config: Value, inputs: &[&str]| {
            command(&layout, &layout.out.join(folder), &manifest(stage, config, inputs))
        };
        let mut ingest = json!(Config::default().ingest);
        ingest["max_reject"] = json!(0.5);
        assert_eq!(
            of("birds/images", "ingest", json!({"name": "birds", "ingest": ingest}), &["/data/my birds"]),
            "lapidary ingest --data '/data/my birds' --name birds --set ingest.max_reject=0.5"
        );
        assert_eq!(
            of(
                "birds/curation/pairs",
                "pairs",
                json!({"encoder": "descriptor", "against": ["probe"], "hash_max_bits": Config::default().curate.hash_max_bits}),
                &[]
            ),
            "lapidary curate --source birds --set 'curate.against=[\"probe\"]'"
        );
        let filter = json!({"licenses": [], "classes": ["dog", "cat"], "short_side_min_px": 64});
        assert_eq!(
            of("birds/subsets/9-abcdef", "cut", json!({"size": 9, "filter": filter}), &[]),
            "lapidary cut --source birds --size 9 --classes dog,cat --min-short-side 64"
        );
        assert_eq!(
            of("birds/runs/r", "pretrain", json!({}), &["birds/plans/p", "birds/images"]),
            "lapidary pretrain --source birds --plan p --run r --config out/birds/runs/r/config.toml"
        );
        assert_eq!(
            of("birds/evals/r/probe", "eval", json!({"seed": 3}), &[]),
            "lapidary eval --source birds --run r --probe probe --set seed=3"
        );
        assert_eq!(of("birds/x", "other", json!({}), &[]), "");
    }
}
