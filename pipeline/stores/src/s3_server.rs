//! An S3 server for tests: buckets are the folders in a folder.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
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
    let service = service.build();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let http = Builder::new(TokioExecutor::new());
        loop {
            let (socket, _) = listener.accept().await?;
            let connection = http.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
            tokio::spawn(async move {
                // A client that goes away is a client that goes away.
                let _ = connection.await;
            });
        }
    })
}
