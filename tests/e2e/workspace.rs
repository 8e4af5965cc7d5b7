//! The house: which crate may know which.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Direct dependencies of each of our crates, tests aside.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let direct = |package: &Value| -> BTreeSet<String> {
        let all = package["dependencies"].as_array().expect("a list").iter();
        all.filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().expect("a name").to_owned()).collect()
    };
    packages.map(|p| (p["name"].as_str().expect("a name").to_owned(), direct(p))).collect()
}

#[test]
fn dependencies_point_one_way() {
    let all = dependencies();
    let ours = |name: &str| -> BTreeSet<&str> {
        let direct = &all[&format!("lapidary-{name}")];
        direct.iter().filter_map(|d| d.strip_prefix("lapidary-")).collect()
    };
    assert_eq!(ours("schemas"), BTreeSet::new());
    assert_eq!(ours("pipeline"), BTreeSet::from(["schemas"]));
    assert_eq!(ours("curate"), BTreeSet::from(["pipeline", "schemas"]));
    assert_eq!(ours("train"), BTreeSet::from(["pipeline", "schemas"]));
    assert_eq!(ours("evaluate"), BTreeSet::from(["pipeline", "schemas", "train"]));
}

#[test]
fn only_those_who_may_know_a_library_know_it() {
    let allowed: [(&str, &[&str]); 4] = [
        ("burn", &["lapidary-train", "lapidary-evaluate"]),
        ("burn-flex", &["lapidary-train", "lapidary-evaluate"]),
        ("faiss", &["lapidary-curate"]),
        ("polars", &["lapidary-curate", "lapidary-evaluate"]),
    ];
    for (library, may) in allowed {
        for (package, direct) in dependencies() {
            assert!(!direct.contains(library) || may.contains(&package.as_str()), "{package} knows {library}");
        }
    }
}
