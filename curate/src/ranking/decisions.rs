//! What becomes of each image, with its reason and the facts behind it.

use super::LeafPlace;
use crate::groups::Member;
use crate::input::Image;
use crate::pairs::Pair;
use lapidary_schemas::{DecisionReason, ImageId, QualityIssue};

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

/// What is decided on: the pool's images, row for row with their issues; those after them are references.
pub(crate) struct Verdicts<'a> {
    pub(crate) images: &'a [Image],
    pub(crate) issues: &'a [Vec<QualityIssue>],
    /// The names of the sources that references come from, by the first of their images.
    pub(crate) references: &'a [(usize, String)],
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

    /// A member of a group that does not stay.
    pub(crate) fn duplicate(&self, member: &Member, pairs: &[Pair]) -> Decision {
        let id = |image: usize| Some(self.images[image].id);
        let (score, neighbour) = (Some(pairs[member.pair].score), id(member.neighbour));
        match member.contaminates {
            Some(reference) => Decision {
                score,
                neighbour,
                detail: Some(self.name_of(reference)),
                ..self.row(member.image, DecisionReason::Contaminates)
            },
            None => Decision {
                duplicate_of: id(member.representative),
                score,
                neighbour,
                ..self.row(member.image, member.kind.decision())
            },
        }
    }

    /// A kept image that no seed retrieved.
    pub(crate) fn off_topic(&self, image: usize) -> Decision {
        self.row(image, DecisionReason::OffTopic)
    }

    /// Source and path of a reference.
    fn name_of(&self, reference: usize) -> String {
        let source = self.references.iter().rev().find(|(first, _)| *first <= reference);
        format!("{}: {}", source.map_or("", |(_, name)| name.as_str()), self.images[reference].path)
    }
}
