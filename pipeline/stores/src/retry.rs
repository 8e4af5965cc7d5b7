//! Trying again, with pauses that double: what the network lost may come back. What a store refuses is not tried again. The time
//! that is tried counts from the last progress, so that a transfer of hours survives what a short one does; and every request is
//! given up when nothing comes of it.

use crate::answer::{Answer, Silent, is_passing, network_error};
use crate::secrets::scrub;
use crate::{Result, StoreError};
use object_store::{BackoffConfig, RetryConfig};
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a store that does not answer is tried, in seconds, unless the environment says otherwise.
const TRIED_SECS: f64 = 60.0;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(5);
/// A request of which nothing comes is given up after the time that a store is tried, within these bounds: a busy server may take
/// its time for a page of a thousand keys.
const SILENCE_SECS_MIN: u64 = 10;
const SILENCE_SECS_MAX: u64 = 60;
/// What is sent may take so much longer: bytes a second of one request on the slowest line that is served.
const BYTES_PER_SEC_MIN: u64 = 32 << 10;
/// A warning is printed for a request that takes longer than this.
const SAID_AFTER: Duration = Duration::from_secs(10);
/// And not again for so long.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// For how long a store that does not answer is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    /// Since the last progress.
    pub(crate) tried: Duration,
    /// A request of which nothing comes for so long is given up, and tried again while there is time.
    pub(crate) silence: Duration,
}

impl Retry {
    /// Tries for so long, and gives a single request up after as long, within bounds.
    pub(crate) const fn lasting(tried: Duration) -> Self {
        let secs = tried.as_secs();
        let secs = if secs > SILENCE_SECS_MAX { SILENCE_SECS_MAX } else { secs };
        let silence = Duration::from_secs(if secs < SILENCE_SECS_MIN { SILENCE_SECS_MIN } else { secs });
        Self { tried, silence }
    }

    /// `LAPIDARY_STORE_RETRY_SECS`, or a minute.
    pub(crate) fn of_environment() -> Self {
        let secs = std::env::var("LAPIDARY_STORE_RETRY_SECS").ok().and_then(|secs| secs.parse::<f64>().ok());
        let secs = secs.filter(|secs| (0.0..1e9).contains(secs)).unwrap_or(TRIED_SECS);
        Self::lasting(Duration::from_secs_f64(secs))
    }

    /// The same for single requests.
    pub(crate) fn of_requests(self) -> RetryConfig {
        let backoff = BackoffConfig { init_backoff: PAUSE_FIRST, max_backoff: PAUSE_LAST, base: 2.0 };
        RetryConfig { backoff, max_retries: 3, retry_timeout: self.tried }
    }

    /// The time for a transfer of several steps.
    pub(crate) fn budget(self, url: &str) -> Budget<'_> {
        Budget { retry: self, url, since: Instant::now(), pause: PAUSE_FIRST }
    }

    /// Runs a request until it succeeds, is refused, or the time is over.
    ///
    /// # Errors
    /// What the last attempt said, as an error of `url`.
    pub(crate) async fn run<T, F>(self, url: &str, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        self.run_raw(url, 0, &mut attempt).await.map_err(|(error, secs)| StoreError::of(&error, url, secs))
    }

    /// The same for a request that sends so many bytes, with the store's own error and the seconds that were tried.
    pub(crate) async fn run_raw<T, F>(
        self,
        url: &str,
        bytes: u64,
        attempt: &mut impl FnMut() -> F,
    ) -> std::result::Result<T, (object_store::Error, f64)>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let limit = self.silence + Duration::from_secs(bytes / BYTES_PER_SEC_MIN);
        let mut budget = self.budget(url);
        loop {
            match answered(url, limit, attempt()).await {
                Ok(value) => return Ok(value),
                Err(error) => budget.pause_after(error).await?,
            }
        }
    }

    /// One request, which is not tried again.
    pub(crate) async fn once<T>(
        self,
        url: &str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        answered(url, self.silence, request).await
    }
}

/// How much longer a store is tried.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    retry: Retry,
    url: &'a str,
    /// The last progress.
    since: Instant,
    pause: Duration,
}

impl Budget<'_> {
    /// Bytes or a page came: the time counts anew.
    pub(crate) fn progressed(&mut self) {
        self.since = Instant::now();
        self.pause = PAUSE_FIRST;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The error itself and the seconds that were tried, when trying again does not help or the time is over.
    pub(crate) async fn pause_after(
        &mut self,
        error: object_store::Error,
    ) -> std::result::Result<(), (object_store::Error, f64)> {
        if !is_passing(&error) || self.since.elapsed() + self.pause >= self.retry.tried {
            return Err((error, self.since.elapsed().as_secs_f64()));
        }
        say_waiting(self.url, &Answer::of(&error).in_words());
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_LAST);
        Ok(())
    }
}

/// What comes of a request within a time.
async fn answered<T>(
    url: &str,
    limit: Duration,
    request: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    let mut request = pin!(request);
    let first = limit.min(SAID_AFTER);
    if let Ok(answer) = timeout(first, &mut request).await {
        return answer;
    }
    if limit > first {
        say_waiting(url, "no answer yet");
        if let Ok(answer) = timeout(limit - first, request).await {
            return answer;
        }
    }
    Err(network_error(Silent { secs: limit.as_secs_f64() }))
}

/// Says on stderr, now and then, that a store is waited for.
fn say_waiting(url: &str, detail: &str) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
        *said = Some(Instant::now());
        eprintln!("warning: the store is waited for: `{url}`: {}", scrub(detail));
    }
}
