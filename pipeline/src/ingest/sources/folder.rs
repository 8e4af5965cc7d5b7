//! A plain folder of images: `SPLIT/CLASS/x.jpg`, `CLASS/x.jpg`, or images anywhere.
//!
//! When every image lies below a folder with a split's name, that is its split. The innermost folder is the class, if all
//! images lie equally deep apart from splits and folders such as `images`, and there are at least two classes (as in
//! `datasets`). A folder that Lapidary exported says itself which of its folders are what.
//!
//! A file is an input when its extension is an image's or its first bytes are.

use super::open::say_not_read;
use super::splits::{is_plain_folder, split_of_folder};
use super::tree::read_manifest;
use super::{Entry, Listing, Place, Reject, Source, Tree, begins_as_image, is_image_name, name_of_part, path_of_text};
use crate::Result;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A folder of image files.
#[derive(Debug)]
pub struct ImageFolder {
    tree: Tree,
    /// What this layout leaves out.
    others: Vec<Reject>,
}

/// The images among a tree's files, by path.
pub(super) fn image_paths(tree: &Tree) -> Vec<&str> {
    tree.visible().filter(|path| is_image(tree, path)).collect()
}

/// Whether a file is an image by its name, or else by its first bytes.
pub(super) fn is_image(tree: &Tree, path: &str) -> bool {
    if is_image_name(path) {
        return true;
    }
    let mut first = [0; 32];
    let read = File::open(tree.place(path)).and_then(|mut file| file.read(&mut first));
    read.is_ok_and(|read| begins_as_image(&first[..read]))
}

impl ImageFolder {
    /// A folder's images; `others` are inputs that another layout would read.
    pub fn new(tree: Tree, others: Vec<Reject>) -> Self {
        Self { tree, others }
    }
}

impl Source for ImageFolder {
    fn layout(&self) -> &'static str {
        "image folder"
    }

    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn list(&self, _spool: &Path) -> Result<Listing> {
        let (images, others): (Vec<&str>, Vec<&str>) = self.tree.visible().partition(|path| is_image(&self.tree, path));
        say_not_read(others.into_iter());
        let folders: Vec<Vec<&str>> = images
            .iter()
            .map(|path| path.rsplit_once('/').map_or_else(Vec::new, |(folder, _)| folder.split('/').collect()))
            .collect();
        let said = if is_export(self.tree.root()) { exported(&folders) } else { found(&folders) };
        let classes: BTreeSet<&String> = said.iter().filter_map(|said| said.class.as_ref()).collect();
        let classes: Vec<String> = classes.into_iter().cloned().collect();
        let mut listing = Listing {
            rejects: [self.tree.faults(), &self.others].concat(),
            category_ids: (0..classes.len() as i64).collect(),
            classes,
            ..Listing::default()
        };
        for (path, said) in images.iter().zip(said) {
            let split = listing.split(&said.split);
            let label = said.class.and_then(|class| listing.classes.binary_search(&class).ok());
            let place = Place::File(self.tree.place(path));
            listing.entries.push(Entry { label: label.map(|l| l as i64), ..Entry::new(*path, place, split) });
        }
        Ok(listing)
    }
}

/// What an image's folders say of it.
struct Said {
    split: String,
    class: Option<String>,
}

/// A folder's own name, of its part of a path in the source.
fn folder_name(part: &str) -> String {
    path_of_text(part).into_os_string().into_string().unwrap_or_else(|_| part.to_owned())
}

/// Whether `cut --export folder` made this folder.
fn is_export(root: &Path) -> bool {
    read_manifest(root).is_some_and(|manifest| manifest.stage == "export" && manifest.config["format"] == "folder")
}

/// `SPLIT/CLASS/file`, or `SPLIT/file` for an image without a class, as the export writes them.
fn exported(folders: &[Vec<&str>]) -> Vec<Said> {
    let said = |parts: &Vec<&str>| Said {
        split: parts.first().map_or_else(|| "all".to_owned(), |part| name_of_part(&folder_name(part))),
        class: parts.get(1).map(|part| name_of_part(&folder_name(part))),
    };
    folders.iter().map(said).collect()
}

