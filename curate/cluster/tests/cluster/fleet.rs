//! Schedulers and executors as processes on loopback.

use crate::made::binary;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A scheduler and its executors; they end with it.
pub struct Fleet {
    address: SocketAddr,
    scheduler: Child,
    executors: Vec<Child>,
}

impl Fleet {
    /// A scheduler, and so many executors of one thread.
    pub fn start(executors: usize) -> Self {
        let address = free_address();
        let mut fleet = Self { address, scheduler: scheduler(address), executors: Vec::new() };
        (0..executors).for_each(|_| fleet.add_executor(&[]));
        fleet
    }

    /// One more executor.
    pub fn add_executor(&mut self, more: &[&str]) {
        let mut command = Command::new(binary("lapidary-worker"));
        command.args(["--role", "executor", "--bind", "127.0.0.1:0", "--scheduler", &self.address.to_string()]);
        command.args(more).env("RAYON_NUM_THREADS", "1").stdout(Stdio::null()).stderr(log());
        self.executors.push(command.spawn().expect("an executor starts"));
    }

    /// What `--cluster` is given.
    pub fn url(&self) -> String {
        format!("df://{}", self.address)
    }

    /// SIGKILL to the first executor.
    pub fn kill_executor(&mut self) {
        end(&mut self.executors.remove(0));
    }

    /// SIGKILL to the scheduler, and after a while another in its place, which knows nothing.
    pub fn restart_scheduler(&mut self) {
        end(&mut self.scheduler);
        std::thread::sleep(Duration::from_secs(1));
        self.scheduler = scheduler(self.address);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.executors.iter_mut().for_each(end);
        end(&mut self.scheduler);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// What workers say goes where `LAPIDARY_WORKER_LOG` says, if it says so.
fn log() -> Stdio {
    let path = std::env::var_os("LAPIDARY_WORKER_LOG").map(PathBuf::from);
    let file = path.and_then(|path| std::fs::File::options().append(true).create(true).open(path).ok());
    file.map_or_else(Stdio::null, Stdio::from)
}

fn scheduler(address: SocketAddr) -> Child {
    let mut command = Command::new(binary("lapidary-worker"));
    command.args(["--role", "scheduler", "--bind", &address.to_string(), "--executor-timeout-secs", "10"]);
    let child = command.stdout(Stdio::null()).stderr(log()).spawn().expect("a scheduler starts");
    wait_until("the scheduler listens", || TcpStream::connect(address).is_ok());
    child
}

/// An address on loopback that is free now.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Waits at most two minutes.
pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}: never");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many shards of a stage shares have made so far.
pub fn made_so_far(out: &Path, source: &str, stage: &str) -> usize {
    lapidary_pipeline::stage::Shares::of(&out.join(source).join(stage)).names().len()
}
