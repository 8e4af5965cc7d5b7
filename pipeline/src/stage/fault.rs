//! Named points at which the fault harness of `tests` pulls the plug: the process kills itself as `kill -9` would.
//!
//! Only `LAPIDARY_TEST_KILL_AT=POINT` or `POINT#N` (the Nth time that it is reached) switches one on.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

static KILL_AT: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
    let wanted = std::env::var("LAPIDARY_TEST_KILL_AT").ok()?;
    let (point, count) = match wanted.rsplit_once('#') {
        Some((point, count)) => (point.to_owned(), count.parse().ok()?),
        None => (wanted, 1),
    };
    Some((point, count))
});
static REACHED: AtomicU64 = AtomicU64::new(0);

/// Ends the process without any clean-up when the harness asked for this point.
pub fn fault_point(point: &str) {
    if let Some((wanted, count)) = &*KILL_AT
        && wanted == point
        && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        let _ = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
        // The signal may take a moment.
        loop {
            std::thread::park();
        }
    }
}
