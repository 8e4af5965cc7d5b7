//! Files to objects and back, in bounded memory: a part of a file at a time, its digest on the way.

use crate::address::Address;
use crate::manifest::File as Named;
use crate::retry::Retry;
use crate::{Result, StoreError};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path as Location;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Files that are sent, or brought, at once.
pub(crate) const AT_ONCE: usize = 8;
/// A file is sent in parts of this length; a shorter one in one piece. Peak memory is `AT_ONCE` x 3 parts.
const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 2;
/// An object of which nothing comes for so long is asked for again.
const SILENCE: Duration = Duration::from_secs(60);

/// A name beside `path` that nobody else uses; the stage runtime removes what is left under such a name.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.{}-{}.writing", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Writes a small file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).map_err(StoreError::io("create folder", above))?;
    }
    let temporary = temporary_name(path);
    let written = fs::write(&temporary, bytes).and_then(|()| File::open(&temporary)?.sync_all());
    let renamed = written.and_then(|()| fs::rename(&temporary, path)).map_err(StoreError::io("write", path));
    if renamed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// Brings an object to a file, which is there whole or not at all; with `expected`, only if it has that digest and length.
///
/// # Errors
/// When it is not there, is not what was expected, or the store goes away.
pub(crate) async fn bring(
    address: &Address,
    retry: Retry,
    location: &Location,
    path: &Path,
    expected: Option<&Named>,
) -> Result<u64> {
    let url = address.url(address.name_of(location).unwrap_or_default());
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).map_err(StoreError::io("create folder", above))?;
    }
    let temporary = temporary_name(path);
    let removed = |error: StoreError| {
        let _ = fs::remove_file(&temporary);
        error
    };
    let attempt = || async {
        let disk = |source: std::io::Error| object_store::Error::NotSupported { source: Box::new(source) };
        let mut stream = address.store.get(location).await?.into_stream();
        let mut file = File::create(&temporary).map_err(disk)?;
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
        while let Some(part) = next_part(&mut stream).await? {
            hasher.update(&part);
            bytes += part.len() as u64;
            file.write_all(&part).map_err(disk)?;
        }
        file.sync_all().map_err(disk)?;
        Ok((hasher.finalize().to_hex().to_string(), bytes))
    };
    let (digest, bytes) = retry.run(&url, attempt).await.map_err(removed)?;
    if let Some(expected) = expected.filter(|expected| expected.digest != digest || expected.bytes != bytes) {
        let detail = format!("it has {bytes} bytes of digest {digest}, not {} of {}", expected.bytes, expected.digest);
        return Err(removed(StoreError::Damaged { url, detail }));
    }
    fs::rename(&temporary, path).map_err(|e| removed(StoreError::io("rename", &temporary)(e)))?;
    Ok(bytes)
}

/// The next part of an object; an error of the network when none comes for long.
async fn next_part(
    stream: &mut BoxStream<'static, object_store::Result<Bytes>>,
) -> object_store::Result<Option<Bytes>> {
    match tokio::time::timeout(SILENCE, stream.next()).await {
        Ok(part) => part.transpose(),
        Err(_) => {
            let source = format!("the connection timed out: nothing came for {} s", SILENCE.as_secs());
            Err(object_store::Error::Generic { store: "object", source: source.into() })
        }
    }
}

/// Sends a file, which must still be what its manifest says.
///
/// # Errors
/// When it is not, or the store refuses or goes away; then there is no object.
pub(crate) async fn send(
    address: &Address,
    retry: Retry,
    path: &Path,
    location: &Location,
    named: &Named,
) -> Result<()> {
    let url = address.url(address.name_of(location).unwrap_or_default());
    let changed = |digest: &str| StoreError::Damaged {
        url: url.clone(),
        detail: format!(
            "`{}` has digest {digest}, but was written with {}: it is not sent",
            path.display(),
            named.digest
        ),
    };
    if named.bytes <= PART_BYTES as u64 {
        let bytes = Bytes::from(fs::read(path).map_err(StoreError::io("read", path))?);
        let digest = blake3::hash(&bytes).to_hex().to_string();
        if digest != named.digest {
            return Err(changed(&digest));
        }
        retry.run(&url, || address.store.put(location, PutPayload::from_bytes(bytes.clone()))).await?;
        return Ok(());
    }
    let sent = retry.run(&url, || send_in_parts(address, path, location, &named.digest)).await?;
    sent.map_err(|digest| changed(&digest))
}

/// Sends a file in parts; says the digest it has when that is another, and leaves no object then.
async fn send_in_parts(
    address: &Address,
    path: &Path,
    location: &Location,
    expected: &str,
) -> object_store::Result<std::result::Result<(), String>> {
    let disk = |source: std::io::Error| object_store::Error::NotSupported { source: Box::new(source) };
    let file = File::open(path).map_err(disk)?;
    let upload = address.store.put_multipart(location).await?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    let mut hasher = blake3::Hasher::new();
    loop {
        let mut part = Vec::with_capacity(PART_BYTES);
        (&file).take(PART_BYTES as u64).read_to_end(&mut part).map_err(disk)?;
        if part.is_empty() {
            break;
        }
        hasher.update(&part);
        if let Err(error) = upload.wait_for_capacity(PARTS_AT_ONCE).await {
            let _ = upload.abort().await;
            return Err(error);
        }
        upload.put(part.into());
    }
    let digest = hasher.finalize().to_hex().to_string();
    if digest != expected {
        upload.abort().await?;
        return Ok(Err(digest));
    }
    upload.finish().await.map(|_| Ok(()))
}