fn found(folders: &[Vec<&str>]) -> Vec<Said> {
    let splits: Option<Vec<(usize, String)>> = folders
        .iter()
        .map(|parts| parts.iter().enumerate().find_map(|(at, part)| Some((at, split_of_folder(part)?))))
        .collect();
    let without_split = |(index, parts): (usize, &Vec<&str>)| -> Vec<String> {
        let split_at = splits.as_ref().map(|splits| splits[index].0);
        let mut rest: Vec<String> =
            parts.iter().enumerate().filter(|(at, _)| Some(*at) != split_at).map(|(_, p)| (*p).to_owned()).collect();
        while rest.last().is_some_and(|part| is_plain_folder(part)) {
            rest.pop();
        }
        rest
    };
    let rest: Vec<Vec<String>> = folders.iter().enumerate().map(without_split).collect();
    let depth = rest.first().map_or(0, Vec::len);
    let distinct: BTreeSet<Option<&String>> = rest.iter().map(|parts| parts.last()).collect();
    let has_classes = depth > 0 && distinct.len() > 1 && rest.iter().all(|parts| parts.len() == depth);
    let class = |mut parts: Vec<String>| if has_classes { parts.pop().map(|part| folder_name(&part)) } else { None };
    let split = |index: usize| splits.as_ref().map_or_else(|| "all".to_owned(), |splits| splits[index].1.clone());
    rest.into_iter().enumerate().map(|(index, parts)| Said { split: split(index), class: class(parts) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(files: &[&str]) -> Listing {
        let temporary = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = temporary.path().join(file);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("creates");
            std::fs::write(path, b"x").expect("writes");
        }
        let tree = Tree::walk(temporary.path(), &[]).expect("walks");
        ImageFolder::new(tree, Vec::new()).list(Path::new("")).expect("lists")
    }

    fn labels(listing: &Listing) -> Vec<(&str, Option<&str>)> {
        let class = |entry: &Entry| entry.label.map(|label| listing.classes[label as usize].as_str());
        listing.entries.iter().map(|e| (listing.splits[e.split as usize].as_str(), class(e))).collect()
    }

    #[test]
    fn splits_and_classes_are_read_off_the_folders() {
        let listing = list(&["train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "readme.txt"]);
        assert_eq!(listing.classes, ["cat", "dog"]);
        assert_eq!(labels(&listing), [("train", Some("cat")), ("train", Some("dog")), ("val", Some("dog"))]);
    }

    #[test]
    fn a_split_may_lie_deeper_and_the_class_is_the_innermost_folder() {
        let listing = list(&["set/Train/cat/1.png", "set/Train/dog/2.png", "set/Test/dog/3.png"]);
        assert_eq!(labels(&listing), [("test", Some("dog")), ("train", Some("cat")), ("train", Some("dog"))]);
        let listing = list(&["animals/cat/1.png", "animals/dog/2.png"]);
        assert_eq!(labels(&listing), [("all", Some("cat")), ("all", Some("dog"))]);
        let listing = list(&["train/n01/images/1.png", "train/n02/images/2.png"]);
        assert_eq!(labels(&listing), [("train", Some("n01")), ("train", Some("n02"))]);
        let listing = list(&["all/cat/1.png", "all/dog/2.png"]);
        assert_eq!(labels(&listing), [("all", Some("cat")), ("all", Some("dog"))]);
    }

    #[test]
    fn images_at_different_depths_or_of_one_folder_have_no_class() {
        for files in [&["a/1.png", "a/b/2.png"][..], &["img/1.png", "img/2.png"], &["x/1.png"], &["1.png"]] {
            let listing = list(files);
            assert!(listing.classes.is_empty() && listing.entries.len() == files.len(), "{files:?}");
            assert_eq!(listing.splits, ["all"]);
        }
    }

    #[test]
    fn an_image_is_an_input_whatever_it_is_called() {
        let temporary = tempfile::tempdir().expect("a folder");
        let jpeg = b"\xff\xd8\xff\xe0 and so on";
        for name in ["a.JPG_large", "b", "c.jpg!d", "d.tmp", "-e.png", "f#1?.png", "g[1].png", "h.txt"] {
            std::fs::write(temporary.path().join(name), jpeg).expect("writes");
        }
        for (name, bytes) in
            [("i.tga", &b"no image"[..]), ("unknown.xyz", b"text"), ("notes.txt", b"text"), ("empty", b"")]
        {
            std::fs::write(temporary.path().join(name), bytes).expect("writes");
        }
        let tree = Tree::walk(temporary.path(), &[]).expect("walks");
        let listing = ImageFolder::new(tree, Vec::new()).list(Path::new("")).expect("lists");
        let paths: Vec<&str> = listing.entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["-e.png", "a.JPG_large", "b", "c.jpg!d", "d.tmp", "f#1?.png", "g[1].png", "h.txt", "i.tga"]);
    }
}
