//! Reason codes: why an input was rejected, why an image was kept or dropped.
//!
//! Every input ends in exactly one row with one of these; counts of reasons therefore always sum to the inputs.

use serde::{Deserialize, Serialize};

/// Writes an enum of unit variants with its code in snake case, its list and its sentence for a reader.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal: $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $(#[doc = $text] #[serde(rename = $code)] $variant,)*
        }

        impl $name {
            /// Every code, in the order of its declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as stored in tables.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The code's meaning, for a reader.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The variant stored as `code`, or none if no version ever wrote it.
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// Why an input is in `rejects` and not in `images`.
    RejectReason {
        MissingFile = "missing_file": "the annotations name a file that is not there",
        NotListed = "not_listed": "the file lies in a folder whose annotations do not name it",
        PathEscapes = "path_escapes": "the path is absolute or climbs out of the source folder",
        EmptyFile = "empty_file": "the file has no bytes",
        Unreadable = "unreadable": "the operating system would not let the file be read",
        Unsupported = "unsupported": "the bytes are of no supported image format",
        Truncated = "truncated": "the file ends before its image does",
        Broken = "broken": "the image does not decode",
        TooManyBytes = "too_many_bytes": "the file is larger than ingest.max_bytes",
        TooManyPixels = "too_many_pixels": "the image has more pixels than ingest.max_pixels",
        DuplicateEntry = "duplicate_entry": "the same path came a second time",
        IdCollision = "id_collision": "another path has the same 64-bit image id",
        BadRecord = "bad_record": "a record of the annotations that cannot be understood",
        BadLabel = "bad_label": "the row's label is none of the classes",
        AmbiguousName = "ambiguous_name": "several files have the name that the annotations give",
        OtherLayout = "other_layout": "an input of another layout than the one that was read",
    }
}

codes! {
    /// What the curation decided for an image.
    DecisionReason {
        Kept = "kept": "kept, ranked within its cluster",
        ExactDuplicate = "exact_duplicate": "the same bytes as its representative",
        PerceptualDuplicate = "perceptual_duplicate": "a perceptual hash within the radius of its group",
        NearCopy = "near_copy": "an embedding near its group's, and a thumbnail that agrees",
        LocalCopy = "local_copy": "shares keypoints with its group under one affine map",
        Contaminates = "contaminates": "a copy of an image of an evaluation set",
        OffTopic = "off_topic": "not among the images that the seeds retrieve",
        LowQuality = "low_quality": "has an issue that curate.quality.drop names",
    }
}

codes! {
    /// The strongest evidence that links an image to its duplicate group.
    CopyKind {
        Exact = "exact": "the same bytes",
        Perceptual = "perceptual": "a perceptual hash within the radius",
        Copy = "copy": "cosine similarity above the threshold, and thumbnails that agree",
        Local = "local": "keypoints that one affine map carries onto each other",
    }
}

codes! {
    /// What is wrong with an image by itself.
    QualityIssue {
        TooDark = "too_dark": "99 % of its pixels are dark",
        TooBright = "too_bright": "95 % of its pixels are bright",
        Blurred = "blurred": "it has no sharp edges",
        NearlyUniform = "nearly_uniform": "its values carry little information",
        OddAspect = "odd_aspect": "one side is much longer than the other",
        Tiny = "tiny": "its shorter side has few pixels",
        Grayscale = "grayscale": "none of its pixels has a colour",
        OddSize = "odd_size": "it is far larger or smaller than the others",
    }
}

impl CopyKind {
    /// The decision that an image of this kind gets when it is not its group's representative.
    pub fn decision(self) -> DecisionReason {
        match self {
            Self::Exact => DecisionReason::ExactDuplicate,
            Self::Perceptual => DecisionReason::PerceptualDuplicate,
            Self::Copy => DecisionReason::NearCopy,
            Self::Local => DecisionReason::LocalCopy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back() {
        for reason in RejectReason::ALL {
            assert_eq!(RejectReason::from_code(reason.code()), Some(*reason));
        }
        for reason in DecisionReason::ALL {
            assert_eq!(DecisionReason::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(RejectReason::from_code("no_such"), None);
    }
}
