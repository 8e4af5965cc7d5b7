//! A plain folder of images: `SPLIT/CLASS/x.jpg`, `CLASS/x.jpg`, or images anywhere.
//!
//! The first folder is a split when all of them have a split's name; the folder an image lies in then is its class, if
//! every image lies exactly one folder deep. Files whose extension is no image's are not inputs; they are counted in the log.

use super::{Entry, Listing, Place, Source, files_below, has_extension, relative};
use crate::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A folder of image files.
#[derive(Debug)]
pub(super) struct ImageFolder {
    root: PathBuf,
}

const SPLITS: &[&str] = &["train", "val", "valid", "validation", "test", "dev", "unlabeled"];
/// Extensions of images, those we cannot read included, so that they are rejected with a reason.
const IMAGE_EXTENSIONS: &[&str] = &[
    "jpg", "jpeg", "jpe", "png", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif", "jxl", "jp2", "svg",
    "ppm",
];

pub(super) fn looks_like_image(path: &Path) -> bool {
    has_extension(path, IMAGE_EXTENSIONS)
}

impl ImageFolder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

impl Source for ImageFolder {
    fn layout(&self) -> &'static str {
        "image folder"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn list(&self, _spool: &Path) -> Result<Listing> {
        let (images, others): (Vec<_>, Vec<_>) =
            files_below(&self.root)?.into_iter().partition(|file| looks_like_image(file.path()));
        if !others.is_empty() {
            tracing::info!("{} files are no images by their extension and not read", others.len());
        }
        let paths: Vec<String> = images.iter().map(|file| relative(&self.root, file.path())).collect();
        let folders: Vec<Vec<&str>> = paths
            .iter()
            .map(|path| path.rsplit_once('/').map_or_else(Vec::new, |(folder, _)| folder.split('/').collect()))
            .collect();
        let has_splits = folders.iter().all(|parts| parts.first().is_some_and(|first| SPLITS.contains(first)));
        let class_depth = usize::from(has_splits);
        let has_classes = !folders.is_empty() && folders.iter().all(|parts| parts.len() == class_depth + 1);
        let classes: BTreeSet<&str> =
            if has_classes { folders.iter().map(|parts| parts[class_depth]).collect() } else { BTreeSet::new() };
        let mut listing = Listing { classes: classes.iter().map(|c| (*c).to_owned()).collect(), ..Listing::default() };
        listing.category_ids = (0..listing.classes.len() as i64).collect();
        for ((file, path), parts) in images.iter().zip(&paths).zip(&folders) {
            let split = listing.split(if has_splits { parts[0] } else { "all" });
            let label = parts.get(class_depth).and_then(|class| classes.iter().position(|c| c == class));
            listing.entries.push(Entry {
                path: path.clone(),
                place: Place::File(file.path().to_owned()),
                split,
                url: None,
                license: None,
                annotations: None,
                label: if has_classes { label.map(|l| l as i64) } else { None },
            });
        }
        Ok(listing)
    }
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
        ImageFolder::new(temporary.path().to_owned()).list(Path::new("")).expect("lists")
    }

    #[test]
    fn splits_and_classes_are_read_off_the_folders() {
        let listing = list(&["train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "readme.txt"]);
        assert_eq!(listing.classes, ["cat", "dog"]);
        assert_eq!(listing.splits, ["train", "val"]);
        assert_eq!(listing.entries.iter().map(|e| e.label).collect::<Vec<_>>(), [Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn images_at_different_depths_have_no_class() {
        let listing = list(&["a/1.png", "a/b/2.png"]);
        assert!(listing.classes.is_empty());
        assert_eq!(listing.entries.len(), 2);
        assert_eq!(listing.splits, ["all"]);
    }
}
