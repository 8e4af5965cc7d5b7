//! Listings that break, and keys that are no paths.

use super::store::{Faulty, run};
use crate::StoreError;
use crate::listing::list;
use crate::retry::Retry;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn a_listing_goes_on_after_the_last_key() {
    run(async {
        let store = Faulty::new();
        for number in 0..50 {
            store.put_raw(&format!("in/{number:02}.jpg"), b"x").await;
        }
        store.stream_max.store(5, Ordering::SeqCst);
        let (address, begun) = (store.address("in"), Instant::now());
        let retry = Retry::lasting(Duration::from_millis(350));
        let listing = list(&address, retry, &address.prefix).await.expect("lists");
        assert_eq!(listing.objects.len(), 50);
        assert_eq!(store.operations(), 10, "each page once");
        assert!(begun.elapsed() > 2 * retry.tried, "the time counts from the last page");
        store.stream_max.store(0, Ordering::SeqCst);
        let error = list(&address, retry, &address.prefix).await.expect_err("nothing comes");
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    });
}

#[test]
fn keys_that_are_no_paths_are_set_aside() {
    run(async {
        let store = Faulty::new();
        for number in 0..20 {
            store.put_raw(&format!("in/{number:02}.jpg"), b"x").await;
        }
        let bad = ["in/00.jpg//x", "in/07//a.jpg", "in/07//b.jpg", "in/12/../up.jpg", "in/zz//last"];
        *store.bad_keys.lock().expect("unpoisoned") = bad.map(str::to_owned).to_vec();
        let mut address = store.address("in");
        let listing = list(&address, Retry::lasting(Duration::ZERO), &address.prefix).await.expect("lists past them");
        assert_eq!((listing.objects.len(), listing.bad_keys), (20, bad.map(str::to_owned).to_vec()));
        // A store that only gives whole pages.
        address.client.pages = None;
        let error = list(&address, Retry::lasting(Duration::ZERO), &address.prefix).await.expect_err("is stuck");
        assert!(matches!(error, StoreError::BadKey { .. }) && error.to_string().contains("in/00.jpg//x"), "{error}");
    });
}
