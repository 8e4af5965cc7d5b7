//! What the server answers: an answer, or a refusal in the words of the XML API.

use std::fs::File;
use std::io::{self, Cursor, Read};
use tiny_http::{Header, Request, Response, StatusCode};

pub(super) type Result<T> = std::result::Result<T, Refusal>;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) details: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, details: impl Into<String>) -> Self {
        Self { status, code, details: details.into() }
    }

    /// A request that no client may send.
    pub(super) fn invalid(details: impl Into<String>) -> Self {
        Self::new(400, "InvalidArgument", details)
    }

    /// A condition that does not hold.
    pub(super) fn precondition() -> Self {
        Self::new(412, "PreconditionFailed", "")
    }

    fn message(&self) -> &'static str {
        match self.code {
            "AccessDenied" => "Access denied.",
            "AuthenticationRequired" => "Authentication required.",
            "NoSuchBucket" => "The specified bucket does not exist.",
            "NoSuchKey" => "The specified key does not exist.",
            "NoSuchUpload" => "The requested upload was not found.",
            "PreconditionFailed" => "At least one of the pre-conditions you specified did not hold.",
            "NotImplemented" => "A header or query you provided requested a function that is not implemented.",
            "InternalError" => "We encountered an internal error.",
            _ => "Invalid argument.",
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::new(500, "InternalError", error.to_string())
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let (code, message, details) = (refusal.code, refusal.message(), escaped(&refusal.details));
        let details = if details.is_empty() { details } else { format!("<Details>{details}</Details>") };
        Self::xml(refusal.status, &format!("<Error><Code>{code}</Code><Message>{message}</Message>{details}</Error>"))
    }
}

/// An answer.
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Box<dyn Read + Send>,
    /// The body's length; of an answer to HEAD, that of the body that GET would have.
    bytes: u64,
}

impl Reply {
    /// An answer without a body.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Box::new(io::empty()), bytes: 0 }
    }

    pub(super) fn xml(status: u16, text: &str) -> Self {
        let text = format!("<?xml version='1.0' encoding='UTF-8'?>{text}").into_bytes();
        let (bytes, body) = (text.len() as u64, Box::new(Cursor::new(text)));
        Self { status, headers: Vec::new(), body, bytes }.with("Content-Type", "application/xml; charset=UTF-8")
    }

    pub(super) fn json(text: String) -> Self {
        let (bytes, body) = (text.len() as u64, Box::new(Cursor::new(text.into_bytes())));
        Self { status: 200, headers: Vec::new(), body, bytes }.with("Content-Type", "application/json")
    }

    /// The next `bytes` of a file.
    pub(super) fn file(status: u16, file: File, bytes: u64) -> Self {
        Self { status, headers: Vec::new(), body: Box::new(file.take(bytes)), bytes }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends it; a client that goes away is a client that goes away.
    pub(super) fn send(self, request: Request) {
        let header =
            |(name, value): &(&'static str, String)| Header::from_bytes(name.as_bytes(), value.as_bytes()).ok();
        let headers = self.headers.iter().filter_map(header).collect();
        let bytes = usize::try_from(self.bytes).ok();
        let response = Response::new(StatusCode(self.status), headers, self.body, bytes, None);
        // A length is always said: chunks would not say it.
        let _ = request.respond(response.with_chunked_threshold(usize::MAX));
    }
}

/// A text inside an element of XML.
pub(super) fn escaped(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', "&#39;")
}
