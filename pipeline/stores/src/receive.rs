//! Objects to files, in bounded memory. An object comes in ranges, and what came is kept: after a failure the rest is asked for,
//! on the condition that the object is still the same. The time that a store is tried counts from the last byte.

use crate::address::Address;
use crate::answer::{Answer, CutShort, Silent, network_error};
use crate::files::{create_above, temporary_name};
use crate::manifest::File as Named;
use crate::retry::{Budget, Retry};
use crate::{Result, StoreError};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path as Location;
use object_store::{Error, GetOptions, GetRange, ObjectMeta};
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// An object is asked for in ranges of this length; a shorter one whole.
const RANGE_BYTES: u64 = 32 << 20;

/// What is known of an object before it is asked for.
#[derive(Debug, Clone, Default)]
struct Known {
    bytes: Option<u64>,
    /// The condition that it is the version that was listed.
    if_match: Option<String>,
}

/// Fetches an object into a file, which is there whole or not at all; with `expected`, only if it has that digest and length.
///
/// # Errors
/// When it is not there, is not what was expected, the disk refuses, or the store goes away.
pub(crate) async fn fetch_object(
    address: &Address,
    retry: Retry,
    location: &Location,
    path: &Path,
    expected: Option<&Named>,
) -> Result<u64> {
    let known = Known { bytes: expected.map(|expected| expected.bytes), if_match: None };
    fetch(address, retry, location, path, known, expected.map(|expected| expected.digest.as_str())).await
}

/// The same for an object that was listed: only if it is still of that version and length.
///
/// # Errors
/// As [`fetch_object`].
pub(crate) async fn fetch_listed(address: &Address, retry: Retry, meta: &ObjectMeta, path: &Path) -> Result<u64> {
    let if_match = address.client.if_match(meta.e_tag.as_deref());
    fetch(address, retry, &meta.location, path, Known { bytes: Some(meta.size), if_match }, None).await
}

async fn fetch(
    address: &Address,
    retry: Retry,
    location: &Location,
    path: &Path,
    known: Known,
    digest: Option<&str>,
) -> Result<u64> {
    create_above(path)?;
    let url = address.url_of(location);
    let temporary = temporary_name(path);
    let received = async {
        let file = File::create(&temporary).map_err(StoreError::io("create", &temporary))?;
        let mut transfer = Transfer {
            address,
            retry,
            location,
            url: &url,
            path: &temporary,
            file,
            known,
            at: 0,
            furthest: 0,
            hasher: blake3::Hasher::new(),
            has_ranges: true,
        };
        let received = transfer.run().await?;
        transfer.file.sync_all().map_err(StoreError::io("write", &temporary))?;
        if let Some(digest) = digest.filter(|digest| *digest != received) {
            let detail = format!("it has digest {received}, not {digest}");
            return Err(StoreError::Damaged { url: url.clone(), detail });
        }
        fs::rename(&temporary, path).map_err(StoreError::io("rename", &temporary))?;
        Ok(transfer.at)
    }
    .await;
    if received.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    received
}

/// An object on its way into a file.
struct Transfer<'a> {
    address: &'a Address,
    retry: Retry,
    location: &'a Location,
    url: &'a str,
    path: &'a Path,
    file: File,
    known: Known,
    /// Bytes that are in the file, and in the digest.
    at: u64,
    /// The most that were.
    furthest: u64,
    hasher: blake3::Hasher,
    has_ranges: bool,
}

/// Why a step of a transfer failed: the store, which may be tried again, or anything else.
enum Failure {
    Store(Error),
    Ours(StoreError),
}

