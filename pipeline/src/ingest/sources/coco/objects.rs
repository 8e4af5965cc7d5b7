//! The second reading of a JSON: its annotations, each given to its image.

use super::places::record_of;
use super::records::{Boxed, Id, ObjectRecord, lies_outside};
use super::{Known, Owner, Reading};
use crate::Result;
use crate::ingest::sources::coco::cut::{Then, cut_file};
use crate::ingest::sources::json_text::with_field;
use crate::ingest::sources::{Loose, Object, Span};
use std::collections::HashMap;

/// Which objects of an image a record may repeat: keypoint files repeat the people of instance files.
type Repeats = HashMap<(u32, i64), Vec<usize>>;

impl Reading<'_> {
    /// Takes in the annotations of a JSON.
    pub(super) fn objects_of(&mut self, known: &Known) -> Result<()> {
        let mut boxes = 0u64;
        let mut repeats: Repeats = HashMap::new();
        for (index, entry) in self.listing.entries.iter().enumerate() {
            for (at, object) in entry.objects.iter().flatten().enumerate() {
                repeats.entry((index as u32, object.category_id)).or_default().push(at);
            }
        }
        cut_file(&self.tree.place(&known.json), &["annotations"], |cut| {
            match record_of(cut.text).and_then(|(value, text)| Some((ObjectRecord::of(&value)?, text))) {
                Some((record, text)) => boxes += u64::from(self.object(known, record, &text, &repeats)?),
                None => self.listing.bad("not_understood"),
            }
            Ok(Then::Next)
        })?;
        // Images without an object are images with none, where the JSON is of objects.
        if boxes > 0 {
            for owner in known.owners.values() {
                if let Owner::Entry(index) = owner {
                    self.listing.entries[*index as usize].objects.get_or_insert_default();
                }
            }
        }
        Ok(())
    }

    /// Gives an annotation to its image; whether it is an object with a box.
    fn object(&mut self, known: &Known, record: ObjectRecord, text: &str, repeats: &Repeats) -> Result<bool> {
        let owner = record.image_id.as_ref().map(|id| known.owners.get(id).copied());
        let index = match owner {
            Some(Some(Owner::Entry(index))) => index,
            // The image is a reject, and its annotations are with it.
            Some(Some(Owner::Rejected)) => return Ok(false),
            Some(Some(Owner::Several)) => return self.lost("image_id_of_several_images"),
            Some(None) => return self.lost("unknown_image"),
            None => return self.lost("no_image_id"),
        };
        let name = record.category.as_ref().and_then(|id| known.categories.get(id));
        let category_id = name.and_then(|name| self.categories.id_of(name));
        let boxed = match record.boxed {
            Boxed::Plain(bbox) if known.sizes_px.get(&index).is_some_and(|size| lies_outside(bbox, *size)) => {
                Boxed::Bad("box_outside_image")
            }
            boxed => boxed,
        };
        // Where files number their categories differently, the record gets the number that holds for all of them.
        let renumbered = category_id
            .filter(|id| record.category.as_ref() != Some(&Id::Number(*id)))
            .map(|id| with_field(text, "category_id", &id.to_string()));
        let text = renumbered.as_deref().unwrap_or(text);
        match (boxed, category_id) {
            (Boxed::Plain(bbox_px), Some(category_id)) => {
                let area_px = record.area_px.unwrap_or(bbox_px[2] * bbox_px[3]);
                let span = self.spool.text(text)?;
                let object = Object { category_id, bbox_px, area_px, iscrowd: record.iscrowd, records: vec![span] };
                let of_image = repeats.get(&(index, category_id));
                self.add(index, object, of_image.map_or(&[], Vec::as_slice));
                return Ok(true);
            }
            (Boxed::Bad(kind), _) => self.loose(index, None, text, Some(kind))?,
            (Boxed::Absent, category_id) => self.loose(index, category_id, text, None)?,
            (Boxed::Plain(_), None) => {
                let kind = if record.category.is_some() { "unknown_category" } else { "no_category" };
                self.loose(index, None, text, Some(kind))?;
            }
        }
        Ok(false)
    }

    fn lost(&mut self, kind: &'static str) -> Result<bool> {
        self.listing.bad(kind);
        Ok(false)
    }

    /// Adds an object, or what is new of it to the one of an earlier JSON that it repeats.
    fn add(&mut self, index: u32, object: Object, earlier: &[usize]) {
        let objects = self.listing.entries[index as usize].objects.get_or_insert_default();
        let same = |at: &&usize| {
            let known = &objects[**at];
            known.bbox_px == object.bbox_px && known.area_px == object.area_px && known.iscrowd == object.iscrowd
        };
        match earlier.iter().find(same) {
            Some(at) => {
                let known: &mut Vec<Span> = &mut objects[*at].records;
                for new in object.records {
                    if known.iter().all(|k| k.digest != new.digest) {
                        known.push(new);
                    }
                }
            }
            None => objects.push(object),
        }
    }

    /// Keeps an annotation that is no object with a box; `kind` counts it as bad.
    fn loose(&mut self, index: u32, category_id: Option<i64>, text: &str, kind: Option<&'static str>) -> Result<()> {
        if let Some(kind) = kind {
            self.listing.bad(kind);
        }
        let record = self.spool.text(text)?;
        let records = &mut self.listing.entries[index as usize].records;
        if records.iter().all(|known| known.record.digest != record.digest) {
            records.push(Loose { category_id, record });
        }
        Ok(())
    }
}
