//! The mirror and what it promises, on a store in memory that fails where it is told to.

mod mirrored;
mod retried;
mod sources;
mod store;
