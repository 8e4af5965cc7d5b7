//! A network that comes back, one that does not, and what is said of it.

use super::store::{Fault, Faulty, made, run};
use crate::StoreError;
use crate::mirror::Mirror;
use crate::retry::Retry;
use std::time::Duration;

#[test]
fn a_network_that_comes_back_is_waited_for() {
    run(async {
        let (store, a) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
        made(a.path(), "x", "1", &[("part-0.parquet", b"zero")]);
        let patient = Retry::lasting(Duration::from_secs(30));
        let mirror = Mirror::of(store.address("out"), a.path(), patient).expect("opens");
        store.fail(Fault::Network(3));
        mirror.publish("x").await.expect("it came back");
        assert_eq!(store.content().await.len(), 2);
    });
}

#[test]
fn one_that_does_not_is_an_error_that_names_the_url() {
    run(async {
        let (store, a) = (Faulty::new(), tempfile::tempdir().expect("a folder"));
        made(a.path(), "x", "1", &[("part-0.parquet", b"zero")]);
        let mirror =
            Mirror::of(store.address("out"), a.path(), Retry::lasting(Duration::from_millis(350))).expect("opens");
        store.fail(Fault::Network(u64::MAX));
        let error = mirror.publish("x").await.expect_err("it stays away");
        assert!(store.operations() > 1, "it was tried again");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("memory://out/x") && said.contains("goes on where it stopped"), "{said}");
    });
}
