//! Runs on a GPU: the first that Vulkan knows, which where there is no card is one in software. Without any, and where the
//! binaries were built without wgpu, these tests say so and end.

use crate::kill::kill_when;
use crate::run::{TINY, curated, facts, losses, refusal, text, tiny};
use std::path::Path;

/// The adapters' names.
fn adapters(out: &Path) -> Vec<String> {
    let found = facts(out, &["doctor"]).remove(0);
    let listed = found["adapters"].as_array().into_iter().flatten();
    let names: Vec<String> = listed.filter_map(|adapter| adapter["name"].as_str().map(str::to_owned)).collect();
    if names.is_empty() {
        println!("skipped: no adapter: {}", found["adapters"]);
    }
    names
}

#[test]
fn sixty_steps_on_a_gpu_have_the_losses_of_the_cpu_and_resume() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    if adapters(&out).is_empty() {
        return;
    }
    curated(&out, "120");
    facts(&out, &[&["plan"], TINY, &["--set", "plan.epochs=9"]].concat());
    let runs = out.join("pile/runs");
    let steps = ["--set", "pretrain.steps=60", "--set", "pretrain.checkpoint_steps=5"];
    let pretrain = |run: &'static str, device: &'static str| {
        [&["pretrain", "--run", run, "--device", device], TINY, &steps].concat()
    };
    // Killed after its first checkpoint, the same command goes on from there.
    let checkpoint = runs.join(".gpu.partial/checkpoints/step-00000005.safetensors");
    let is_killed = kill_when(&out, &pretrain("gpu", "wgpu"), &|| checkpoint.is_file());
    for (run, device) in [("gpu", "wgpu"), ("cpu", "cpu")] {
        facts(&out, &pretrain(run, device));
    }
    let (cpu, gpu) = (losses(&runs.join("cpu")), losses(&runs.join("gpu")));
    assert_eq!((cpu.len(), gpu.len()), (60, 60), "each step once");
    let off = |steps: usize| {
        let each = cpu.iter().zip(&gpu).take(steps).map(|(cpu, gpu)| (cpu - gpu).abs() / cpu.abs());
        each.fold(0.0, f64::max)
    };
    println!("losses are off by {:.1e} in 5 steps, {:.1e} in 60; killed in between: {is_killed}", off(5), off(60));
    assert!(off(5) < 1e-4 && off(60) < 1e-2, "{cpu:?} {gpu:?}");
}

#[test]
fn a_batch_is_spread_over_several_gpus_and_activations_are_f16() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    if adapters(&out).is_empty() {
        return;
    }
    curated(&out, "120");
    tiny(&out, &["plan"]);
    let run = |run: &str, devices: &[&str], more: &[&str]| {
        // Without Barlow Twins' ReLU, whose kinks make much of rounding.
        let steps = ["--set", "objective.kind=dino", "--set", "pretrain.steps=6", "--set", "pretrain.augment=device"];
        facts(&out, &[&["pretrain", "--run", run], devices, TINY, &steps, more].concat());
        losses(&out.join("pile/runs").join(run))
    };
    let cpu = run("cpu", &["--device", "cpu"], &[]);
    let several = run("several", &["--devices", "wgpu:0,wgpu:0"], &[]);
    let half = run("half", &["--device", "wgpu"], &["--set", "pretrain.precision=f16"]);
    let off = |found: &[f64]| {
        assert_eq!(found.len(), 6);
        cpu.iter().zip(found).map(|(cpu, found)| (cpu - found).abs() / cpu.abs()).fold(0.0, f64::max)
    };
    println!("losses are off by {:.1e} on several GPUs, {:.1e} in f16", off(&several), off(&half));
    assert!(off(&several) < 1e-4 && off(&half) > 0.0 && off(&half) < 1e-2, "{cpu:?} {several:?} {half:?}");
}

#[test]
fn a_gpu_that_cannot_be_used_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let found = adapters(&out).len();
    if found == 0 {
        return;
    }
    curated(&out, "120");
    tiny(&out, &["plan"]);
    let refused = |device: &str, set: &[&str]| {
        let arguments = [&["pretrain", "--device", device, "--out", text(&out)], TINY, set].concat();
        let (code, error) = refusal(&arguments);
        assert!(code != 0 && !error.contains("panicked"), "{code}: {error}");
        error
    };
    let told = refused("wgpu:99", &[]);
    assert!(told.contains("wgpu:99") && told.contains(&format!("there are {found} adapters")), "{told}");
    let found = facts(&out, &["doctor"]).remove(0);
    if found["adapters"][0]["kind"] == "software" {
        let told = refused("wgpu", &["--set", "pretrain.precision=bf16"]);
        assert!(told.contains("bf16") && told.contains("wgpu:0"), "{told}");
        assert_ne!(found["auto_takes"], "wgpu:0", "a GPU in software is taken only when it is named");
    }
    let (code, error) = refusal(&[&["pretrain", "--devices", "wgpu:0,cpu", "--out", text(&out)], TINY].concat());
    assert!(code != 0 && error.contains("all the CPU"), "{error}");
    assert!(!out.join("pile/runs").exists(), "nothing is written");
}
