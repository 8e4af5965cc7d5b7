//! Bringing the rows of a table into the order of the images that they belong to.

use super::Image;
use crate::{CurateError, Result};

/// Which rows of a table are of which images: each image once, in whatever order.
pub(crate) struct Alignment<'a> {
    images: &'a [Image],
    is_seen: Vec<bool>,
    /// What the table's rows are called, for a reader.
    what: &'static str,
}

impl<'a> Alignment<'a> {
    /// Of images sorted by id.
    pub(crate) fn new(images: &'a [Image], what: &'static str) -> Self {
        Self { images, is_seen: vec![false; images.len()], what }
    }

    /// The index of the image that a row is of.
    ///
    /// # Errors
    /// [`CurateError::Mismatch`] when there is no such image, or it came before.
    pub(crate) fn index_of(&mut self, id: u64) -> Result<usize> {
        let place = self.images.binary_search_by_key(&id, |image| image.id.0).ok();
        let place = place.filter(|place| !std::mem::replace(&mut self.is_seen[*place], true));
        place.ok_or_else(|| {
            CurateError::Mismatch(format!("the {} of image {id:016x} comes twice, or the image is gone", self.what))
        })
    }

    /// Holds that every image had a row.
    ///
    /// # Errors
    /// [`CurateError::Mismatch`] with the first that had none.
    pub(crate) fn require_all(&self) -> Result<()> {
        match self.is_seen.iter().position(|is_seen| !is_seen) {
            Some(left) => Err(CurateError::Mismatch(format!("image {} has no {}", self.images[left].id, self.what))),
            None => Ok(()),
        }
    }
}
