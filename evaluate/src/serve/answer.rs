//! An answer, with the headers that every answer has.

use serde_json::Value;
use std::io::Cursor;
use tiny_http::{Header, Response};

/// What a page of ours may load: from this server alone.
const POLICY: &str = "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The same for a report, which holds its styles and scripts itself.
const REPORT_POLICY: &str =
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'";

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    pub(super) fn new(mime: &str, body: impl Into<Vec<u8>>) -> Self {
        let answer = Self { status: 200, headers: Vec::new(), body: body.into() };
        answer.with("Content-Type", mime).with("Cache-Control", "no-store").with("Content-Security-Policy", POLICY)
    }

    pub(super) fn json(value: &Value) -> Self {
        Self::new("application/json", value.to_string())
    }

    /// A report's page.
    pub(super) fn report(body: Vec<u8>) -> Self {
        Self::new("text/html; charset=utf-8", body).with("Content-Security-Policy", REPORT_POLICY)
    }

    /// A picture; one of an id never changes.
    pub(super) fn picture(mime: &str, body: Vec<u8>) -> Self {
        Self::new(mime, body).with("Cache-Control", "private, max-age=86400")
    }

    pub(super) fn error(status: u16, text: &str) -> Self {
        Self { status, ..Self::json(&serde_json::json!({"error": text})) }
    }

    pub(super) fn elsewhere(address: &str) -> Self {
        Self { status: 302, ..Self::new("text/plain", "") }.with("Location", address)
    }

    /// With a header in place of one of that name.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// For tiny_http. A header that cannot be one is left out.
    pub(super) fn into_response(self) -> Response<Cursor<Vec<u8>>> {
        let always = [
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ];
        let always = always.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut response =
            Response::from_data(self.body).with_status_code(self.status).with_chunked_threshold(usize::MAX);
        for (name, value) in self.headers.into_iter().chain(always) {
            if let Ok(header) = Header::from_bytes(name, value) {
                response.add_header(header);
            }
        }
        response
    }
}
