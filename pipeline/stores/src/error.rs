//! What can go wrong with a store, by what the caller can do about it. No text of an error holds a credential.

use std::path::{Path, PathBuf};

/// Variables of the environment whose values are never shown, by how their names begin and what they hold.
const SECRET_PREFIXES: &[&str] = &["AWS_", "AZURE_", "GOOGLE_"];
const SECRET_PARTS: &[&str] = &["KEY", "SECRET", "TOKEN", "SERVICE_ACCOUNT", "PASSWORD", "SAS", "CREDENTIAL"];
/// Shorter values would blot out ordinary words.
const SECRET_CHARS_MIN: usize = 4;
/// Of what a server answers, so much is shown.
const DETAIL_CHARS: usize = 400;

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
    Away {
        /// What was asked for.
        url: String,
        /// For how long it was tried.
        tried_secs: f64,
        /// What was heard last.
        detail: String,
    },
    /// The credentials are not those of somebody who may.
    #[error(
        "the store refuses the credentials of the environment: `{url}`: {detail}\n\
         hint: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3, GOOGLE_SERVICE_ACCOUNT for gs, \
         AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY for az"
    )]
    Denied {
        /// What was asked for.
        url: String,
        /// What the store said.
        detail: String,
    },
    /// There is no such bucket.
    #[error("there is no such bucket: `{url}`\nhint: make it first, or look at the URL and at AWS_ENDPOINT_URL")]
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
        let whole = scrub(&chain(error));
        let (url, detail) = (url.to_owned(), said_by_server(&whole));
        let missing_bucket = ["NoSuchBucket", "ContainerNotFound", "specified bucket does not exist"];
        let denied = [
            "SignatureDoesNotMatch",
            "InvalidAccessKeyId",
            "AccessDenied",
            "AuthenticationFailed",
            "169.254.169.254",
            "status code: 401",
            "status code: 403",
        ];
        let says = |parts: &[&str]| parts.iter().any(|part| whole.contains(part));
        match error {
            _ if says(&missing_bucket) => Self::NoBucket { url },
            object_store::Error::NotFound { .. } => Self::NotFound { url },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied { url, detail }
            }
            _ if says(&denied) => Self::Denied { url, detail },
            _ if is_passing(error) => Self::Away { url, tried_secs, detail },
            _ => Self::Other { url, detail },
        }
    }

    /// Whether the arguments were wrong, not the world.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }
}

/// Whether trying again may help: the network, or a server that is busy.
pub(crate) fn is_passing(error: &object_store::Error) -> bool {
    let text = chain(error);
    let signs = [
        "HTTP error",
        "error sending request",
        "onnection",
        "timed out",
        "body",
        "status code: 5",
        "status code: 429",
        "status code: 408",
    ];
    matches!(error, object_store::Error::Generic { .. }) && signs.iter().any(|sign| text.contains(sign))
}

/// An error with those below it, each once.
fn chain(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut below = std::error::Error::source(error);
    while let Some(source) = below {
        let said = source.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        below = source.source();
    }
    text
}

/// The code and message in a server's XML, or the beginning of what it says.
fn said_by_server(text: &str) -> String {
    let between = |tag: &str| {
        let from = text.find(&format!("<{tag}>"))? + tag.len() + 2;
        Some(&text[from..from + text[from..].find(&format!("</{tag}>"))?])
    };
    match (between("Code"), between("Message")) {
        (Some(code), Some(message)) => format!("{code}, {message}"),
        (Some(code), None) => code.to_owned(),
        _ => text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_CHARS).collect(),
    }
}

/// A text without the values of the environment's credentials.
pub fn scrub(text: &str) -> String {
    let is_secret = |name: &str| {
        SECRET_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && SECRET_PARTS.iter().any(|part| name.contains(part))
    };
    let secrets =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let secrets: Vec<String> = secrets
        .filter(|(name, value)| is_secret(name) && value.len() >= SECRET_CHARS_MIN)
        .map(|(_, value)| value)
        .collect();
    without(text, secrets)
}

/// A text without some values; what holds another goes first.
pub(crate) fn without(text: &str, mut secrets: Vec<String>) -> String {
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}
