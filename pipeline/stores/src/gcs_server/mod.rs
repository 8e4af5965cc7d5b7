//! A server for tests that speaks what `object_store` speaks of Google Cloud Storage's XML API. It is ours, not Google's: it shows
//! that requests are well-formed, are made in an order that conditions allow, and are understood when they are refused. It says
//! nothing of Google's rates, permissions or delays.
//!
//! Buckets are the folders in a folder. It knows: putting, reading (ranges, `If-Match`, a generation), listing in pages and
//! removing objects, `x-goog-if-generation-match`, and uploads in parts. Everything else is refused, whatever a client might have
//! meant by it. Requests are let in by a service account's key, which [`GcsServer::bind`] writes beside the buckets, or by the
//! token that its own metadata service gives.

mod account;
mod call;
mod objects;
mod reply;
mod uploads;

use super::test_http;
use account::Account;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use bytes::Bytes;
use call::Call;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use objects::{Buckets, Object};
use reply::{Refusal, Reply, Result, escaped};
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The service account's file, below the folder of the buckets; no bucket is called so.
pub const ACCOUNT_FILE: &str = "account.json";
/// Where a machine of Google's asks for its token.
const METADATA: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// Keys of a page of a listing, at most.
const PAGE_KEYS: u64 = 1000;

/// The server.
pub struct GcsServer {
    listener: TcpListener,
    buckets: Buckets,
    account: Account,
}

