//! The verbs `runs`, `rm`, `gc` and `verify`.

use super::{CommonArgs, Failure, say};
use crate::upkeep::{Garbage, RunState, RunSummary, Verified, collect, remove, runs, verify};
use serde_json::json;

/// `lapidary runs`.
pub fn run_runs(common: &CommonArgs) {
    let all = runs(&common.layout());
    say(common, &json!(all), || {
        if all.is_empty() {
            return vec![format!("no runs under `{}` yet; `lapidary pretrain` makes one", common.out_in_words())];
        }
        let wide = all.iter().map(|run| name_of(run).len()).max().unwrap_or(0);
        all.iter().map(|run| line_of(run, wide)).collect()
    });
}

fn name_of(run: &RunSummary) -> String {
    format!("{}/runs/{}", run.source, run.run)
}

fn line_of(run: &RunSummary, wide: usize) -> String {
    let state = match run.state {
        RunState::Running { step } => format!("running, at step {step}"),
        RunState::Interrupted { step } => format!("interrupted at step {step}"),
        RunState::Finished { step } => format!("finished, {step} steps"),
    };
    let loss = run.loss.map(|loss| format!("loss {loss:.4}")).unwrap_or_default();
    let probe = run.best_probe.as_ref().map(|(probe, top1)| format!("k-NN {:.1} % on {probe}", top1 * 100.0));
    let settings: Vec<String> = run.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let line = format!(
        "{:<wide$}  {state:<24} {loss:<12} {:<24} {}",
        name_of(run),
        probe.unwrap_or_default(),
        settings.join(" ")
    );
    line.trim_end().to_owned()
}

/// `lapidary rm`.
///
/// # Errors
/// When a name stands for nothing or several things, or for something in use.
pub fn run_rm(common: &CommonArgs, names: &[String], force: bool) -> Result<(), Failure> {
    for name in names {
        let removed = remove(&common.layout(), name, force, common.dry_run)?;
        say(common, &json!(removed), || {
            let verb = if common.dry_run { "would go" } else { "removed" };
            removed.iter().map(|r| format!("{:>8}  {verb}: {} ({})", "rm", r.path.display(), size(r.bytes))).collect()
        });
    }
    Ok(())
}

/// `lapidary gc`.
///
/// # Errors
/// When something cannot be removed.
pub fn run_gc(common: &CommonArgs) -> Result<(), Failure> {
    let garbage = collect(&common.layout(), common.dry_run)?;
    say(common, &json!(garbage), || {
        let verb = if common.dry_run { "would go" } else { "removed" };
        let line = |g: &Garbage| format!("{:>8}  {verb}: {} ({}): {}", "gc", g.path.display(), size(g.bytes), g.why);
        let mut lines: Vec<String> = garbage.iter().map(line).collect();
        let all = garbage.iter().map(|g| g.bytes).sum();
        lines.push(format!("{:>8}  {} of garbage", "gc", size(all)));
        lines
    });
    Ok(())
}

/// `lapidary verify`.
///
/// # Errors
/// When a file is not as it was written; exit code 1.
pub fn run_verify(common: &CommonArgs, names: &[String]) -> Result<(), Failure> {
    let verified = verify(&common.layout(), names)?;
    say(common, &json!(verified), || verified.iter().flat_map(lines_of).collect());
    if verified.is_empty() {
        let named = if names.is_empty() { String::new() } else { format!(" called {}", names.join(", ")) };
        return Err(
            crate::PipelineError::Usage(format!("nothing whole{named} under `{}`", common.out_in_words())).into()
        );
    }
    let faults = verified.iter().map(|stage| stage.faults.len()).sum::<usize>();
    if faults > 0 {
        let hint = "hint: `lapidary rm` removes a damaged folder; the command that made it makes it again";
        return Err(anyhow::anyhow!("{faults} files are not as they were written\n{hint}").into());
    }
    Ok(())
}

fn lines_of(stage: &Verified) -> Vec<String> {
    let state = match (stage.faults.is_empty(), stage.stale_inputs.is_empty()) {
        (false, _) => "damaged".to_owned(),
        (true, false) => format!("intact, but stale: {}", stage.stale_inputs.join(", ")),
        (true, true) => "intact".to_owned(),
    };
    let mut lines = vec![format!("{:<40} {:>6} files {:>10}  {state}", stage.folder, stage.files, size(stage.bytes))];
    lines.extend(stage.faults.iter().map(|fault| format!("  {}: {}", fault.path.display(), fault.what)));
    lines
}

/// Bytes for a reader.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
    }
}
