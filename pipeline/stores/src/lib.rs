//! Object stores under Lapidary's sources and output.
//!
//! The other binaries read and write local folders and know nothing of HTTP, TLS or clouds. Given a URL they start
//! `lapidary-stores` beside them and ask it, a JSON object a line, as git asks `git-remote-https`: to hold a folder like the
//! store, to fetch a file, to publish what a stage has made, to lay a source out. Everything here is behind the cargo feature
//! `stores`; without it the crate is empty.
//!
//! The invariant: an object of data is named by its content, so that whoever writes it again writes the same bytes; and a manifest
//! is put last, on the condition that the store still has the one that it was made to replace. A server that ignores conditions is
//! refused. What is removed by name (`rm`) is removed after a look, without a condition: stores have none for that.
#![cfg(feature = "stores")]

mod address;
mod answer;
mod clients;
mod contents;
mod error;
mod files;
mod known;
mod listing;
mod manifest;
mod mirror;
mod publish;
mod receive;
mod requests;
mod retry;
mod secrets;
mod send;
mod shares;
mod source;
mod sweep;
#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use requests::{PROTOCOL, serve};
pub use secrets::scrub;

/// The result of a function of this crate.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