impl GcsServer {
    /// A server of the buckets in a folder. Writes the account's file there.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn bind(listener: TcpListener, folder: &Path) -> io::Result<Self> {
        let buckets = Buckets::in_folder(folder)?;
        fs::write(folder.join(ACCOUNT_FILE), Account::json(listener.local_addr()?.port()))?;
        Ok(Self { listener, buckets, account: Account::of_tests()? })
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn serve(self) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let server = Arc::new(self);
        let service = service_fn(move |request: Request<Incoming>| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.respond(request).await) }
        });
        test_http::serve(listener, service)
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let reply = match body.collect().await {
            Err(error) => Refusal::new(400, "IncompleteBody", error.to_string()).into(),
            Ok(body) => {
                let answer = move || self.answer(&head, &body.to_bytes()).unwrap_or_else(Reply::from);
                let answer = tokio::task::spawn_blocking(answer).await;
                answer.unwrap_or_else(|error| Refusal::new(500, "InternalError", error.to_string()).into())
            }
        };
        reply.into_response()
    }

    fn answer(&self, head: &Parts, body: &[u8]) -> Result<Reply> {
        let mut call = Call::of(head)?;
        if head.uri.path() == METADATA {
            let is_flavoured = call.header("metadata-flavor") == Some("Google");
            let refused = Refusal::new(403, "AccessDenied", "a request to the metadata service has a Metadata-Flavor");
            let token = Reply::of(200, Account::token_of_the_machine().into_bytes());
            return if is_flavoured { Ok(token.with("Content-Type", "application/json")) } else { Err(refused) };
        }
        if !self.account.admits(call.header("authorization")) {
            return Err(Refusal::new(401, "AuthenticationRequired", ""));
        }
        let method = call.method.clone();
        let Some(key) = call.key.clone() else {
            return if method == Method::GET { self.list(call) } else { Err(unknown(&method, "a bucket")) };
        };
        let bucket = call.bucket.clone();
        let object = (bucket.as_str(), key.as_str());
        let upload = call.take("uploadId");
        match (&method, upload) {
            (&Method::GET | &Method::HEAD, None) => self.read(object, call),
            (&Method::PUT, None) => {
                let required = call.generation_match()?;
                call.refuse_the_rest()?;
                let written = self.buckets.write(has_length(&call, body)?)?;
                let put = self.buckets.install(&bucket, &key, &written, required);
                let _ = fs::remove_file(written);
                Ok(described(Reply::of(200, Vec::new()), &put?))
            }
            (&Method::DELETE, None) => {
                let required = call.generation_match()?;
                call.refuse_the_rest()?;
                self.buckets.remove(&bucket, &key, required).map(|()| Reply::of(204, Vec::new()))
            }
            (&Method::POST, None) if call.take("uploads").as_deref() == Some("") => {
                call.refuse_conditions()?;
                call.refuse_the_rest()?;
                let id = self.buckets.begin_upload(&bucket, &key)?;
                let (bucket, key) = (escaped(&bucket), escaped(&key));
                let names = format!("<Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>");
                Ok(Reply::xml(200, &format!("<InitiateMultipartUploadResult>{names}</InitiateMultipartUploadResult>")))
            }
            (&Method::PUT, Some(id)) => {
                let number = call.take_number("partNumber")?.ok_or_else(|| Refusal::invalid("a part has no number"))?;
                call.refuse_conditions()?;
                call.refuse_the_rest()?;
                let e_tag = self.buckets.put_part(object, &id, number, has_length(&call, body)?)?;
                Ok(Reply::of(200, Vec::new()).with("ETag", e_tag))
            }
            (&Method::POST, Some(id)) => {
                call.refuse_conditions()?;
                call.refuse_the_rest()?;
                let made = self.buckets.complete_upload(object, &id, body)?;
                let (bucket, key, e_tag) = (escaped(&bucket), escaped(&key), escaped(&made.e_tag));
                let names = format!("<Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{e_tag}</ETag>");
                let text = format!("<CompleteMultipartUploadResult>{names}</CompleteMultipartUploadResult>");
                Ok(described(Reply::xml(200, &text), &made))
            }
            (&Method::DELETE, Some(id)) => {
                call.refuse_the_rest()?;
                self.buckets.abort_upload(&bucket, &key, &id).map(|()| Reply::of(204, Vec::new()))
            }
            _ => Err(unknown(&method, "an object")),
        }
    }

    /// An object, or the part of it that a range names.
    fn read(&self, (bucket, key): (&str, &str), mut call: Call) -> Result<Reply> {
        let generation = call.take_number("generation")?;
        let required = call.generation_match()?;
        call.refuse_the_rest()?;
        let _unchanged = self.buckets.lock();
        let object = self.buckets.find(bucket, key)?;
        if generation.is_some_and(|generation| generation != object.generation) {
            return Err(Refusal::new(404, "NoSuchKey", format!("No such generation: {bucket}/{key}")));
        }
        let has_tag = |tags: &str| tags.split(',').any(|tag| ["*", object.e_tag.as_str()].contains(&tag.trim()));
        let is_another = call.header("if-match").is_some_and(|tags| !has_tag(tags));
        if is_another || required.is_some_and(|required| required != object.generation) {
            return Err(Refusal::precondition());
        }
        if call.header("if-none-match").is_some_and(has_tag) {
            return Ok(described(Reply::of(304, Vec::new()), &object));
        }
        let range = call.header("range").map(|range| range_of(range, object.bytes)).transpose()?;
        let (from, to) = range.unwrap_or((0, object.bytes));
        let status = if range.is_some() { 206 } else { 200 };
        let reply = if call.method == Method::HEAD {
            Reply::without_body(status, to - from)
        } else {
            let mut file = File::open(&object.path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut part = Vec::new();
            file.take(to - from).read_to_end(&mut part)?;
            Reply::of(status, part)
        };
        let reply = described(reply, &object).with("Last-Modified", httpdate::fmt_http_date(object.modified()));
        let reply = reply.with("Content-Type", "application/octet-stream").with("Accept-Ranges", "bytes");
        Ok(match range {
            Some(_) => reply.with("Content-Range", format!("bytes {from}-{}/{}", to - 1, object.bytes)),
            None => reply,
        })
    }

    /// A page of a bucket's keys.
    fn list(&self, mut call: Call) -> Result<Reply> {
        let version = call.take("list-type");
        let (prefix, start) = (call.take("prefix").unwrap_or_default(), call.take("start-after").unwrap_or_default());
        let after = call.take("continuation-token").map_or(Ok(start), |token| key_of_token(&token))?;
        let keys_max = call.take_number("max-keys")?.unwrap_or(PAGE_KEYS).min(PAGE_KEYS);
        call.refuse_the_rest()?;
        if version.as_deref() != Some("2") || keys_max == 0 {
            return Err(Refusal::invalid("this server lists by `list-type=2`, a key or more a page"));
        }
        let _unchanged = self.buckets.lock();
        let mut keys = self.buckets.keys(&call.bucket, &prefix, &after)?;
        let is_truncated = keys.len() as u64 > keys_max;
        keys.truncate(keys_max as usize);
        let mut text = format!("<Name>{}</Name><Prefix>{}</Prefix>", escaped(&call.bucket), escaped(&prefix));
        text.push_str(&format!("<KeyCount>{}</KeyCount><IsTruncated>{is_truncated}</IsTruncated>", keys.len()));
        if let Some(last) = keys.last().filter(|_| is_truncated) {
            let token = BASE64_URL_SAFE.encode(last);
            text.push_str(&format!("<NextContinuationToken>{token}</NextContinuationToken>"));
        }
        for key in keys {
            text.push_str(&entry_of(&self.buckets.find(&call.bucket, &key)?));
        }
        let namespace = "http://doc.s3.amazonaws.com/2006-03-01";
        Ok(Reply::xml(200, &format!("<ListBucketResult xmlns='{namespace}'>{text}</ListBucketResult>")))
    }
}

