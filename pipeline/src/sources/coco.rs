//! COCO's official layout: `annotations/KIND_SPLIT.json` beside a folder of images for each split.
//!
//! Instances, keypoints, captions and image-info files are read alike: images, categories and licenses from all, boxes
//! where there are some. Segmentations are not kept. A split folder without any JSON is taken as images without
//! annotations; a folder with JSON must name all its files.

use super::{Annotation, Entry, Listing, Place, Reject, Source, files_below, has_extension, relative};
use crate::{PipelineError, Result};
use lapidary_schemas::RejectReason;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};

/// A folder in COCO's layout.
#[derive(Debug)]
pub(super) struct Coco {
    root: PathBuf,
}

#[derive(Deserialize)]
struct AnnotationFile {
    #[serde(default)]
    images: Vec<ImageInfo>,
    #[serde(default)]
    annotations: Vec<ObjectInfo>,
    #[serde(default)]
    categories: Vec<Category>,
    #[serde(default)]
    licenses: Vec<License>,
}

#[derive(Deserialize)]
struct ImageInfo {
    id: i64,
    file_name: String,
    license: Option<i64>,
    coco_url: Option<String>,
    flickr_url: Option<String>,
}

#[derive(Deserialize)]
struct ObjectInfo {
    image_id: i64,
    category_id: Option<i64>,
    bbox: Option<[f32; 4]>,
    #[serde(default)]
    area: f32,
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

#[derive(Deserialize)]
struct License {
    id: i64,
    name: String,
}

pub(super) fn is_coco(root: &Path) -> bool {
    !annotation_files(root).is_empty()
}

/// `annotations/*_SPLIT.json` with their split, by name.
fn annotation_files(root: &Path) -> Vec<(PathBuf, String)> {
    let Ok(entries) = std::fs::read_dir(root.join("annotations")) else { return Vec::new() };
    let mut files: Vec<(PathBuf, String)> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| has_extension(path, &["json"]))
        .filter_map(|path| {
            let stem = path.file_stem()?.to_string_lossy().into_owned();
            let split = stem.rsplit_once('_').map_or(stem.as_str(), |(_, split)| split).to_owned();
            Some((path, split))
        })
        .collect();
    files.sort();
    files
}

impl Coco {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder that holds a split's images: `SPLIT`, or `images/SPLIT` as some mirrors have it.
    fn split_folder(&self, split: &str) -> PathBuf {
        let nested = self.root.join("images").join(split);
        if nested.is_dir() { nested } else { self.root.join(split) }
    }
}

impl Source for Coco {
    fn layout(&self) -> &'static str {
        "COCO"
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn list(&self, _spool: &Path) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut categories: BTreeMap<i64, String> = BTreeMap::new();
        // Path in the source -> index of its entry, over all files of annotations.
        let mut by_path: HashMap<String, usize> = HashMap::new();
        let mut named: HashSet<String> = HashSet::new();
        let mut covered: HashSet<PathBuf> = HashSet::new();
        for (json, split) in annotation_files(&self.root) {
            let file = File::open(&json).map_err(PipelineError::io("open", &json))?;
            let parsed: AnnotationFile =
                serde_json::from_reader(BufReader::new(file)).map_err(|e| PipelineError::format(&json, e))?;
            let folder = self.split_folder(&split);
            covered.insert(folder.clone());
            let licenses: HashMap<i64, String> = parsed.licenses.into_iter().map(|l| (l.id, l.name)).collect();
            categories.extend(parsed.categories.into_iter().map(|c| (c.id, c.name)));
            let mut by_id: HashMap<i64, usize> = HashMap::new();
            let mut rejected_ids: HashSet<i64> = HashSet::new();
            let mut in_this_file: HashSet<String> = HashSet::new();
            for image in parsed.images {
                if climbs(&image.file_name) {
                    listing.rejects.push(Reject::new(&image.file_name, RejectReason::PathEscapes, json.display()));
                    rejected_ids.insert(image.id);
                    continue;
                }
                let inside = folder.join(&image.file_name);
                let place = if inside.is_file() { inside } else { self.root.join(&image.file_name) };
                let shown = relative(&self.root, if place.is_file() { &place } else { &folder }).to_owned();
                let path = if place.is_file() { shown } else { format!("{shown}/{}", image.file_name) };
                if !in_this_file.insert(path.clone()) {
                    let detail = format!("{} names it twice", json.display());
                    listing.rejects.push(Reject::new(path, RejectReason::DuplicateEntry, detail));
                    rejected_ids.insert(image.id);
                    continue;
                }
                if !place.is_file() {
                    rejected_ids.insert(image.id);
                    if named.insert(path.clone()) {
                        let detail = format!("named by {}", json.display());
                        listing.rejects.push(Reject::new(path, RejectReason::MissingFile, detail));
                    }
                    continue;
                }
                named.insert(path.clone());
                let index = *by_path.entry(path.clone()).or_insert_with(|| {
                    let split = listing.split(&split);
                    listing.entries.push(Entry {
                        path,
                        place: Place::File(place),
                        split,
                        url: image.coco_url.or(image.flickr_url),
                        license: None,
                        annotations: None,
                        label: None,
                    });
                    listing.entries.len() - 1
                });
                if let Some(name) = image.license.and_then(|id| licenses.get(&id)) {
                    listing.entries[index].license = Some(listing.license(name));
                }
                by_id.insert(image.id, index);
            }
            let has_objects = parsed.annotations.iter().any(|a| a.bbox.is_some());
            if has_objects {
                for index in by_id.values() {
                    listing.entries[*index].annotations.get_or_insert_default();
                }
            }
            for object in parsed.annotations {
                let (Some(category_id), Some(bbox_px)) = (object.category_id, object.bbox) else { continue };
                match by_id.get(&object.image_id) {
                    Some(index) if categories.contains_key(&category_id) => {
                        let annotation =
                            Annotation { category_id, bbox_px, area_px: object.area, iscrowd: object.iscrowd != 0 };
                        let all = listing.entries[*index].annotations.get_or_insert_default();
                        // Keypoint files repeat the people of the instance files.
                        if !all.contains(&annotation) {
                            all.push(annotation);
                        }
                    }
                    None if rejected_ids.contains(&object.image_id) => {}
                    _ => listing.bad_annotations += 1,
                }
            }
        }
        self.list_unnamed(&mut listing, &named, &covered)?;
        (listing.category_ids, listing.classes) = categories.into_iter().unzip();
        label_by_area(&mut listing);
        Ok(listing)
    }
}

