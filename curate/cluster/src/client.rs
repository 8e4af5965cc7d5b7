//! The client: it submits a stage, and submits again what a cluster forgot, as long as that brings shards.
//!
//! A scheduler holds its jobs in memory, and an executor that dies takes its task along. Neither is a loss: what was made has
//! its marker in OUT, so that a plan submitted again makes the rest. What is there is read from the markers, never from a
//! scheduler or executor.

use crate::job::{AttemptError, Job, JobState, Makers};
use crate::watch::Watch;
use crate::{ClusterError, ManifestLine, Result, ShardStageExec, StageTask, shard_names};
use lapidary_pipeline::stage::require_shards;
use lapidary_schemas::Manifest;
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where Ballista's schedulers are by custom.
const DEFAULT_PORT: u16 = 50050;
/// How long a scheduler that was never there is tried, and one that has answered.
const GIVE_UP_FIRST_AFTER: Duration = Duration::from_secs(10);
const GIVE_UP_AFTER: Duration = Duration::from_secs(180);
/// How often a job that was lost without a new shard is submitted.
const FRUITLESS_ATTEMPTS: usize = 5;
/// How long a scheduler may know nothing of a job that it has just been given.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
/// How often a job is asked after, and how long a lost one rests.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long the scheduler has to say who made shards that are all there.
const MAKERS_WITHIN: Duration = Duration::from_secs(5);
/// How long markers that were written elsewhere take to be seen here: NFS keeps what it knows of a folder for a minute.
const SEEN_WITHIN: Duration = Duration::from_secs(120);
/// Ballista encodes plans by deep recursion.
const STACK_BYTES: usize = 16 << 20;

/// A cluster, by its scheduler's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    host: String,
    port: u16,
}

impl FromStr for Cluster {
    type Err = ClusterError;

    /// Reads `df://HOST:PORT`, `df://HOST` or `HOST:PORT`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || ClusterError::Address(text.to_owned());
        let address = text.strip_prefix("df://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None if text.starts_with("df://") => (address, DEFAULT_PORT),
            None => return Err(wrong()),
        };
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// What a client has of a stage that executors make.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// What executors are sent.
    pub task: &'a StageTask,
    /// OUT on this machine: its folder, or the one that stands for a store here.
    pub root: &'a Path,
    /// The manifest that the stage reads.
    pub images: &'a Manifest,
    /// How long no shard may be made before the client gives up.
    pub give_up_after: Duration,
}

impl Submission<'_> {
    /// A shard that is made: its file too where OUT is on a disk, and the store's word for it where not.
    fn line(&self, name: &str, worker: &str) -> Option<ManifestLine> {
        let shares = self.task.shares(self.root);
        let shard = if self.task.is_in_store() { shares.marker(name) } else { shares.shard(name) };
        shard.map(|shard| ManifestLine::of(shard, worker))
    }

    /// The shards that executors make: those of the images that the stage's folder has none of yet. What it has is taken over
    /// when the stage is finished, or made anew when that was of other settings.
    fn expected(&self, names: &[String]) -> Vec<String> {
        let before = require_shards(&self.root.join(&self.task.folder), "stage", "").map(|manifest| manifest.outputs);
        let before = before.unwrap_or_default();
        names.iter().filter(|name| !before.contains_key(*name)).cloned().collect()
    }
}

/// Since when a scheduler has said nothing, and how long it may.
struct Contact {
    since: Instant,
    give_up_after: Duration,
}

impl Contact {
    fn heard(&mut self) {
        (self.since, self.give_up_after) = (Instant::now(), GIVE_UP_AFTER);
    }

    fn is_given_up(&self) -> bool {
        self.since.elapsed() >= self.give_up_after
    }
}

impl Cluster {
    /// The scheduler's host and port.
    pub fn address(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }

