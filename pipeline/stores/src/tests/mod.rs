//! The mirror and what it promises, on a store in memory that fails where it is told to, and on servers.

#[cfg(feature = "test-server")]
mod azure;
mod listed;
mod mirrored;
mod published;
mod received;
mod retried;
#[cfg(feature = "test-server")]
mod served;
mod sources;
pub(crate) mod store;
mod swept;
#[cfg(feature = "test-server")]
#[path = "../test_server.rs"]
mod test_server;
