//! Where things lie in a folder with COCO's JSON: which files are such JSON, which split each speaks of, and which file an
//! image's name means.
//!
//! The layouts are those that tools write: `annotations/KIND_SPLIT.json` beside `SPLIT/` or `images/SPLIT/` (official, CVAT
//! with a flat `images/`), `SPLIT/_annotations.coco.json` (Roboflow), `labels.json` beside `data/` (FiftyOne), a JSON whose
//! names hold the folder (Label Studio, labelme2coco). A name is looked for where the layout has it, then in all folders.

use super::cut::{Then, cut_file};
use super::records::ImageRecord;
use super::repair::understood;
use crate::Result;
use crate::ingest::sources::names::normal_form;
use crate::ingest::sources::splits::split_of_folder;
use crate::ingest::sources::{Tree, has_extension, text_of_path};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Names of a JSON that are looked for to tell whether its images are here.
const NAMES_LOOKED_FOR: usize = 64;
/// JSON files of a folder that are looked into when none of them is COCO's: the rest are taken for one file an image.
const SIDECARS_LOOKED_INTO: usize = 16;
/// Kinds of annotations that stand before the split in a JSON's name.
const KINDS: &[&str] = &[
    "instances_",
    "person_keypoints_",
    "keypoints_",
    "captions_",
    "image_info_",
    "stuff_",
    "panoptic_",
    "labels_",
    "others_",
];
/// Folders that hold JSON and no images.
const ANNOTATION_FOLDERS: &[&str] = &["annotations", "annotation", "labels", "ann", "json"];
/// Folders of images beside a JSON that does not name one.
const IMAGE_FOLDERS: &[&str] = &["images", "data", "img", "imgs", "JPEGImages"];

/// A JSON that lists images as COCO's do.
#[derive(Debug, Clone)]
pub(in crate::ingest::sources) struct CocoJson {
    /// Its path in the source.
    pub(in crate::ingest::sources) path: String,
    /// Whether some of its images are here.
    pub(in crate::ingest::sources) names_what_is_there: bool,
}

/// The JSON files of a tree that list images, by path; others are named in the log.
///
/// # Errors
/// When one that lists images cannot be read.
pub(in crate::ingest::sources) fn find_jsons(tree: &Tree) -> Result<Vec<CocoJson>> {
    let mut base_names: Option<HashSet<&str>> = None;
    let (mut found, mut others): (Vec<CocoJson>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut in_vain: HashMap<&str, usize> = HashMap::new();
    for path in tree.visible().filter(|path| has_extension(path, &["json"])) {
        let looked_into = in_vain.entry(folder_of(path)).or_default();
        if *looked_into >= SIDECARS_LOOKED_INTO && !in_annotation_folder(path) {
            others.push(path);
            continue;
        }
        match first_names(tree, path)? {
            Some(names) => {
                let there = base_names.get_or_insert_with(|| tree.files().iter().map(|f| base_name(&f.path)).collect());
                let is_there = |name: &String| {
                    let name = text_of_path(Path::new(name));
                    there.contains(base_name(&name)) || there.contains(base_name(&name.replace('\\', "/")))
                };
                *looked_into = 0;
                found.push(CocoJson { path: path.to_owned(), names_what_is_there: names.iter().any(is_there) });
            }
            None => {
                *looked_into += 1;
                others.push(path);
            }
        }
    }
    if !others.is_empty() {
        let shown = others[..others.len().min(8)].join(", ");
        tracing::info!("{} JSON files hold no list of images and are not used: {shown}", others.len());
    }
    Ok(found)
}

/// The first names of a JSON's images; none when it has no list of images.
fn first_names(tree: &Tree, path: &str) -> Result<Option<Vec<String>>> {
    let mut names = None;
    let mut seen = 0;
    let cut = cut_file(&tree.place(path), &["images"], |cut| {
        seen += 1;
        if let Some((value, _)) = cut.text.and_then(understood) {
            let is_record = value.get("id").is_some() || value.get("file_name").is_some();
            if let Some(record) = ImageRecord::of(&value).filter(|_| is_record) {
                names.get_or_insert_with(Vec::new).extend(record.name);
            }
        }
        Ok(if seen >= NAMES_LOOKED_FOR { Then::Stop } else { Then::Next })
    });
    match (cut, names) {
        // Files of other tools that are no JSON are none of ours, unless they lie where annotations do.
        (Err(error), Some(_)) => Err(error),
        (Err(error), None) if in_annotation_folder(path) => Err(error),
        (_, names) => Ok(names),
    }
}

fn in_annotation_folder(path: &str) -> bool {
    base_name(folder_of(path)) == "annotations"
}

pub(in crate::ingest::sources) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn base_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn joined(folder: &str, rest: &str) -> String {
    match (folder, rest) {
        ("", rest) => rest.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, rest) => format!("{folder}/{rest}"),
    }
}

