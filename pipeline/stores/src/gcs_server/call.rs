//! What a request asks for, read strictly: what is not understood is refused, never ignored.

use super::reply::{Refusal, Result};
use hyper::Method;
use hyper::http::request::Parts;
use std::collections::BTreeMap;
use url::form_urlencoded;

/// Headers of Google's that change what a request means, beside those that the server knows.
const GOOGLE: &str = "x-goog-";
const GENERATION_MATCH: &str = "x-goog-if-generation-match";

/// A request without its body.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) bucket: String,
    /// None of a request about the bucket.
    pub(super) key: Option<String>,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

impl Call {
    /// Reads the first line and the headers.
    ///
    /// # Errors
    /// When the path or the query is not well-formed, or a header or parameter stands there twice.
    pub(super) fn of(head: &Parts) -> Result<Self> {
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let path = path.strip_prefix('/').ok_or_else(|| Refusal::invalid("the path begins with no `/`"))?;
        let (bucket, key) = path.split_once('/').map_or((path, None), |(bucket, key)| (bucket, Some(key)));
        let mut call = Self {
            method: head.method.clone(),
            bucket: percent_decoded(bucket)?,
            key: key.filter(|key| !key.is_empty()).map(percent_decoded).transpose()?,
            query: BTreeMap::new(),
            headers: BTreeMap::new(),
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if call.query.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Refusal::invalid(format!("the parameter `{name}` is there twice")));
            }
        }
        for (name, value) in &head.headers {
            let value = value.to_str().map_err(|_| Refusal::invalid(format!("the header `{name}` is no text")))?;
            if call.headers.insert(name.to_string(), value.to_owned()).is_some() {
                return Err(Refusal::invalid(format!("the header `{name}` is there twice")));
            }
        }
        Ok(call)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Takes a parameter of the query, so that [`Call::refuse_the_rest`] does not refuse it.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.query.remove(name)
    }

    /// Takes a number of the query.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn take_number(&mut self, name: &str) -> Result<Option<u64>> {
        let number = |text: String| text.parse().map_err(|_| Refusal::invalid(format!("`{name}={text}` is no number")));
        self.take(name).map(number).transpose()
    }

    /// The generation that an object must have; 0 that there is none.
    ///
    /// # Errors
    /// When it is no number.
    pub(super) fn generation_match(&self) -> Result<Option<u64>> {
        let number = |text: &str| {
            text.parse().map_err(|_| Refusal::invalid(format!("`{GENERATION_MATCH}: {text}` is no generation")))
        };
        self.header(GENERATION_MATCH).map(number).transpose()
    }

    /// The same where no condition may be: Google refuses conditions on uploads in parts.
    pub(super) fn refuse_conditions(&self) -> Result<()> {
        match self.header(GENERATION_MATCH) {
            None => Ok(()),
            Some(_) => Err(Refusal::new(400, "NotImplemented", "no condition can be set on an upload in parts")),
        }
    }

    /// Refuses parameters that nobody took, and headers of Google's that the server does not know.
    pub(super) fn refuse_the_rest(&self) -> Result<()> {
        if let Some(name) = self.query.keys().next() {
            return Err(Refusal::invalid(format!("the parameter `{name}` does not belong here")));
        }
        let unknown = self.headers.keys().find(|name| name.starts_with(GOOGLE) && *name != GENERATION_MATCH);
        let refused = |name: &String| Refusal::new(501, "NotImplemented", format!("this server knows no `{name}`"));
        unknown.map_or(Ok(()), |name| Err(refused(name)))
    }
}

/// What `%XX` stand for.
fn percent_decoded(text: &str) -> Result<String> {
    let refused = || Refusal::new(400, "InvalidURI", format!("`{text}` is not well-formed"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(refused)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| refused())?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| refused())
}
