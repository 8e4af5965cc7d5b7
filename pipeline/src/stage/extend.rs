//! Extending: a stage whose inputs have only grown takes over what its folder holds, and makes the rest.
//!
//! Files are taken over as hard links, so that it costs the same whatever they hold. Whether an input has only grown is
//! told by manifests: each names those that its folder extends.

use super::{Layout, StageRun, Table, WrittenTable, read_manifest};
use crate::{PipelineError, Result};
use lapidary_schemas::{Digest, Manifest};
use std::fs;
use std::path::PathBuf;

/// What a stage that works shard by shard has left to do.
#[derive(Debug, Clone)]
pub struct ShardsLeft {
    /// Shards of its input that it has made nothing of.
    pub left: Vec<PathBuf>,
    /// Rows of the others.
    pub rows_before: u64,
}

impl ShardsLeft {
    /// Rows left.
    ///
    /// # Errors
    /// When a shard cannot be read.
    pub fn rows(&self) -> Result<u64> {
        self.left.iter().map(|shard| Ok(Table::open(shard, &["image_id"], 1)?.rows())).sum()
    }
}

impl StageRun {
    /// The manifest of what the final folder holds, when the same stage made it with the same configuration and version,
    /// and each of its inputs was `grown`: is among the present ones, unchanged or with more in it.
    pub fn former(&self, grown: impl Fn(&str, &Digest) -> bool) -> Option<Manifest> {
        let former = read_manifest(&self.spec.folder).ok()?;
        let is_alike = former.stage == self.spec.stage
            && former.version == self.spec.version
            && former.config == self.spec.config
            && former.inputs.keys().eq(self.spec.inputs.keys())
            && former.inputs.iter().all(|(name, digest)| grown(name, digest))
            && self.spec.is_whole(&former);
        is_alike.then_some(former)
    }

    /// Whether an input, which was once `digest`, is so still.
    pub fn has_same(&self, name: &str, digest: &Digest) -> bool {
        self.spec.inputs.get(name) == Some(digest)
    }

    /// Whether an input, which was once `digest`, is so still or extends it.
    pub fn has_grown(&self, layout: &Layout, name: &str, digest: &Digest) -> bool {
        self.has_same(name, digest)
            || read_manifest(&layout.out.join(name))
                .is_ok_and(|now| self.has_same(name, &now.digest) && now.extends.contains(digest))
    }

    /// Notes that all of a former content will be in this one.
    pub fn extend(&mut self, former: &Manifest) {
        self.extends = std::iter::once(former.digest.clone()).chain(former.extends.iter().cloned()).collect();
    }

    /// Takes a file of a former content over.
    ///
    /// # Errors
    /// When it is not there, or the disk refuses.
    pub fn take_over(&mut self, former: &Manifest, name: &str) -> Result<()> {
        let output = former.outputs.get(name);
        let output = output.ok_or_else(|| PipelineError::Internal(format!("there is no `{name}` to take over")))?;
        let (from, to) = (self.former_path(name), self.path(name));
        // Where the file system has no hard links, the bytes are copied.
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).map_err(PipelineError::io("copy", &from))?;
        }
        let table = WrittenTable { rows: output.rows, bytes: output.bytes, digest: output.digest.clone() };
        self.note_table(name, table);
        Ok(())
    }

    /// Takes the shards of a former content over; their names.
    ///
    /// # Errors
    /// As [`StageRun::take_over`].
    pub fn take_over_shards(&mut self, former: &Manifest) -> Result<Vec<String>> {
        let shards: Vec<String> = former.outputs.keys().filter(|name| name.starts_with("part-")).cloned().collect();
        shards.iter().try_for_each(|shard| self.take_over(former, shard))?;
        self.extend(former);
        Ok(shards)
    }

    /// For a stage that makes a shard of each shard of its inputs: takes those over that it made before, and says which
    /// are left to make.
    ///
    /// # Errors
    /// When a table cannot be read, or the disk refuses.
    pub fn extend_by_shards(&mut self, layout: &Layout, shards: &[PathBuf]) -> Result<(Option<Manifest>, ShardsLeft)> {
        let Some(former) = self.former(|name, digest| self.has_grown(layout, name, digest)) else {
            return Ok((None, ShardsLeft { left: shards.to_vec(), rows_before: 0 }));
        };
        let taken = self.take_over_shards(&former)?;
        let is_left = |shard: &&PathBuf| shard.file_name().is_some_and(|name| !taken.iter().any(|t| **t == *name));
        let left = shards.iter().filter(is_left).cloned().collect();
        let rows_before = former.rows.output;
        Ok((Some(former), ShardsLeft { left, rows_before }))
    }

    /// The path of a file of the former content.
    pub fn former_path(&self, name: &str) -> PathBuf {
        self.spec.folder.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Opened, StageSpec};
    use super::*;
    use lapidary_schemas::Rows;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn run(folder: PathBuf, input: &str, version: u32) -> StageRun {
        let inputs = BTreeMap::from([("source".to_owned(), Digest(input.to_owned()))]);
        let spec = StageSpec { stage: "test", version, folder, config: json!(1), inputs, resumable: false };
        match spec.open(false).expect("opens") {
            Opened::Run(run) => run,
            other => panic!("expected to run, got {other:?}"),
        }
    }

    fn finish(run: StageRun) -> Manifest {
        run.finish(Rows::default(), json!({}), &[]).expect("finishes")
    }

    #[test]
    fn what_has_grown_takes_its_shards_over_and_says_what_it_extends() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("stage");
        let first = run(folder.clone(), "a", 1);
        assert!(first.former(|_, _| true).is_none());
        fs::write(first.path("part-0"), "x").expect("writes");
        let first = finish(first);

        let mut second = run(folder.clone(), "b", 1);
        assert!(second.former(|name, digest| second.has_same(name, digest)).is_none(), "its input is another");
        let former = second.former(|name, digest| (name, digest.0.as_str()) == ("source", "a")).expect("has grown");
        assert_eq!(second.take_over_shards(&former).expect("links"), ["part-0"]);
        fs::write(second.path("part-1"), "y").expect("writes");
        let second = finish(second);
        assert_eq!(second.extends, std::slice::from_ref(&first.digest));
        assert_eq!(fs::read_to_string(folder.join("part-0")).expect("reads"), "x");

        // Nothing new: the same content, which does not extend itself.
        let mut third = run(folder.clone(), "c", 1);
        let former = third.former(|_, _| true).expect("there");
        third.take_over_shards(&former).expect("links");
        let third = finish(third);
        assert_eq!((&third.digest, third.extends), (&second.digest, vec![first.digest]));
        assert!(run(folder, "d", 2).former(|_, _| true).is_none(), "another version of the stage");
    }
}