/// Finds the files that a tree's JSON files name.
#[derive(Debug)]
pub(super) struct Places<'a> {
    tree: &'a Tree,
    folders: HashSet<&'a str>,
    /// Paths by their last part.
    by_name: HashMap<&'a str, Vec<&'a str>>,
}

/// Where a name leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Led {
    /// To a file: its path in the source, and the folder that the JSON speaks of as a whole.
    To(String, Option<String>),
    /// Out of the source.
    Outside,
    /// To nothing that is there: where it should be.
    Nowhere(String),
    /// To several files.
    Several(Vec<String>),
}

/// What a JSON's own place and name say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JsonPlace {
    /// The split that it speaks of.
    pub(super) split: String,
    /// Folders in which its names are looked for, in this order.
    candidates: Vec<String>,
}

impl<'a> Places<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        let (mut folders, mut by_name): (HashSet<&str>, HashMap<&str, Vec<&str>>) = Default::default();
        for file in tree.files() {
            let mut folder = folder_of(&file.path);
            while !folder.is_empty() && folders.insert(folder) {
                folder = folder_of(folder);
            }
            by_name.entry(base_name(&file.path)).or_default().push(&file.path);
        }
        Self { tree, folders, by_name }
    }

    /// What a JSON's place and name say of its split and of where its images lie.
    pub(super) fn of_json(&self, json: &str) -> JsonPlace {
        let folder = folder_of(json);
        let base = if ANNOTATION_FOLDERS.contains(&base_name(folder)) { folder_of(folder) } else { folder };
        let split = self.split_of_json(json, base);
        let mut candidates: Vec<String> = Vec::new();
        for base in [base, ""] {
            candidates.extend([joined(base, &format!("images/{split}")), joined(base, &split)]);
            candidates.extend(IMAGE_FOLDERS.iter().map(|name| joined(base, name)));
            candidates.push(base.to_owned());
        }
        candidates.push(folder.to_owned());
        let mut known = HashSet::new();
        candidates.retain(|folder| {
            (folder.is_empty() || self.folders.contains(folder.as_str())) && known.insert(folder.clone())
        });
        JsonPlace { split, candidates }
    }

    fn split_of_json(&self, json: &str, base: &str) -> String {
        let name = base_name(json);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let is_folder = |split: &str| {
            !split.is_empty()
                && [joined(base, split), joined(base, &format!("images/{split}")), split.to_owned()]
                    .iter()
                    .any(|folder| self.folders.contains(folder.as_str()))
        };
        let after_kind = KINDS.iter().find_map(|kind| stem.strip_prefix(kind)).filter(|rest| !rest.is_empty());
        let last = stem.rsplit_once('_').map(|(_, last)| last).filter(|last| is_folder(last) || is_split(last));
        let whole = Some(stem).filter(|stem| is_split(stem) || (is_folder(stem) && !IMAGE_FOLDERS.contains(stem)));
        let above = Some(base_name(folder_of(json))).filter(|above| is_split(above));
        after_kind.or(last).or(whole).or(above).unwrap_or("all").to_owned()
    }

    /// The file that a JSON means by a name.
    pub(super) fn find(&self, place: &JsonPlace, name: &str, from_url: bool) -> Led {
        let escaped = text_of_path(Path::new(name));
        let mut spellings = vec![escaped.clone(), name.to_owned(), escaped.replace('\\', "/")];
        // An absolute path into this very folder is a path in it.
        let root = text_of_path(self.tree.root());
        let within = escaped.strip_prefix(&root).filter(|rest| rest.starts_with('/')).map(|rest| rest[1..].to_owned());
        let climbs = |name: &String| place.candidates.iter().all(|folder| normal_form(folder, name).is_none());
        let outside = within.is_none() && spellings.iter().any(climbs);
        spellings.extend(within);
        spellings.dedup();
        for spelling in &spellings {
            for folder in &place.candidates {
                let Some(path) = normal_form(folder, spelling) else { continue };
                if self.tree.contains(&path) {
                    let holds = path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
                    let whole = if holds { folder } else { folder_of(&path) };
                    return Led::To(path.clone(), (!whole.is_empty()).then(|| whole.to_owned()));
                }
            }
        }
        if outside {
            return Led::Outside;
        }
        self.find_elsewhere(place, &spellings, from_url)
    }

    /// Looks for a name in all folders.
    fn find_elsewhere(&self, place: &JsonPlace, spellings: &[String], from_url: bool) -> Led {
        for spelling in spellings {
            let Some(mut wanted) = normal_form("", spelling) else { continue };
            if from_url {
                wanted = base_name(&wanted).to_owned();
            }
            let same_name = self.by_name.get(base_name(&wanted)).map_or(&[][..], Vec::as_slice);
            let ends_so = |path: &&&str| {
                path.strip_suffix(wanted.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('/'))
            };
            let found: Vec<&str> = same_name.iter().filter(ends_so).copied().collect();
            match found[..] {
                [] => {}
                [path] => {
                    let folder = folder_of(path);
                    return Led::To(path.to_owned(), (!folder.is_empty()).then(|| folder.to_owned()));
                }
                _ => return Led::Several(found.into_iter().map(str::to_owned).collect()),
            }
        }
        let folder = place.candidates.first().map_or("", String::as_str);
        let last = spellings.last().map_or("", String::as_str);
        Led::Nowhere(normal_form(folder, last).unwrap_or_else(|| last.to_owned()))
    }
}

