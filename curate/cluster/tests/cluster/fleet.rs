//! Schedulers and executors as processes on loopback.

use crate::commands::{binary, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Silence after which the scheduler gives an executor's tasks to others, unless a test says otherwise.
const TIMEOUT_SECS: u64 = 10;

/// A scheduler and its executors; they end with it.
pub struct Fleet {
    address: SocketAddr,
    timeout_secs: u64,
    environment: Vec<(String, String)>,
    folder: TempDir,
    scheduler: Child,
    executors: Vec<Executor>,
}

/// An executor, and the folder that it works in.
struct Executor {
    child: Child,
    folder: PathBuf,
}

impl Fleet {
    /// A scheduler, and so many executors of one thread that ask it for tasks.
    pub fn start(executors: usize) -> Self {
        Self::start_with(executors, TIMEOUT_SECS, &[])
    }

    /// The same, with a longer patience of the scheduler and variables in the executors' environment.
    pub fn start_with(executors: usize, timeout_secs: u64, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let scheduler = scheduler(address, timeout_secs, folder.path());
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut fleet = Self { address, timeout_secs, environment, folder, scheduler, executors: Vec::new() };
        (0..executors).for_each(|_| fleet.add_executor(&[]));
        fleet
    }

    /// One more executor, which asks for tasks when this returns.
    pub fn add_executor(&mut self, more: &[&str]) {
        let folder = self.folder.path().join(format!("executor-{}", self.executors.len()));
        let mut command = Command::new(binary("lapidary-worker"));
        command.args(["--role", "executor", "--scheduler", &self.address.to_string(), "--work-dir", text(&folder)]);
        command.args(more).env("RAYON_NUM_THREADS", "1").stdout(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = folder.with_extension("log");
        command.stderr(std::fs::File::create(&log).expect("a log"));
        self.executors.push(Executor { child: command.spawn().expect("an executor starts"), folder });
        wait_until("the executor asks for tasks", || {
            std::fs::read_to_string(&log).is_ok_and(|said| said.contains("tasks from"))
        });
    }

    /// What `--cluster` is given.
    pub fn url(&self) -> String {
        format!("df://{}", self.address)
    }

    /// The folders that executors work in.
    pub fn work_dirs(&self) -> Vec<&Path> {
        self.executors.iter().map(|executor| executor.folder.as_path()).collect()
    }

    /// What the scheduler has said.
    pub fn scheduler_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("scheduler.log")).unwrap_or_default()
    }

    /// What executors have said.
    pub fn executor_logs(&self) -> String {
        let logs = self.executors.iter().map(|executor| executor.folder.with_extension("log"));
        logs.filter_map(|log| std::fs::read_to_string(log).ok()).collect()
    }

    /// Waits until an executor has a process of a stage; which.
    fn wait_for_busy(&self) -> usize {
        let mut busy = None;
        let begun = Instant::now();
        while busy.is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120), "no executor was ever busy: {}", self.executor_logs());
            std::thread::sleep(Duration::from_millis(5));
            busy = self.executors.iter().position(|executor| has_children(executor.child.id()));
        }
        busy.expect("one is")
    }

    /// The niceness of the process of a stage, and that of this one.
    pub fn niceness_at_work(&self) -> (String, String) {
        let busy = self.executors[self.wait_for_busy()].child.id();
        let of = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
            after_name.split(' ').nth(16).unwrap_or_default().to_owned()
        };
        (children_of(busy).first().map(|child| of(child)).unwrap_or_default(), of("self"))
    }

    /// SIGKILL to an executor that makes a group.
    pub fn kill_busy_executor(&mut self) {
        let busy = self.wait_for_busy();
        end(&mut self.executors.remove(busy).child);
    }

    /// SIGTERM to an executor that makes a group; how it ended.
    pub fn terminate_busy_executor(&mut self) -> ExitStatus {
        let busy = self.wait_for_busy();
        let mut executor = self.executors.remove(busy);
        let pid = Pid::from_raw(i32::try_from(executor.child.id()).expect("an id"));
        kill(pid, Signal::SIGTERM).expect("a signal");
        finished(&mut executor.child, "an executor that was told to end", Duration::from_secs(30))
    }

    /// SIGKILL to the scheduler, and after a while another in its place, which knows nothing.
    pub fn restart_scheduler(&mut self) {
        end(&mut self.scheduler);
        std::thread::sleep(Duration::from_secs(1));
        self.scheduler = scheduler(self.address, self.timeout_secs, self.folder.path());
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.executors.iter_mut().for_each(|executor| end(&mut executor.child));
        end(&mut self.scheduler);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits for a process, and kills it when that takes too long.
pub fn finished(child: &mut Child, what: &str, within: Duration) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("waits") {
            return status;
        }
        if begun.elapsed() >= within {
            end(child);
            panic!("{what} did not end within {} s", within.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process has started others that still run.
fn has_children(pid: u32) -> bool {
    // One that has ended and was not waited for yet makes nothing.
    let runs = |child: &String| {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        status.contains("State:") && !status.contains("(zombie)")
    };
    children_of(pid).iter().any(runs)
}

/// The processes that a process has started.
fn children_of(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(|entry| entry.ok());
    let children = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    children.flat_map(|children| children.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn scheduler(address: SocketAddr, timeout_secs: u64, folder: &Path) -> Child {
    let log = std::fs::File::options().append(true).create(true).open(folder.join("scheduler.log")).expect("a log");
    let mut command = Command::new(binary("lapidary-worker"));
    command.args(["--role", "scheduler", "--bind", &address.to_string()]);
    command.args(["--executor-timeout-secs", &timeout_secs.to_string()]);
    command.env("LAPIDARY_LOG", "warn,lapidary_cluster=info,ballista_scheduler=info");
    let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("a scheduler starts");
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

/// Waits until a stage has a shard, as long as its client runs.
pub fn wait_for_shard(client: &mut Child, out: &Path, source: &str, stage: &str) {
    let begun = Instant::now();
    while made_so_far(out, source, stage) == 0 {
        assert!(client.try_wait().expect("looks").is_none(), "the client ended before a shard of {stage} was made");
        assert!(begun.elapsed() < Duration::from_secs(300), "no shard of {stage} was ever made");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many shards of a stage shares have made so far, of whatever key.
pub fn made_so_far(out: &Path, source: &str, stage: &str) -> usize {
    let keys = std::fs::read_dir(out.join(source).join(format!(".{stage}.shares"))).into_iter().flatten();
    let folders = keys.filter_map(|key| key.ok()).map(|key| key.path());
    folders.map(|folder| lapidary_pipeline::stage::Shares::at(folder).names().len()).sum()
}
