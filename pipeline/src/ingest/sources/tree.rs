//! The files below a source's folder: the one walk that every layout and the listing's digest share.
//!
//! Links are followed, but never round a loop. What cannot be read is set aside and ends nothing. Nothing that Lapidary wrote
//! is input: folders that the caller leaves out (`OUT`), folders with a stage's manifest, and sources below another `OUT`.
//! Hidden files (AppleDouble's `._` among them) are no inputs, unless annotations name them.

use super::names::{path_of_text, text_of_path};
use super::{Reject, TABLE_EXTENSIONS, has_extension, is_image_name};
use crate::remote::{Held, StoredSource};
use crate::stage::digest_of_bytes;
use crate::{PipelineError, Result};
use lapidary_schemas::tables::MANIFEST_FILE;
use lapidary_schemas::{Digest, Manifest, RejectReason};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often links may lead to one folder: folders that all link to each other have more ways than anyone wants.
const VISITS_MAX: u32 = 64;
/// Longest manifest that is looked into.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// A file below a source's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Its path below the folder, as [`text_of_path`] writes it.
    pub path: String,
    /// Its name begins with a dot.
    pub hidden: bool,
}

/// What lies below a source's folder.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    files: Vec<TreeFile>,
    faults: Vec<Reject>,
    hidden: u64,
    left_out: Vec<String>,
    /// The store that the files are in; here they have holes.
    stored: Option<Arc<StoredSource>>,
}

impl Tree {
    /// Lists what lies at a URL; the folder that stands for it lies below `out`.
    ///
    /// # Errors
    /// When this build knows no stores, nothing is there, or the store refuses or goes away.
    pub fn in_store(url: &str, out: &Path) -> Result<Self> {
        let stored = StoredSource::lay_out(url, out)?;
        let mut tree = Self::walk(&stored.root(), &[])?;
        let unusable = stored.unusable().iter();
        tree.faults.extend(unusable.map(|(path, detail)| Reject::new(path, RejectReason::Unreadable, detail)));
        let (mut whole, mut tails, mut heads) = (Vec::new(), Vec::new(), Vec::new());
        for path in tree.files.iter().map(|file| file.path.as_str()) {
            let place = tree.place(path);
            if has_extension(path, &["json"]) {
                whole.push(place);
            } else if has_extension(path, TABLE_EXTENSIONS) {
                tails.push(place);
            } else if !is_image_name(path) {
                heads.push(place);
            }
        }
        let unreadable = stored.fill(&whole, &tails, &heads)?.into_iter();
        tree.faults.extend(unreadable.map(|(path, detail)| Reject::new(path, RejectReason::Unreadable, detail)));
        // Manifests are known now, and with them what Lapidary wrote.
        let walked = Self::walk(&stored.root(), &[])?;
        (tree.files, tree.hidden, tree.left_out) = (walked.files, walked.hidden, walked.left_out);
        tree.stored = Some(Arc::new(stored));
        Ok(tree)
    }

    /// The store that the files are in, if they are in one.
    pub fn stored(&self) -> Option<&Arc<StoredSource>> {
        self.stored.as_ref()
    }

    /// Where the tree is: its folder's path, or its URL without credentials.
    pub fn address(&self) -> String {
        self.stored.as_ref().map_or_else(|| text_of_path(&self.root), |stored| stored.address().to_owned())
    }

    /// A file with all its bytes, as long as it is held.
    ///
    /// # Errors
    /// When it lies in a store and cannot be brought.
    pub fn whole(&self, path: &str) -> Result<Held> {
        let place = self.place(path);
        self.stored.as_ref().map_or_else(|| Ok(Held::local(place.clone())), |stored| stored.fetch(&place))
    }

    /// Walks a folder, leaving out the folders `leave_out` and what is below them.
    ///
    /// # Errors
    /// When the folder itself cannot be listed.
    pub fn walk(root: &Path, leave_out: &[PathBuf]) -> Result<Self> {
        let root = root.canonicalize().map_err(PipelineError::io("open", root))?;
        if !root.is_dir() {
            return Err(PipelineError::Usage(format!("`{}` is not a folder", root.display())));
        }
        std::fs::read_dir(&root).map_err(PipelineError::io("list", &root))?;
        let leave_out: Vec<PathBuf> = leave_out.iter().map(|path| canonical_or_as_given(path)).collect();
        if leave_out.contains(&root) {
            let text = format!("`{}` is OUT: nothing there is input\nhint: name a folder of images", root.display());
            return Err(PipelineError::Usage(text));
        }
        let tree = Self {
            root: root.clone(),
            files: Vec::new(),
            faults: Vec::new(),
            hidden: 0,
            left_out: Vec::new(),
            stored: None,
        };
        let mut walk = Walk { tree, leave_out, above: Vec::new(), visits: HashMap::new() };
        walk.folder(&root, "", root.clone());
        let mut tree = walk.tree;
        tree.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// The folder, without links on the way to it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files that are not hidden, by path.
    pub fn visible(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|file| !file.hidden).map(|file| file.path.as_str())
    }

