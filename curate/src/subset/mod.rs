//! Subsets: the first images of a ranking.
//!
//! In comes the ranking; out go subsets of any size, nested in each other ([`cut`]), of the images that pass a
//! [`filter`], compared ([`diff`]) and exported as others read them ([`export`]).

mod cut;
mod diff;
mod export;
mod filter;

pub use cut::{Size, cut};
pub use diff::diff;
pub use export::{Format, export};
pub use filter::CutFilter;
