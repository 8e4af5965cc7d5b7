//! What the server answers: an answer, or a refusal in the words of the XML API.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Response, StatusCode, header};
use std::io;

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
#[derive(Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Of an answer to HEAD, the length of the body that GET would have.
    bytes: Option<u64>,
}

impl Reply {
    pub(super) fn of(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body, bytes: None }
    }

    pub(super) fn xml(status: u16, text: &str) -> Self {
        let text = format!("<?xml version='1.0' encoding='UTF-8'?>{text}");
        Self::of(status, text.into_bytes()).with("Content-Type", "application/xml; charset=UTF-8")
    }

    /// An answer to HEAD, with the length that the body would have.
    pub(super) fn without_body(status: u16, bytes: u64) -> Self {
        Self { bytes: Some(bytes), ..Self::of(status, Vec::new()) }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(*name), value.parse()) {
                headers.insert(name, value);
            }
        }
        if let Some(bytes) = self.bytes {
            headers.insert(header::CONTENT_LENGTH, bytes.into());
        }
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = headers;
        response
    }
}

/// A text inside an element of XML.
pub(super) fn escaped(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', "&#39;")
}