impl Transfer<'_> {
    /// Receives all of it; its digest.
    async fn run(&mut self) -> Result<String> {
        let mut budget = self.retry.budget(self.url);
        let mut is_asked = false;
        while !is_asked || self.known.bytes != Some(self.at) {
            match self.step(&mut budget).await {
                Ok(()) => is_asked = true,
                Err(Failure::Ours(error)) => return Err(error),
                Err(Failure::Store(Error::Precondition { .. })) => {
                    let detail = "it has changed since it was listed or begun".to_owned();
                    return Err(StoreError::Damaged { url: self.url.to_owned(), detail });
                }
                Err(Failure::Store(error)) if self.has_ranges && Answer::of(&error).is_without_ranges() => {
                    self.has_ranges = false;
                }
                Err(Failure::Store(error)) => {
                    let waited = budget.pause_after(error).await;
                    waited.map_err(|(error, secs)| StoreError::of(&error, self.url, secs))?;
                }
            }
        }
        Ok(self.hasher.finalize().to_hex().to_string())
    }

    /// Receives the next range, or what is left of it.
    async fn step(&mut self, budget: &mut Budget<'_>) -> std::result::Result<(), Failure> {
        let is_part = self.at > 0 || self.known.bytes.is_some_and(|bytes| bytes > RANGE_BYTES);
        let range = match self.known.bytes {
            Some(bytes) if is_part && self.has_ranges => Some(self.at..bytes.min(self.at + RANGE_BYTES)),
            _ => None,
        };
        if range.is_none() {
            self.begin_again().map_err(Failure::Ours)?;
        }
        let options = GetOptions {
            range: range.clone().map(GetRange::Bounded),
            if_match: self.known.if_match.clone(),
            ..GetOptions::default()
        };
        let request = self.address.client.store.get_opts(self.location, options);
        let got = self.retry.once(self.url, request).await.map_err(Failure::Store)?;
        let bytes = *self.known.bytes.get_or_insert(got.meta.size);
        if got.meta.size != bytes {
            let detail = format!("it has {} bytes, not {bytes}", got.meta.size);
            return Err(Failure::Ours(StoreError::Damaged { url: self.url.to_owned(), detail }));
        }
        if self.known.if_match.is_none() {
            self.known.if_match = self.address.client.if_match(got.meta.e_tag.as_deref());
        }
        let end = range.map_or(bytes, |range| range.end);
        let mut stream = got.into_stream();
        while let Some(part) = self.next_part(&mut stream).await.map_err(Failure::Store)? {
            self.file.write_all(&part).map_err(|e| Failure::Ours(StoreError::io("write", self.path)(e)))?;
            self.hasher.update(&part);
            self.at += part.len() as u64;
            if self.at > self.furthest {
                self.furthest = self.at;
                budget.progressed();
            }
        }
        if self.at < end {
            return Err(Failure::Store(network_error(CutShort { came: self.at, whole: bytes })));
        }
        if self.at > end {
            let detail = format!("{} bytes came, not {end}", self.at);
            return Err(Failure::Ours(StoreError::Damaged { url: self.url.to_owned(), detail }));
        }
        Ok(())
    }

    fn begin_again(&mut self) -> Result<()> {
        self.at = 0;
        self.hasher.reset();
        self.file.rewind().and_then(|()| self.file.set_len(0)).map_err(StoreError::io("write", self.path))
    }

    /// The next bytes; an error of the network when none come for long.
    async fn next_part(
        &self,
        stream: &mut BoxStream<'static, object_store::Result<Bytes>>,
    ) -> object_store::Result<Option<Bytes>> {
        let silence: Duration = self.retry.silence;
        match timeout(silence, stream.next()).await {
            Ok(part) => part.transpose(),
            Err(_) => Err(network_error(Silent { secs: silence.as_secs_f64() })),
        }
    }
}

/// Some bytes of an object that was listed; none when the store gives no parts of objects.
///
/// # Errors
/// When the object has gone or changed, or the store refuses or goes away.
pub(crate) async fn fetch_range(
    address: &Address,
    retry: Retry,
    meta: &ObjectMeta,
    range: std::ops::Range<u64>,
) -> Result<Option<Bytes>> {
    let url = address.url_of(&meta.location);
    let options = || GetOptions {
        range: Some(GetRange::Bounded(range.clone())),
        if_match: address.client.if_match(meta.e_tag.as_deref()),
        ..GetOptions::default()
    };
    let bytes = range.end - range.start;
    let mut get = || async { address.client.store.get_opts(&meta.location, options()).await?.bytes().await };
    let damaged = |detail: String| StoreError::Damaged { url: url.clone(), detail };
    match retry.run_raw(&url, bytes, &mut get).await {
        Ok(came) if came.len() as u64 == bytes => Ok(Some(came)),
        Ok(came) => Err(damaged(format!("{} bytes came, not {bytes}", came.len()))),
        Err((Error::Precondition { .. }, _)) => Err(damaged("it has changed since it was listed".to_owned())),
        Err((error, _)) if Answer::of(&error).is_without_ranges() => Ok(None),
        Err((error, secs)) => Err(StoreError::of(&error, &url, secs)),
    }
}
