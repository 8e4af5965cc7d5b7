//! The process that makes a group's shards: `lapidary STAGE --shard i/n`, on the machine of the executor.
//!
//! It ends when the plan that started it is dropped, and when the executor dies: it would do no harm, but work that somebody
//! else is given again.

use crate::{ClusterError, ManifestLine, Result, Stage, StageTask};
use lapidary_pipeline::stage::{digest_of_bytes, write_synced};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of what a process said last that an error repeats.
const SAID_BYTES: u64 = 2000;
/// Digits of a configuration's digest in its file's name.
const DIGITS: usize = 16;

/// A program that lies beside this one; where it does not, its bare name, to be found on PATH.
pub fn beside(program: &str) -> PathBuf {
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
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.trim().strip_prefix("lapidary ").map(str::to_owned);
    version.ok_or_else(|| ClusterError::Format(format!("`{} --version` said `{}`", lapidary.display(), said.trim())))
}

/// Makes groups of shards on this machine.
#[derive(Debug)]
pub struct Runner {
    lapidary: PathBuf,
    version: String,
    work_dir: PathBuf,
    worker: String,
}

impl Runner {
    /// A runner of the `lapidary` at a path. Configurations and logs lie in `work_dir`; `worker` is what lines and errors call
    /// this machine.
    ///
    /// # Errors
    /// When there is no `lapidary`, or `work_dir` cannot be made.
    pub fn new(lapidary: &Path, work_dir: &Path, worker: &str) -> Result<Self> {
        std::fs::create_dir_all(work_dir).map_err(ClusterError::process("create folder", work_dir))?;
        let version = version_of(lapidary)?;
        Ok(Self { lapidary: lapidary.to_owned(), version, work_dir: work_dir.to_owned(), worker: worker.to_owned() })
    }

    /// The version of its `lapidary`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Refuses a plan of another version: the same shard would be other bytes, or the plan mean something else.
    pub(crate) fn refuse_other_version(&self, theirs: &str) -> Result<()> {
        if self.version == theirs {
            return Ok(());
        }
        let (worker, ours) = (self.worker.clone(), self.version.clone());
        Err(ClusterError::OtherVersion { worker, ours, theirs: theirs.to_owned() })
    }

    /// Makes the shards of a group that are not there yet, and says what is there of it; `index` counts from 1. Blocks until
    /// the process has ended, or `stop` is set.
    ///
    /// Shards that an earlier content of the stage's folder has are none of this: who finishes the stage takes them over.
    ///
    /// # Errors
    /// When the stage refuses, its process is killed, or `stop` was set.
    pub fn run(&self, task: &StageTask, index: usize, stop: &AtomicBool) -> Result<Vec<ManifestLine>> {
        let mut said = tempfile::tempfile_in(&self.work_dir).map_err(ClusterError::process("write", &self.work_dir))?;
        let log = said.try_clone().map_err(ClusterError::process("write", &self.work_dir))?;
        let share = format!("{index}/{}", task.of);
        let mut command = self.command(task, &share)?;
        let mut child = command.stderr(log).spawn().map_err(ClusterError::process("run", &self.lapidary))?;
        let status = self.wait(&mut child, stop)?;
        let (stage, worker) = (task.stage.verb(), self.worker.clone());
        if let Some(signal) = status.signal() {
            return Err(ClusterError::Killed { stage, share, worker, signal });
        }
        if !status.success() {
            return Err(ClusterError::Stage { stage, share, worker, said: end_of(&mut said) });
        }
        let shares = task.shares();
        let made = task.names(index)?.into_iter().filter_map(|name| shares.shard(&name));
        Ok(made.map(|shard| ManifestLine::of(shard, &self.worker)).collect())
    }

    fn command(&self, task: &StageTask, share: &str) -> Result<Command> {
        let mut command = Command::new(&self.lapidary);
        command.args([task.stage.verb(), "--quiet", "--shard", share, "--source", &task.source]);
        command.arg("--out").arg(&task.out).arg("--config").arg(self.config_file(&task.config)?);
        if task.stage == Stage::Embed {
            command.args(["--device", &task.device]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        #[cfg(target_os = "linux")]
        #[expect(unsafe_code, reason = "between fork and exec only a system call is made, which allocates nothing")]
        // SAFETY: `set_pdeathsig` is one prctl, which may be called after fork.
        unsafe {
            // The thread that starts the process waits for it: its end is that of the executor.
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
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

    fn wait(&self, child: &mut Child, stop: &AtomicBool) -> Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait().map_err(ClusterError::process("wait for", &self.lapidary))? {
                return Ok(status);
            }
            if stop.load(Ordering::Relaxed) {
                // It may have ended by itself just now.
                let _ = child.kill();
                child.wait().map_err(ClusterError::process("wait for", &self.lapidary))?;
                return Err(ClusterError::Cancelled);
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The end of what a process said.
fn end_of(said: &mut File) -> String {
    let mut text = Vec::new();
    let len = said.metadata().map_or(0, |file| file.len());
    let read = said.seek(SeekFrom::Start(len.saturating_sub(SAID_BYTES))).and_then(|_| said.read_to_end(&mut text));
    match read {
        Ok(_) => String::from_utf8_lossy(&text).trim().trim_start_matches("error: ").to_owned(),
        Err(error) => format!("what it said cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::task;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

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
        runner.run(&task(2), 1, stop)
    }

    #[test]
    fn what_a_stage_says_comes_back_and_a_kill_is_told_apart() {
        let stop = AtomicBool::new(false);
        let refused = outcome_of("echo \"error: $1 $4 is not there\" >&2; exit 2", &stop).expect_err("it failed");
        assert!(refused.to_string().contains("on here failed: fingerprint 1/2 is not there"), "{refused}");
        let killed = outcome_of("kill -9 $$", &stop).expect_err("it was killed");
        assert!(matches!(killed, ClusterError::Killed { signal: 9, .. }), "{killed}");
    }

    #[test]
    fn a_process_ends_when_it_is_told_to() {
        let begun = Instant::now();
        let stopped = outcome_of("exec sleep 60", &AtomicBool::new(true)).expect_err("it was stopped");
        assert!(matches!(stopped, ClusterError::Cancelled), "{stopped}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let runner = Runner::new(&program(folder.path(), ""), folder.path(), "here").expect("runs");
        assert!(runner.refuse_other_version("0.1.0").is_ok());
        let refused = runner.refuse_other_version("0.2.0").expect_err("another").to_string();
        assert!(refused.contains("here runs Lapidary 0.1.0, the plan is of 0.2.0"), "{refused}");
        assert!(Runner::new(Path::new("/no/such/lapidary"), folder.path(), "here").is_err());
        assert!(version_of(Path::new("/bin/true")).is_err(), "it says nothing");
    }
}
