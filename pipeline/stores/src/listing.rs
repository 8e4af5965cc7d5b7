//! Listings of any length: a page that is lost is asked for again, from the last key that came, and a key that is no path is set
//! aside where the store can be listed past it.

use crate::address::Address;
use crate::clients::Kind;
use crate::error::key_of;
use crate::retry::Retry;
use crate::{Result, StoreError};
use futures_util::StreamExt;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Location;
use object_store::{Error, ObjectMeta};
use std::collections::BTreeMap;

/// Keys of a page.
const PAGE_KEYS: usize = 1000;

/// What is below a place.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) objects: BTreeMap<Location, ObjectMeta>,
    /// Keys that are no paths: an empty part, `.` or `..`.
    pub(crate) bad_keys: Vec<String>,
}

/// Lists what is below a place; nothing when there is no such place.
///
/// # Errors
/// When the store refuses or goes away, or has a key that is no path and cannot be listed past it.
pub(crate) async fn list(address: &Address, retry: Retry, below: &Location) -> Result<Listing> {
    let url = address.url_of(below);
    let prefix = Some(below).filter(|prefix| !prefix.is_root());
    let store = &address.client.store;
    let mut listing = Listing::default();
    let mut last: Option<Location> = None;
    let mut budget = retry.budget(&url);
    loop {
        let mut stream = match &last {
            None => store.list(prefix),
            Some(last) => store.list_with_offset(prefix, last),
        };
        let error = loop {
            match retry.once(&url, async { stream.next().await.transpose() }).await {
                Ok(Some(meta)) => {
                    budget.progressed();
                    last = Some(meta.location.clone());
                    listing.objects.insert(meta.location.clone(), meta);
                }
                Ok(None) => return Ok(listing),
                Err(error) => break error,
            }
        };
        match (error, &address.client.pages) {
            // Some stores say so of a folder in which nothing is.
            (error @ Error::NotFound { .. }, _) if listing.objects.is_empty() => {
                return match StoreError::of(&error, &url, 0.0) {
                    StoreError::NotFound { .. } => Ok(listing),
                    other => Err(other),
                };
            }
            (Error::InvalidPath { .. }, Some(pages)) => {
                let is_inclusive = address.client.kind == Kind::Azure;
                list_past_bad_keys((pages.as_ref(), is_inclusive), retry, &url, prefix, last, &mut listing).await?;
                return Ok(listing);
            }
            (error, _) => {
                budget.pause_after(error).await.map_err(|(error, secs)| StoreError::of(&error, &url, secs))?;
            }
        }
    }
}

/// Lists on from a key, in pages that shrink until the one key that is no path is alone on its page. Some stores count the key
/// that they list on from as one of the page.
async fn list_past_bad_keys(
    (pages, is_inclusive): (&dyn PaginatedListStore, bool),
    retry: Retry,
    url: &str,
    prefix: Option<&Location>,
    last: Option<Location>,
    listing: &mut Listing,
) -> Result<()> {
    let prefix = prefix.map(|prefix| format!("{prefix}/"));
    let mut offset = last.map(|last| last.to_string());
    let mut keys = PAGE_KEYS;
    loop {
        let options = || PaginatedListOptions { offset: offset.clone(), max_keys: Some(keys), ..Default::default() };
        let keys_min = if is_inclusive && offset.is_some() { 2 } else { 1 };
        let mut page = || pages.list_paginated(prefix.as_deref(), options());
        match retry.run_raw(url, 0, &mut page).await {
            Ok(page) => {
                let Some(last) = page.result.objects.last().map(|meta| meta.location.to_string()) else {
                    return match page.page_token {
                        None => Ok(()),
                        Some(_) => Err(StoreError::BadKey { url: url.to_owned(), key: offset.unwrap_or_default() }),
                    };
                };
                // The path of a key that ends in `/` is before the key.
                let next = if offset.as_ref() == Some(&last) { format!("{last}/") } else { last };
                if offset.as_ref().is_some_and(|offset| *offset >= next) {
                    return Err(StoreError::BadKey { url: url.to_owned(), key: next });
                }
                offset = Some(next);
                listing.objects.extend(page.result.objects.into_iter().map(|meta| (meta.location.clone(), meta)));
                if page.page_token.is_none() {
                    return Ok(());
                }
                keys = (keys * 2).min(PAGE_KEYS);
            }
            Err((Error::InvalidPath { .. }, _)) if keys > keys_min => keys = (keys / 2).max(keys_min),
            Err((error, secs)) => {
                let key = match &error {
                    Error::InvalidPath { source } => key_of(source),
                    _ => None,
                };
                // A store that does not list on from there would give it again and again.
                let Some(key) = key.filter(|key| offset.as_ref() < Some(key)) else {
                    return Err(StoreError::of(&error, url, secs));
                };
                listing.bad_keys.push(key.clone());
                offset = Some(key);
            }
        }
    }
}
