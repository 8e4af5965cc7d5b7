//! Output trees and sources in object stores, as the rest of the pipeline sees them: as folders.
//!
//! Nothing here knows HTTP or a cloud. The binary `lapidary-stores`, which lies beside this one when it was built, holds a
//! folder like the store; this module asks it to. A tree that lies on a disk passes through here without a word.

mod address;
mod helper;
mod out;
mod source;

pub use address::{cache_folder, is_url, local_path, name_of_url, without_credentials};
pub(crate) use out::{
    StoredShares, bring, check_removal, clear_shares, fetch_all, fetch_markers, fetch_shard, fetch_shards,
    fetch_side_files, is_attached, is_published, list_shares, publish, publish_shard, remove_shares, removed, sweep,
};
pub use out::{attach, explained, facts, in_words, put_file};
pub use source::{Held, StoredSource};
