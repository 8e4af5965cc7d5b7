//! From a URL to a store and a place in it. Credentials come from the environment and nowhere else.

use crate::retry::Retry;
use crate::{Result, StoreError};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// A server that does not take a connection is given up after this.
const CONNECT: Duration = Duration::from_secs(10);
/// A request is given up after this, however much has come; one of which nothing comes is given up sooner.
const REQUEST: Duration = Duration::from_secs(1800);

/// A place in a store.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The place.
    pub(crate) prefix: Path,
    /// The URL, as people may see it.
    pub(crate) shown: String,
    /// It is a web server: nothing can be listed or written.
    pub(crate) is_web: bool,
}

impl Address {
    /// Opens the store that a URL names. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`StoreError::Usage`] when the URL is none, names no store, or holds credentials.
    pub(crate) fn open(text: &str, retry: Retry) -> Result<Self> {
        let url =
            Url::parse(text).map_err(|e| StoreError::Usage(format!("this is no URL ({e}): `{}`", shown(text))))?;
        if !url.username().is_empty() || url.password().is_some() {
            let hint = "hint: give credentials in the environment; a URL ends in logs and manifests";
            return Err(StoreError::Usage(format!("credentials in a URL are not taken: `{}`\n{hint}", shown(text))));
        }
        let path = Path::from_url_path(url.path())
            .map_err(|e| StoreError::Usage(format!("this is no path in a store ({e}): `{}`", shown(text))))?;
        let unusable = |e: object_store::Error| StoreError::of(&e, &shown(text), 0.0);
        let root = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        let is_web = matches!(url.scheme(), "http" | "https");
        let client = |is_plain: bool| {
            let options = ClientOptions::new().with_connect_timeout(CONNECT).with_timeout(REQUEST);
            options.with_allow_http(is_plain)
        };
        let requests = retry.of_requests();
        let store: Arc<dyn ObjectStore> = match url.scheme() {
            "s3" | "s3a" => {
                let plain = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"]
                    .iter()
                    .any(|name| std::env::var(name).is_ok_and(|endpoint| endpoint.starts_with("http://")));
                let builder = AmazonS3Builder::from_env().with_url(root).with_retry(requests);
                Arc::new(builder.with_client_options(client(plain)).build().map_err(unusable)?)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(root).with_retry(requests);
                Arc::new(builder.with_client_options(client(false)).build().map_err(unusable)?)
            }
            "az" | "azure" | "abfs" | "abfss" => {
                let plain = std::env::var("AZURE_STORAGE_USE_EMULATOR").is_ok();
                let builder = MicrosoftAzureBuilder::from_env().with_url(root).with_retry(requests);
                Arc::new(builder.with_client_options(client(plain)).build().map_err(unusable)?)
            }
            "http" | "https" => {
                let origin = url.origin().ascii_serialization();
                let builder = HttpBuilder::new().with_url(origin).with_retry(requests);
                Arc::new(builder.with_client_options(client(url.scheme() == "http")).build().map_err(unusable)?)
            }
            other => {
                let known = "s3://, gs://, az://, http:// and https://";
                return Err(StoreError::Usage(format!(
                    "`{other}://` is no store; there are {known}: `{}`",
                    shown(text)
                )));
            }
        };
        Ok(Self { store, prefix: path, shown: shown(text), is_web })
    }

    /// The place of an object below this one.
    ///
    /// # Errors
    /// When no object can be called so.
    pub(crate) fn at(&self, name: &str) -> Result<Path> {
        let whole = if self.prefix.is_root() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(&whole).map_err(|e| StoreError::Usage(format!("no object can be called `{name}`: {e}")))
    }

    /// The URL of an object below this one, for people.
    pub(crate) fn url(&self, name: &str) -> String {
        if name.is_empty() { self.shown.clone() } else { format!("{}/{name}", self.shown) }
    }

    /// The name of an object, relative to this place.
    pub(crate) fn name_of<'a>(&self, location: &'a Path) -> Option<&'a str> {
        let whole: &str = location.as_ref();
        if self.prefix.is_root() {
            return Some(whole);
        }
        whole.strip_prefix(self.prefix.as_ref())?.strip_prefix('/')
    }
}

/// A URL as people may see it: without user, password, query and fragment.
pub(crate) fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit('@').next().unwrap_or_default();
    path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_holds_no_credentials() {
        assert_eq!(shown("s3://user:pa@ss@bucket/a/b/"), "s3://bucket/a/b");
        assert_eq!(shown("https://h:8080/x.parquet?X-Amz-Signature=abc#d"), "https://h:8080/x.parquet");
        assert_eq!(shown("gs://bucket"), "gs://bucket");
        let error = Address::open("s3://me:secret@bucket/x", Retry::of_environment()).expect_err("is refused");
        assert!(error.is_usage() && error.to_string().contains("s3://bucket/x"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        for wrong in ["ftp://host/x", "no url"] {
            assert!(Address::open(wrong, Retry::of_environment()).expect_err("is none").is_usage(), "{wrong}");
        }
    }

    #[test]
    fn names_are_relative_to_the_place() {
        let address = Address::open("http://127.0.0.1:1/out/x", Retry::of_environment()).expect("opens");
        let at = address.at("pile/ranking~0a/manifest.json").expect("a path");
        assert_eq!(at.as_ref(), "out/x/pile/ranking~0a/manifest.json");
        assert_eq!(address.name_of(&at), Some("pile/ranking~0a/manifest.json"));
        assert_eq!(address.name_of(&Path::from("out/xy/z")), None);
        assert_eq!(address.url("pile"), "http://127.0.0.1:1/out/x/pile");
    }
}
