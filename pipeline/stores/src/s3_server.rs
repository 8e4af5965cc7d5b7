//! An S3 server for tests: buckets are the folders in a folder.

use super::test_http;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::io::Error;
use std::net::TcpListener;

/// Serves for ever.
///
/// # Errors
/// When the folder is none, or the socket cannot be used.
pub fn serve(listener: TcpListener, folder: &str, access_key: &str, secret_key: &str) -> std::io::Result<()> {
    let files = FileSystem::new(folder).map_err(|e| Error::other(format!("{folder}: {e:?}")))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(access_key, secret_key));
    test_http::serve(listener, service.build())
}
