//! `lapidary-stores` as a child: a request a line, answers in any order. It ends when this process does.

use crate::{PipelineError, Result, interrupt};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const BINARY: &str = "lapidary-stores";
/// The version of the requests; the other side says its own.
const PROTOCOL: u64 = 3;
/// How often an interrupt is looked for while an answer is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// An object is not there.
    Missing(String),
    /// An object is not what it should be.
    Damaged(String),
    /// Everything else.
    Other(PipelineError),
}

impl From<Refusal> for PipelineError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing(text) | Refusal::Damaged(text) => Self::Store(text),
            Refusal::Other(error) => error,
        }
    }
}

type Waiting = Arc<Mutex<HashMap<u64, Sender<Value>>>>;

/// The child, and those who wait for its answers.
#[derive(Debug)]
pub(super) struct Helper {
    requests: Mutex<ChildStdin>,
    waiting: Waiting,
    next: AtomicU64,
}

/// The one child of this process, started when it is first needed for `url`.
pub(super) fn helper(url: &str) -> Result<Arc<Helper>> {
    static HELPER: Mutex<Option<Arc<Helper>>> = Mutex::new(None);
    let mut started = HELPER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(helper) = &*started {
        return Ok(Arc::clone(helper));
    }
    let helper = Arc::new(Helper::start(url)?);
    *started = Some(Arc::clone(&helper));
    Ok(helper)
}

impl Helper {
    fn start(url: &str) -> Result<Self> {
        let missing = || {
            let url = super::without_credentials(url);
            PipelineError::Usage(format!(
                "`{url}` lies in a store, and this build knows none\n\
                 hint: `make build STORES=1` adds them (cargo feature `lapidary-stores/stores`)"
            ))
        };
        let me = std::env::current_exe().map_err(PipelineError::io("find", "this program"))?;
        let path = me.with_file_name(BINARY);
        let mut command = Command::new(&path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own: Ctrl-C reaches this process, which ends in good order and the child with it.
        let mut child = command.process_group(0).spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(),
            _ => PipelineError::io("run", &path)(error),
        })?;
        let piped = || PipelineError::Internal("a child with pipes has none".to_owned());
        let requests = Mutex::new(child.stdin.take().ok_or_else(piped)?);
        let answers = BufReader::new(child.stdout.take().ok_or_else(piped)?);
        let waiting = Waiting::default();
        let helper = Self { requests, waiting: Arc::clone(&waiting), next: AtomicU64::new(1) };
        std::thread::spawn(move || {
            for line in answers.lines().map_while(std::result::Result::ok) {
                let Ok(answer) = serde_json::from_str::<Value>(&line) else { continue };
                let receiver = lock(&waiting).remove(&answer["id"].as_u64().unwrap_or(0));
                // It may have stopped waiting.
                if let Some(receiver) = receiver {
                    let _ = receiver.send(answer);
                }
            }
            // The channels of those who still wait are closed, which tells them that no answer comes.
            lock(&waiting).clear();
            let _ = child.wait();
        });
        let about = helper.ask("version", json!({}))?;
        if about["protocol"].as_u64() != Some(PROTOCOL) || about["version"] != env!("CARGO_PKG_VERSION") {
            let text = format!("`{}` is of another build ({about})\nhint: `make build STORES=1`", path.display());
            return Err(PipelineError::Usage(text));
        }
        Ok(helper)
    }

    /// Asks and waits.
    pub(super) fn ask(&self, operation: &str, request: Value) -> Result<Value, Refusal> {
        let answer = self.send(operation, request).map_err(Refusal::Other)?;
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return outcome(answer),
                Err(RecvTimeoutError::Timeout) => interrupt::check().map_err(Refusal::Other)?,
                Err(RecvTimeoutError::Disconnected) => return Err(Refusal::Other(ended())),
            }
        }
    }

    /// Asks and does not wait.
    pub(super) fn tell(&self, operation: &str, request: Value) -> Result<()> {
        self.send(operation, request).map(|_| ())
    }

    fn send(&self, operation: &str, mut request: Value) -> Result<crossbeam_channel::Receiver<Value>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (send, receive) = bounded(1);
        lock(&self.waiting).insert(id, send);
        request["id"] = json!(id);
        request["op"] = json!(operation);
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = writeln!(requests, "{request}").and_then(|()| requests.flush());
        sent.map(|()| receive).map_err(|_| {
            lock(&self.waiting).remove(&id);
            ended()
        })
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, Sender<Value>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ended() -> PipelineError {
    PipelineError::Store(format!(
        "`{BINARY}` ended before it answered\nhint: the same command goes on where it stopped"
    ))
}

fn outcome(mut answer: Value) -> Result<Value, Refusal> {
    let error = &answer["error"];
    if error.is_null() {
        return Ok(answer["ok"].take());
    }
    let text = error["text"].as_str().unwrap_or_default().to_owned();
    Err(match error["kind"].as_str() {
        Some("missing") => Refusal::Missing(text),
        Some("damaged") => Refusal::Damaged(text),
        Some("usage") => Refusal::Other(PipelineError::Usage(text)),
        _ => Refusal::Other(PipelineError::Store(text)),
    })
}
