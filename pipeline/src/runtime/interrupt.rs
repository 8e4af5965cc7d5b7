//! Ctrl-C and SIGTERM: a flag that stages look at between batches, so that they stop where they can go on later.

use crate::{PipelineError, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Installs the handler; a second signal ends the process at once.
pub fn install() {
    let handler = || {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::debug!("no interrupt handler: {error}");
    }
}

/// An error once an interrupt was requested.
pub fn check() -> Result<()> {
    if REQUESTED.load(Ordering::Relaxed) { Err(PipelineError::Interrupted) } else { Ok(()) }
}
