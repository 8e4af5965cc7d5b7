//! The process that makes a group's shards: `lapidary STAGE --shard i/n`, on the machine of the executor.
//!
//! It ends when the plan that started it is dropped, when it makes nothing for too long, and when the executor ends or dies: it
//! would do no harm, but work that somebody else is given again.

use crate::build::Builds;
use crate::{ClusterError, ManifestLine, Result, Stage, StageTask};
use lapidary_pipeline::stage::{digest_of_bytes, write_synced};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// How often a process is looked at, and how often at what it has made.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long a process may make nothing, unless it is said otherwise.
const STUCK_AFTER: Duration = Duration::from_secs(7200);
/// How long an executor asks for nothing after a failure, so that another one is given the group; twice as long after each
/// further one, this many times at most, until one goes well.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(5);
const REST_DOUBLINGS: usize = 6;
/// Bytes of what a process wrote last that an error repeats.
const TAIL_BYTES: u64 = 2000;
/// Digits of a configuration's digest in its file's name.
const DIGITS: usize = 16;

/// A program that lies beside this one; where it does not, its bare name, to be found on PATH.
pub fn sibling_binary(program: &str) -> PathBuf {
    let path = std::env::current_exe().ok().and_then(|me| Some(me.parent()?.join(program)));
    path.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(program))
}

/// The version of a `lapidary`.
///
/// # Errors
/// When it cannot be run, or says something else.
pub fn version_of(lapidary: &Path) -> Result<String> {
    let output = Command::new(lapidary).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(ClusterError::process("run", lapidary))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().strip_prefix("lapidary ").map(str::to_owned);
    version.ok_or_else(|| ClusterError::Format(format!("`{} --version` said `{}`", lapidary.display(), text.trim())))
}

/// Makes groups of shards on this machine.
#[derive(Debug)]
pub struct Runner {
    lapidary: PathBuf,
    version: String,
    work_dir: PathBuf,
    worker: String,
    stuck_after: Duration,
    accept_other_builds: bool,
    builds: Builds,
    free_tasks: Option<Arc<Semaphore>>,
    threads: Option<Handle>,
    is_stopping: AtomicBool,
    running: AtomicUsize,
    failures_in_a_row: AtomicUsize,
}

impl Runner {
    /// A runner of the `lapidary` at a path. Configurations and logs lie in `work_dir`; `worker` is what lines and errors call
    /// this machine.
    ///
    /// # Errors
    /// When there is no `lapidary`, or `work_dir` cannot be made.
    pub fn new(lapidary: &Path, work_dir: &Path, worker: &str) -> Result<Self> {
        std::fs::create_dir_all(work_dir).map_err(ClusterError::process("create folder", work_dir))?;
        let work_dir = work_dir.canonicalize().map_err(ClusterError::process("open", work_dir))?;
        Ok(Self {
            lapidary: lapidary.to_owned(),
            version: version_of(lapidary)?,
            work_dir,
            worker: worker.to_owned(),
            stuck_after: STUCK_AFTER,
            accept_other_builds: false,
            builds: Builds::beside(lapidary),
            free_tasks: None,
            threads: None,
            is_stopping: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            failures_in_a_row: AtomicUsize::new(0),
        })
    }

    /// Kills a process that has made no shard for so long.
    #[must_use]
    pub fn with_stuck_after(mut self, stuck_after: Duration) -> Self {
        self.stuck_after = stuck_after;
        self
    }

    /// Whether the client's build may be another one of the same version.
    #[must_use]
    pub fn with_other_builds(mut self, accept_other_builds: bool) -> Self {
        self.accept_other_builds = accept_other_builds;
        self
    }

    /// What the executor may run at once: after a failure one of these is held back for a while.
    #[must_use]
    pub(crate) fn with_free_tasks(mut self, free_tasks: Arc<Semaphore>) -> Self {
        self.free_tasks = Some(free_tasks);
        self
    }

    /// Starts processes from the threads of a runtime. Those that Ballista runs tasks on have a low priority, which processes
    /// that they start would have as well.
    #[must_use]
    pub(crate) fn with_threads(mut self, threads: Handle) -> Self {
        self.threads = Some(threads);
        self
    }

    /// The runtime whose threads wait for processes.
    pub(crate) fn threads(&self) -> Handle {
        self.threads.clone().unwrap_or_else(Handle::current)
    }

    /// The version of its `lapidary`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Stops what it runs, and begins nothing more.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether no process is left.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }

    /// Refuses a plan of another version: the same shard would be other bytes, or the plan mean something else.
    pub(crate) fn refuse_other_version(&self, theirs: &str) -> Result<()> {
        if self.version == theirs {
            return Ok(());
        }
        let worker = format!("executor {}", self.worker);
        Err(ClusterError::OtherVersion { worker, ours: self.version.clone(), theirs: theirs.to_owned() })
    }

