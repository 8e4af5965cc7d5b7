//! What becomes of each image, with its reason and the facts behind it.

use super::LeafPlace;
use crate::Result;
use crate::groups::Excluded;
use crate::input::{Image, index_of};
use lapidary_schemas::{DecisionReason, ImageId, QualityIssue};
use std::collections::HashMap;

/// A row of the decisions table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) image: ImageId,
    pub(crate) reason: DecisionReason,
    /// Its place in the ranking, when it is kept.
    pub(crate) rank: Option<u32>,
    pub(crate) place: Option<LeafPlace>,
    pub(crate) duplicate_of: Option<ImageId>,
    pub(crate) score: Option<f32>,
    pub(crate) neighbour: Option<ImageId>,
    /// What else a reader should know.
    pub(crate) detail: Option<String>,
    /// Its quality issues.
    pub(crate) issues: Vec<QualityIssue>,
}

/// What is decided on: images with their issues, row for row.
pub(crate) struct Verdicts<'a> {
    pub(crate) images: &'a [Image],
    pub(crate) issues: &'a [Vec<QualityIssue>],
    /// Source and path of each image of an evaluation set, by id.
    pub(crate) references: &'a HashMap<u64, String>,
}

impl Verdicts<'_> {
    fn row(&self, image: usize, reason: DecisionReason) -> Decision {
        Decision {
            image: self.images[image].id,
            reason,
            rank: None,
            place: None,
            duplicate_of: None,
            score: None,
            neighbour: None,
            detail: None,
            issues: self.issues[image].clone(),
        }
    }

    /// An image that is ranked.
    pub(crate) fn kept(&self, image: usize, rank: usize, place: Option<LeafPlace>) -> Decision {
        Decision { rank: Some(rank as u32), place, ..self.row(image, DecisionReason::Kept) }
    }

    /// A member of a group that goes.
    ///
    /// # Errors
    /// When it is not among the images.
    pub(crate) fn excluded(&self, excluded: &Excluded) -> Result<Decision> {
        let image = index_of(self.images, excluded.image.0)?;
        let (score, neighbour) = (Some(excluded.score), Some(excluded.neighbour));
        Ok(match excluded.contaminates {
            Some(reference) => Decision {
                score,
                neighbour,
                detail: self.references.get(&reference.0).cloned(),
                ..self.row(image, DecisionReason::Contaminates)
            },
            None => Decision {
                duplicate_of: Some(excluded.representative),
                score,
                neighbour,
                ..self.row(image, excluded.kind.decision())
            },
        })
    }

    /// A kept image that no seed retrieved.
    pub(crate) fn off_topic(&self, image: usize) -> Decision {
        self.row(image, DecisionReason::OffTopic)
    }

    /// An image that is dropped for an issue of its own.
    pub(crate) fn low_quality(&self, image: usize, because: QualityIssue) -> Decision {
        Decision { detail: Some(because.text().to_owned()), ..self.row(image, DecisionReason::LowQuality) }
    }
}
