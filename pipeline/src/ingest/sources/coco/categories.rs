//! Classes over several JSON files: one name is one class, whatever ids the files give it.

use super::records::Id;
use crate::ingest::sources::Listing;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The categories of all JSON files.
#[derive(Debug, Default)]
pub(in crate::ingest::sources) struct Categories {
    /// Names in the order of their first mention, with the id they were given there.
    named: Vec<(String, Id)>,
    records: HashMap<String, Value>,
    ids: HashMap<String, i64>,
}

impl Categories {
    /// Takes in a category of a JSON; what another has said of the same name is completed.
    pub(in crate::ingest::sources) fn add(&mut self, id: &Id, name: &str, record: &Value) {
        match self.records.get_mut(name) {
            None => {
                self.named.push((name.to_owned(), id.clone()));
                self.records.insert(name.to_owned(), record.clone());
            }
            Some(known) => {
                if let (Some(known), Some(fields)) = (known.as_object_mut(), record.as_object()) {
                    for (key, value) in fields {
                        known.entry(key).or_insert_with(|| value.clone());
                    }
                }
            }
        }
    }

    /// Gives each name its id: the one of its first mention, where no other name had it before, else a free one.
    pub(in crate::ingest::sources) fn settle(&mut self) {
        let mut taken: BTreeSet<i64> = BTreeSet::new();
        let mut without: Vec<&String> = Vec::new();
        for (name, id) in &self.named {
            match id {
                Id::Number(id) if taken.insert(*id) => _ = self.ids.insert(name.clone(), *id),
                _ => without.push(name),
            }
        }
        for name in without {
            let id = taken.last().map_or(1, |last| last.saturating_add(1).max(1));
            let id = if taken.insert(id) { id } else { (1..).find(|id| taken.insert(*id)).unwrap_or(i64::MAX) };
            self.ids.insert(name.clone(), id);
        }
    }

    /// The id of a name.
    pub(in crate::ingest::sources) fn id_of(&self, name: &str) -> Option<i64> {
        self.ids.get(name).copied()
    }

    /// Ids, names and records, by id.
    pub(in crate::ingest::sources) fn into_lists(mut self) -> (Vec<i64>, Vec<String>, Vec<Value>) {
        let by_id: BTreeMap<i64, String> = self.ids.into_iter().map(|(name, id)| (id, name)).collect();
        let records = by_id
            .iter()
            .map(|(id, name)| {
                let mut record = self.records.remove(name).unwrap_or_default();
                (record["id"], record["name"]) = (json!(id), json!(name));
                record
            })
            .collect();
        let (ids, names) = by_id.into_iter().unzip();
        (ids, names, records)
    }
}

/// Labels each image with the class whose objects (crowds aside) fill most of it; ties to the first class.
pub(super) fn label_by_area(listing: &mut Listing) {
    let class_of: HashMap<i64, usize> = listing.category_ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    for entry in &mut listing.entries {
        let mut areas: BTreeMap<usize, f32> = BTreeMap::new();
        for object in entry.objects.iter().flatten().filter(|a| !a.iscrowd) {
            if let Some(class) = class_of.get(&object.category_id) {
                let area = if object.area_px > 0.0 { object.area_px } else { object.bbox_px[2] * object.bbox_px[3] };
                *areas.entry(*class).or_default() += area;
            }
        }
        let largest = areas.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best });
        // Masks and labels without a box say which class is there, not how much of it.
        let without_box = || entry.records.iter().filter_map(|loose| class_of.get(&loose.category_id?)).min().copied();
        entry.label = largest.map(|(class, _)| class).or_else(without_box).map(|class| class as i64);
    }
}