fn unknown(method: &Method, of: &str) -> Refusal {
    Refusal::new(405, "MethodNotAllowed", format!("this server knows no such {method} of {of}"))
}

/// The body of a request that must say how long it is.
fn has_length<'a>(call: &Call, body: &'a [u8]) -> Result<&'a [u8]> {
    let refused = || Refusal::new(411, "MissingContentLength", "");
    call.header("content-length").map(|_| body).ok_or_else(refused)
}

/// What headers say of an object.
fn described(reply: Reply, object: &Object) -> Reply {
    let generation = object.generation.to_string();
    reply.with("ETag", &object.e_tag).with("x-goog-generation", generation).with("x-goog-metageneration", "1")
}

/// What a listing says of an object.
fn entry_of(object: &Object) -> String {
    let (key, e_tag, generation, bytes) =
        (escaped(&object.key), escaped(&object.e_tag), object.generation, object.bytes);
    let modified = rfc3339(object.modified());
    format!(
        "<Contents><Key>{key}</Key><Generation>{generation}</Generation><MetaGeneration>1</MetaGeneration>\
         <LastModified>{modified}</LastModified><ETag>{e_tag}</ETag><Size>{bytes}</Size></Contents>"
    )
}

/// The first byte and the one after the last of a range of an object.
fn range_of(header: &str, bytes: u64) -> Result<(u64, u64)> {
    let bounds = header.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let bounds = bounds.and_then(|(from, to)| match (from, to) {
        ("", last) => Some((bytes.saturating_sub(last.parse().ok()?), bytes)),
        (from, "") => Some((from.parse().ok()?, bytes)),
        (from, to) => Some((from.parse().ok()?, to.parse::<u64>().ok()?.checked_add(1)?.min(bytes))),
    });
    match bounds {
        None => Err(Refusal::invalid(format!("`Range: {header}` is none that this server knows"))),
        Some((from, to)) if from < to => Ok((from, to)),
        Some(_) => Err(Refusal::new(416, "InvalidRange", format!("{header} of {bytes} bytes"))),
    }
}

fn key_of_token(token: &str) -> Result<String> {
    let key = BASE64_URL_SAFE.decode(token).ok().and_then(|key| String::from_utf8(key).ok());
    key.ok_or_else(|| Refusal::invalid("this continuation token is none of this server"))
}

/// A time as XML has it, `2026-11-02T10:00:00.123Z`.
fn rfc3339(time: SystemTime) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // `Mon, 02 Nov 2026 10:00:00 GMT`
    let date = httpdate::fmt_http_date(time);
    let month = MONTHS.iter().position(|month| *month == &date[8..11]).map_or(0, |month| month + 1);
    let millis = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    format!("{}-{month:02}-{}T{}.{millis:03}Z", &date[12..16], &date[5..7], &date[17..25])
}