    /// The scheduler's address as gRPC has it.
    fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// Has the executors make the shards of a stage, and waits. Returns the lines of all that are made, whenever that was.
    ///
    /// # Errors
    /// When no scheduler answers, a stage fails on an executor, no shard is made for too long, what executors made is not to
    /// be seen here, or Ctrl-C is pressed: then executors end the groups that they have begun, and the same command takes
    /// that over.
    pub fn run(&self, stage: &Submission) -> Result<Vec<ManifestLine>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(ClusterError::process("start threads for", self.url()))?;
        let makers = runtime.block_on(self.make(stage));
        // What was lost on the way is not waited for.
        runtime.shutdown_background();
        let makers = makers?;
        let names = shard_names(stage.images);
        let maker = |place: usize| makers.get(&(place % stage.task.of + 1)).map_or("", String::as_str);
        let lines = names.iter().enumerate().filter_map(|(place, name)| stage.line(name, maker(place)));
        Ok(lines.collect())
    }

    /// Submits and watches until all is made and seen.
    async fn make(&self, stage: &Submission<'_>) -> Result<Makers> {
        let names = shard_names(stage.images);
        let watch = Watch::new(stage, &names);
        let (made, current) = (watch.made(), Mutex::new(None::<Job>));
        let submitted = self.submit_until_done(stage.task, &made, &current);
        tokio::pin!(submitted);
        let outcome = tokio::select! {
            makers = &mut submitted => match makers {
                Ok(makers) => seen(stage, &names).await.map(|()| makers),
                refused => refused,
            },
            all_made = watch.until_all_made() => match all_made {
                // The scheduler knows who made them, if it still knows anything.
                Ok(()) => {
                    let makers = tokio::time::timeout(MAKERS_WITHIN, &mut submitted).await;
                    let makers = makers.ok().and_then(Result::ok).unwrap_or_default();
                    seen(stage, &names).await.map(|()| makers)
                }
                Err(error) => Err(error),
            },
        };
        let left = current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(job) = left {
            job.cancel().await;
        }
        outcome
    }

    /// Submits the plan, again while somebody may still come back. The job that is under way is noted in `current`.
    async fn submit_until_done(
        &self,
        task: &StageTask,
        made: &AtomicUsize,
        current: &Mutex<Option<Job>>,
    ) -> Result<Makers> {
        let plan = ShardStageExec::of_stage(task.clone(), None)?;
        let mut contact = Contact { since: Instant::now(), give_up_after: GIVE_UP_FIRST_AFTER };
        let (mut fruitless, mut made_before) = (0, made.load(Ordering::Relaxed));
        loop {
            let mut was_accepted = false;
            let attempt = match Job::submit(&self.url(), plan.clone(), task).await {
                Ok(job) => {
                    was_accepted = true;
                    contact.heard();
                    note(current, Some(job.clone()));
                    let followed = follow(job, &mut contact).await;
                    // A job that was lost sight of may live on.
                    if let (Err(AttemptError::Lost(_)), Some(job)) = (&followed, note(current, None)) {
                        job.cancel().await;
                    }
                    followed
                }
                Err(error) => Err(error),
            };
            let detail = match attempt {
                Ok(makers) => return Ok(makers),
                Err(AttemptError::Refused(error)) => return Err(error),
                Err(AttemptError::Lost(detail)) => detail,
            };
            if contact.is_given_up() {
                return Err(ClusterError::Unreachable { url: self.url(), detail });
            }
            // A scheduler that is away is waited for; one that takes jobs and loses them is not for ever.
            if was_accepted {
                let made_now = made.load(Ordering::Relaxed);
                fruitless = if made_now > made_before { 1 } else { fruitless + 1 };
                made_before = made_now;
                if fruitless > FRUITLESS_ATTEMPTS {
                    let detail = format!("the cluster lost the job {fruitless} times without a new shard: {detail}");
                    return Err(ClusterError::Job { detail });
                }
                tracing::warn!("the cluster lost the job and is given it again; shards that are made stay: {detail}");
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// Notes which job is under way, and returns the one before.
fn note(current: &Mutex<Option<Job>>, job: Option<Job>) -> Option<Job> {
    std::mem::replace(&mut *current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()), job)
}

/// Asks after a job until it is done. A scheduler that is silent for a while may come back and know it still.
async fn follow(mut job: Job, contact: &mut Contact) -> Result<Makers, AttemptError> {
    let (begun, mut was_known) = (Instant::now(), false);
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        match job.state().await {
            Ok(JobState::Done(makers)) => return Ok(makers),
            Ok(JobState::Running) => {
                was_known = true;
                contact.heard();
            }
            Ok(JobState::Unknown) => {
                contact.heard();
                if was_known || begun.elapsed() >= KNOWN_WITHIN {
                    return Err(AttemptError::Lost("the scheduler does not know the job".to_owned()));
                }
            }
            Err(AttemptError::Lost(_)) if !contact.is_given_up() => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits until the markers of all shards that executors have made are to be seen here.
async fn seen(stage: &Submission<'_>, names: &[String]) -> Result<()> {
    let expected = stage.expected(names);
    let (begun, mut told) = (Instant::now(), false);
    loop {
        if stage.task.is_in_store() {
            // A thread of its own is not worth it: nothing else is waited for.
            stage.task.shares(stage.root).fetched_names()?;
        }
        let missing: Vec<&String> = expected.iter().filter(|name| stage.line(name, "").is_none()).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        lapidary_pipeline::interrupt::check()?;
        if begun.elapsed() >= SEEN_WITHIN {
            let stage = stage.task.stage.verb();
            return Err(ClusterError::Unseen { stage, missing: missing.len(), first: (*first).clone() });
        }
        if !told && begun.elapsed() >= RETRY_PAUSE * 5 {
            told = true;
            tracing::info!("all shards are made; waiting until {} of them are to be seen here", missing.len());
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::tests::{images, task};

    #[test]
    fn markers_that_are_seen_late_are_waited_for_and_what_was_there_before_needs_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = images(folder.path(), 3);
        let layout = lapidary_pipeline::stage::Layout::new(folder.path());
        let manifest = require_shards(&layout.images("pile"), "images", "").expect("a manifest");
        let task = task(2);
        let give_up_after = Duration::from_secs(60);
        let stage = Submission { task: &task, root: folder.path(), images: &manifest, give_up_after };
        // An earlier content of the stage has the first one.
        let before = folder.path().join(&task.folder);
        std::fs::create_dir_all(&before).expect("creates");
        let mut earlier = manifest.clone();
        earlier.outputs.retain(|name, _| *name == names[0]);
        std::fs::write(before.join("manifest.json"), serde_json::to_vec(&earlier).expect("JSON")).expect("writes");
        assert_eq!(stage.expected(&names), names[1..]);
        let shares = folder.path().join(&task.shares);
        let late = names[1..].to_vec();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1500));
            std::fs::create_dir_all(&shares).expect("creates");
            for name in late {
                let marker = format!(r#"{{"name": "{name}", "rows": 3, "bytes": 1, "digest": "ab", "facts": {{}}}}"#);
                std::fs::write(shares.join(&name), "x").expect("writes");
                std::fs::write(shares.join(format!("{name}.json")), marker).expect("writes");
            }
        });
        let begun = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(seen(&stage, &names)).expect("they come");
        assert!(begun.elapsed() >= Duration::from_millis(1000), "it waited");
        writer.join().expect("it writes");
        let line = stage.line(&names[2], "a").expect("a line");
        assert_eq!((line.rows, line.worker.as_str()), (3, "a"));
    }

    #[test]
    fn addresses_are_read_and_odd_ones_refused() {
        let address = |text: &str| text.parse::<Cluster>().map(|cluster| cluster.address()).ok();
        assert_eq!(address("df://node-1:5000"), Some(("node-1".to_owned(), 5000)));
        assert_eq!(address("df://10.0.0.1/"), Some(("10.0.0.1".to_owned(), DEFAULT_PORT)));
        assert_eq!(address("node-1:5000"), Some(("node-1".to_owned(), 5000)));
        for odd in ["", "df://", "node-1", "df://:5000", "http://node:1", "df://a:b", "df://a:70000", "df://u@h:1"] {
            assert!(odd.parse::<Cluster>().is_err(), "{odd}");
        }
    }
}
