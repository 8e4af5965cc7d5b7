//! Groups of copies.
//!
//! In come pairs with scores; out goes the table `duplicates`: which images belong together ([`components`]), who
//! represents each group and who goes ([`representatives`]). Collages link to images that have nothing to do with each
//! other: their edges are taken out first ([`collages`]).

mod collages;
mod components;
mod representatives;
mod table;

pub(crate) use components::members_of;
pub use components::{Member, components};
pub(crate) use table::{Excluded, read_excluded, write_duplicates};
