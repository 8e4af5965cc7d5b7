//! From a URL to a store and a place in it. Credentials come from the environment and nowhere else.

use crate::answer::Answer;
use crate::clients::{Client, Kind};
use crate::retry::Retry;
use crate::secrets::scrub;
use crate::{Result, StoreError};
use object_store::path::Path;
use url::Url;

/// A place in a store.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) client: Client,
    /// The place.
    pub(crate) prefix: Path,
    /// The URL, as people may see it.
    pub(crate) shown: String,
}

impl Address {
    /// Opens the store that a URL names, and finds out whether there are credentials for it. Nothing else is asked of it yet.
    ///
    /// # Errors
    /// [`StoreError::Usage`] when the URL is none, names no store, or holds credentials; [`StoreError::NoCredentials`].
    pub(crate) async fn open(text: &str, retry: Retry) -> Result<Self> {
        let address = Self::of_url(text, retry)?;
        address.client.refuse_without_credentials(&address.shown).await?;
        Ok(address)
    }

    /// The same, without a look for credentials.
    pub(crate) fn of_url(text: &str, retry: Retry) -> Result<Self> {
        let url =
            Url::parse(text).map_err(|e| StoreError::Usage(format!("this is no URL ({e}): `{}`", shown(text))))?;
        if !url.username().is_empty() || url.password().is_some() {
            let hint = "hint: give credentials in the environment; a URL ends in logs and manifests";
            return Err(StoreError::Usage(format!("credentials in a URL are not taken: `{}`\n{hint}", shown(text))));
        }
        let kind = Kind::of_scheme(url.scheme()).ok_or_else(|| {
            let known = "s3://, gs://, az://, http:// and https://";
            StoreError::Usage(format!("`{}://` is no store; there are {known}: `{}`", url.scheme(), shown(text)))
        })?;
        if url.fragment().is_some() {
            let hint = "hint: in a URL the `#` of a name is written `%23`";
            return Err(StoreError::Usage(format!("`#` and what follows name nothing: `{}`\n{hint}", shown(text))));
        }
        if url.query().is_some() && kind != Kind::Web {
            let hint = "hint: in a URL the `?` of a name is written `%3F`";
            return Err(StoreError::Usage(format!("a store takes no query (`?...`): `{}`\n{hint}", shown(text))));
        }
        let prefix = Path::from_url_path(url.path())
            .map_err(|e| StoreError::Usage(format!("this is no path in a store ({e}): `{}`", shown(text))))?;
        let client = Client::build(kind, &url, retry).map_err(|error| StoreError::Environment {
            url: shown(text),
            detail: scrub(&Answer::of(&error).in_words()),
            variables: kind.variables(),
        })?;
        Ok(Self { client, prefix, shown: shown(text) })
    }

    /// Whether it is a web server: nothing can be listed or written.
    pub(crate) fn is_web(&self) -> bool {
        self.client.kind == Kind::Web
    }

    /// What tells two stores apart that have the same URL: beside it the endpoint or account, on a line of its own.
    pub(crate) fn identity(&self) -> String {
        self.client.account.as_ref().map_or_else(|| self.shown.clone(), |account| format!("{}\n{account}", self.shown))
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

    /// The URL of an object or folder of the store, for people.
    pub(crate) fn url_of(&self, location: &Path) -> String {
        if *location == self.prefix { self.shown.clone() } else { self.url(self.name_of(location).unwrap_or_default()) }
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

    fn open(text: &str) -> Result<Address> {
        Address::of_url(text, Retry::of_environment())
    }

    #[test]
    fn what_is_shown_holds_no_credentials() {
        assert_eq!(shown("s3://user:pa@ss@bucket/a/b/"), "s3://bucket/a/b");
        assert_eq!(shown("https://h:8080/x.parquet?X-Amz-Signature=abc#d"), "https://h:8080/x.parquet");
        assert_eq!(shown("gs://bucket"), "gs://bucket");
        let error = open("s3://me:secret@bucket/x").expect_err("is refused");
        assert!(error.is_usage() && error.to_string().contains("s3://bucket/x"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        for wrong in ["ftp://host/x", "no url"] {
            assert!(open(wrong).expect_err("is none").is_usage(), "{wrong}");
        }
    }

    #[test]
    fn nothing_of_a_url_is_dropped_in_silence() {
        for (wrong, hint) in [
            ("s3://bucket/run#2", "%23"),
            ("https://host/run#2", "%23"),
            ("s3://bucket/run?2", "%3F"),
            ("az://container/run?sig=hunter2", "%3F"),
        ] {
            let error = open(wrong).expect_err("is refused");
            assert!(error.is_usage() && error.to_string().contains(hint), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let address = open("https://host/run%232/a%3Fb.jpg?sig=hunter2").expect("a web server takes a query");
        assert_eq!(
            (address.prefix.as_ref(), address.shown.as_str()),
            ("run#2/a?b.jpg", "https://host/run%232/a%3Fb.jpg")
        );
    }

    #[test]
    fn names_are_relative_to_the_place() {
        let address = open("http://127.0.0.1:1/out/x").expect("opens");
        let at = address.at("pile/ranking~0a/manifest.json").expect("a path");
        assert_eq!(at.as_ref(), "out/x/pile/ranking~0a/manifest.json");
        assert_eq!(address.name_of(&at), Some("pile/ranking~0a/manifest.json"));
        assert_eq!(address.name_of(&Path::from("out/xy/z")), None);
        assert_eq!(address.url("pile"), "http://127.0.0.1:1/out/x/pile");
        assert_eq!(address.url_of(&at), "http://127.0.0.1:1/out/x/pile/ranking~0a/manifest.json");
    }
}