    /// All files, by path; of the hidden ones only those with an image's name.
    pub fn files(&self) -> &[TreeFile] {
        &self.files
    }

    /// Links that lead nowhere, folders that cannot be listed and the like.
    pub fn faults(&self) -> &[Reject] {
        &self.faults
    }

    /// Where a file lies.
    pub fn place(&self, path: &str) -> PathBuf {
        self.root.join(path_of_text(path))
    }

    /// Whether there is a file of this path.
    pub fn contains(&self, path: &str) -> bool {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path)).is_ok()
    }

    /// Says in the log what is no input by itself.
    pub fn say_left_out(&self) {
        if !self.left_out.is_empty() {
            tracing::info!("not read, as Lapidary wrote it: {}", self.left_out.join(", "));
        }
        if self.hidden > 0 {
            tracing::info!("{} hidden files and folders are not read", self.hidden);
        }
    }

    /// A digest of names, lengths and times of all files: changes when one may have.
    pub fn digest(&self) -> Digest {
        let line = |file: &TreeFile| {
            let meta = std::fs::metadata(self.place(&file.path)).ok();
            let modified = meta.as_ref().and_then(|m| m.modified().ok());
            let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            format!("{}\0{:?}\0{:?}\n", file.path, meta.map(|m| m.len()), since.map(|s| s.as_nanos()))
        };
        let mut text: String = self.files.par_iter().map(line).collect();
        for fault in &self.faults {
            text.push_str(&format!("{}\0{}\n", fault.path, fault.reason.code()));
        }
        digest_of_bytes(text.as_bytes())
    }
}

/// How many files have which extension, for a reader: `3 txt, 1 json`.
pub(super) fn by_extension<'a>(paths: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for path in paths {
        let extension = Path::new(path).extension().map(|e| e.to_string_lossy().to_lowercase());
        *counts.entry(extension.unwrap_or_else(|| "without extension".to_owned())).or_default() += 1;
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let (shown, more) = counts.split_at(counts.len().min(12));
    let mut text: Vec<String> = shown.iter().map(|(extension, n)| format!("{n} {extension}")).collect();
    if !more.is_empty() {
        text.push(format!("{} others", more.iter().map(|(_, n)| n).sum::<u64>()));
    }
    text.join(", ")
}

/// The path without links, also when its end is not there yet.
fn canonical_or_as_given(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for above in absolute.ancestors() {
        if let (Ok(canonical), Ok(rest)) = (above.canonicalize(), absolute.strip_prefix(above)) {
            return if rest.as_os_str().is_empty() { canonical } else { canonical.join(rest) };
        }
    }
    absolute
}

struct Walk {
    tree: Tree,
    leave_out: Vec<PathBuf>,
    /// The folders from the root to the present one, without links.
    above: Vec<PathBuf>,
    visits: HashMap<PathBuf, u32>,
}

