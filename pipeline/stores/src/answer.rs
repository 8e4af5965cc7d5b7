//! What a server answered, read out of an error by its type and status: texts of people, and of URLs, decide nothing.

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as StdError;

/// Of what a server answers, so much is shown.
const DETAIL_CHARS: usize = 400;
/// How `object_store` begins what it says of a status, and of an error in an answer that is none by its status: it shows no
/// type for them. A test on a real server holds it to this.
const OF_STATUS: &str = "Server returned non-2xx status code: ";
const OF_BODY: &str = "Server returned error response: ";
/// How an HTTP client begins what it says of a request that cannot be made, such as `http://` where it is not allowed.
const OF_BUILDER: &str = "builder error";
/// How `object_store` begins what it says when a cloud's machine is refused the token that it asks its metadata service for.
const OF_TOKEN: &str = "Error performing token request: ";
/// How `object_store` says that a server sent all where a part was asked for.
const OF_RANGES: &str = "Received non-partial response when range requested";

const CODES_OF_NO_BUCKET: &[&str] = &["NoSuchBucket", "ContainerNotFound"];
const CODES_OF_DENIAL: &[&str] = &[
    "AccessDenied",
    "AuthenticationRequired",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

/// Nothing came of a request for so long.
#[derive(Debug, thiserror::Error)]
#[error("nothing came for {secs:.0} s")]
pub(crate) struct Silent {
    pub(crate) secs: f64,
}

/// An object's bytes ended before its length.
#[derive(Debug, thiserror::Error)]
#[error("the connection ended after {came} of {whole} bytes")]
pub(crate) struct CutShort {
    pub(crate) came: u64,
    pub(crate) whole: u64,
}

/// An error of the network, as `object_store` would give it.
pub(crate) fn network_error(source: impl StdError + Send + Sync + 'static) -> Error {
    Error::Generic { store: "object", source: Box::new(source) }
}

/// What an error says of the server's answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    status: Option<u16>,
    /// The `Code` in a body of XML, its message, and what Google adds: which right is missing.
    code: Option<String>,
    message: Option<String>,
    details: Option<String>,
    is_refused_credential: bool,
    is_of_token: bool,
    is_lost: bool,
    is_whole_for_a_range: bool,
    text: String,
}

impl Answer {
    /// Reads an error and those below it.
    pub(crate) fn of(error: &Error) -> Self {
        let mut answer = Self { text: error.to_string(), ..Self::default() };
        let mut below: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = below {
            answer.read(error);
            below = error.source();
        }
        answer
    }