fn is_split(name: &str) -> bool {
    split_of_folder(name).is_some_and(|split| split != "all")
}

/// A record and its text, if it is understood.
pub(super) fn record_of(text: Option<&[u8]>) -> Option<(Value, String)> {
    text.and_then(understood).map(|(value, text)| (value, text.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> (tempfile::TempDir, Tree) {
        let temporary = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = temporary.path().join(file);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("creates");
            std::fs::write(path, b"x").expect("writes");
        }
        let tree = Tree::walk(temporary.path(), &[]).expect("walks");
        (temporary, tree)
    }

    fn to(path: &str, whole: &str) -> Led {
        Led::To(path.to_owned(), (!whole.is_empty()).then(|| whole.to_owned()))
    }

    #[test]
    fn the_layouts_of_tools_say_split_and_place() {
        for (json, file, name, split, whole) in [
            ("annotations/instances_val2017.json", "val2017/1.jpg", "1.jpg", "val2017", "val2017"),
            ("annotations/instances_val2017.json", "images/val2017/1.jpg", "1.jpg", "val2017", "images/val2017"),
            ("annotations/image_info_test-dev2017.json", "test2017/1.jpg", "1.jpg", "test-dev2017", "test2017"),
            ("annotations/instances_default.json", "images/1.jpg", "1.jpg", "default", "images"),
            ("train/_annotations.coco.json", "train/1.jpg", "1.jpg", "train", "train"),
            ("labels.json", "data/1.jpg", "1.jpg", "all", "data"),
            ("result.json", "images/1.jpg", "images/1.jpg", "all", "images"),
            ("annotations.json", "JPEGImages/1.jpg", "JPEGImages/1.jpg", "all", "JPEGImages"),
            ("annotations.coco.json", "img/1.jpg", "img/1.jpg", "all", "img"),
            ("annotations/lvis_v1_val.json", "val2017/1.jpg", "val2017/1.jpg", "val", "val2017"),
            ("annotations/x.json", "pictures/a/1.jpg", "../pictures/a/1.jpg", "all", "pictures/a"),
            ("annotations/instances_pile.json", "pile/1.jpg", "1.jpg", "pile", "pile"),
            ("set/annotations/train.json", "set/train/1.jpg", "1.jpg", "train", "set/train"),
        ] {
            let (_kept, tree) = tree(&[json, file]);
            let places = Places::new(&tree);
            let place = places.of_json(json);
            assert_eq!(place.split, split, "{json}");
            assert_eq!(places.find(&place, name, false), to(file, whole), "{json}: {name}");
        }
    }

    #[test]
    fn spellings_of_one_path_lead_to_one_file_and_none_leads_out() {
        let (kept, tree) =
            tree(&["annotations/instances_val.json", "val/a/1.jpg", "val/b\\2.jpg", "one/3.jpg", "two/3.jpg"]);
        let places = Places::new(&tree);
        let place = places.of_json("annotations/instances_val.json");
        let absolute = format!("{}/val/a/1.jpg", kept.path().canonicalize().expect("there").display());
        for name in [
            "a/1.jpg",
            "./a/1.jpg",
            "a\\1.jpg",
            ".\\a\\1.jpg",
            "val/a/1.jpg",
            "a//1.jpg",
            "a/x/../1.jpg",
            "1.jpg",
            &absolute,
        ] {
            assert!(matches!(places.find(&place, name, false), Led::To(path, _) if path == "val/a/1.jpg"), "{name}");
        }
        assert_eq!(places.find(&place, "b\\2.jpg", false), to("val/b\\2.jpg", "val"));
        for name in ["../../secret.jpg", "..\\..\\secret.jpg", "/etc/passwd", "a/../../../b.jpg", "C:\\x.jpg"] {
            let led = places.find(&place, name, false);
            assert_eq!(led, Led::Outside, "{name}");
        }
        assert_eq!(places.find(&place, "gone.jpg", false), Led::Nowhere("val/gone.jpg".to_owned()));
        let several = ["one/3.jpg", "two/3.jpg"].map(str::to_owned).to_vec();
        assert_eq!(places.find(&place, "3.jpg", false), Led::Several(several));
    }
}