impl Walk {
    /// Takes in a folder; `text` is its path below the root and `canonical` its path without links.
    fn folder(&mut self, folder: &Path, text: &str, canonical: PathBuf) {
        let entries = std::fs::read_dir(folder).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<std::io::Result<Vec<OsString>>>()
        });
        let mut names = match entries {
            Ok(names) => names,
            Err(error) => return self.fault(text.to_owned(), RejectReason::Unreadable, error.to_string()),
        };
        if !text.is_empty() && is_ours(folder, &names) {
            self.tree.left_out.push(text.to_owned());
            return;
        }
        names.sort_unstable();
        self.above.push(canonical);
        for name in names {
            self.entry(folder, text, &name);
        }
        self.above.pop();
    }

    fn entry(&mut self, folder: &Path, above: &str, name: &OsString) {
        let path = folder.join(name);
        let name_text = text_of_path(Path::new(name));
        let text = if above.is_empty() { name_text.clone() } else { format!("{above}/{name_text}") };
        let hidden = name.as_bytes().starts_with(b".");
        let own = match std::fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) => return self.fault_of_file(hidden, text, &name_text, &error),
        };
        let linked = own.file_type().is_symlink();
        let meta = if linked { std::fs::metadata(&path) } else { Ok(own) };
        match meta {
            Err(error) => self.fault_of_file(hidden, text, &name_text, &error),
            Ok(meta) if hidden && (!meta.is_file() || name_text.starts_with("._") || !is_image_name(&name_text)) => {
                self.tree.hidden += 1;
            }
            Ok(meta) if meta.is_dir() => self.subfolder(&path, text, linked),
            Ok(meta) if meta.is_file() => self.tree.files.push(TreeFile { path: text, hidden }),
            Ok(meta) => self.special_file(text, &name_text, &meta),
        }
    }

    fn subfolder(&mut self, path: &Path, text: String, linked: bool) {
        let canonical = match (linked, self.above.last(), path.file_name()) {
            (false, Some(above), Some(name)) => above.join(name),
            _ => match path.canonicalize() {
                Ok(canonical) => canonical,
                Err(error) => return self.fault(text, RejectReason::Unreadable, error.to_string()),
            },
        };
        if self.leave_out.contains(&canonical) {
            self.tree.left_out.push(text);
        } else if self.above.contains(&canonical) {
            tracing::info!("`{text}` leads back to a folder above it and is not followed");
        } else {
            let visits = self.visits.entry(canonical.clone()).or_default();
            *visits += 1;
            if *visits > VISITS_MAX {
                let detail = format!("links lead to this folder more than {VISITS_MAX} times");
                return self.fault(text, RejectReason::Unreadable, detail);
            }
            self.folder(path, &text, canonical);
        }
    }

    /// A file that cannot be looked at. A dangling link may have led to a folder, so only a name with an extension of other
    /// things than images is no input.
    fn fault_of_file(&mut self, hidden: bool, text: String, name: &str, error: &std::io::Error) {
        if hidden {
            self.tree.hidden += 1;
        } else if is_image_name(name) || Path::new(name).extension().is_none() {
            let gone = error.kind() == ErrorKind::NotFound;
            let (reason, detail) = if gone {
                (RejectReason::MissingFile, "the link leads nowhere".to_owned())
            } else {
                (RejectReason::Unreadable, error.to_string())
            };
            self.fault(text, reason, detail);
        }
    }

    fn special_file(&mut self, text: String, name: &str, meta: &Metadata) {
        if is_image_name(name) {
            self.fault(text, RejectReason::Unreadable, format!("no regular file: {:?}", meta.file_type()));
        }
    }

    fn fault(&mut self, path: String, reason: RejectReason, detail: String) {
        self.tree.faults.push(Reject::new(path, reason, detail));
    }
}

/// Whether Lapidary wrote the folder: a stage's, a source's under some `OUT`, or `OUT` itself.
fn is_ours(folder: &Path, names: &[OsString]) -> bool {
    let has = |name: &str| names.iter().any(|n| n == name);
    if has(MANIFEST_FILE) && has_manifest(folder) {
        return true;
    }
    if ["images", "duplicates"].iter().any(|stage| has(stage) && has_manifest(&folder.join(stage))) {
        return true;
    }
    has("current.json") && {
        let current = std::fs::read(folder.join("current.json")).ok();
        let current: Option<serde_json::Value> = current.and_then(|text| serde_json::from_slice(&text).ok());
        current.is_some_and(|c| ["source", "probe", "subset", "plan", "run"].iter().all(|key| c[key].is_string()))
    }
}

/// Whether a folder holds a stage's manifest: another tool's file of that name is none.
fn has_manifest(folder: &Path) -> bool {
    read_manifest(folder).is_some()
}

