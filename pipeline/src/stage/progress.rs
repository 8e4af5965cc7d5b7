//! Progress on stderr: a bar on a terminal, elsewhere a plain line every 10 seconds.
//!
//! indicatif prints nothing off a terminal, so the plain lines are ours; log lines pass through [`suspend`] so that they
//! do not tear a bar.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Runs `f` while bars are hidden.
pub fn suspend<R>(f: impl FnOnce() -> R) -> R {
    BARS.suspend(f)
}

/// How far a stage has come.
#[derive(Debug)]
pub struct Progress {
    label: String,
    total: u64,
    unit: &'static str,
    bar: Option<ProgressBar>,
    plain: Mutex<Plain>,
}

#[derive(Debug)]
struct Plain {
    done: u64,
    /// What was done before it started, and says nothing of its speed.
    done_before: u64,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// A stage that will do `total` of `unit`.
    pub fn new(label: &str, total: u64, unit: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{prefix:>9} [{bar:32}] {human_pos}/{human_len} {unit} {per_sec} eta {eta} {msg}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("unit", move |_: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
                let _ = w.write_str(unit);
            })
            .progress_chars("=> ");
            BARS.add(ProgressBar::new(total).with_style(style).with_prefix(label.to_owned()))
        });
        let now = Instant::now();
        let plain = Mutex::new(Plain { done: 0, done_before: 0, started: now, last_line: now });
        Self { label: label.to_owned(), total, unit, bar, plain }
    }

    /// Notes that `done` was done by an earlier session: what is left is estimated from this one's speed.
    pub fn begin_at(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.reset_eta();
        }
        let mut plain = self.plain.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (plain.done, plain.done_before) = (done, done);
    }

    /// Notes `n` more done.
    pub fn add(&self, n: u64) {
        self.add_with(n, String::new);
    }

    /// Notes `n` more done, with a word on the state of things that is only made when it is shown.
    pub fn add_with(&self, n: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.inc(n);
            bar.set_message(message());
            return;
        }
        let mut plain = self.plain.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        plain.done += n;
        if plain.last_line.elapsed() >= LINE_EVERY {
            plain.last_line = Instant::now();
            let rate = (plain.done - plain.done_before) as f64 / plain.started.elapsed().as_secs_f64();
            let left = self.total.saturating_sub(plain.done) as f64 / rate.max(1e-9);
            eprintln!(
                "{}: {}/{} {}, {rate:.1}/s, {left:.0} s left {}",
                self.label,
                plain.done,
                self.total,
                self.unit,
                message()
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
