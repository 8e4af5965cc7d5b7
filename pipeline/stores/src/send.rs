//! Files to objects, in bounded memory: a short file in one piece, a longer one in parts, each with its own retries. A file is sent
//! only while it is what its manifest says, and parts of what could not be sent are taken back.

use crate::address::Address;
use crate::answer::Answer;
use crate::manifest::File as Named;
use crate::retry::Retry;
use crate::{Result, StoreError};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Location;
use object_store::{Error, ObjectStoreExt, PutPayload};
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Files that are sent, or fetched, at once.
pub(crate) const AT_ONCE: usize = 8;
/// A file is sent in parts of this length; a shorter one in one piece. Peak memory is `AT_ONCE` x 3 parts.
const PART_BYTES: u64 = 8 << 20;
const PARTS_AT_ONCE: usize = 2;

/// Sends files that belong together: when one cannot be sent, the others stop in good order.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    address: &'a Address,
    retry: Retry,
    is_stopped: Cell<bool>,
}

impl<'a> Sender<'a> {
    pub(crate) fn new(address: &'a Address, retry: Retry) -> Self {
        Self { address, retry, is_stopped: Cell::new(false) }
    }

    /// Sends a file, which must still be what its manifest says.
    ///
    /// # Errors
    /// When it is not, the disk refuses, or the store refuses or goes away; then there is no object.
    pub(crate) async fn send(&self, path: &Path, location: &Location, named: &Named) -> Result<()> {
        let sent = self.send_file(path, location, named).await;
        self.is_stopped.set(self.is_stopped.get() || sent.is_err());
        sent
    }

    async fn send_file(&self, path: &Path, location: &Location, named: &Named) -> Result<()> {
        let url = self.address.url_of(location);
        if self.is_stopped.get() {
            return Err(StoreError::Stopped { url });
        }
        if named.bytes > PART_BYTES {
            let parts = self.address.client.parts.as_deref();
            let parts = parts.ok_or_else(|| StoreError::Usage(format!("nothing can be written to `{url}`")))?;
            return Upload { sender: self, parts, location, url: &url, path, named }.run().await;
        }
        let bytes = Bytes::from(fs::read(path).map_err(StoreError::io("read", path))?);
        refuse_changed(&url, path, named, &blake3::hash(&bytes))?;
        let mut put = || self.address.client.store.put(location, PutPayload::from_bytes(bytes.clone()));
        let put = self.retry.run_raw(&url, named.bytes, &mut put).await;
        put.map(|_| ()).map_err(|(error, secs)| StoreError::of(&error, &url, secs))
    }
}

/// A file that is sent in parts.
struct Upload<'a> {
    sender: &'a Sender<'a>,
    parts: &'a dyn MultipartStore,
    location: &'a Location,
    url: &'a str,
    path: &'a Path,
    named: &'a Named,
}

impl Upload<'_> {
    async fn run(&self) -> Result<()> {
        let file = File::open(self.path).map_err(StoreError::io("open", self.path))?;
        let retry = self.sender.retry;
        let id = retry.run(self.url, || self.parts.create_multipart(self.location)).await?;
        let sent = match self.send_parts(&file, &id).await {
            Ok(parts) => self.complete(&id, parts).await,
            Err(error) => Err(error),
        };
        if sent.is_err() {
            // The store keeps, and counts, parts that nobody takes back. When it has gone away they stay.
            let _ = retry.once(self.url, self.parts.abort_multipart(self.location, &id)).await;
        }
        sent
    }

    async fn send_parts(&self, file: &File, id: &String) -> Result<Vec<PartId>> {
        let hasher = RefCell::new(blake3::Hasher::new());
        let numbers = 0..self.named.bytes.div_ceil(PART_BYTES);
        // Parts are read, and hashed, in their order; they are on their way side by side.
        let parts = stream::iter(numbers).map(|number| {
            let part = self.read_part(file, number).inspect(|part| {
                hasher.borrow_mut().update(part);
            });
            async move { self.send_part(id, number, part?).await }
        });
        let parts: Vec<PartId> = parts.buffered(PARTS_AT_ONCE).try_collect().await?;
        if file.metadata().map_err(StoreError::io("read", self.path))?.len() != self.named.bytes {
            let detail = format!("`{}` has changed while it was sent", self.path.display());
            return Err(StoreError::Damaged { url: self.url.to_owned(), detail });
        }
        refuse_changed(self.url, self.path, self.named, &hasher.borrow().finalize())?;
        Ok(parts)
    }

    fn read_part(&self, file: &File, number: u64) -> Result<Bytes> {
        let from = number * PART_BYTES;
        let mut part = vec![0; (self.named.bytes - from).min(PART_BYTES) as usize];
        file.read_exact_at(&mut part, from).map_err(StoreError::io("read", self.path))?;
        Ok(Bytes::from(part))
    }

    async fn send_part(&self, id: &String, number: u64, part: Bytes) -> Result<PartId> {
        if self.sender.is_stopped.get() {
            return Err(StoreError::Stopped { url: self.url.to_owned() });
        }
        let payload = || PutPayload::from_bytes(part.clone());
        let mut put = || self.parts.put_part(self.location, id, number as usize, payload());
        let put = self.sender.retry.run_raw(self.url, part.len() as u64, &mut put).await;
        put.map_err(|(error, secs)| StoreError::of(&error, self.url, secs))
    }

    /// Completes the upload. It may be complete already: by this writer, whose answer was lost, or by another of the same bytes.
    async fn complete(&self, id: &String, parts: Vec<PartId>) -> Result<()> {
        let retry = self.sender.retry;
        let mut complete = || self.parts.complete_multipart(self.location, id, parts.clone());
        let Err((error, secs)) = retry.run_raw(self.url, 0, &mut complete).await else { return Ok(()) };
        let has_gone = matches!(error, Error::NotFound { .. })
            || Answer::of(&error).has_code(&["NoSuchUpload", "InvalidBlockList", "InvalidBlobOrBlock"]);
        let head = || self.sender.address.client.store.head(self.location);
        if has_gone && retry.run(self.url, head).await.is_ok_and(|meta| meta.size == self.named.bytes) {
            return Ok(());
        }
        Err(StoreError::of(&error, self.url, secs))
    }
}

fn refuse_changed(url: &str, path: &Path, named: &Named, digest: &blake3::Hash) -> Result<()> {
    let digest = digest.to_hex();
    if digest.as_str() == named.digest {
        return Ok(());
    }
    let (path, written) = (path.display(), &named.digest);
    let detail = format!("`{path}` has digest {digest}, but was written with {written}: it is not sent");
    Err(StoreError::Damaged { url: url.to_owned(), detail })
}