/// The manifest of a stage's folder.
pub(super) fn read_manifest(folder: &Path) -> Option<Manifest> {
    let path = folder.join(MANIFEST_FILE);
    let small = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= MANIFEST_BYTES_MAX);
    small.then(|| std::fs::read(path).ok()).flatten().and_then(|text| serde_json::from_slice(&text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let temporary = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = temporary.path().join(file);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("creates");
            std::fs::write(path, b"x").expect("writes");
        }
        temporary
    }

    fn paths(tree: &Tree) -> Vec<&str> {
        tree.visible().collect()
    }

    fn faults(tree: &Tree) -> Vec<(&str, &str)> {
        tree.faults().iter().map(|fault| (fault.path.as_str(), fault.reason.code())).collect()
    }

    #[test]
    fn links_that_lead_nowhere_or_round_end_nothing() {
        let temporary = folder(&["a/1.png", "b/2.png"]);
        let at = |name: &str| temporary.path().join(name);
        symlink("gone.png", at("a/zz.png")).expect("links");
        symlink("/nowhere/notes", at("a/notes")).expect("links");
        symlink("/nowhere/notes.txt", at("a/notes.txt")).expect("links");
        symlink("me.png", at("a/me.png")).expect("links");
        symlink("..", at("a/up")).expect("links");
        symlink("../b", at("a/b")).expect("links");
        symlink("../a", at("b/a")).expect("links");
        let tree = Tree::walk(temporary.path(), &[]).expect("walks");
        assert_eq!(paths(&tree), ["a/1.png", "a/b/2.png", "b/2.png", "b/a/1.png"]);
        let of_a = [("a/me.png", "unreadable"), ("a/notes", "missing_file"), ("a/zz.png", "missing_file")];
        assert_eq!(faults(&tree)[..3], of_a);
        assert_eq!(tree.digest(), Tree::walk(temporary.path(), &[]).expect("walks").digest());
    }

    #[test]
    fn folders_that_all_link_to_each_other_are_not_walked_for_ever() {
        let names: Vec<String> = (0..12).map(|i| format!("f{i:02}/1.png")).collect();
        let temporary = folder(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for i in 0..12 {
            for j in 0..12 {
                symlink(format!("../f{j:02}"), temporary.path().join(format!("f{i:02}/to{j:02}"))).expect("links");
            }
        }
        let tree = Tree::walk(temporary.path(), &[]).expect("walks");
        assert!(paths(&tree).len() <= 12 * VISITS_MAX as usize, "{}", paths(&tree).len());
    }

    #[test]
    fn what_cannot_be_listed_is_a_reject_also_for_root() {
        let temporary = folder(&["a/1.png"]);
        // A path beyond what the system takes: even root cannot list it by its whole path.
        let long = |letter: &str| [letter.repeat(250).as_str(); 9].join("/");
        let (upper, lower) = (temporary.path().join("deep").join(long("x")), temporary.path().join("lower"));
        std::fs::create_dir_all(&upper).expect("creates");
        std::fs::create_dir_all(lower.join(long("y"))).expect("creates");
        std::fs::rename(lower, upper.join("lower")).expect("moves");
        let fifo = Command::new("mkfifo").arg(temporary.path().join("pipe.png")).status().expect("runs");
        assert!(fifo.success());
        let tree = Tree::walk(temporary.path(), &[]).expect("walks");
        assert_eq!(paths(&tree), ["a/1.png"]);
        let reasons: Vec<&str> = faults(&tree).into_iter().map(|(_, reason)| reason).collect();
        assert_eq!(reasons, ["unreadable", "unreadable"], "{:?}", tree.faults());
    }

    #[test]
    fn out_is_left_out_however_it_is_spelt_and_whatever_reaches_it() {
        let temporary = folder(&["1.png", "out/data/images/2.png", "sub/3.png"]);
        let root = temporary.path();
        symlink(root.join("out"), root.join("sub/link")).expect("links");
        symlink(root, root.join("../self-of-this-test")).ok();
        for spelt in
            [root.join("out"), root.join("out/"), root.join("sub/../out"), root.join("sub/link"), root.join("./out")]
        {
            let tree = Tree::walk(root, std::slice::from_ref(&spelt)).expect("walks");
            assert_eq!(paths(&tree), ["1.png", "sub/3.png"], "{}", spelt.display());
        }
        // It need not be there yet, and may be the folder's own name only by accident.
        assert_eq!(paths(&Tree::walk(root, &[root.join("none/yet")]).expect("walks")).len(), 4);
        assert!(matches!(Tree::walk(root, &[root.to_owned()]), Err(PipelineError::Usage(_))));
        std::fs::remove_file(root.join("../self-of-this-test")).ok();
    }

    #[test]
    fn what_lapidary_wrote_is_left_out_without_being_told() {
        let temporary =
            folder(&["1.png", "old/data/images/part.png", "old/data/report.png", "old/plan.png", "export/a/2.png"]);
        let at = |name: &str| temporary.path().join(name);
        let digest = Digest("00".repeat(32));
        let manifest = Manifest {
            stage: "ingest".to_owned(),
            version: 1,
            lapidary: String::new(),
            config: serde_json::Value::Null,
            inputs: BTreeMap::new(),
            key: digest.clone(),
            digest,
            extends: Vec::new(),
            rows: lapidary_schemas::Rows::default(),
            outputs: BTreeMap::new(),
            facts: serde_json::Value::Null,
            wall_secs: 0.0,
            rows_per_sec: 0.0,
            peak_memory_mib: 0.0,
            seal: String::new(),
        };
        let text = serde_json::to_string(&manifest).expect("JSON");
        for place in ["old/data/images/manifest.json", "export/manifest.json"] {
            std::fs::write(at(place), &text).expect("writes");
        }
        std::fs::write(at("old/current.json"), r#"{"source": "", "probe": "", "subset": "", "plan": "", "run": ""}"#)
            .expect("writes");
        // A manifest of another tool leaves its folder in.
        std::fs::create_dir(at("site")).expect("creates");
        std::fs::write(at("site/manifest.json"), r#"{"name": "an app", "icons": []}"#).expect("writes");
        std::fs::write(at("site/icon.png"), b"x").expect("writes");
        let tree = Tree::walk(temporary.path(), &[]).expect("walks");
        assert_eq!(paths(&tree), ["1.png", "site/icon.png", "site/manifest.json"]);
        // Named by hand, it is input.
        assert_eq!(paths(&Tree::walk(&at("export"), &[]).expect("walks")), ["a/2.png", "manifest.json"]);
    }
}
