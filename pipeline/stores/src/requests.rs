//! The requests of the other binaries: a JSON object a line on stdin, an answer with the same `id` a line on stdout, in
//! whatever order they are done. The end of stdin is the end of the process.

use crate::mirror::Mirror;
use crate::retry::Retry;
use crate::source::Source;
use crate::{Result, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// The version of these requests: both sides must speak the same.
pub const PROTOCOL: u32 = 1;
/// Objects that nobody names are left alone for so long: somebody may be on the way to their manifest.
const SWEPT_AFTER: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Deserialize)]
struct Asked {
    id: u64,
    #[serde(flatten)]
    request: Request,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Request {
    /// Which version this is.
    Version,
    /// Mirrors a store's tree; everything below up to `Sweep` is about it.
    Mirror {
        url: String,
        cache: PathBuf,
    },
    Publish {
        folder: String,
    },
    Fetch {
        folder: String,
        files: Option<BTreeSet<String>>,
    },
    PutFile {
        name: String,
    },
    FetchMarkers {
        folder: String,
        /// Whose; all when there are none.
        shards: Option<Vec<String>>,
    },
    PublishShard {
        folder: String,
        shard: String,
    },
    FetchShard {
        folder: String,
        shard: String,
    },
    ClearShares {
        folder: String,
    },
    Remove {
        folder: String,
    },
    Sweep {
        dry_run: bool,
    },
    /// Lays a source out; the others are about one that is.
    LayOut {
        url: String,
        files: PathBuf,
        scratch: PathBuf,
    },
    Fill {
        url: String,
        whole: Vec<String>,
        tails: Vec<String>,
        heads: Vec<String>,
    },
    Want {
        url: String,
        names: Vec<String>,
    },
    Bring {
        url: String,
        name: String,
    },
}

#[derive(Debug, Default)]
struct State {
    mirror: RefCell<Option<Rc<Mirror>>>,
    sources: RefCell<HashMap<String, Rc<Source>>>,
}

/// Answers requests until stdin ends.
///
/// # Errors
/// When the runtime cannot be made.
pub fn serve() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (send, mut receive) = mpsc::unbounded_channel::<String>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
        // Who asked has gone, and with it what the rest would be for.
        std::process::exit(0);
    });
    let state = Rc::new(State::default());
    LocalSet::new().block_on(&runtime, async move {
        while let Some(line) = receive.recv().await {
            let state = Rc::clone(&state);
            tokio::task::spawn_local(async move { write_answer(&state.answer(&line).await) });
        }
    });
    Ok(())
}

fn write_answer(answer: &Value) {
    let mut out = std::io::stdout().lock();
    // Nobody hears who cannot be written to.
    let _ = writeln!(out, "{answer}").and_then(|()| out.flush());
}

impl State {
    async fn answer(&self, line: &str) -> Value {
        let asked: Asked = match serde_json::from_str(line) {
            Ok(asked) => asked,
            Err(error) => return json!({"id": 0, "error": {"kind": "usage", "text": format!("no request: {error}")}}),
        };
        match self.run(asked.request).await {
            Ok(value) => json!({"id": asked.id, "ok": value}),
            Err(error) => {
                json!({"id": asked.id, "error": {"kind": kind(&error), "text": crate::scrub(&error.to_string())}})
            }
        }
    }

    async fn run(&self, request: Request) -> Result<Value> {
        let retry = Retry::of_environment();
        Ok(match request {
            Request::Version => json!({"protocol": PROTOCOL, "version": env!("CARGO_PKG_VERSION")}),
            Request::Mirror { url, cache } => {
                let mirror = Rc::new(Mirror::open(&url, &cache, retry)?);
                let synced = mirror.sync().await?;
                *self.mirror.borrow_mut() = Some(mirror);
                json!(synced)
            }
            Request::Publish { folder } => json!(self.mirror()?.publish(&folder).await?),
            Request::Fetch { folder, files } => {
                let (files, bytes) = self.mirror()?.fetch(&folder, files.as_ref()).await?;
                json!({"files": files, "bytes": bytes})
            }
            Request::PutFile { name } => json!(self.mirror()?.put_file(&name).await?),
            Request::FetchMarkers { folder, shards } => {
                json!(self.mirror()?.fetch_markers(&folder, shards.as_deref()).await?)
            }
            Request::PublishShard { folder, shard } => json!(self.mirror()?.publish_shard(&folder, &shard).await?),
            Request::FetchShard { folder, shard } => json!(self.mirror()?.fetch_shard(&folder, &shard).await?),
            Request::ClearShares { folder } => json!(self.mirror()?.clear_shares(&folder).await?),
            Request::Remove { folder } => json!(self.mirror()?.remove(&folder).await?),
            Request::Sweep { dry_run } => json!(self.mirror()?.sweep(SWEPT_AFTER, dry_run).await?),
            Request::LayOut { url, files, scratch } => {
                let (source, laid) = Source::lay_out(&url, &files, &scratch, retry).await?;
                self.sources.borrow_mut().insert(url, Rc::new(source));
                json!(laid)
            }
            Request::Fill { url, whole, tails, heads } => json!(self.source(&url)?.fill(&whole, &tails, &heads).await?),
            Request::Want { url, names } => json!(self.source(&url)?.want(names)),
            Request::Bring { url, name } => json!(self.source(&url)?.bring(&name).await?),
        })
    }

    fn mirror(&self) -> Result<Rc<Mirror>> {
        self.mirror.borrow().clone().ok_or_else(|| StoreError::Usage("no store was named yet".to_owned()))
    }

    fn source(&self, url: &str) -> Result<Rc<Source>> {
        let source = self.sources.borrow().get(url).cloned();
        source.ok_or_else(|| StoreError::Usage("no source was named yet".to_owned()))
    }
}

/// What the other side has to know of an error.
fn kind(error: &StoreError) -> &'static str {
    match error {
        _ if error.is_usage() => "usage",
        StoreError::NotFound { .. } => "missing",
        StoreError::Damaged { .. } => "damaged",
        _ => "failed",
    }
}
