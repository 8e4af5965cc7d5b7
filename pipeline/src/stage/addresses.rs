//! Which address a source's name belongs to: a name stands for one folder, however many others are called alike.

use super::files::digest_of_bytes;
use super::places::Places;
use super::run::KeyRecord;
use super::{Layout, manifest_in_place};
use crate::ingest::sources::{check_name, path_of_text, text_of_path};
use crate::remote::{is_url, without_credentials};
use crate::{PipelineError, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Digits of an address's digest behind a name that another address has.
const ADDRESS_DIGITS: usize = 6;

impl Layout {
    /// The address that a source's name belongs to, once an ingest of it (or a look for copies) has begun.
    pub fn address_of(&self, name: &str) -> Option<String> {
        [self.images(name), self.duplicates(name)].iter().find_map(|folder| {
            let inputs = manifest_in_place(folder)
                .map(|manifest| manifest.inputs)
                .ok()
                .or_else(|| KeyRecord::read(&Places::of(folder).partial()).map(|record| record.inputs))?;
            source_among(&inputs)
        })
    }

    /// The source that was ingested from a folder, however its path is spelt.
    pub fn source_at(&self, folder: &Path) -> Option<String> {
        let url = folder.to_str().filter(|text| is_url(text)).map(without_credentials);
        let address = url.or_else(|| Some(text_of_path(&folder.canonicalize().ok()?)))?;
        self.sources().into_iter().find(|name| self.address_of(name).as_ref() == Some(&address))
    }

    /// The source of this name, or the one that was ingested from this folder.
    ///
    /// # Errors
    /// [`PipelineError::Missing`] when neither is there.
    pub fn source_named(&self, named: &Path) -> Result<String> {
        let by_name = named.to_str().filter(|name| !name.contains('/') && self.address_of(name).is_some());
        by_name.map(str::to_owned).or_else(|| self.source_at(named)).ok_or_else(|| PipelineError::Missing {
            what: "source",
            path: self.out.clone(),
            hint: format!("`{0}` was not ingested: run `lapidary ingest --data {0}` first", named.display()),
        })
    }

    /// The names of all sources, sorted.
    pub fn sources(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.out).into_iter().flatten().filter_map(|entry| entry.ok());
        let mut names: Vec<String> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| self.address_of(name).is_some())
            .collect();
        names.sort();
        names
    }

    /// The name for the source at `address` (absolute, without links, as manifests have it): `named` by the user, or by default that which it
    /// was ingested under before, or `default`.
    ///
    /// A name that belongs to another address is refused; with `may_differ` a default one gets digits of the address
    /// behind it instead.
    ///
    /// # Errors
    /// [`PipelineError::Usage`] with both addresses.
    pub fn name_for(&self, address: &str, named: Option<&str>, default: &str, may_differ: bool) -> Result<String> {
        if let Some(named) = named {
            check_name(named)?;
        }
        let name = match named {
            Some(name) => name.to_owned(),
            None if self.address_of(default).is_none_or(|taken| taken == address) => default.to_owned(),
            None => {
                let at = if is_url(address) { PathBuf::from(address) } else { path_of_text(address) };
                self.source_at(&at).unwrap_or_else(|| default.to_owned())
            }
        };
        match self.address_of(&name).filter(|taken| taken != address) {
            None => Ok(name),
            Some(_) if may_differ && named.is_none() => {
                let digest = digest_of_bytes(address.as_bytes());
                Ok(format!("{name}-{}", &digest.0[..ADDRESS_DIGITS]))
            }
            Some(taken) => Err(PipelineError::Usage(format!(
                "source `{name}` is `{}`, not `{}`\nhint: give this one a name of its own with --name (make: NAME=...)",
                taken, address
            ))),
        }
    }
}

/// Whether a manifest's input lies outside OUT: a path of its own, or a URL.
pub fn is_outside(name: &str) -> bool {
    Path::new(name).is_absolute() || is_url(name)
}

/// The folder among a stage's inputs: the only address that is no file.
fn source_among(inputs: &BTreeMap<String, lapidary_schemas::Digest>) -> Option<String> {
    let is_source = |name: &&String| is_outside(name) && !path_of_text(name).is_file();
    inputs.keys().find(is_source).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{Opened, Previous, StageSpec};
    use lapidary_schemas::{Digest, Rows};
    use serde_json::json;

    fn ingested(layout: &Layout, name: &str, address: &str) {
        let spec = StageSpec {
            stage: "ingest",
            version: 1,
            out: layout.out.clone(),
            folder: layout.images(name),
            config: json!({}),
            inputs: BTreeMap::from([(address.to_owned(), Digest("0".to_owned()))]),
            resumable: true,
            previous: Previous::Replaced,
        };
        let Opened::Run(run) = spec.open(false).expect("opens") else { panic!("there was nothing") };
        run.finish(Rows::default(), json!({}), &[]).expect("finishes");
    }

    #[test]
    fn a_name_belongs_to_one_address() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path().canonicalize().expect("there");
        let layout = Layout::new(root.join("out"));
        let [a, b] = ["a/birds", "b/birds"].map(|name| {
            std::fs::create_dir_all(root.join(name)).expect("creates");
            text_of_path(&root.join(name))
        });
        assert_eq!(layout.name_for(&a, None, "birds", false).expect("is free"), "birds");
        ingested(&layout, "birds", &a);
        assert_eq!(layout.name_for(&a, None, "birds", false).expect("is its own"), "birds");
        let error = layout.name_for(&b, None, "birds", false).expect_err("is another's");
        assert!(error.to_string().contains("--name") && error.exit_code() == 2, "{error}");
        assert!(layout.name_for(&b, Some("birds"), "birds", true).is_err(), "a name that was given is not changed");
        let other = layout.name_for(&b, None, "birds", true).expect("gets another");
        assert!(other.starts_with("birds-") && other.len() == 12, "{other}");
        ingested(&layout, &other, &b);
        assert_eq!(layout.name_for(&b, None, "birds", false).expect("is known by its address"), other);
        assert_eq!(layout.source_at(&root.join("b/../b/birds")).as_deref(), Some(&*other));
        assert_eq!(layout.sources(), ["birds".to_owned(), other]);
    }
}
