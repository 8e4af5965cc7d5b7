//! COCO's JSON beside the images that it names, in the layouts that tools write (see `places`).
//!
//! Instances, keypoints, captions and image-info files are read alike. An object's class is the name that its own JSON gives
//! its category id, and one name is one class. What a JSON says of images and objects beyond boxes is kept as it was written.
//! Images in folders that a JSON speaks of must be named by one; in others they are taken without annotations.
//!
//! Each JSON is read twice, once for its images and categories and once for its annotations, so that memory is the listing.

mod categories;
mod cut;
mod objects;
mod places;
mod records;
mod repair;

pub(super) use categories::Categories;
pub(super) use cut::span_of_value;
pub(super) use places::{CocoJson, find_jsons, folder_of};
pub(super) use records::Id;

use super::folder::is_image;
use super::open::say_not_read;
use super::splits::split_of_folder;
use super::{Entry, Listing, Place, Reject, Source, Spool, Tree};
use crate::Result;
use categories::label_by_area;
use cut::{Cut, Then, cut_file};
use lapidary_schemas::RejectReason;
use places::{JsonPlace, Led, Places, record_of};
use records::{ImageRecord, category_of, license_of};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

/// A folder with COCO's JSON.
#[derive(Debug)]
pub struct Coco {
    tree: Tree,
    jsons: Vec<CocoJson>,
    /// What this layout leaves out.
    others: Vec<Reject>,
}

/// A record of a JSON that is not understood: its list, its index there, its first byte.
pub type Unread = (String, u64, u64);

/// Reads all records of a JSON in COCO's form from any reader, as ingest does: how many were understood, and which were not.
///
/// # Errors
/// When it is no JSON object, or ends early.
pub fn read_records(reader: impl Read) -> Result<(u64, Vec<Unread>)> {
    let (mut read, mut unread) = (0, Vec::new());
    cut::cut(reader, Path::new("JSON"), &["images", "annotations", "categories", "licenses"], |cut| {
        let understood = record_of(cut.text).is_some_and(|(value, _)| match cut.list {
            "images" => ImageRecord::of(&value).is_some(),
            "annotations" => records::ObjectRecord::of(&value).is_some(),
            "categories" => category_of(&value).is_some(),
            _ => license_of(&value).is_some(),
        });
        if understood {
            read += 1;
        } else {
            unread.push((cut.list.to_owned(), cut.index, cut.offset_bytes));
        }
        Ok(Then::Next)
    })?;
    Ok((read, unread))
}

/// What an image id of a JSON stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// An entry.
    Entry(u32),
    /// An image that is set aside.
    Rejected,
    /// Several images: an annotation of it cannot be given to one.
    Several,
}

/// What the first reading of a JSON leaves for the second.
struct Known {
    json: String,
    place: JsonPlace,
    owners: HashMap<Id, Owner>,
    sizes_px: HashMap<u32, (f64, f64)>,
    categories: HashMap<Id, String>,
}

/// A listing in the making.
struct Reading<'a> {
    tree: &'a Tree,
    places: Places<'a>,
    listing: Listing,
    spool: Spool,
    categories: Categories,
    by_path: HashMap<String, u32>,
    /// Paths that are rejected as missing.
    missing: HashSet<String>,
    /// Folders whose images a JSON lists.
    covered: HashSet<String>,
}

impl Coco {
    /// The images that the JSON files name; `others` are inputs that another layout would read.
    pub(super) fn new(tree: Tree, jsons: Vec<CocoJson>, others: Vec<Reject>) -> Self {
        Self { tree, jsons, others }
    }
}

impl Source for Coco {
    fn layout(&self) -> &'static str {
        "COCO"
    }

    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn list(&self, spool: &Path) -> Result<Listing> {
        let mut reading = Reading {
            tree: &self.tree,
            places: Places::new(&self.tree),
            listing: Listing { rejects: self.others.clone(), ..Listing::default() },
            spool: Spool::new(spool),
            categories: Categories::default(),
            by_path: HashMap::new(),
            missing: HashSet::new(),
            covered: HashSet::new(),
        };
        let known: Vec<Known> = self.jsons.iter().map(|json| reading.images_of(&json.path)).collect::<Result<_>>()?;
        let splits: HashSet<&str> = known.iter().map(|known| known.place.split.as_str()).collect();
        reading.split_by_folder(&splits);
        reading.categories.settle();
        for known in &known {
            reading.objects_of(known)?;
        }
        reading.unnamed();
        let Reading { mut listing, spool, categories, missing, .. } = reading;
        // A link that leads nowhere and that a JSON names is one reject, not two.
        listing.rejects.extend(self.tree.faults().iter().filter(|fault| !missing.contains(&fault.path)).cloned());
        spool.finish()?;
        (listing.category_ids, listing.classes, listing.categories) = categories.into_lists();
        label_by_area(&mut listing);
        Ok(listing)
    }
}

