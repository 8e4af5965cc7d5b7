//! The Makefile passes what it is given on as it is, and takes nothing of the user's away.

use std::path::{Path, PathBuf};
use std::process::Command;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the checkout").to_owned()
}

/// What the recipe of a verb would run.
fn recipe(arguments: &[String]) -> String {
    let mut make = Command::new("make");
    // Under `make test`, make would say which folder it enters, and take what the make above it was given.
    make.args(["-n", "--no-print-directory"]).env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    let made = make.args(arguments).current_dir(checkout()).output().expect("make starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).expect("UTF-8")
}

/// The arguments of every call of `lapidary` in a recipe, run by a shell in which it only prints them.
fn arguments_of(recipe: &str) -> Vec<String> {
    let calls = recipe.lines().filter(|line| line.contains("lapidary ") && !line.starts_with("cargo"));
    let script = calls.fold("lapidary() { printf '%s\\0' \"$@\"; }\n".to_owned(), |script, line| script + line + "\n");
    let ran = Command::new("bash").args(["-c", &script]).output().expect("bash starts");
    let said = String::from_utf8(ran.stdout).expect("UTF-8");
    said.split('\0').map(str::to_owned).collect()
}

#[test]
fn paths_reach_the_binary_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let names =
        ["plain", "two words", "a,b", "it's", "\"quoted\"", "semi;colon", "paren(1)", "amp&er", "back`tick", "été"];
    for name in names {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("creates");
        let path = path.to_str().expect("UTF-8");
        for variable in ["DATA", "SEEDS", "AGAINST", "OUT", "CONFIG"] {
            let given = [format!("{variable}={path}"), "LAPIDARY=lapidary".to_owned(), "CUDA=0".to_owned()];
            let passed = arguments_of(&recipe(&[&["curate".to_owned()], &given[..]].concat()));
            assert!(passed.iter().any(|argument| argument == path), "{variable}={name}: {passed:?}");
        }
    }
    let set = ["curate".to_owned(), "LAPIDARY=lapidary".to_owned(), "SET=a.b=3 c.d=[\"x\"]".to_owned()];
    let passed = arguments_of(&recipe(&set));
    assert!(passed.contains(&"a.b=3".to_owned()) && passed.contains(&"c.d=[\"x\"]".to_owned()), "{passed:?}");
}

#[test]
fn clean_leaves_out_alone() {
    let recipe = recipe(&["clean".to_owned(), "OUT=/somewhere/out".to_owned()]);
    assert!(recipe.contains("cargo clean") && !recipe.contains("rm ") && !recipe.contains("/somewhere"), "{recipe}");
}

#[test]
fn probes_are_one_folder_or_several_and_a_preset_that_is_not_named_is_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    ["a b", "c", "d"].iter().for_each(|name| std::fs::create_dir(path(name)).expect("creates"));
    // Says what it is given, a call a line.
    let calls = "calls() { printf '<%s>' \"$@\"; echo; }\n";
    let run = |probe: &str| {
        let given = ["eval", &format!("PROBE={probe}"), "LAPIDARY=calls", "CUDA=0", "OUT=o"].map(str::to_owned);
        let recipe = recipe(&given);
        let script = calls.to_owned() + &recipe[recipe.find("set -f").expect("the recipe of eval")..];
        let ran = Command::new("bash").args(["-c", &script]).output().expect("bash starts");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("UTF-8")
    };
    let rest = "<--device><auto><--out><o><--preset><demo>\n<report><--out><o>\n";
    let ingest = |name: &str| format!("<ingest><--data><{}><--as-probe><--out><o>\n", path(name));
    let named = |name: &str| format!("<--probe><{}>", path(name));
    assert_eq!(run(""), format!("<eval>{rest}"));
    assert_eq!(run(&path("a b")), format!("{}<eval>{}{rest}", ingest("a b"), named("a b")));
    let both = format!("{} {}", path("c"), path("d"));
    assert_eq!(run(&both), format!("{}{}<eval>{}{}{rest}", ingest("c"), ingest("d"), named("c"), named("d")));
}
