//! What is refused: with which exit code, naming what, hinting at what to do.

use crate::run::{DRAWN, binary, curated, facts, refusal, text};

#[test]
fn wrong_words_exit_with_2_and_name_the_nearest() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = text(folder.path());
    let (code, error) = refusal(&["config", "--set", "pretrain.bacth=3"]);
    assert!(
        code == 2 && error.contains("unknown key `pretrain.bacth`") && error.contains("`pretrain.batch`"),
        "{error}"
    );
    let (code, error) = refusal(&["config", "--preset", "dmo"]);
    assert!(code == 2 && error.contains("did you mean `demo`?"), "{error}");
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "[ingest]\nmax_pixel = 3\n").expect("writes");
    let (code, error) = refusal(&["config", "--config", text(&file)]);
    assert!(code == 2 && error.contains("c.toml") && error.contains("`ingest.max_pixels`"), "{error}");
    let (code, error) = refusal(&["config", "--set", "pretrain.batch=many"]);
    assert!(code == 2 && error.contains("invalid type"), "{error}");
    let (code, _) = refusal(&["no-such-verb"]);
    assert_eq!(code, 2);
    let (code, error) = refusal(&["pretrain", "--device", "gpu", "--out", out]);
    assert!(code == 2 && error.contains("cpu, cuda, cuda:N, wgpu, wgpu:N or auto"), "{error}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let arguments = ["config", "--preset", "demo"];
    let mut child = std::process::Command::new(binary())
        .args(arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{error}");
}

#[test]
fn a_missing_stage_says_what_to_type() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let (code, error) = refusal(&["embed", "--out", text(&out)]);
    assert!(code == 1 && error.contains("lapidary ingest --data DIR"), "{error}");
    facts(&out, &["ingest", "--data", text(&DRAWN.pile())]);
    let (_, error) = refusal(&["curate", "--out", text(&out)]);
    assert!(error.contains("lapidary fingerprint"), "{error}");
    facts(&out, &["fingerprint"]);
    let (_, error) = refusal(&["curate", "--out", text(&out)]);
    assert!(error.contains("lapidary embed"), "{error}");
    let (_, error) = refusal(&["cut", "--out", text(&out)]);
    assert!(error.contains("lapidary curate"), "{error}");
    let (_, error) = refusal(&["plan", "--out", text(&out)]);
    assert!(error.contains("lapidary cut"), "{error}");
}

#[test]
fn too_many_rejects_exit_with_3_and_an_empty_source_with_4() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    std::fs::create_dir(&data).expect("creates");
    let (code, error) = refusal(&["ingest", "--data", text(&data), "--out", text(&out)]);
    assert!(code == 4 && error.contains("holds no images"), "{error}");
    let pile = DRAWN.pile();
    let ingest = ["ingest", "--data", text(&pile), "--out", text(&out)];
    let (code, error) = refusal(&[&ingest[..], &["--set", "ingest.max_reject=0.001"]].concat());
    assert!(code == 3 && error.contains("6 of 582") && error.contains("3 truncated"), "{error}");
    assert!(!out.join("pile/images").exists());
    let (code, error) = refusal(&[&ingest[..], &["--set", "ingest.strict=true"]].concat());
    assert!(code == 1 && error.contains("ingest.strict"), "{error}");
    let (code, _) = refusal(&[&ingest[..], &["--set", "ingest.max_pixels=100"]].concat());
    assert_eq!(code, 3);
}

#[test]
fn sizes_and_devices_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "20");
    let (code, error) = refusal(&["cut", "--size", "5000", "--out", text(&out)]);
    assert!(code == 2 && error.contains("--size all"), "{error}");
    let (code, error) = refusal(&["cut", "--size", "0", "--out", text(&out)]);
    assert!(code == 4 && error.contains("empty"), "{error}");
    facts(&out, &["plan", "--set", "plan.epochs=1"]);
    let (code, error) = refusal(&["pretrain", "--device", "cpu", "--out", text(&out), "--set", "pretrain.batch=64"]);
    assert!(code == 2 && error.contains("fewer than pretrain.batch"), "{error}");
    let (code, error) = refusal(&["pretrain", "--device", "cpu", "--out", text(&out), "--set", "model.patch_px=7"]);
    assert!(code == 2 && error.contains("no multiple of model.patch_px"), "{error}");
    if !std::path::Path::new("/dev/nvidia0").exists() {
        let arguments = ["pretrain", "--device", "cuda", "--out", text(&out), "--set", "pretrain.batch=8"];
        let (code, error) = refusal(&[&arguments[..], &["--set", "objective.prototypes=16"]].concat());
        assert!(code == 1 && error.contains("device `cuda:0`") && !error.contains("panicked"), "{error}");
    }
}
