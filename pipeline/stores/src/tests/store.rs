//! A store in memory that counts what is asked of it and fails at one operation, before or after that was done.

use crate::address::Address;
use crate::answer::network_error;
use crate::clients::Client;
use crate::manifest::MANIFEST;
use crate::mirror::Mirror;
use crate::retry::Retry;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Location;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
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
    /// It is done, and its answer is lost on the network.
    Unheard(u64),
}

/// Before the operation of a number an object gets these bytes, or goes.
type Intervention = (u64, String, Option<Vec<u8>>);

#[derive(Debug)]
pub struct Faulty {
    me: Weak<Self>,
    inner: InMemory,
    fault: Mutex<Fault>,
    operations: AtomicU64,
    pub puts: Mutex<Vec<String>>,
    /// Ranges that were asked for.
    pub ranges: Mutex<Vec<Option<GetRange>>>,
    /// How long ago objects were sent, where that is not now.
    ages: Mutex<BTreeMap<String, Duration>>,
    /// What is put, or removed, by somebody else before the operation of a number is done.
    interventions: Mutex<Vec<Intervention>>,
    /// Keys that are no paths; whoever lists a page with one gets an error.
    pub bad_keys: Mutex<Vec<String>>,
    pub denied: Mutex<Vec<String>>,
    pub is_denied: AtomicBool,
    /// Every stream, of bytes or of keys, breaks after so many.
    pub stream_max: AtomicU64,
    pub ignores_conditions: AtomicBool,
    /// An object is sent again by somebody whenever its age is looked at by itself.
    pub is_renewed_on_head: AtomicBool,
    /// It takes requests and never answers.
    pub is_silent: AtomicBool,
    pub has_no_ranges: AtomicBool,
    pub aborted: AtomicU64,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a store that fails")
    }
}

impl Faulty {
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            inner: InMemory::new(),
            fault: Mutex::new(Fault::Never),
            operations: AtomicU64::new(0),
            puts: Mutex::default(),
            ranges: Mutex::default(),
            ages: Mutex::default(),
            interventions: Mutex::default(),
            bad_keys: Mutex::default(),
            denied: Mutex::default(),
            is_denied: AtomicBool::new(false),
            stream_max: AtomicU64::new(u64::MAX),
            ignores_conditions: AtomicBool::new(false),
            is_renewed_on_head: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            has_no_ranges: AtomicBool::new(false),
            aborted: AtomicU64::new(0),
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

    /// An object counts as sent so long ago, until it is sent again.
    pub fn age(&self, name: &str, age: Duration) {
        self.ages.lock().expect("unpoisoned").insert(name.to_owned(), age);
    }

    /// Before the operation of this number, counted as for [`Faulty::fail`], is done, somebody else puts an object.
    pub fn intervene(&self, number: u64, name: &str, bytes: &[u8]) {
        self.interventions.lock().expect("unpoisoned").push((number, name.to_owned(), Some(bytes.to_vec())));
    }

    /// The same for an object that is removed.
    pub fn withdraw(&self, number: u64, name: &str) {
        self.interventions.lock().expect("unpoisoned").push((number, name.to_owned(), None));
    }

    fn aged(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if let Some(age) = self.ages.lock().expect("unpoisoned").get(meta.location.as_ref()) {
            meta.last_modified -= *age;
        }
        meta
    }

    fn error(text: &str) -> Error {
        Error::Generic { store: "faulty", source: text.to_owned().into() }
    }

    fn lost() -> Error {
        network_error(HttpError::new(HttpErrorKind::Connect, std::io::Error::other("connection refused")))
    }

