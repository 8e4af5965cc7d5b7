//! A run on several devices, killed on its way: it resumes to the bit on as many, and but for rounding on one.

use crate::kill::kill_when;
use crate::run::{TINY, curated, losses, text, tiny};
use serde_json::Value;
use std::path::Path;

/// A kill that comes when a step's checkpoint is there, and the run by name.
fn killed(out: &Path, run: &str, devices: &[&str]) {
    let arguments = [&["pretrain", "--run", run], devices, TINY].concat();
    let checkpoint = out.join(format!("pile/runs/.{run}.partial/checkpoints/step-00000004.json"));
    assert!(kill_when(out, &arguments, &|| checkpoint.is_file()), "it is killed on its way");
}

#[test]
fn a_killed_run_on_two_devices_resumes_to_the_bit_on_two_and_but_for_rounding_on_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan", "--set", "plan.epochs=4"]);
    let two = ["--devices", "cpu,cpu"];
    let trained = |run: &str, devices: &[&str]| tiny(&out, &[&["pretrain", "--run", run], devices].concat()).remove(0);
    let losses = |run: &str| losses(&out.join("pile/runs").join(run));
    let straight = trained("straight", &two);
    killed(&out, "on-two", &two);
    killed(&out, "on-one", &two);
    let (on_two, on_one) = (trained("on-two", &two), trained("on-one", &["--device", "cpu"]));
    assert_eq!((&straight["digest"], &straight["facts"]["collective"]), (&on_two["digest"], &Value::from("threads")));
    assert_eq!(on_one["facts"]["collective"], "alone");
    let (expected, found) = (losses("straight"), losses("on-one"));
    assert_eq!((expected.len(), losses("on-two")), (12, expected.clone()));
    assert_eq!(found[..4], expected[..4], "before the kill it was on two");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-3 * expected.abs(), "{found}, expected {expected} in {}", text(&out));
    }
}
