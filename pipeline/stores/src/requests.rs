//! The requests of the other binaries: a JSON object a line on stdin, an answer with the same `id` a line on stdout, in
//! whatever order they are done. The end of stdin is the end of the process.

use crate::mirror::Mirror;
use crate::retry::Retry;
use crate::source::Source;
use crate::sweep::SWEPT_AFTER;
use crate::{Result, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::rc::Rc;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// The version of these requests: both sides must speak the same.
pub const PROTOCOL: u32 = 3;

/// What tells an answer whose it is.
#[derive(Debug, Deserialize)]
struct Envelope {
    id: u64,
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
    ListShares,
    RemoveShares {
        folders: Vec<String>,
    },
    CheckRemoval {
        folder: String,
    },
    Remove {
        folder: String,
    },
    Sweep {
        /// Folders of shares whose markers a dry run takes for gone.
        abandoned: Vec<String>,
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
    Prefetch {
        url: String,
        names: Vec<String>,
    },
    FetchObject {
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
        // The process that asked has ended, and nobody needs the rest.
        std::process::exit(0);
    });
    let state = Rc::new(State::default());
    LocalSet::new().block_on(&runtime, async move {
        while let Some(line) = receive.recv().await {
            let state = Rc::clone(&state);
            tokio::task::spawn_local(async move {
                // Without an id nobody waits: 0 is never one.
                let id = serde_json::from_str(&line).map_or(0, |envelope: Envelope| envelope.id);
                write_answer(&supervised(id, async move { state.answer(id, &line).await }).await);
            });
        }
    });
    Ok(())
}

/// The answer to a request, also when computing it panics: the other process waits for one.
async fn supervised(id: u64, answer: impl Future<Output = Value> + 'static) -> Value {
    tokio::task::spawn_local(answer).await.unwrap_or_else(|error| {
        let text = format!("`lapidary-stores` failed inside: {error}\nhint: the same command goes on where it stopped");
        failed(id, "failed", &text)
    })
}

fn write_answer(answer: &Value) {
    let mut out = std::io::stdout().lock();
    // When the process that asked has ended, its end of stdin ends this one.
    let _ = writeln!(out, "{answer}").and_then(|()| out.flush());
}

fn failed(id: u64, kind: &str, text: &str) -> Value {
    json!({"id": id, "error": {"kind": kind, "text": crate::scrub(text)}})
}

impl State {
    async fn answer(&self, id: u64, line: &str) -> Value {
        let request: Request = match serde_json::from_str(line) {
            Ok(request) => request,
            Err(error) => return failed(id, "usage", &format!("this is no request: {error}")),
        };
        match self.run(request).await {
            Ok(value) => json!({"id": id, "ok": value}),
            Err(error) => failed(id, kind(&error), &error.to_string()),
        }
    }

    async fn run(&self, request: Request) -> Result<Value> {
        let retry = Retry::of_environment();
        Ok(match request {
            Request::Version => json!({"protocol": PROTOCOL, "version": env!("CARGO_PKG_VERSION")}),
            Request::Mirror { url, cache } => {
                let mirror = Rc::new(Mirror::open(&url, &cache, retry).await?);
                let synced = mirror.sync().await;
                let synced = synced.map_err(|e| mirror.address.client.explained(&mirror.address.shown, e))?;
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
            Request::ListShares => json!(self.mirror()?.list_shares().await?),
            Request::RemoveShares { folders } => json!(self.mirror()?.remove_shares(&folders, SWEPT_AFTER).await?),
            Request::CheckRemoval { folder } => json!(self.mirror()?.check_removal(&folder).await?),
            Request::Remove { folder } => json!(self.mirror()?.remove(&folder).await?),
            Request::Sweep { abandoned, dry_run } => {
                json!(self.mirror()?.sweep(SWEPT_AFTER, &abandoned, dry_run).await?)
            }
            Request::LayOut { url, files, scratch } => {
                let (source, layout) = Source::lay_out(&url, &files, &scratch, retry).await?;
                self.sources.borrow_mut().insert(url, Rc::new(source));
                json!(layout)
            }
            Request::Fill { url, whole, tails, heads } => json!(self.source(&url)?.fill(&whole, &tails, &heads).await?),
            Request::Prefetch { url, names } => json!(self.source(&url)?.prefetch(names)),
            Request::FetchObject { url, name } => json!(self.source(&url)?.fetch(&name).await?),
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
        // It is set aside with its text, as one that is damaged.
        StoreError::Damaged { .. } | StoreError::ObjectDenied { .. } => "damaged",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::store::run;

    #[test]
    fn a_panic_is_an_answer() {
        let answer = run(supervised(7, async { panic!("on purpose") }));
        assert_eq!((&answer["id"], &answer["error"]["kind"]), (&json!(7), &json!("failed")), "{answer}");
        assert!(answer["error"]["text"].as_str().is_some_and(|text| text.contains("on purpose")), "{answer}");
    }

    #[test]
    fn what_is_no_request_is_answered_under_its_id() {
        let state = State::default();
        let answer = run(state.answer(7, r#"{"id": 7, "op": "unheard_of"}"#));
        assert_eq!((&answer["id"], &answer["error"]["kind"]), (&json!(7), &json!("usage")), "{answer}");
        let answer = run(state.answer(8, r#"{"id": 8, "op": "publish", "folder": "x"}"#));
        assert_eq!((&answer["id"], &answer["error"]["kind"]), (&json!(8), &json!("usage")), "{answer}");
    }
}