impl Coco {
    /// Files that no JSON names: rejected in folders that JSON covers, images without annotations in others.
    fn list_unnamed(&self, listing: &mut Listing, named: &HashSet<String>, covered: &HashSet<PathBuf>) -> Result<()> {
        for file in files_below(&self.root)? {
            let path = relative(&self.root, file.path());
            let Some((top, _)) = path.split_once('/') else { continue };
            if top == "annotations" || named.contains(&path) {
                continue;
            }
            if covered.iter().any(|folder| file.path().starts_with(folder)) {
                listing.rejects.push(Reject::new(path, RejectReason::NotListed, "no annotation file names it"));
            } else if super::folder::looks_like_image(file.path()) {
                let split = listing.split(top);
                let place = Place::File(file.path().to_owned());
                let (url, license, annotations, label) = (None, None, None, None);
                listing.entries.push(Entry { path, place, split, url, license, annotations, label });
            }
        }
        Ok(())
    }
}

/// Whether a name leads out of the folder it is meant to lie in.
fn climbs(name: &str) -> bool {
    Path::new(name).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Labels each image with the class whose objects (crowds aside) fill most of it; ties to the first class.
fn label_by_area(listing: &mut Listing) {
    let class_of: HashMap<i64, usize> = listing.category_ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    for entry in &mut listing.entries {
        let mut areas: BTreeMap<usize, f32> = BTreeMap::new();
        for object in entry.annotations.iter().flatten().filter(|a| !a.iscrowd) {
            if let Some(class) = class_of.get(&object.category_id) {
                let area = if object.area_px > 0.0 { object.area_px } else { object.bbox_px[2] * object.bbox_px[3] };
                *areas.entry(*class).or_default() += area;
            }
        }
        let largest = areas.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best });
        entry.label = largest.map(|(class, _)| class as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_climb_are_seen() {
        for bad in ["../a.jpg", "/etc/passwd", "a/../../b.jpg"] {
            assert!(climbs(bad), "{bad}");
        }
        for good in ["a.jpg", "./a.jpg", "sub/a..jpg"] {
            assert!(!climbs(good), "{good}");
        }
    }

    #[test]
    fn every_input_of_a_crooked_folder_has_its_reason() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path();
        for folder in ["annotations", "val", "extra"] {
            std::fs::create_dir(root.join(folder)).expect("creates");
        }
        for file in ["val/a.jpg", "val/stray.jpg", "extra/b.jpg"] {
            std::fs::write(root.join(file), b"x").expect("writes");
        }
        let json = r#"{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "gone.jpg"},
            {"id": 3, "file_name": "../../secret.jpg"}, {"id": 4, "file_name": "a.jpg"}],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
            "annotations": [{"image_id": 1, "category_id": 7, "bbox": [0, 0, 2, 2], "area": 4},
                {"image_id": 1, "category_id": 9, "bbox": [0, 0, 3, 3], "area": 9, "iscrowd": 1},
                {"image_id": 99, "category_id": 7, "bbox": [0, 0, 1, 1]}]}"#;
        std::fs::write(root.join("annotations/instances_val.json"), json).expect("writes");
        let listing = Coco::new(root.to_owned()).list(Path::new("")).expect("lists");
        let paths: Vec<&str> = listing.entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["val/a.jpg", "extra/b.jpg"]);
        assert_eq!(listing.entries[0].label, Some(0), "a crowd does not label an image");
        let mut reasons: Vec<(&str, &str)> =
            listing.rejects.iter().map(|r| (r.reason.code(), r.path.as_str())).collect();
        reasons.sort();
        let expected = [
            ("duplicate_entry", "val/a.jpg"),
            ("missing_file", "val/gone.jpg"),
            ("not_listed", "val/stray.jpg"),
            ("path_escapes", "../../secret.jpg"),
        ];
        assert_eq!(reasons, expected);
        assert_eq!(listing.bad_annotations, 1);
    }
}