    fn read(&mut self, error: &(dyn StdError + 'static)) {
        if let Some(error) = error.downcast_ref::<Error>() {
            self.is_refused_credential |=
                matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. });
        } else if let Some(error) = error.downcast_ref::<HttpError>() {
            let is_unbuilt = error.source().is_some_and(|source| source.to_string().starts_with(OF_BUILDER));
            self.is_lost |= error.kind() != HttpErrorKind::Unknown || !is_unbuilt;
        } else if error.is::<Silent>() || error.is::<CutShort>() {
            self.is_lost = true;
        }
        let text = error.to_string();
        self.is_of_token |= text.starts_with(OF_TOKEN);
        if let Some(said) = text.strip_prefix(OF_STATUS) {
            self.status = said.get(..3).and_then(|status| status.parse().ok());
            self.read_body(&text);
        } else if text.starts_with(OF_BODY) {
            self.is_lost = true;
            self.read_body(&text);
        }
        self.is_whole_for_a_range |=
            matches!(error.downcast_ref(), Some(Error::NotSupported { .. })) || text == OF_RANGES;
        if !self.text.contains(&text) {
            self.text.push_str(": ");
            self.text.push_str(&text);
        }
    }

    fn read_body(&mut self, text: &str) {
        let between = |tag: &str| {
            let from = text.find(&format!("<{tag}>"))? + tag.len() + 2;
            Some(text[from..from + text[from..].find(&format!("</{tag}>"))?].to_owned())
        };
        self.code = between("Code");
        self.message = between("Message");
        self.details = between("Details");
    }

    /// Whether there is no such bucket.
    pub(crate) fn is_of_missing_bucket(&self) -> bool {
        self.has_code(CODES_OF_NO_BUCKET)
    }

    /// Whether the credentials are refused.
    pub(crate) fn is_denial(&self) -> bool {
        let is_refused_token = self.is_of_token && matches!(self.status, Some(400..=499));
        self.is_refused_credential
            || is_refused_token
            || matches!(self.status, Some(401 | 403))
            || self.has_code(CODES_OF_DENIAL)
    }

    /// Whether trying again may help: the network, or a server that is busy.
    pub(crate) fn is_passing(&self) -> bool {
        match self.status {
            Some(501) => false,
            Some(status) => status >= 500 || matches!(status, 408 | 429),
            None => self.is_lost,
        }
    }

    /// Whether a part of an object was asked for and the server gives none.
    pub(crate) fn is_without_ranges(&self) -> bool {
        self.is_whole_for_a_range
    }

    /// Whether a server says this code in its body.
    pub(crate) fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// The code and message of a server, or the beginning of what is said.
    pub(crate) fn in_words(&self) -> String {
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => {
                let details = self.details.as_ref().map(|details| format!(" {details}")).unwrap_or_default();
                format!("{code}, {message}{details}")
            }
            (Some(code), None) => code.clone(),
            _ => {
                let text = without_queries(&self.text);
                text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_CHARS).collect()
            }
        }
    }
}

/// Whether trying again may help.
pub(crate) fn is_passing(error: &Error) -> bool {
    Answer::of(error).is_passing()
}

/// A text whose URLs have no queries: those may be credentials.
fn without_queries(text: &str) -> String {
    let cut = |word: &str| match word.split_once('?') {
        Some((url, _)) if url.contains("://") => url.to_owned(),
        _ => word.to_owned(),
    };
    text.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn a_word_in_a_url_decides_nothing() {
        let url = "Error performing GET http://h/AccessDenied/169.254.169.254/NoSuchBucket/connection/status code: 503";
        let answer = Answer::of(&generic(url));
        assert!(!answer.is_denial() && !answer.is_of_missing_bucket() && !answer.is_passing(), "{answer:?}");
    }

    #[test]
    fn status_and_code_are_read_from_an_answer() {
        let of = |text: &str| Answer::of(&generic(text));
        assert!(of("Server returned non-2xx status code: 503 Service Unavailable: ").is_passing());
        assert!(!of("Server returned non-2xx status code: 501 Not Implemented: ").is_passing());
        assert!(of("Server returned non-2xx status code: 400 Bad Request: <Code>ExpiredToken</Code>").is_denial());
        assert!(
            of("Server returned non-2xx status code: 404 Not Found: <Code>NoSuchBucket</Code>").is_of_missing_bucket()
        );
        let said = of("Server returned non-2xx status code: 403 Forbidden: <Code>C</Code><Message>m</Message>");
        assert!(said.is_denial() && said.in_words() == "C, m", "{said:?}");
        let said = of(
            "Server returned non-2xx status code: 403 Forbidden: <Code>C</Code><Message>m.</Message><Details>d</Details>",
        );
        assert_eq!(said.in_words(), "C, m. d");
        assert!(of("Server returned error response: <Code>SlowDown</Code>").is_passing());
        let lost = HttpError::new(HttpErrorKind::Connect, std::io::Error::other("refused"));
        assert!(Answer::of(&network_error(lost)).is_passing());
        assert!(Answer::of(&network_error(Silent { secs: 1.0 })).is_passing());
    }

    #[test]
    fn queries_are_not_shown() {
        let said = Answer::of(&generic("Error performing HEAD http://h/x?sig=hunter2 in 1 s - why?")).in_words();
        assert!(!said.contains("hunter2") && said.ends_with("http://h/x in 1 s - why?"), "{said}");
    }
}