    /// Counts an operation that fails before it is done; how it fails after, if it does.
    async fn begin(&self) -> Result<Option<Error>> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        if self.is_silent.load(Ordering::SeqCst) {
            futures_util::future::pending::<()>().await;
        }
        let due: Vec<Intervention> = {
            let mut all = self.interventions.lock().expect("unpoisoned");
            all.extract_if(.., |(at, ..)| *at == number).collect()
        };
        for (_, name, bytes) in due {
            match bytes {
                Some(bytes) => self.put_raw(&name, &bytes).await,
                None => self.remove_raw(&name).await,
            }
        }
        if self.is_denied.load(Ordering::SeqCst) {
            return Err(Error::PermissionDenied { path: String::new(), source: "forbidden".into() });
        }
        let fault = *self.fault.lock().expect("unpoisoned");
        match fault {
            Fault::Before(n) if n == number => Err(Self::error("switched off")),
            Fault::Network(n) if number <= n => Err(Self::lost()),
            Fault::After(n) if n == number => Ok(Some(Self::error("switched off"))),
            Fault::Unheard(n) if n == number => Ok(Some(Self::lost())),
            _ => Ok(None),
        }
    }

    async fn count<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let failure = self.begin().await?;
        let done = operation.await;
        failure.map_or(done, Err)
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
        self.ages.lock().expect("unpoisoned").remove(name);
        let location = Location::parse(name).expect("a path");
        self.inner.put(&location, PutPayload::from(bytes.to_vec())).await.expect("puts");
    }

    pub async fn remove_raw(&self, name: &str) {
        self.inner.delete(&Location::parse(name).expect("a path")).await.expect("deletes");
    }

    pub fn address(self: &Arc<Self>, prefix: &str) -> Address {
        let prefix = Location::from(prefix);
        Address { client: Client::in_memory(self), shown: format!("memory://{prefix}"), prefix }
    }

    /// A mirror in a cache, which gives up at once.
    pub fn mirror(self: &Arc<Self>, cache: &Path) -> Mirror {
        Mirror::of(self.address("out"), cache, Retry::lasting(Duration::ZERO)).expect("opens")
    }

    /// Objects after a key, as pages of three: a page with a key that is no path is an error.
    async fn listed(&self, prefix: Option<&Location>, offset: Option<&Location>) -> Vec<Result<ObjectMeta>> {
        let below = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let is_after = |key: &str| offset.is_none_or(|offset| key > offset.as_ref());
        let mut metas: Vec<Result<ObjectMeta>> = self.inner.list(prefix).collect().await;
        metas.retain(|meta| is_after(meta.as_ref().expect("lists").location.as_ref()));
        let bad = self.bad_keys.lock().expect("unpoisoned").clone();
        let bad = bad.iter().filter(|key| key.starts_with(&below) && is_after(key));
        if let Some(bad) = bad.min() {
            let before =
                metas.iter().filter(|meta| meta.as_ref().expect("lists").location.as_ref() < bad.as_str()).count();
            metas.truncate(before / 3 * 3);
            metas.push(Err(Location::parse(bad).expect_err("is no path").into()));
        }
        metas.into_iter().map(|meta| meta.map(|meta| self.aged(meta))).collect()
    }

    /// A stream that breaks.
    fn breaking<T: Send + 'static>(&self, stream: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
        let max = usize::try_from(self.stream_max.load(Ordering::SeqCst)).unwrap_or(usize::MAX);
        let counted = stream.enumerate().map(move |(at, item)| if at < max { item } else { Err(Self::lost()) });
        counted.boxed()
    }

    fn list_from(
        &self,
        prefix: Option<&Location>,
        offset: Option<&Location>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        // A stream is asked for without waiting, and so is its failure.
        match self.begin().now_or_never() {
            None => futures_util::stream::pending().boxed(),
            Some(Err(error) | Ok(Some(error))) => futures_util::stream::once(async move { Err(error) }).boxed(),
            Some(Ok(None)) => {
                let metas = self.listed(prefix, offset).now_or_never().expect("waits for nothing");
                self.breaking(futures_util::stream::iter(metas).boxed())
            }
        }
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Location, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        if self.ignores_conditions.load(Ordering::SeqCst) {
            options.mode = PutMode::Overwrite;
        }
        let put = async {
            let put = self.inner.put_opts(location, payload, options).await?;
            self.ages.lock().expect("unpoisoned").remove(location.as_ref());
            self.puts.lock().expect("unpoisoned").push(location.to_string());
            Ok(put)
        };
        self.count(put).await
    }

    async fn put_multipart_opts(&self, _: &Location, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Self::error("files are sent by `MultipartStore`"))
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        if options.head && self.is_renewed_on_head.load(Ordering::SeqCst) {
            self.ages.lock().expect("unpoisoned").remove(location.as_ref());
        }
        let is_head = options.head;
        if !is_head {
            self.ranges.lock().expect("unpoisoned").push(options.range.clone());
        }
        let range = options.range.clone();
        let mut got = self.count(self.inner.get_opts(location, options)).await?;
        if self.denied.lock().expect("unpoisoned").iter().any(|name| name == location.as_ref()) {
            return Err(Error::PermissionDenied { path: location.to_string(), source: "forbidden".into() });
        }
        if range.is_some() && self.has_no_ranges.load(Ordering::SeqCst) {
            return Err(Error::NotSupported { source: "no ranges".into() });
        }
        got.meta = self.aged(got.meta);
        if is_head {
            return Ok(got);
        }
        let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
        let bytes = got.bytes().await?;
        // Byte by byte, so that a stream breaks where it is told to.
        let stream = futures_util::stream::iter((0..bytes.len()).map(move |at| Ok(bytes.slice(at..=at)))).boxed();
        Ok(GetResult { payload: GetResultPayload::Stream(self.breaking(stream)), meta, range, attributes })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Location>>) -> BoxStream<'static, Result<Location>> {
        let store = self.me.upgrade().expect("it is in use");
        locations
            .then(move |location| {
                let store = Arc::clone(&store);
                async move {
                    let location = location?;
                    store.count(store.inner.delete(&location)).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Location>, offset: &Location) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> Result<ListResult> {
        self.count(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Location, to: &Location, options: CopyOptions) -> Result<()> {
        self.count(self.inner.copy_opts(from, to, options)).await
    }
}

#[async_trait::async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, location: &Location) -> Result<MultipartId> {
        self.count(self.inner.create_multipart(location)).await
    }

    async fn put_part(&self, at: &Location, id: &MultipartId, number: usize, part: PutPayload) -> Result<PartId> {
        self.count(self.inner.put_part(at, id, number, part)).await
    }

    async fn complete_multipart(&self, at: &Location, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let complete = async {
            // As S3 does where there is no such upload any more.
            let put = self.inner.complete_multipart(at, id, parts).await;
            let put = put.map_err(|e| Error::NotFound { path: at.to_string(), source: e.into() })?;
            self.puts.lock().expect("unpoisoned").push(at.to_string());
            Ok(put)
        };
        self.count(complete).await
    }

    async fn abort_multipart(&self, at: &Location, id: &MultipartId) -> Result<()> {
        self.aborted.fetch_add(1, Ordering::SeqCst);
        self.count(self.inner.abort_multipart(at, id)).await
    }
}

