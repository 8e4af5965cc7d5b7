//! Figures of frozen features that are not accuracies of classes: retrieval, copies found again, several labels an image.

mod average_precision;
mod copies;
mod multi_label;
mod one_vs_rest;
mod planted;
mod retrieval;

pub(crate) use copies::{CopySearch, copy_measures};
pub(crate) use multi_label::{LabelSets, multi_label_map};
pub(crate) use retrieval::retrieval_measures;
