//! Trying again, with pauses that double: what the network lost may come back. What a store refuses is not tried again.

use crate::error::is_passing;
use crate::{Result, StoreError};
use object_store::{BackoffConfig, RetryConfig};
use std::future::Future;
use std::time::{Duration, Instant};

/// How long a store that does not answer is tried, in seconds, unless the environment says otherwise.
const TRIED_SECS: f64 = 60.0;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// For how long a store that does not answer is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    pub(crate) tried: Duration,
}

impl Retry {
    /// `LAPIDARY_STORE_RETRY_SECS`, or a minute.
    pub(crate) fn of_environment() -> Self {
        let secs = std::env::var("LAPIDARY_STORE_RETRY_SECS").ok().and_then(|secs| secs.parse::<f64>().ok());
        let secs = secs.filter(|secs| secs.is_finite() && *secs >= 0.0).unwrap_or(TRIED_SECS);
        Self { tried: Duration::from_secs_f64(secs) }
    }

    /// The same for single requests.
    pub(crate) fn of_requests(self) -> RetryConfig {
        let backoff = BackoffConfig { init_backoff: PAUSE_FIRST, max_backoff: PAUSE_LAST, base: 2.0 };
        RetryConfig { backoff, max_retries: 3, retry_timeout: self.tried }
    }

    /// Runs `attempt` until it succeeds, is refused, or the time is over.
    ///
    /// # Errors
    /// What the last attempt said, as an error of `url`.
    pub(crate) async fn run<T, F>(self, url: &str, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        self.run_raw(&mut attempt).await.map_err(|(error, secs)| StoreError::of(&error, url, secs))
    }

    /// The same, with the store's own error and the seconds that were tried.
    pub(crate) async fn run_raw<T, F>(
        self,
        attempt: &mut impl FnMut() -> F,
    ) -> std::result::Result<T, (object_store::Error, f64)>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let begun = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) if is_passing(&error) && begun.elapsed() + pause < self.tried => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_LAST);
                }
                Err(error) => return Err((error, begun.elapsed().as_secs_f64())),
            }
        }
    }
}
