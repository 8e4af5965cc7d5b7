//! The house: which crate may know which.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
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
    assert_eq!(ours("stores"), BTreeSet::new());
    assert_eq!(ours("curate"), BTreeSet::from(["pipeline", "schemas"]));
    assert_eq!(ours("operators"), BTreeSet::new());
    assert_eq!(ours("train"), BTreeSet::from(["operators", "pipeline", "schemas"]));
    assert_eq!(ours("evaluate"), BTreeSet::from(["pipeline", "schemas", "train"]));
}

#[test]
fn only_those_who_may_know_a_library_know_it() {
    let allowed: [(&str, &[&str]); 7] = [
        ("burn", &["lapidary-operators", "lapidary-train", "lapidary-evaluate"]),
        ("burn-flex", &["lapidary-operators", "lapidary-train", "lapidary-evaluate"]),
        ("burn-cubecl", &["lapidary-operators"]),
        ("wgpu", &["lapidary-operators"]),
        ("faiss", &["lapidary-curate"]),
        ("object_store", &["lapidary-stores"]),
        ("polars", &["lapidary-curate", "lapidary-evaluate"]),
    ];
    for (library, may) in allowed {
        for (package, direct) in dependencies() {
            assert!(!direct.contains(library) || may.contains(&package.as_str()), "{package} knows {library}");
        }
    }
}

/// The rooms of `curate`, in the order in which images pass through them; each may import those above it.
const ROOMS: [&str; 11] = [
    "memory",
    "input",
    "fingerprints",
    "pairs",
    "groups",
    "clusters",
    "ranking",
    "subset",
    "truth",
    "stages",
    "explain",
];

/// All sources below a folder.
fn sources_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("lists").map(|entry| entry.expect("reads").path());
    entries.flat_map(|path| if path.is_dir() { sources_below(&path) } else { vec![path] }).collect()
}

/// What follows each `crate::` of a source outside its comments.
fn imported(source: &str) -> BTreeSet<String> {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let after = code.split("crate::").skip(1);
    let names = |text: &str| -> Vec<String> {
        // A list in braces names several.
        let listed = text.strip_prefix('{').map_or(text, |list| list.split('}').next().unwrap_or_default());
        let many = text.starts_with('{');
        let first =
            |item: &str| item.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
        listed.split(',').take(if many { usize::MAX } else { 1 }).filter_map(first).collect()
    };
    after.flat_map(names).collect()
}

#[test]
fn a_room_of_curate_imports_only_rooms_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../curate/src");
    // An empty folder may be left by a move.
    let in_root = |path: &PathBuf| {
        path.strip_prefix(&root).expect("below it").components().next().map(|part| part.as_os_str().to_owned())
    };
    let there: BTreeSet<String> =
        sources_below(&root).iter().filter_map(in_root).map(|name| name.to_string_lossy().into_owned()).collect();
    let at_the_top = ["error.rs", "lib.rs", "main.rs"];
    let expected: BTreeSet<String> = ROOMS.iter().chain(&at_the_top).map(|name| (*name).to_owned()).collect();
    assert_eq!(there, expected, "what is no room lies in one");
    let mut imports = 0;
    for (place, room) in ROOMS.iter().enumerate() {
        for path in sources_below(&root.join(room)) {
            let source = std::fs::read_to_string(&path).expect("reads");
            for name in imported(&source) {
                let below = ROOMS.iter().skip(place + 1).any(|other| *other == name);
                assert!(!below, "`{}` imports `{name}`, a room below its own", path.display());
                imports += usize::from(ROOMS.contains(&name.as_str()));
            }
        }
        let text = std::fs::read_to_string(root.join(room).join("mod.rs")).expect("a room has a mod.rs");
        assert!(text.starts_with("//! "), "`{room}` does not say what it is");
    }
    assert!(imports > 50, "{imports} imports were read");
    let (list, path) = ("use crate::{Result, pairs::Pair};", "let fit = crate::pairs::Fit; // crate::explain");
    assert_eq!(imported(list), BTreeSet::from(["Result", "pairs"].map(str::to_owned)));
    assert_eq!(imported(path), BTreeSet::from(["pairs".to_owned()]));
}
