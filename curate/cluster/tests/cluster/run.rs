//! What `tests/e2e/store_server.rs` takes from the tests that it was written for.

pub use crate::commands::text;

/// `lapidary`.
pub fn binary() -> std::path::PathBuf {
    crate::commands::binary("lapidary")
}
