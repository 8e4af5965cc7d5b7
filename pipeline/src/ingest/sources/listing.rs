//! What a source lists: inputs that can be fetched, inputs that cannot, and what the source says of them.
//!
//! The texts of annotations (segmentations, keypoints, captions) lie in the spool, so that a listing stays small.

use super::spool::Span;
use lapidary_schemas::RejectReason;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a source lists.
#[derive(Debug, Default)]
pub struct Listing {
    /// Inputs that can be fetched.
    pub entries: Vec<Entry>,
    /// Inputs that cannot, each with its reason.
    pub rejects: Vec<Reject>,
    /// Class names; labels are indices into them.
    pub classes: Vec<String>,
    /// Category id of each class, as annotations have it.
    pub category_ids: Vec<i64>,
    /// What the source says of each class (supercategory, keypoints' names, ...); empty when it says nothing.
    pub categories: Vec<Value>,
    /// Split names; entries hold indices into them.
    pub splits: Vec<String>,
    /// License names; entries hold indices into them.
    pub licenses: Vec<String>,
    /// What the source says of its licenses.
    pub license_records: Vec<Value>,
    /// Annotations that cannot be used as objects, by kind.
    pub bad_annotations: BTreeMap<&'static str, u64>,
}

/// An input that can be fetched.
#[derive(Debug)]
pub struct Entry {
    /// Its path in the source.
    pub path: String,
    /// Where its bytes lie.
    pub place: Place,
    /// Index into the listing's splits.
    pub split: u32,
    /// Where it can be had on the web.
    pub url: Option<String>,
    /// Index into the listing's licenses.
    pub license: Option<u32>,
    /// Objects in it; none when the source has no annotations for it.
    pub objects: Option<Vec<Object>>,
    /// Its class, when the source names one.
    pub label: Option<i64>,
    /// Its classes, when the source lists them apart from objects.
    pub labels: Option<Vec<i64>>,
    /// Its own record in the source's annotations.
    pub record: Option<Span>,
    /// Annotations of it that are no objects with a box.
    pub records: Vec<Loose>,
}

/// Where an input's bytes lie.
#[derive(Debug)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A part of the spool.
    Spool {
        /// First byte.
        offset_bytes: u64,
        /// Length.
        len_bytes: u64,
        /// The first half of their BLAKE3.
        digest: [u8; 16],
    },
}

/// An object in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The category id, as the listing's `category_ids` have it.
    pub category_id: i64,
    /// x, y, width, height in pixels.
    pub bbox_px: [f32; 4],
    /// Area in square pixels.
    pub area_px: f32,
    /// The annotation stands for a crowd.
    pub iscrowd: bool,
    /// The object as the source wrote it; more than one when several files say different things of it.
    pub records: Vec<Span>,
}

/// An annotation of an image that is no object with a box: a caption, a bare mask, one that cannot be understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Loose {
    /// The class that it shows, if it is known.
    pub category_id: Option<i64>,
    /// The annotation as the source wrote it.
    pub record: Span,
}

/// An input that is set aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Its path in the source.
    pub path: String,
    /// Its place, if it lay in a table.
    pub offset_bytes: Option<i64>,
    /// Why.
    pub reason: RejectReason,
    /// What exactly was wrong.
    pub detail: String,
}

impl Reject {
    /// An input set aside for `reason`.
    pub fn new(path: impl Into<String>, reason: RejectReason, detail: impl ToString) -> Self {
        Self { path: path.into(), offset_bytes: None, reason, detail: detail.to_string() }
    }

    /// The place in the table or file that names it.
    pub fn at(self, offset_bytes: u64) -> Self {
        Self { offset_bytes: Some(offset_bytes as i64), ..self }
    }
}

impl Entry {
    /// An input of which nothing more is known.
    pub fn new(path: impl Into<String>, place: Place, split: u32) -> Self {
        Self {
            path: path.into(),
            place,
            split,
            url: None,
            license: None,
            objects: None,
            label: None,
            labels: None,
            record: None,
            records: Vec::new(),
        }
    }

    /// What changes when an annotation of it does.
    pub fn annotations_stamp(&self) -> Value {
        let digests = |spans: &[Span]| spans.iter().map(|span| span.digest).collect::<Vec<_>>();
        let objects: Option<Vec<Value>> = self.objects.as_ref().map(|objects| {
            let stamp = |o: &Object| json!([o.category_id, o.bbox_px, o.area_px, o.iscrowd, digests(&o.records)]);
            objects.iter().map(stamp).collect()
        });
        let loose: Vec<Value> = self.records.iter().map(|l| json!([l.category_id, l.record.digest])).collect();
        json!([objects, self.record.map(|span| span.digest), loose, self.labels])
    }
}

impl Listing {
    /// The index of a split, added when new.
    pub fn split(&mut self, name: &str) -> u32 {
        index_of(&mut self.splits, name)
    }

    /// The index of a license, added when new.
    pub fn license(&mut self, name: &str) -> u32 {
        index_of(&mut self.licenses, name)
    }

    /// The distinct classes of an input, in order.
    pub fn labels_of(&self, entry: &Entry) -> Option<Vec<i64>> {
        if entry.labels.is_some() {
            return entry.labels.clone();
        }
        let loose = entry.records.iter().filter_map(|loose| loose.category_id);
        if entry.objects.is_none() && loose.clone().next().is_none() {
            return entry.label.map(|label| vec![label]);
        }
        let ids = entry.objects.iter().flatten().map(|object| object.category_id).chain(loose);
        let class_of = |id: i64| self.category_ids.iter().position(|known| *known == id);
        let mut labels: Vec<i64> = ids.filter_map(class_of).map(|class| class as i64).collect();
        labels.sort_unstable();
        labels.dedup();
        Some(labels)
    }

    /// Counts an annotation that cannot be used as an object.
    pub(super) fn bad(&mut self, kind: &'static str) {
        *self.bad_annotations.entry(kind).or_default() += 1;
    }

    /// All annotations that cannot be used as objects.
    pub fn bad_total(&self) -> u64 {
        self.bad_annotations.values().sum()
    }
}

fn index_of(names: &mut Vec<String>, name: &str) -> u32 {
    let found = names.iter().position(|known| known == name);
    found.unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    }) as u32
}