#[async_trait::async_trait]
impl PaginatedListStore for Faulty {
    async fn list_paginated(&self, prefix: Option<&str>, options: PaginatedListOptions) -> Result<PaginatedListResult> {
        self.begin().await?;
        let below = prefix.unwrap_or_default();
        let metas: Vec<Result<ObjectMeta>> = self.inner.list(None).collect().await;
        let metas: BTreeMap<String, ObjectMeta> =
            metas.into_iter().map(|meta| meta.expect("lists")).map(|meta| (meta.location.to_string(), meta)).collect();
        let bad = self.bad_keys.lock().expect("unpoisoned").clone();
        let mut keys: Vec<&String> = metas.keys().chain(&bad).filter(|key| key.starts_with(below)).collect();
        keys.retain(|key| options.offset.as_ref().is_none_or(|offset| *key > offset));
        keys.sort();
        let is_more = keys.len() > options.max_keys.expect("is given");
        keys.truncate(options.max_keys.expect("is given"));
        let objects = keys
            .into_iter()
            .map(|key| metas.get(key).cloned().ok_or_else(|| Location::parse(key).expect_err("is no path").into()))
            .collect::<Result<Vec<ObjectMeta>>>()?;
        let result = ListResult { common_prefixes: Vec::new(), objects };
        Ok(PaginatedListResult { result, page_token: is_more.then(|| "more".to_owned()) })
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
