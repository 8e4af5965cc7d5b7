//! Running `lapidary` and reading what it says.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use tempfile::TempDir;

/// A tiny network and a few steps: seconds on a CPU.
pub const TINY: &[&str] = &[
    "--preset",
    "demo",
    "--set",
    "model.dim=24",
    "--set",
    "model.depth=2",
    "--set",
    "pretrain.batch=16",
    "--set",
    "pretrain.steps=12",
    "--set",
    "pretrain.warmup_steps=3",
    "--set",
    "pretrain.freeze_last_layer_steps=2",
    "--set",
    "pretrain.checkpoint_steps=4",
    "--set",
    "objective.prototypes=32",
    "--set",
    "objective.barlow_dim=32",
    "--set",
    "eval.max_train=160",
    "--set",
    "eval.max_test=80",
    "--set",
    "eval.linear_steps=50",
    "--set",
    "eval.attention_images=2",
    "--set",
    "eval.dino_linear.epochs=1",
    "--set",
    "eval.dinov2_linear.iterations=3",
    "--set",
    "eval.mlp.steps=10",
    "--set",
    "eval.copy_images=4",
    "--set",
    "eval.robustness_images=8",
    "--set",
    "eval.video_sequences=1",
    "--set",
    "eval.map_images=80",
];

/// The built-in data, drawn once for all tests.
pub struct Drawn {
    folder: TempDir,
}

impl Drawn {
    pub fn pile(&self) -> PathBuf {
        self.folder.path().join("pile")
    }

    pub fn probe(&self) -> PathBuf {
        self.folder.path().join("probe")
    }
}

pub static DRAWN: LazyLock<Drawn> = LazyLock::new(|| {
    let drawn = Drawn { folder: tempfile::tempdir().expect("a folder") };
    say(&["draw", text(&drawn.pile())]);
    say(&["draw", text(&drawn.probe()), "--probe"]);
    drawn
});

pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

/// The `lapidary` beside this test in the target folder.
pub fn binary() -> PathBuf {
    let me = std::env::current_exe().expect("a test has a path");
    let folder = me.parent().and_then(Path::parent).expect("tests lie in target/release/deps");
    let binary = folder.join("lapidary");
    assert!(binary.is_file(), "`{}` is not built: run `make test`", binary.display());
    binary
}

pub fn lapidary(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().expect("it starts")
}

/// Runs a verb that must succeed; what it said on stdout.
pub fn say(arguments: &[&str]) -> String {
    let output = lapidary(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "lapidary {arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs a verb with `--json`; its facts, line by line.
pub fn facts(out: &Path, arguments: &[&str]) -> Vec<Value> {
    let mut whole = arguments.to_vec();
    whole.extend(["--out", text(out), "--json"]);
    say(&whole).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Runs a verb that must fail; its exit code and what it said on stderr.
pub fn refusal(arguments: &[&str]) -> (i32, String) {
    let output = lapidary(arguments);
    assert!(!output.status.success(), "lapidary {arguments:?} succeeded");
    (output.status.code().expect("no signal"), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Ingest, fingerprint, embed, curate and cut of the built-in pile.
pub fn curated(out: &Path, size: &str) -> Vec<Value> {
    let truth = format!("curate.truth={}", text(&DRAWN.pile().join("truth.csv")));
    let mut all = facts(out, &["ingest", "--data", text(&DRAWN.pile())]);
    all.extend(facts(out, &["fingerprint"]));
    all.extend(facts(out, &["embed"]));
    all.extend(facts(out, &["curate", "--set", &truth]));
    all.extend(facts(out, &["cut", "--size", size]));
    all
}

/// A verb with the tiny network.
pub fn tiny(out: &Path, arguments: &[&str]) -> Vec<Value> {
    facts(out, &[arguments, TINY].concat())
}

/// A run's metrics, a step a line.
pub fn lines(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A run's losses.
pub fn losses(run: &Path) -> Vec<f64> {
    lines(run).iter().map(|line| line["loss"].as_f64().expect("a loss")).collect()
}
