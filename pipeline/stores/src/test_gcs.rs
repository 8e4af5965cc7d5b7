//! `lapidary-test-gcs FOLDER PORT`: a server for tests that speaks Google Cloud Storage's XML API, on 127.0.0.1. It is ours, not
//! Google's. Buckets are the folders in FOLDER, so that a server that is killed and started again has what it had. Prints its port
//! when it listens; `GOOGLE_SERVICE_ACCOUNT=FOLDER/account.json` is all that a client needs.

mod gcs_server;
mod test_http;

use gcs_server::GcsServer;
use std::io::{Error, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, port] = &arguments[..] else {
        eprintln!("usage: lapidary-test-gcs FOLDER PORT");
        return ExitCode::from(2);
    };
    match run(Path::new(folder), port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

fn run(folder: &Path, port: &str) -> std::io::Result<()> {
    let port: u16 = port.parse().map_err(Error::other)?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let port = listener.local_addr()?.port();
    let server = GcsServer::bind(listener, folder)?;
    println!("{port}");
    std::io::stdout().flush()?;
    server.serve()
}