    /// Asks for nothing for a while, in the background, so that a group which failed here goes to another executor.
    pub(crate) fn rest(&self) {
        let Some(free_tasks) = self.free_tasks.clone() else { return };
        let before = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed).min(REST_DOUBLINGS);
        tokio::spawn(async move {
            if let Ok(_held) = free_tasks.acquire_owned().await {
                tokio::time::sleep(REST_AFTER_FAILURE * (1 << before)).await;
            }
        });
    }

    /// Makes the shards of a group that are not there yet, and says what is there of it; `index` counts from 1. Blocks until
    /// the process has ended, or `stop` is set.
    ///
    /// Shards that an earlier content of the stage's folder has are none of this: who finishes the stage takes them over.
    ///
    /// # Errors
    /// When the stage refuses, its process is killed or makes nothing for too long, or `stop` was set.
    pub fn run(&self, task: &StageTask, index: usize, stop: &AtomicBool) -> Result<Vec<ManifestLine>> {
        if !self.accept_other_builds {
            self.builds.refuse_other(&task.build, &self.worker)?;
        }
        // What sweeps /tmp may have taken it since.
        std::fs::create_dir_all(&self.work_dir).map_err(ClusterError::process("create folder", &self.work_dir))?;
        let mut log = tempfile::tempfile_in(&self.work_dir).map_err(ClusterError::process("write", &self.work_dir))?;
        let stderr = log.try_clone().map_err(ClusterError::process("write", &self.work_dir))?;
        let share = format!("{index}/{}", task.of);
        let root = task.root(&self.work_dir.join("stores"));
        let mut command = self.command(task, &share, &root)?;
        self.running.fetch_add(1, Ordering::Relaxed);
        let status = command.stderr(stderr).spawn().map_err(ClusterError::process("run", &self.lapidary));
        let status = status.and_then(|mut child| self.wait(&mut child, (task, &root, index), stop));
        self.running.fetch_sub(1, Ordering::Relaxed);
        let (stage, worker, status) = (task.stage.verb(), self.worker.clone(), status?);
        if let Some(signal) = status.signal() {
            return Err(ClusterError::Killed { stage, share, worker, signal });
        }
        if let Some(exit_code) = status.code().filter(|code| *code != 0) {
            let stderr_tail = tail_of(&mut log);
            return Err(ClusterError::Stage { stage, share, worker, exit_code, stderr_tail });
        }
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        let shares = task.shares(&root);
        let made = task.names(&root, index)?.into_iter().filter_map(|name| shares.marker(&name));
        Ok(made.map(|shard| ManifestLine::of(shard, &self.worker)).collect())
    }

    fn command(&self, task: &StageTask, share: &str, root: &Path) -> Result<Command> {
        let mut command = Command::new(&self.lapidary);
        command.args([task.stage.verb(), "--quiet", "--shard", share, "--source", &task.source, "--out", &task.out]);
        if task.is_in_store() {
            command.arg("--cache").arg(root);
        }
        command.arg("--config").arg(self.config_file(&task.config)?);
        if task.stage == Stage::Embed {
            command.args(["--device", &task.device]);
        }
        // A group of its own: Ctrl-C at the executor's terminal reaches the executor, which knows what to do.
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        #[cfg(target_os = "linux")]
        #[expect(unsafe_code, reason = "between fork and exec only a system call is made, which allocates nothing")]
        // SAFETY: `set_pdeathsig` is one prctl, which may be called after fork.
        unsafe {
            // The thread that starts the process waits for it: its end is that of the executor.
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
        }
        Ok(command)
    }

    /// The file of a configuration, which tasks share.
    fn config_file(&self, config: &str) -> Result<PathBuf> {
        let digest = digest_of_bytes(config.as_bytes()).0;
        let path = self.work_dir.join(format!("config-{}.toml", &digest[..DIGITS]));
        if !path.is_file() {
            write_synced(&path, config.as_bytes())?;
        }
        Ok(path)
    }

    /// Waits for a process, and kills it when it is to stop or makes nothing.
    fn wait(&self, child: &mut Child, group: (&StageTask, &Path, usize), stop: &AtomicBool) -> Result<ExitStatus> {
        let (task, root, index) = group;
        let (mut made, mut newest, mut looked) = (0, Instant::now(), Instant::now());
        let look_interval = LOOK_INTERVAL.min(self.stuck_after / 2);
        loop {
            if let Some(status) = child.try_wait().map_err(ClusterError::process("wait for", &self.lapidary))? {
                return Ok(status);
            }
            if stop.load(Ordering::Relaxed) || self.is_stopping.load(Ordering::Relaxed) {
                self.kill(child)?;
                return Err(ClusterError::Cancelled);
            }
            if looked.elapsed() >= look_interval {
                looked = Instant::now();
                let made_now = made_of(task, root, index);
                if made_now > made {
                    (made, newest) = (made_now, Instant::now());
                }
                if newest.elapsed() >= self.stuck_after {
                    self.kill(child)?;
                    let (stage, share, worker) =
                        (task.stage.verb(), format!("{index}/{}", task.of), self.worker.clone());
                    return Err(ClusterError::Stuck { stage, share, worker, secs: newest.elapsed().as_secs() });
                }
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Kills a process and those that it has started.
    fn kill(&self, child: &mut Child) -> Result<()> {
        // It may have ended by itself just now.
        let _ = i32::try_from(child.id()).map(|id| killpg(Pid::from_raw(id), Signal::SIGKILL));
        child.wait().map_err(ClusterError::process("wait for", &self.lapidary))?;
        Ok(())
    }
}

/// How many shards of a group are made so far; none where the images are not known here yet.
fn made_of(task: &StageTask, root: &Path, index: usize) -> usize {
    let shares = task.shares(root);
    task.names(root, index).unwrap_or_default().iter().filter(|name| shares.marker(name).is_some()).count()
}

/// The end of what a process wrote to stderr.
fn tail_of(log: &mut File) -> String {
    let mut text = Vec::new();
    let len = log.metadata().map_or(0, |file| file.len());
    let read = log.seek(SeekFrom::Start(len.saturating_sub(TAIL_BYTES))).and_then(|_| log.read_to_end(&mut text));
    match read {
        Ok(_) => String::from_utf8_lossy(&text).trim().trim_start_matches("error: ").to_owned(),
        Err(error) => format!("what it wrote cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::{images, task};
    use std::os::unix::fs::PermissionsExt;

    /// A program in the place of `lapidary`, whose version is 0.1.0.
    fn program(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("lapidary");
        let whole = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo lapidary 0.1.0 && exit 0\n{script}\n");
        std::fs::write(&path, whole).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a program");
        path
    }

    fn outcome_of(script: &str, stop: &AtomicBool) -> Result<Vec<ManifestLine>> {
        let folder = tempfile::tempdir().expect("a folder");
        let runner = Runner::new(&program(folder.path(), script), &folder.path().join("work"), "here").expect("runs");
        runner.with_stuck_after(Duration::from_secs(2)).run(&task(2), 1, stop)
    }

    #[test]
    fn what_a_stage_says_comes_back_and_a_kill_is_told_apart() {
        let stop = AtomicBool::new(false);
        let refused = outcome_of("echo \"error: $1 $4 is not there\" >&2; exit 2", &stop).expect_err("it failed");
        assert!(refused.to_string().contains("on here failed: fingerprint 1/2 is not there"), "{refused}");
        assert!(!refused.is_retryable());
        let interrupted = outcome_of("exit 130", &stop).expect_err("it was interrupted");
        assert!(interrupted.is_retryable(), "{interrupted}");
        let killed = outcome_of("kill -9 $$", &stop).expect_err("it was killed");
        assert!(matches!(killed, ClusterError::Killed { signal: 9, .. }), "{killed}");
    }

    #[test]
    fn a_process_ends_when_it_is_told_to_and_those_it_started_with_it() {
        let begun = Instant::now();
        let stopped = outcome_of("sleep 60 & wait", &AtomicBool::new(true)).expect_err("it was stopped");
        assert!(matches!(stopped, ClusterError::Cancelled), "{stopped}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_process_that_makes_nothing_is_killed_and_one_that_does_is_not() {
        let stop = AtomicBool::new(false);
        let stuck = outcome_of("exec sleep 60", &stop).expect_err("it makes nothing");
        assert!(matches!(stuck, ClusterError::Stuck { secs: 2..10, .. }) && stuck.is_retryable(), "{stuck}");
        // Four shards, one a second: more time than a process may make nothing for.
        let folder = tempfile::tempdir().expect("a folder");
        let (out, script) = (
            folder.path().join("out"),
            "cd \"$8\"/pile/.fingerprints.shares/00; for i in 0 1 2 3; do sleep 1.2; cp marker part-0000$i.parquet.json; done",
        );
        images(&out, 4);
        let shares = out.join("pile/.fingerprints.shares/00");
        std::fs::create_dir_all(&shares).expect("creates");
        std::fs::write(shares.join("marker"), r#"{"name": "x", "rows": 3, "bytes": 1, "digest": "ab", "facts": {}}"#)
            .expect("writes");
        let runner = Runner::new(&program(folder.path(), script), &folder.path().join("work"), "here").expect("runs");
        let task = StageTask { out: out.to_string_lossy().into_owned(), ..task(1) };
        let lines = runner.with_stuck_after(Duration::from_secs(3)).run(&task, 1, &stop).expect("it makes them");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn a_work_dir_that_was_swept_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let work = folder.path().join("work");
        let runner = Runner::new(&program(folder.path(), "exit 2"), &work, "here").expect("runs");
        std::fs::remove_dir_all(&work).expect("removes");
        let refused = runner.run(&task(1), 1, &AtomicBool::new(false)).expect_err("it fails");
        assert!(matches!(refused, ClusterError::Stage { exit_code: 2, .. }), "{refused}");
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let runner = Runner::new(&program(folder.path(), ""), folder.path(), "here").expect("runs");
        assert!(runner.refuse_other_version("0.1.0").is_ok());
        let refused = runner.refuse_other_version("0.2.0").expect_err("another").to_string();
        assert!(refused.contains("executor here runs Lapidary 0.1.0, the plan is of 0.2.0"), "{refused}");
        assert!(Runner::new(Path::new("/no/such/lapidary"), folder.path(), "here").is_err());
        assert!(version_of(Path::new("/bin/true")).is_err(), "it says nothing");
    }
}
