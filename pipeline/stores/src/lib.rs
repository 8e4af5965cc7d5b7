//! Object stores under Lapidary's sources and output.
//!
//! The other binaries read and write local folders and know nothing of HTTP, TLS or clouds. Given a URL they start
//! `lapidary-stores` beside them and ask it, a JSON object a line, as git asks `git-remote-https`: to hold a folder like the
//! store, to bring a file, to publish what a stage has made, to lay a source out. Everything here is behind the cargo feature
//! `stores`; without it the crate is empty.
//!
//! The invariant: an object of data is named by its content and never overwritten, and a manifest is put last and only in the
//! place of the one that it was made to replace.
#![cfg(feature = "stores")]

mod address;
mod error;
mod manifest;
mod mirror;
mod publish;
mod requests;
mod retry;
mod shares;
mod source;
mod sweep;
#[cfg(test)]
mod tests;
mod transfer;

pub use error::{StoreError, scrub};
pub use requests::{PROTOCOL, serve};

/// The result of a function of this crate.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
