//! URLs of stores as arguments: which they are, how people may see them, and which folder stands for one here.

use crate::stage::digest_of_bytes;
use crate::{PipelineError, Result};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Digits of a URL's digest in the name of its folder.
const DIGITS: usize = 8;

/// Whether a text is the URL of a store: a scheme, `://` and a place. `file://` is a path.
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme != "file" && !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
    })
}

/// The path that a `file://` URL names; any other text as it is.
///
/// # Errors
/// [`PipelineError::Usage`] when the URL names another host.
pub fn local_path(given: &Path) -> Result<PathBuf> {
    let Some(rest) = given.to_str().and_then(|text| text.strip_prefix("file://")) else { return Ok(given.to_owned()) };
    if !rest.starts_with('/') {
        let text =
            format!("`file://{rest}` names a host\nhint: a path on this machine has three slashes: file:///data");
        return Err(PipelineError::Usage(text));
    }
    let mut bytes = Vec::with_capacity(rest.len());
    let mut left = rest.as_bytes();
    while let [first, after @ ..] = left {
        let code = (*first == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                left = &after[2..];
            }
            None => {
                bytes.push(*first);
                left = after;
            }
        }
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// A text, a URL among others, as people, logs and manifests may see it: without user, password, query and fragment.
pub fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit('@').next().unwrap_or_default();
    path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
}

/// The last part of a URL's path, or its host.
pub fn name_of_url(url: &str) -> String {
    without_credentials(url).rsplit('/').next().unwrap_or_default().to_owned()
}

/// The endpoint or account that the environment names for a URL, without credentials: another one has other objects. It is
/// spelt as `lapidary-stores` reads the environment.
fn endpoint(url: &str) -> String {
    let names: &[&[&str]] = match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("s3" | "s3a") => &[&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]],
        Some("gs") => &[&["GOOGLE_BASE_URL"]],
        Some("az" | "azure" | "abfs" | "abfss") => &[
            &["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "AZURITE_BLOB_STORAGE_URL"],
            &["AZURE_STORAGE_ACCOUNT_NAME"],
        ],
        _ => &[],
    };
    let value = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut values: Vec<String> = names.iter().filter_map(|names| names.iter().find_map(value)).collect();
    if values.is_empty() && url.starts_with("gs://") {
        values.extend(base_url_of_account(|name| std::env::var(name).ok()));
    }
    values.iter().map(|value| format!("\n{}", without_credentials(value))).collect()
}

/// The address that a service account's JSON names instead of Google's own, as those of other servers do.
fn base_url_of_account(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let files = ["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH", "SERVICE_ACCOUNT"];
    let json = match files.into_iter().find_map(&variable) {
        Some(path) => std::fs::read(path).ok()?,
        None => variable("GOOGLE_SERVICE_ACCOUNT_KEY")?.into_bytes(),
    };
    let account: serde_json::Value = serde_json::from_slice(&json).ok()?;
    account["gcs_base_url"].as_str().map(str::to_owned)
}

/// The folder that stands for a URL here, unless the user names one: one for each URL and endpoint.
///
/// # Errors
/// [`PipelineError::Usage`] when the environment names no home.
pub fn cache_folder(url: &str) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let caches = caches.or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let caches = caches.ok_or_else(|| {
        PipelineError::Usage("neither XDG_CACHE_HOME nor HOME is set\nhint: name a folder with --cache".to_owned())
    })?;
    let url = without_credentials(url);
    let digest = digest_of_bytes(format!("{url}{}", endpoint(&url)).as_bytes());
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = url.chars().map(plain).rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
    Ok(caches.join("lapidary").join("stores").join(format!("{name}-{}", &digest.0[..DIGITS])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        for url in ["s3://b/x", "gs://b", "az://c/x", "https://host/a.parquet"] {
            assert!(is_url(url), "{url}");
        }
        for path in ["out", "/data/x", "a:b/c", "./s3:/x", "://x", "file:///data"] {
            assert!(!is_url(path), "{path}");
        }
        assert_eq!(local_path(Path::new("file:///a%20b/%zz")).expect("a path"), Path::new("/a b/%zz"));
        assert_eq!(local_path(Path::new("out")).expect("a path"), Path::new("out"));
        assert!(local_path(Path::new("file://host/x")).is_err());
    }

    #[test]
    fn credentials_and_queries_are_not_shown() {
        assert_eq!(without_credentials("s3://me:sec@ret@bucket/x/"), "s3://bucket/x");
        assert_eq!(without_credentials("https://h/x.parquet?X-Amz-Signature=1"), "https://h/x.parquet");
        assert_eq!(without_credentials("a/b@c"), "a/b@c");
        assert_eq!(name_of_url("https://h/dir/x.parquet?sig=1"), "x.parquet");
        assert_eq!(name_of_url("s3://bucket/"), "bucket");
    }

    #[test]
    fn an_account_may_name_its_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("account.json");
        std::fs::write(&file, r#"{"gcs_base_url": "http://127.0.0.1:1"}"#).expect("writes");
        let file = file.to_str().expect("UTF-8");
        let found = |name: &str, value: &str| base_url_of_account(|asked| (asked == name).then(|| value.to_owned()));
        assert_eq!(found("GOOGLE_SERVICE_ACCOUNT", file).as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(found("GOOGLE_SERVICE_ACCOUNT_KEY", r#"{"gcs_base_url": "http://h"}"#).as_deref(), Some("http://h"));
        for (name, value) in [("GOOGLE_SERVICE_ACCOUNT_KEY", "{}"), ("GOOGLE_SERVICE_ACCOUNT", "nowhere"), ("X", file)]
        {
            assert_eq!(found(name, value), None, "{name}");
        }
    }

    #[test]
    fn every_url_has_a_folder_of_its_own() {
        let [a, b] = ["s3://b/a-b", "s3://b/a/b"].map(|url| cache_folder(url).expect("a home"));
        assert_ne!(a, b);
        assert_eq!(a, cache_folder("s3://u:p@b/a-b/").expect("a home"));
    }
}
