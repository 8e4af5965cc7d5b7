//! `lapidary-test-s3 FOLDER PORT ACCESS_KEY SECRET_KEY`: an S3 server for tests, on 127.0.0.1. Buckets are the folders in
//! FOLDER, so that a server that is killed and started again has what it had. Prints its port when it listens.

mod s3_server;
mod test_http;

use std::io::{Error, Write};
use std::net::TcpListener;
use std::process::ExitCode;

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
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    s3_server::serve(listener, folder, access_key, secret_key)
}
