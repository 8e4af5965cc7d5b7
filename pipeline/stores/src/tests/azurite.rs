//! Azurite, the emulator of Azure's blob store, as a process. The end-to-end tests start it by this file as well.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The key of its one account, which its documentation names.
pub const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// A signed request that makes a container, or an empty blob of any name.
const PUT: &str = include_str!("azure_put.js");
/// It takes node some time to start.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// A running Azurite with a container `container`.
pub struct Azurite {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Azurite {
    /// Starts it; none, saying so, where it is not installed (`AZURITE`, or `azurite-blob` in PATH, and node).
    pub fn start() -> Option<Self> {
        let in_path = || {
            std::env::split_paths(&std::env::var_os("PATH")?)
                .map(|at| at.join("azurite-blob"))
                .find(|path| path.is_file())
        };
        let Some(program) = std::env::var_os("AZURITE").map(PathBuf::from).or_else(in_path) else {
            println!("skipped: there is no azurite-blob (npm install azurite; AZURITE=.../azurite-blob)");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("has one").port();
        let mut command = Command::new(&program);
        command.args(["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobPort", &port.to_string()]);
        command.arg("--location").arg(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let azurite = Self { child, port, _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < STARTED_WITHIN, "{} does not listen", program.display());
            std::thread::sleep(Duration::from_millis(50));
        }
        azurite.put("container");
        Some(azurite)
    }

    /// Makes a container, or an empty blob of any name in one.
    pub fn put(&self, path: &str) {
        let status = Command::new("node").args(["-e", PUT, &self.port.to_string(), path, KEY]).status();
        assert!(status.expect("node starts").success(), "{path}");
    }

    /// Its address, above the account's.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