impl Reading<'_> {
    /// The first reading of a JSON: images, categories, licenses.
    fn images_of(&mut self, json: &str) -> Result<Known> {
        let place = self.places.of_json(json);
        let mut known = Known {
            json: json.to_owned(),
            place,
            owners: HashMap::new(),
            sizes_px: HashMap::new(),
            categories: HashMap::new(),
        };
        let (mut licenses, mut license_of_image): (HashMap<Id, String>, Vec<(u32, records::LicenseOf)>) =
            Default::default();
        let mut named_here: HashSet<String> = HashSet::new();
        cut_file(&self.tree.place(json), &["images", "categories", "licenses"], |cut| {
            let record = record_of(cut.text);
            match (cut.list, &record) {
                ("images", _) => self.image(&mut known, &cut, record, &mut named_here, &mut license_of_image)?,
                ("categories", Some((value, _))) => {
                    if let Some((id, name)) = category_of(value) {
                        self.categories.add(&id, &name, value);
                        known.categories.insert(id, name);
                    }
                }
                ("licenses", Some((value, _))) => {
                    if let Some((id, name)) = license_of(value) {
                        if !self.listing.license_records.contains(value) {
                            self.listing.license_records.push(value.clone());
                        }
                        licenses.insert(id, name);
                    }
                }
                _ => {}
            }
            Ok(Then::Next)
        })?;
        for (index, license) in license_of_image {
            let name = licenses.get(&license.id).cloned().or(license.text);
            if let (Some(name), None) = (name, self.listing.entries[index as usize].license) {
                self.listing.entries[index as usize].license = Some(self.listing.license(&name));
            }
        }
        Ok(known)
    }

    fn image(
        &mut self,
        known: &mut Known,
        cut: &Cut<'_>,
        record: Option<(Value, String)>,
        named_here: &mut HashSet<String>,
        licenses: &mut Vec<(u32, records::LicenseOf)>,
    ) -> Result<()> {
        let nameless = |detail: &str| {
            let path = format!("{}#images/{}", known.json, cut.index);
            Reject::new(path, RejectReason::BadRecord, detail).at(cut.offset_bytes)
        };
        let Some((image, text)) = record.and_then(|(value, text)| Some((ImageRecord::of(&value)?, text))) else {
            self.listing.rejects.push(nameless("it is no object of JSON"));
            return Ok(());
        };
        let Some(name) = &image.name else {
            self.listing.rejects.push(nameless("it names no file"));
            return Ok(());
        };
        let by = format!("named by {}", known.json);
        let owner = match self.places.find(&known.place, name, image.from_url) {
            Led::To(path, whole) => {
                // Files in the source's own folder speak for themselves.
                self.covered.extend(whole);
                let first_time = named_here.insert(path.clone());
                if !first_time {
                    let detail = format!("{} names it twice", known.json);
                    let reject = Reject::new(&path, RejectReason::DuplicateEntry, detail).at(cut.offset_bytes);
                    self.listing.rejects.push(reject);
                }
                let index = self.entry(path, &known.place.split);
                let entry = &mut self.listing.entries[index as usize];
                if entry.record.is_none() {
                    entry.record = Some(self.spool.text(&text)?);
                }
                entry.url = entry.url.take().or(image.url);
                licenses.extend(image.license.map(|license| (index, license)));
                known.sizes_px.extend(image.size_px.map(|size| (index, size)));
                Owner::Entry(index)
            }
            Led::Nowhere(path) => {
                self.set_aside(path, RejectReason::MissingFile, by, cut);
                Owner::Rejected
            }
            Led::Several(paths) => {
                let detail = format!("{by}; it may be {}", paths.join(" or "));
                self.set_aside(format!("{}: {name}", known.json), RejectReason::AmbiguousName, detail, cut);
                Owner::Rejected
            }
            Led::Outside => {
                self.set_aside(name.clone(), RejectReason::PathEscapes, by, cut);
                Owner::Rejected
            }
        };
        if let Some(id) = image.id {
            known
                .owners
                .entry(id)
                .and_modify(|known| {
                    if *known != owner {
                        *known = Owner::Several
                    }
                })
                .or_insert(owner);
        }
        Ok(())
    }

    fn set_aside(&mut self, path: String, reason: RejectReason, detail: String, cut: &Cut<'_>) {
        if self.missing.insert(path.clone()) {
            self.listing.rejects.push(Reject::new(path, reason, detail).at(cut.offset_bytes));
        }
    }

    /// The entry of a file, made when it is named for the first time.
    fn entry(&mut self, path: String, split: &str) -> u32 {
        if let Some(index) = self.by_path.get(&path) {
            return *index;
        }
        let index = self.listing.entries.len() as u32;
        self.by_path.insert(path.clone(), index);
        let split = self.listing.split(split);
        let place = Place::File(self.tree.place(&path));
        self.listing.entries.push(Entry::new(path, place, split));
        index
    }

    /// An image that lies in a split's folder is of that split, whichever JSON named it first: `minival2014` names images of
    /// `val2014`.
    fn split_by_folder(&mut self, splits: &HashSet<&str>) {
        let mut entries = std::mem::take(&mut self.listing.entries);
        for entry in &mut entries {
            let mut folders = folder_of(&entry.path).split('/').rev();
            if let Some(split) = folders.find(|folder| splits.contains(folder)) {
                entry.split = self.listing.split(split);
            }
        }
        self.listing.entries = entries;
    }

    /// Files that no JSON names: rejected in folders that one speaks of, images without annotations in others.
    fn unnamed(&mut self) {
        let tree = self.tree;
        let mut others: Vec<&str> = Vec::new();
        for path in tree.visible() {
            if self.by_path.contains_key(path) {
                continue;
            }
            if !is_image(tree, path) {
                others.push(path);
                continue;
            }
            let folder = folder_of(path);
            let mut above = std::iter::successors(Some(folder), |f| Some(folder_of(f)).filter(|_| !f.is_empty()));
            if above.any(|folder| self.covered.contains(folder)) {
                self.listing.rejects.push(Reject::new(path, RejectReason::NotListed, "no annotation file names it"));
                continue;
            }
            let top = path.split_once('/').map_or("all", |(top, _)| top);
            let word = folder.split('/').find_map(split_of_folder);
            let split = self.listing.split(word.as_deref().unwrap_or(top));
            self.listing.entries.push(Entry::new(path, Place::File(tree.place(path)), split));
        }
        say_not_read(others.into_iter());
    }
}

#[cfg(test)]
mod tests;
