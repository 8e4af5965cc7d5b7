//! The driver on stable Rust: gives every target seeded inputs, in processes of its own.
//!
//! A worker process works through the inputs of one target. It notes each index before it begins; a panic, an input that
//! takes longer than [`INPUT_SECS`], more than [`MEMORY_MIB`] of memory, a signal: whatever ends the worker, the input is
//! made again from its index, saved, and the next worker goes on behind it.
//!
//! `make fuzz SECS=60` runs all targets for so long together; `make test` gives each [`SAMPLE`] inputs.

use super::{corpus, mutate, targets};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Inputs of each target when no time is given.
const SAMPLE: u64 = 250;
/// An input that takes longer hangs.
const INPUT_SECS: u64 = 10;
/// What a worker may take at its peak.
const MEMORY_MIB: u64 = 1024;
/// The address space of a worker, a wall behind [`MEMORY_MIB`].
const ADDRESSES_MIB: u64 = 16 << 10;
/// Failures of a target after which it is given up.
const MAX_FAILURES: usize = 5;
/// Target, seed, first index, count, seconds, and the file that takes the index: what a worker is told.
const WORKER: &str = "LAPIDARY_FUZZ_WORKER";
const REPLAY: &str = "LAPIDARY_FUZZ_REPLAY";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.trim().parse().ok())
}

/// What became of a target.
#[derive(Debug, Default)]
struct Tally {
    inputs: u64,
    secs: f64,
    failures: Vec<String>,
    peak_mib: u64,
}

#[test]
fn every_reader_of_foreign_bytes_holds() {
    let seed = number("LAPIDARY_FUZZ_SEED").unwrap_or(1);
    let secs = number("LAPIDARY_FUZZ_SECS");
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(targets::TARGETS.len());
    // Workers share the time: as many at once as there are cores.
    let each = secs.map(|secs| Duration::from_secs_f64((secs * threads as u64) as f64 / targets::TARGETS.len() as f64));
    let (next, tallies) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, _)) = targets::TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tally = run_target(name, seed, each);
                    tallies.lock().expect("no thread panics").push((*name, tally));
                }
            });
        }
    });
    let mut tallies = tallies.into_inner().expect("no thread panics");
    tallies.sort_by_key(|(name, _)| targets::TARGETS.iter().position(|(known, _)| known == name));
    println!("seed {seed}\n| target | inputs | inputs/s | peak memory, MiB | failures |\n|---|---|---|---|---|");
    for (name, tally) in &tallies {
        let rate = tally.inputs as f64 / tally.secs.max(1e-9);
        println!("| {name} | {} | {rate:.0} | {} | {} |", tally.inputs, tally.peak_mib, tally.failures.len());
    }
    let inputs: u64 = tallies.iter().map(|(_, tally)| tally.inputs).sum();
    let failures: Vec<&String> = tallies.iter().flat_map(|(_, tally)| &tally.failures).collect();
    println!("| all | {inputs} | | | {} |", failures.len());
    assert!(failures.is_empty(), "{}", failures.iter().map(|f| f.as_str()).collect::<Vec<_>>().join("\n"));
    assert!(secs.is_some() || inputs == SAMPLE * targets::TARGETS.len() as u64, "{inputs} inputs were tried");
}

/// Runs a target's inputs, for so long or [`SAMPLE`] of them, going on behind each that fails.
fn run_target(name: &str, seed: u64, time: Option<Duration>) -> Tally {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let folder = tempfile::tempdir().expect("a folder");
    let note = folder.path().join("index");
    while tally.failures.len() < MAX_FAILURES {
        let left = time.map(|time| time.saturating_sub(begun.elapsed()));
        if left.map_or(tally.inputs >= SAMPLE, |left| left.is_zero()) {
            break;
        }
        let count = if time.is_some() { u64::MAX } else { SAMPLE - tally.inputs };
        let said = run_worker(name, seed, tally.inputs, count, left, &note);
        let (done, peak_mib) = read_note(&note).unwrap_or((tally.inputs, 0));
        tally.peak_mib = tally.peak_mib.max(peak_mib);
        let Err(why) = said else {
            tally.inputs = done;
            continue;
        };
        // The input of this index was begun and not ended.
        tally.failures.push(save(name, seed, done, &why));
        tally.inputs = done + 1;
    }
    tally.secs = begun.elapsed().as_secs_f64();
    tally
}

/// Runs a worker to its end, or to its failure.
fn run_worker(
    name: &str,
    seed: u64,
    first: u64,
    count: u64,
    time: Option<Duration>,
    note: &Path,
) -> Result<(), String> {
    write_note(&File::create(note).expect("creates"), first, 0);
    let errors = note.with_extension("errors");
    let millis = time.map_or(0, |time| time.as_millis().max(1));
    let told = [name, &seed.to_string(), &first.to_string(), &count.to_string(), &millis.to_string()].join(" ");
    let mut worker = Command::new("sh")
        .args(["-c", &format!("ulimit -v {}; exec \"$0\" \"$@\"", ADDRESSES_MIB << 10)])
        .arg(std::env::current_exe().expect("a test has a path"))
        .args(["--ignored", "--exact", "fuzz::driver::worker", "--nocapture", "--test-threads", "1"])
        .env(WORKER, format!("{told} {}", note.display()))
        .stdout(Stdio::null())
        // A file, since nobody reads a pipe while the worker works, and a full one would stop it.
        .stderr(File::create(&errors).expect("creates"))
        .spawn()
        .expect("a worker starts");
    let hung = wait(&mut worker, note);
    let said = fs::read_to_string(&errors).unwrap_or_default();
    let status = worker.wait().expect("it ended");
    match (hung, status.success()) {
        (true, _) => Err(format!("no end after {INPUT_SECS} s")),
        (false, true) => Ok(()),
        (false, false) => Err(format!("{status}: {}", said.trim().lines().take(4).collect::<Vec<_>>().join("; "))),
    }
}

