//! The allocator of all binaries: mimalloc. The system's gives the pages of large images and tensors back each time.

use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tells mimalloc to keep the pages of what is freed, for as long as the process lives: handing them back and taking them
/// again costs a quarter of a training step on the CPU.
pub fn keep_pages() {
    set_purge_delay(-1);
}

/// Tells mimalloc to keep the pages of what is freed for a while: buffers that every image takes stay, what a step of a stage
/// held does not.
pub fn keep_pages_for(time: Duration) {
    set_purge_delay(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
}

#[expect(unsafe_code, reason = "mimalloc's options are set through its C interface")]
fn set_purge_delay(milliseconds: i64) {
    /// `mi_option_purge_delay` of mimalloc 2 and 3, which the crate does not name; -1 is never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets an option of the allocator; any thread may do so at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds as _) };
}
