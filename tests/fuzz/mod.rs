//! Fuzzing on stable Rust: targets, where their inputs begin, how they are changed, and the driver.

mod corpus;
mod driver;
mod mutate;
mod targets;
