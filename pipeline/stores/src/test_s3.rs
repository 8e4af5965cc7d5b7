//! `lapidary-test-s3 FOLDER PORT ACCESS_KEY SECRET_KEY`: an S3 server for tests, on 127.0.0.1. Buckets are the folders in
//! FOLDER, so that a server that is killed and started again has what it had. Prints its port when it listens.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::io::{Error, Write};
use std::process::ExitCode;
use tokio::net::TcpListener;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, port, access_key, secret_key] = &arguments[..] else {
        eprintln!("usage: lapidary-test-s3 FOLDER PORT ACCESS_KEY SECRET_KEY");
        return ExitCode::from(2);
    };
    match run(folder, port, access_key, secret_key) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

fn run(folder: &str, port: &str, access_key: &str, secret_key: &str) -> std::io::Result<()> {
    let port: u16 = port.parse().map_err(Error::other)?;
    let files = FileSystem::new(folder).map_err(|e| Error::other(format!("{folder}: {e:?}")))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(access_key, secret_key));
    let service = service.build();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        println!("{}", listener.local_addr()?.port());
        std::io::stdout().flush()?;
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
