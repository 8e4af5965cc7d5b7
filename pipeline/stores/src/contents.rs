//! What a source in a store consists of: the objects below a place, one object, or on the web a file or a list of files. What can
//! be no file, or is not there, is set aside with its reason, and the rest is the source.

use crate::address::Address;
use crate::listing;
use crate::retry::Retry;
use crate::source::{Contents, Unusable};
use crate::{Result, StoreError};
use futures_util::{StreamExt, stream};
use object_store::path::Path as Location;
use object_store::{ObjectMeta, ObjectStoreExt};
use std::collections::BTreeMap;

/// Files of a list that are looked for at once.
const HEADS_AT_ONCE: usize = 32;
/// A list of files on a web server is no longer than this.
const LIST_BYTES_MAX: u64 = 256 << 20;

/// The objects of a source.
///
/// # Errors
/// When nothing is there, or the store refuses or goes away.
pub(crate) async fn contents(address: &Address, retry: Retry) -> Result<Contents> {
    if address.is_web() {
        return on_the_web(address, retry).await;
    }
    let listing = listing::list(address, retry, &address.prefix).await?;
    let named = |meta: ObjectMeta| {
        let name = address.name_of(&meta.location).filter(|name| !name.is_empty())?.to_owned();
        Some((name, meta))
    };
    let mut objects: BTreeMap<String, ObjectMeta> = listing.objects.into_values().filter_map(named).collect();
    // Some tools put an empty object where a folder would be.
    let is_above = |name: &String| {
        let below = format!("{name}/");
        objects.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below))
    };
    let folders: Vec<String> =
        objects.iter().filter(|(name, meta)| meta.size == 0 && is_above(name)).map(|(name, _)| name.clone()).collect();
    objects.retain(|name, _| folders.binary_search(name).is_err());
    let why = "its key is no path: it has an empty part, `.` or `..`";
    let unusable: Vec<Unusable> = listing.bad_keys.iter().map(|key| Unusable::new(key, why)).collect();
    if objects.is_empty() && unusable.is_empty() && !address.prefix.is_root() {
        objects.extend([single(address, retry, &address.prefix).await?]);
    }
    Ok(Contents { objects, unusable })
}

/// Whether the source can still be read: a refusal of one object is then of that object.
pub(crate) async fn is_readable(address: &Address, retry: Retry) -> bool {
    let store = &address.client.store;
    if address.is_web() {
        return retry.once(&address.shown, store.head(&address.prefix)).await.is_ok();
    }
    let prefix = Some(&address.prefix).filter(|prefix| !prefix.is_root());
    let mut stream = store.list(prefix);
    retry.once(&address.shown, async { stream.next().await.transpose() }).await.is_ok_and(|first| first.is_some())
}

/// One object, by the last part of its path.
async fn single(address: &Address, retry: Retry, location: &Location) -> Result<(String, ObjectMeta)> {
    let meta = retry.run(&address.shown, || address.client.store.head(location)).await?;
    let name = location.filename().unwrap_or("object").to_owned();
    Ok((name, ObjectMeta { location: location.clone(), ..meta }))
}

/// A web server lists nothing: a URL is a file, or with `.txt` a list of files, a path below the list's folder in each line.
async fn on_the_web(address: &Address, retry: Retry) -> Result<Contents> {
    let (name, list) = single(address, retry, &address.prefix).await?;
    if !address.prefix.as_ref().ends_with(".txt") {
        return Ok(Contents { objects: BTreeMap::from([(name, list)]), unusable: Vec::new() });
    }
    if list.size > LIST_BYTES_MAX {
        let detail = format!("a list of {} bytes is too long", list.size);
        return Err(StoreError::Damaged { url: address.shown.clone(), detail });
    }
    let mut get = || async { address.client.store.get(&address.prefix).await?.bytes().await };
    let text = retry.run_raw(&address.shown, list.size, &mut get).await;
    let text = text.map_err(|(error, secs)| StoreError::of(&error, &address.shown, secs))?;
    let text = String::from_utf8_lossy(&text);
    let above = address.prefix.as_ref().rsplit_once('/').map_or("", |(above, _)| above);
    let mut contents = Contents::default();
    let mut named = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let below = if above.is_empty() { line.to_owned() } else { format!("{above}/{line}") };
        let unusable = |why: &dyn std::fmt::Display| {
            Unusable::new(line, format!("the list's line names no file below the list's folder ({why})"))
        };
        if line.contains("://") || line.starts_with('/') {
            contents.unusable.push(unusable(&"no relative path"));
            continue;
        }
        match Location::parse(&below) {
            Ok(location) => named.push((line.to_owned(), location)),
            Err(error) => contents.unusable.push(unusable(&error)),
        }
    }
    let mut found = stream::iter(named)
        .map(|(name, location)| async move { (name, single(address, retry, &location).await) })
        .buffer_unordered(HEADS_AT_ONCE);
    while let Some((name, found)) = found.next().await {
        match found {
            Ok((_, meta)) => {
                contents.objects.insert(name, meta);
            }
            Err(StoreError::NotFound { .. }) => {
                contents.unusable.push(Unusable::new(&name, "the list names it, and it is not there"));
            }
            // The list itself could be read.
            Err(StoreError::Denied { detail, .. }) if is_readable(address, retry).await => {
                contents.unusable.push(Unusable::new(&name, format!("it may not be read: {detail}")));
            }
            Err(error) => return Err(error),
        }
    }
    contents.unusable.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(contents)
}
