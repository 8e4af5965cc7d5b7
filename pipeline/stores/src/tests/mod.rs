//! The mirror and what it promises, on a store in memory that fails where it is told to, and on servers.

#[cfg(feature = "test-server")]
mod azure;
#[cfg(feature = "test-server")]
mod azurite;
#[cfg(feature = "test-server")]
#[path = "../gcs_server/mod.rs"]
mod gcs_server;
#[cfg(feature = "test-server")]
mod google;
mod listed;
mod mirrored;
mod published;
mod received;
mod retried;
#[cfg(feature = "test-server")]
#[path = "../s3_server.rs"]
mod s3_server;
#[cfg(feature = "test-server")]
mod served;
#[cfg(feature = "test-server")]
mod servers;
mod sources;
pub(crate) mod store;
mod swept;
#[cfg(feature = "test-server")]
#[path = "../test_http.rs"]
mod test_http;
