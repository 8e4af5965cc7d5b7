//! A set of images, curated by one machine, and again in each of the ways that must come out the same.

use crate::commands::{
    CLIENT_WITHIN, STAGES, binary, copy_images, curate_alone, digests_of, ingest, run, shard_settings, text,
};
use crate::fleet::{Fleet, finished, wait_for_shard};
use crate::store_server::{SECRET_KEY, StoreServer};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A set of images in shards, curated by one machine.
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// The output tree of that one machine.
    pub alone: PathBuf,
    data: PathBuf,
    shard_mib: usize,
}

/// A way to make the same.
#[derive(Debug, Clone, Copy)]
pub enum Case {
    /// Three executors.
    Cluster,
    /// One of them is killed while it makes a group.
    ExecutorKilled,
    /// One of them is told to end while it makes a group.
    ExecutorEnded,
    /// The scheduler is killed, and another started in its place.
    SchedulerRestarted,
    /// Three executors that share nothing but an S3 server.
    Store,
    /// `--shard i/n` in a loop, in another order, one of them twice.
    Shards,
}

/// How much of a case is made and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The whole curation: six digests.
    Curation,
    /// Fingerprints and embeddings, which are what a cluster makes: two digests.
    Maps,
}

impl Scope {
    fn stages(self) -> &'static [&'static str] {
        match self {
            Self::Curation => &STAGES,
            Self::Maps => &STAGES[..2],
        }
    }

    /// The verbs that a cluster is asked for.
    fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Curation => &["curate"],
            Self::Maps => &["fingerprint", "embed"],
        }
    }
}

/// All of them.
pub const ALL: [Case; 6] =
    [Case::Cluster, Case::ExecutorKilled, Case::ExecutorEnded, Case::SchedulerRestarted, Case::Store, Case::Shards];

impl Case {
    /// What it is called in the result.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "three_executors",
            Self::ExecutorKilled => "executor_killed",
            Self::ExecutorEnded => "executor_ended",
            Self::SchedulerRestarted => "scheduler_restarted",
            Self::Store => "three_executors_on_s3",
            Self::Shards => "shards_in_a_loop",
        }
    }
}

impl Set {
    /// Curates a folder.
    pub fn curated(work: &Path, name: &'static str, data: &Path, shard_mib: usize) -> Self {
        let alone = work.join(format!("{name}-alone"));
        ingest(&alone, data, name, shard_mib);
        curate_alone(&alone);
        println!("{name}: curated by one machine");
        Self { name, alone, data: data.to_owned(), shard_mib }
    }

    /// An output tree with this set's images alone; what was there is removed.
    pub fn images_alone(&self, work: &Path) -> PathBuf {
        let out = emptied(work, "out");
        copy_images(&self.alone, &out, self.name);
        out
    }

    /// Whether a case comes out the same; none where its binaries are not built.
    pub fn is_same(&self, work: &Path, case: Case, scope: Scope) -> Option<bool> {
        let out = match case {
            Case::Store => self.made_on_a_store(work, scope)?,
            Case::Shards => self.made_in_shares(work, scope),
            _ => self.made_on_a_cluster(work, case, scope),
        };
        let digests = |out: &Path| digests_of(out, self.name, scope.stages());
        Some(digests(&out) == digests(&self.alone))
    }

    fn made_on_a_cluster(&self, work: &Path, case: Case, scope: Scope) -> PathBuf {
        let out = self.images_alone(work);
        let mut fleet = Fleet::start(3);
        for (place, verb) in scope.verbs().iter().enumerate() {
            let mut client = Command::new(binary("lapidary"));
            client.args([verb, "--quiet", "--cluster", &fleet.url(), "--out", text(&out)]).stdout(Stdio::null());
            let mut client = client.spawn().expect("it starts");
            if place == 0 {
                wait_for_shard(&mut client, &out, self.name, "fingerprints");
                befall(&mut fleet, case);
            }
            assert!(finished(&mut client, "lapidary --cluster", CLIENT_WITHIN).success(), "the client fails");
        }
        out
    }

    fn made_on_a_store(&self, work: &Path, scope: Scope) -> Option<PathBuf> {
        let server = StoreServer::s3()?;
        let (writer, client) = (emptied(work, "writer"), emptied(work, "client"));
        let set = shard_settings(self.shard_mib);
        let settings = set.iter().flat_map(|set| ["--set", set.as_str()]);
        let ingest = ["ingest", "--data", text(&self.data), "--name", self.name];
        server.facts(&writer, &ingest.into_iter().chain(settings).collect::<Vec<_>>());
        let command = server.command(&[]);
        let environment: Vec<(&str, &str)> =
            command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?))).collect();
        assert!(environment.iter().any(|(_, value)| *value == SECRET_KEY), "executors are given the credentials");
        let fleet = Fleet::start_with(3, 10, &environment);
        for verb in scope.verbs() {
            server.facts(&client, &[verb, "--quiet", "--cluster", &fleet.url()]);
        }
        Some(client)
    }

    fn made_in_shares(&self, work: &Path, scope: Scope) -> PathBuf {
        let out = self.images_alone(work);
        for stage in ["fingerprint", "embed"] {
            for share in ["3/3", "1/3", "3/3", "2/3"] {
                run(&out, &[stage, "--quiet", "--shard", share]);
            }
            run(&out, &["finish", stage, "--quiet"]);
        }
        if scope == Scope::Curation {
            run(&out, &["curate", "--quiet"]);
        }
        out
    }
}

/// What a case has happen while a group is made.
fn befall(fleet: &mut Fleet, case: Case) {
    match case {
        Case::ExecutorKilled => fleet.kill_busy_executor(),
        Case::ExecutorEnded => assert!(fleet.terminate_busy_executor().success(), "it ends well"),
        Case::SchedulerRestarted => fleet.restart_scheduler(),
        Case::Cluster | Case::Store | Case::Shards => {}
    }
}

/// A folder that is not there.
fn emptied(work: &Path, name: &str) -> PathBuf {
    let folder = work.join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("removes");
    }
    folder
}
