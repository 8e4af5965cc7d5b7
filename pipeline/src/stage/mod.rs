//! The stage runtime: a stage reads tables and writes one folder, whole or not at all.
//!
//! A stage writes into `.NAME.partial` beside its final folder and renames when it is done: what has a manifest is
//! complete, what has none is not there. A folder whose manifest has the key (stage, version, configuration, inputs) that
//! is asked for is up to date and skipped; one of another key is replaced or kept beside it ([`Previous`]). A stage whose
//! inputs have grown or shrunk may take over what its folder holds: see [`StageRun::previous`].

mod abandoned;
mod addresses;
mod curation;
mod differences;
mod environment;
mod explain;
mod extend;
mod fault;
mod files;
mod layout;
mod lineage;
mod manifest;
mod matches;
mod places;
pub mod progress;
mod recover;
mod run;
mod share;
mod spec;
mod stages;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use abandoned::{AbandonedShares, abandoned_shares, remove_abandoned};
pub use addresses::is_outside;
pub use curation::{CuratedManifests, read_curated};
pub use differences::flat;
pub use environment::{environment, machine_memory_mib, peak_memory_mib, reset_peak_memory};
pub use explain::explain;
pub use extend::ShardsLeft;
pub(crate) use extend::rows_among;
pub use fault::fault_point;
pub use files::{digest_of_bytes, digest_of_file, name_of, write_hashed, write_json, write_synced};
pub(crate) use files::{remove_tree, temporary_name};
pub use layout::{Current, Layout};
pub use lineage::{StageState, StageStatus, ancestor, status};
pub(crate) use manifest::is_sealed;
pub(crate) use manifest::manifest_in_place;
pub use manifest::{manifest_from_json, read_manifest, require_manifest, require_shards};
pub(crate) use matches::each_image;
pub use places::short_key;
pub use progress::Progress;
pub(crate) use recover::remove_stage;
pub use run::{Shard, StageRun};
pub use share::{Share, SharedStage, Shares};
pub use spec::{Opened, Outcome, Previous, StageSpec};
pub(crate) use stages::MAX_DEPTH;
pub use stages::{FolderState, StageFolder};
pub use table::{Table, TableWriter, WrittenTable, column, list_values, read_table, table_properties};