/// Waits for a worker's end; whether it had to be killed because its index stood still.
fn wait(worker: &mut Child, note: &Path) -> bool {
    let (mut index, mut since) = (read_note(note), Instant::now());
    while worker.try_wait().expect("a child of ours").is_none() {
        std::thread::sleep(Duration::from_millis(20));
        let now = read_note(note);
        if now != index {
            (index, since) = (now, Instant::now());
        }
        if since.elapsed() > Duration::from_secs(INPUT_SECS + 5) {
            worker.kill().expect("a child of ours");
            return true;
        }
    }
    false
}

/// Saves an input that failed; says where it lies and how to try it again.
fn save(name: &str, seed: u64, index: u64, why: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/failures");
    fs::create_dir_all(&folder).expect("creates");
    let path = folder.join(format!("{name}-{seed}-{index}"));
    fs::write(&path, mutate::input(seed, name, index, &corpus::of(name))).expect("writes");
    format!(
        "{name}, input {index}: {why}\n  again: {REPLAY}={name}:{} cargo test --release --workspace --test e2e -- \
         --ignored --exact fuzz::driver::replay --nocapture",
        path.display()
    )
}

fn write_note(file: &File, index: u64, peak_mib: u64) {
    let mut note = [0; 16];
    note[..8].copy_from_slice(&index.to_le_bytes());
    note[8..].copy_from_slice(&peak_mib.to_le_bytes());
    file.write_all_at(&note, 0).expect("writes");
}

fn read_note(note: &Path) -> Option<(u64, u64)> {
    let bytes = fs::read(note).ok()?;
    let (words, _) = bytes.as_chunks::<8>();
    Some((u64::from_le_bytes(*words.first()?), u64::from_le_bytes(*words.get(1)?)))
}

fn target(name: &str) -> targets::Target {
    targets::TARGETS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no target `{name}`")).1
}

#[test]
#[ignore = "what the driver runs in a process of its own"]
fn worker() {
    let told = std::env::var(WORKER).expect("started by the driver");
    let told: Vec<&str> = told.splitn(6, ' ').collect();
    let [name, seed, first, count, millis, note] = told[..] else { panic!("{told:?}") };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let (seed, first, count, millis) = (number(seed), number(first), number(count), number(millis));
    let (target, corpus) = (target(name), corpus::of(name));
    let note = File::options().write(true).open(note).expect("made by the driver");
    let begun = Instant::now();
    for index in first..first.saturating_add(count) {
        if millis > 0 && begun.elapsed().as_millis() as u64 >= millis {
            return;
        }
        let input = mutate::input(seed, name, index, &corpus);
        let peak_mib = run_input(target, &input).unwrap_or_else(|why| {
            eprintln!("{why}");
            std::process::exit(1);
        });
        write_note(&note, index + 1, peak_mib);
    }
}

/// Runs an input; the process's peak of memory so far, in MiB.
fn run_input(target: targets::Target, input: &[u8]) -> Result<u64, String> {
    let begun = Instant::now();
    // The default hook has said where it panicked.
    catch_unwind(AssertUnwindSafe(|| target(input))).map_err(|_| "it panicked".to_owned())?;
    if begun.elapsed() > Duration::from_secs(INPUT_SECS) {
        return Err(format!("it took {:.1} s", begun.elapsed().as_secs_f64()));
    }
    let peak_mib = peak_memory_mib();
    if peak_mib > MEMORY_MIB { Err(format!("it took {peak_mib} MiB")) } else { Ok(peak_mib) }
}

/// The process's peak resident memory.
fn peak_memory_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

#[test]
#[ignore = "tries a saved input again: LAPIDARY_FUZZ_REPLAY=TARGET:FILE"]
fn replay() {
    let Ok(told) = std::env::var(REPLAY) else { return println!("{REPLAY} is not set; nothing to try again") };
    let (name, path) = told.split_once(':').expect("TARGET:FILE");
    let input = fs::read(path).expect("reads");
    let begun = Instant::now();
    target(name)(&input);
    println!("{} bytes, {:.2} s, {} MiB", input.len(), begun.elapsed().as_secs_f64(), peak_memory_mib());
}

#[test]
fn what_panics_takes_too_much_or_hangs_is_found() {
    assert!(run_input(|_| {}, b"x").is_ok());
    let panics: targets::Target = |bytes| assert_eq!(bytes, b"y", "a panic that the test wants");
    assert_eq!(run_input(panics, b"x").expect_err("panics"), "it panicked");
    assert!(peak_memory_mib() > 1);
    // A worker that is told nonsense fails, and its failure names the index that it was at.
    let folder = tempfile::tempdir().expect("a folder");
    let note = folder.path().join("index");
    let why = run_worker("no-such-target", 1, 7, 1, None, &note).expect_err("no such target");
    assert!(why.contains("no target `no-such-target`"), "{why}");
    assert_eq!(read_note(&note), Some((7, 0)));
}
