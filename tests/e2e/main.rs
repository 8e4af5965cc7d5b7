//! End-to-end tests over the binaries. One test binary: linking is what costs time.
//!
//! They run the `lapidary` that lies beside them in the target folder, which `make test` builds first.

mod adapted;
#[path = "../../pipeline/stores/src/tests/azurite.rs"]
mod azurite;
mod browser;
mod cards;
mod chain;
mod curation;
mod curation_stages;
mod distilled;
mod drawing;
mod evaluated;
mod explained;
mod extended;
mod faults;
mod formats;
#[path = "../fuzz/mod.rs"]
mod fuzz;
mod golden;
mod golden_curation;
mod golden_sources;
mod gpu;
mod hard_copies;
mod increments;
mod kill;
mod lookalikes;
mod makefile;
mod memory;
mod own_embeddings;
mod plans;
mod ranks;
mod refusals;
mod run;
mod seeing;
mod serving;
mod shared_data;
mod shares;
mod sources;
mod store_google;
mod store_guards;
mod store_server;
mod stores;
mod training;
mod uniform;
mod upkeep;
mod watched;
mod workspace;
