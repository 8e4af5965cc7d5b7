//! A store in memory that counts what is asked of it and fails at one operation, before or after that was done.

use crate::address::Address;
use crate::manifest::MANIFEST;
use crate::mirror::Mirror;
use crate::retry::Retry;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path as Location;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// When a store fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Never,
    /// The operation of this number is not done.
    Before(u64),
    /// It is done, and nobody hears so.
    After(u64),
    /// The next so many operations meet a network that is down.
    Network(u64),
}

#[derive(Debug)]
pub struct Faulty {
    inner: InMemory,
    fault: Mutex<Fault>,
    operations: AtomicU64,
    pub puts: Mutex<Vec<String>>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a store that fails")
    }
}

impl Faulty {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            fault: Mutex::new(Fault::Never),
            operations: AtomicU64::new(0),
            puts: Mutex::default(),
        })
    }

    /// From now on operations are counted from 1.
    pub fn fail(&self, fault: Fault) {
        *self.fault.lock().expect("unpoisoned") = fault;
        self.operations.store(0, Ordering::SeqCst);
    }

    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    fn error(text: &str) -> Error {
        Error::Generic { store: "faulty", source: text.to_owned().into() }
    }

    async fn count<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        let fault = *self.fault.lock().expect("unpoisoned");
        match fault {
            Fault::Before(n) if n == number => Err(Self::error("switched off")),
            Fault::Network(n) if number <= n => Err(Self::error("error sending request: connection refused")),
            Fault::After(n) if n == number => {
                let _ = operation.await;
                Err(Self::error("switched off"))
            }
            _ => operation.await,
        }
    }

    /// All objects and their bytes.
    pub async fn content(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut objects = self.inner.list(None);
        while let Some(meta) = objects.next().await {
            let location = meta.expect("lists").location;
            let bytes = self.inner.get(&location).await.expect("gets").bytes().await.expect("reads");
            all.insert(location.to_string(), bytes.to_vec());
        }
        all
    }

    pub async fn put_raw(&self, name: &str, bytes: &[u8]) {
        self.inner.put(&Location::from(name), PutPayload::from(bytes.to_vec())).await.expect("puts");
    }

    pub fn address(self: &Arc<Self>, prefix: &str) -> Address {
        let store: Arc<dyn ObjectStore> = Arc::<Self>::clone(self);
        Address { store, prefix: Location::from(prefix), shown: format!("memory://{prefix}"), is_web: false }
    }

    /// A mirror in a cache, which gives up at once.
    pub fn mirror(self: &Arc<Self>, cache: &Path) -> Mirror {
        Mirror::of(self.address("out"), cache, Retry { tried: Duration::ZERO }).expect("opens")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Location, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = async {
            let put = self.inner.put_opts(location, payload, options).await?;
            self.puts.lock().expect("unpoisoned").push(location.to_string());
            Ok(put)
        };
        self.count(put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Location,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.puts.lock().expect("unpoisoned").push(location.to_string());
        self.count(self.inner.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        self.count(self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Location>>) -> BoxStream<'static, Result<Location>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, Result<ObjectMeta>> {
        // A stream is asked for without waiting, and so is its failure.
        match self.count(async { Ok::<(), Error>(()) }).now_or_never().expect("waits for nothing") {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures_util::stream::once(async move { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> Result<ListResult> {
        self.count(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Location, to: &Location, options: CopyOptions) -> Result<()> {
        self.count(self.inner.copy_opts(from, to, options)).await
    }
}

/// Runs a test's future, and what it spawns, on one thread.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Writes a stage's folder as the runtime does: files, and a manifest of this key that names them.
pub fn made(cache: &Path, folder: &str, key: &str, files: &[(&str, &[u8])]) {
    let at = cache.join(folder);
    let _ = fs::remove_dir_all(&at);
    let mut outputs = serde_json::Map::new();
    let mut all = String::new();
    for (name, bytes) in files {
        let path = at.join(name);
        fs::create_dir_all(path.parent().expect("has one")).expect("creates");
        fs::write(&path, bytes).expect("writes");
        all.push_str(&digest(bytes));
        outputs.insert(
            (*name).to_owned(),
            json!({"digest": digest(bytes), "bytes": bytes.len(), "rows": 1, "repeatable": true}),
        );
    }
    static MADE: AtomicU64 = AtomicU64::new(0);
    // Two runs never take the same time.
    let wall_secs = MADE.fetch_add(1, Ordering::SeqCst);
    let manifest = json!({"stage": "test", "key": key, "digest": digest(all.as_bytes()), "outputs": outputs,
        "wall_secs": wall_secs, "seal": digest(format!("{key}{wall_secs}").as_bytes())});
    fs::write(at.join(MANIFEST), manifest.to_string()).expect("writes");
}
