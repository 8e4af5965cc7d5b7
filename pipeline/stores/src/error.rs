//! What can go wrong with a store, by what the caller can do about it. No text of an error holds a credential.

use crate::answer::Answer;
use crate::secrets::scrub;
use std::path::{Path, PathBuf};

/// An error of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A URL that cannot be.
    #[error("{0}")]
    Usage(String),
    /// The store does not answer.
    #[error(
        "the store does not answer, tried for {tried_secs:.0} s: `{url}`: {detail}\n\
         hint: the same command goes on where it stopped; LAPIDARY_STORE_RETRY_SECS says how long to try"
    )]
    Unreachable {
        /// What was asked for.
        url: String,
        /// For how long it was tried since the last progress.
        tried_secs: f64,
        /// The last error.
        detail: String,
    },
    /// The credentials are not those of somebody who may.
    #[error(
        "the store refuses the credentials of the environment: `{url}`: {detail}\n\
         hint: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3, GOOGLE_SERVICE_ACCOUNT (a file) for gs, \
         AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY for az"
    )]
    Denied {
        /// What was asked for.
        url: String,
        /// What the store said.
        detail: String,
    },
    /// There are no credentials.
    #[error(
        "there are no credentials for `{url}`: none in the environment, and none of this machine (`{metadata}`): {detail}\n\
         hint: set {variables}"
    )]
    NoCredentials {
        /// The store.
        url: String,
        /// The metadata service that was tried.
        metadata: String,
        /// What came of it.
        detail: String,
        /// The variables that hold credentials of this kind of store.
        variables: &'static str,
    },
    /// The environment does not fit a store: half a key, no account, a value that cannot be.
    #[error("the environment does not fit the store: {detail}: `{url}`\nhint: set {variables}")]
    Environment {
        /// The store.
        url: String,
        /// What does not fit.
        detail: String,
        /// The variables that hold credentials of this kind of store.
        variables: &'static str,
    },
    /// One object may not be read, others may.
    #[error("this object may not be read with the credentials of the environment: `{url}`: {detail}")]
    ObjectDenied {
        /// The object.
        url: String,
        /// What the store said.
        detail: String,
    },
    /// There is no such bucket.
    #[error(
        "there is no such bucket: `{url}`\n\
         hint: make it first, or look at the URL and at the endpoint (AWS_ENDPOINT_URL, GOOGLE_BASE_URL)"
    )]
    NoBucket {
        /// What was asked for.
        url: String,
    },
    /// An object is not there.
    #[error("it is not in the store: `{url}`")]
    NotFound {
        /// The object.
        url: String,
    },
    /// A listing holds a key that is no path.
    #[error(
        "the key `{key}` is no path (an empty part, `.` or `..`), and this store cannot be listed past it: `{url}`\n\
         hint: rename that object, or name a folder without it"
    )]
    BadKey {
        /// What was listed.
        url: String,
        /// The key.
        key: String,
    },
    /// Another writer was first.
    #[error(
        "another writer's manifest is in the store, and nothing was overwritten: `{url}` has digest {theirs}, this one {ours}\n\
         hint: remove `{}` to take theirs, or write to another OUT", local.display()
    )]
    Conflict {
        /// The manifest.
        url: String,
        /// The digest in the store.
        theirs: String,
        /// The digest that was to be published.
        ours: String,
        /// The folder that was to be published.
        local: PathBuf,
    },
    /// What was to be removed has been replaced by another writer.
    #[error(
        "another machine has published this result since it was last looked at; the store's stays: `{url}`\n\
         hint: the same command again removes what is there now"
    )]
    Superseded {
        /// The manifest.
        url: String,
    },
    /// A store that had results has none.
    #[error(
        "the store is empty, and this cache knew {known} results of it; nothing was removed here: `{url}`\n\
         hint: look at the URL and the endpoint; if another machine removed them all, remove `{}` as well", cache.display()
    )]
    Emptied {
        /// The store.
        url: String,
        /// Results that the cache knew.
        known: usize,
        /// The folder that mirrors the store.
        cache: PathBuf,
    },
    /// The server overwrites where it was told not to.
    #[error(
        "this server ignores conditional puts ({condition}), so that two machines could overwrite each other's results: `{url}`\n\
         hint: use a server that honours it"
    )]
    Unconditional {
        /// The manifest that it was tried with.
        url: String,
        /// The condition that did not hold.
        condition: &'static str,
    },
    /// A file was not sent, since another that belongs to it could not be.
    #[error("it was not sent, as another file could not be: `{url}`")]
    Stopped {
        /// The object.
        url: String,
    },
    /// What came is not what was named.
    #[error("{detail}: `{url}`")]
    Damaged {
        /// The object.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The disk refused.
    #[error("{action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Anything else that a store says.
    #[error("{detail}: `{url}`")]
    Other {
        /// What was asked for.
        url: String,
        /// What the store said.
        detail: String,
    },
}

impl StoreError {
    /// Wraps an I/O error with what was tried on which file.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What a store's error means for `url`, which was tried for `tried_secs`.
    pub(crate) fn of(error: &object_store::Error, url: &str, tried_secs: f64) -> Self {
        let answer = Answer::of(error);
        let (url, detail) = (url.to_owned(), scrub(&answer.in_words()));
        if answer.is_of_missing_bucket() {
            return Self::NoBucket { url };
        }
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound { url },
            object_store::Error::InvalidPath { source } => match key_of(source) {
                Some(key) => Self::BadKey { url, key },
                None => Self::Other { url, detail },
            },
            _ if answer.is_denial() => Self::Denied { url, detail },
            _ if answer.is_passing() => Self::Unreachable { url, tried_secs, detail },
            _ => Self::Other { url, detail },
        }
    }

    /// Whether the arguments were wrong, not the world.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }

    /// Whether it says nothing of other objects.
    pub(crate) fn is_of_one_object(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Damaged { .. } | Self::ObjectDenied { .. })
    }
}

/// The key that is no path.
pub(crate) fn key_of(error: &object_store::path::Error) -> Option<String> {
    use object_store::path::Error;
    match error {
        Error::EmptySegment { path } | Error::BadSegment { path, .. } | Error::NonUnicode { path, .. } => {
            Some(path.clone())
        }
        _ => None,
    }
}
