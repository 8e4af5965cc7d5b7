//! Servers of stores on 127.0.0.1 that tests start, kill and start again, and a web server that serves a folder.

use crate::run::{binary, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

pub const ACCESS_KEY: &str = "AKIDLAPIDARYTEST";
pub const SECRET_KEY: &str = "secret-of-the-lapidary-tests";
/// How the key of the service account begins.
pub const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----";

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// S3, by s3s.
    S3,
    /// Google Cloud Storage's XML API, by a server of ours.
    Google,
}

/// A server whose buckets are folders; one of them is `bucket`.
pub struct StoreServer {
    kind: Kind,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl StoreServer {
    /// A running S3 server; none, saying so, where this build has no stores.
    pub fn s3() -> Option<Self> {
        Self::start(Kind::S3)
    }

    /// The same of Google's API.
    pub fn google() -> Option<Self> {
        Self::start(Kind::Google)
    }

    fn start(kind: Kind) -> Option<Self> {
        let missing = ["lapidary-stores", kind.program()].map(beside).into_iter().find(|path| !path.is_file());
        if let Some(path) = missing {
            println!("skipped: `{}` is not built (make test builds it)", path.display());
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("bucket")).expect("creates");
        let mut server = Self { kind, folder, port: 0, child: None };
        server.start_again();
        Some(server)
    }

    /// Starts it, on the port that it had before.
    pub fn start_again(&mut self) {
        let mut command = Command::new(beside(self.kind.program()));
        command.args([text(self.folder.path()), &self.port.to_string()]);
        if self.kind == Kind::S3 {
            command.args([ACCESS_KEY, SECRET_KEY]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("says its port");
        self.port = line.trim().parse().expect("a port");
        self.child = Some(child);
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kills");
            child.wait().expect("waits");
        }
    }

    /// The folder of the bucket.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join("bucket")
    }

    /// The URL of something in the bucket.
    pub fn url(&self, name: &str) -> String {
        let scheme = if self.kind == Kind::S3 { "s3" } else { "gs" };
        format!("{scheme}://bucket/{name}")
    }

    /// The server's own address, without a scheme.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The file of the service account that Google's is asked with.
    pub fn account(&self) -> PathBuf {
        self.folder.path().join("account.json")
    }

    /// `lapidary` with the credentials in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).env("LAPIDARY_STORE_RETRY_SECS", "2");
        match self.kind {
            Kind::S3 => {
                command.env("AWS_ENDPOINT_URL", format!("http://{}", self.host())).env("AWS_REGION", "us-east-1");
                command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
            }
            Kind::Google => {
                command.env("GOOGLE_SERVICE_ACCOUNT", self.account());
            }
        }
        command
    }

    /// Runs a verb with `out` in the bucket as OUT, and a cache.
    pub fn run(&self, cache: &Path, arguments: &[&str]) -> Output {
        let common = ["--out", &self.url("out"), "--cache", text(cache), "--json"];
        self.command(&[arguments, &common].concat()).output().expect("it starts")
    }

    /// The same for one that must succeed; its facts, line by line.
    pub fn facts(&self, cache: &Path, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(cache, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lapidary {arguments:?}: {error}");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The same for one that must fail; its exit code and what it said.
    pub fn refusal(&self, cache: &Path, arguments: &[&str]) -> (i32, String) {
        let output = self.run(cache, arguments);
        assert!(!output.status.success(), "lapidary {arguments:?} succeeded");
        (output.status.code().expect("no signal"), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Kind {
    /// The binary that serves it, beside `lapidary`.
    fn program(self) -> &'static str {
        match self {
            Self::S3 => "lapidary-test-s3",
            Self::Google => "lapidary-test-gcs",
        }
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn beside(name: &str) -> PathBuf {
    binary().with_file_name(name)
}

/// Copies a folder and all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creates");
    for entry in std::fs::read_dir(from).expect("lists").map(|entry| entry.expect("reads").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).expect("copies");
        }
    }
}

/// Serves the files of a folder on the web as long as the test runs; its address.
pub fn serve_folder(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("has one");
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(|stream| stream.ok()) {
            let folder = folder.clone();
            std::thread::spawn(move || answer(stream, &folder));
        }
    });
    format!("http://{address}")
}

/// GET and HEAD, whole or a range of bytes; one request a connection.
fn answer(mut stream: TcpStream, folder: &Path) {
    let mut reader = BufReader::new(stream.try_clone().expect("clones"));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_ascii_lowercase());
        if lines.len() == 1 {
            lines[0] = line.trim().to_owned();
        }
    }
    let Some(request) = lines.first() else { return };
    let mut parts = request.split(' ');
    let (method, path) = (parts.next().unwrap_or_default().to_owned(), parts.next().unwrap_or_default());
    let path = folder.join(path.split('?').next().unwrap_or_default().trim_start_matches('/'));
    let Ok(mut bytes) = std::fs::read(&path) else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let len = bytes.len();
    let range = lines.iter().find_map(|line| line.strip_prefix("range: bytes=")?.split_once('-'));
    // Some servers know no ranges.
    let range = range.filter(|_| !path.starts_with(folder.join("no-ranges")));
    let range =
        range.and_then(|(from, to)| Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?.min(len - 1))));
    let mut head = match range {
        Some((from, to)) => {
            bytes = bytes[from..=to].to_vec();
            format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{to}/{len}\r\n")
        }
        None => "HTTP/1.1 200 OK\r\n".to_owned(),
    };
    head.push_str(&format!(
        "Content-Length: {}\r\nLast-Modified: Mon, 02 Nov 2026 10:00:00 GMT\r\nETag: \"{len}\"\r\nConnection: close\r\n\r\n",
        bytes.len()
    ));
    let body = if method == "HEAD" { &[][..] } else { &bytes };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    // Until the other side has it all.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0]);
}
