//! The clients of each kind of store, set up by the environment as `object_store` documents it (`AWS_...`, `GOOGLE_...`,
//! `AZURE_...`); what it does not name has our defaults.

use crate::address::shown;
use crate::retry::Retry;
use crate::{Result, StoreError};
use object_store::ClientConfigKey::{AllowHttp, ConnectTimeout, Timeout};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as S3Key};
use object_store::azure::{AzureConfigKey as AzureKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as GoogleKey};
use object_store::http::HttpBuilder;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{ClientConfigKey, ClientOptions, ObjectStore};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

/// A server that does not take a connection is given up after this.
const CONNECT_SECS: u64 = 10;
/// A request is given up after this, however much has come; what came is not asked for again, and one of which nothing comes
/// is given up sooner.
const REQUEST_SECS: u64 = 600;
/// The metadata service of a cloud's machine is on the machine: it answers at once or is not there.
const METADATA: Duration = Duration::from_secs(2);
const METADATA_ADDRESS: &str = "http://169.254.169.254";

/// What kind of store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    Google,
    Azure,
    Web,
    /// In memory, in tests.
    #[cfg(test)]
    Memory,
}

impl Kind {
    pub(crate) fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" | "s3a" => Some(Self::S3),
            "gs" => Some(Self::Google),
            "az" | "azure" | "abfs" | "abfss" => Some(Self::Azure),
            "http" | "https" => Some(Self::Web),
            _ => None,
        }
    }

    /// The variables of the environment that hold its credentials.
    pub(crate) fn variables(self) -> &'static str {
        match self {
            Self::Google => {
                "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS (a file), or GOOGLE_SERVICE_ACCOUNT_KEY"
            }
            Self::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN)",
            _ => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (files of `aws configure` are not read)",
        }
    }
}

/// A store, by each of the interfaces that are used of it.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) kind: Kind,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// How files are sent in parts; none where nothing can be written.
    pub(crate) parts: Option<Arc<dyn MultipartStore>>,
    /// How a listing gets past a key that is no path.
    pub(crate) pages: Option<Arc<dyn PaginatedListStore>>,
    /// The endpoint or account, without credentials; none for the cloud's own.
    pub(crate) account: Option<String>,
    /// The metadata service that credentials come from, when there are none in the environment.
    metadata: Option<String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.store)
    }
}

impl Client {
    /// The client for a URL; nothing is asked of the store.
    ///
    /// # Errors
    /// When the environment does not fit: half a key, no account, a value that cannot be.
    pub(crate) fn build(kind: Kind, url: &Url, retry: Retry) -> object_store::Result<Self> {
        let root = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        match kind {
            Kind::S3 => Self::of_s3(AmazonS3Builder::from_env().with_url(root), retry),
            Kind::Google => Self::of_google(GoogleCloudStorageBuilder::from_env().with_url(root), retry),
            Kind::Azure => Self::of_azure(MicrosoftAzureBuilder::from_env().with_url(root), retry),
            _ => Self::of_web(url, retry),
        }
    }

    fn of<S>(kind: Kind, store: S, account: Option<String>, metadata: Option<String>) -> Self
    where
        S: ObjectStore + MultipartStore + PaginatedListStore,
    {
        let store = Arc::new(store);
        Self {
            kind,
            parts: Some(Arc::<S>::clone(&store)),
            pages: Some(Arc::<S>::clone(&store)),
            store,
            account: account.map(|account| shown(&account)),
            metadata,
        }
    }

    pub(crate) fn of_s3(builder: AmazonS3Builder, retry: Retry) -> object_store::Result<Self> {
        use S3Key::{
            AccessKeyId, ContainerCredentialsFullUri, ContainerCredentialsRelativeUri, Endpoint, MetadataEndpoint,
            S3Endpoint, SecretAccessKey, SkipSignature, WebIdentityTokenFile,
        };
        let value = |key: S3Key| builder.get_config_value(&key);
        let endpoint = value(S3Endpoint).or_else(|| value(Endpoint));
        let sources = [
            AccessKeyId,
            SecretAccessKey,
            WebIdentityTokenFile,
            ContainerCredentialsRelativeUri,
            ContainerCredentialsFullUri,
        ];
        let is_given =
            value(SkipSignature).as_deref() == Some("true") || sources.into_iter().any(|key| value(key).is_some());
        let metadata = value(MetadataEndpoint).unwrap_or_else(|| METADATA_ADDRESS.to_owned());
        let builder = defaults("AWS", endpoint.as_deref())
            .into_iter()
            .fold(builder, |builder, (key, value)| builder.with_config(S3Key::Client(key), value));
        let store = builder.with_retry(retry.of_requests()).build()?;
        Ok(Self::of(Kind::S3, store, endpoint, (!is_given).then_some(metadata)))
    }

    pub(crate) fn of_google(builder: GoogleCloudStorageBuilder, retry: Retry) -> object_store::Result<Self> {
        let value = |key: GoogleKey| builder.get_config_value(&key);
        let account = || match value(GoogleKey::ServiceAccount) {
            Some(path) => std::fs::read(path).ok(),
            None => value(GoogleKey::ServiceAccountKey).map(String::into_bytes),
        };
        let endpoint = value(GoogleKey::BaseUrl).or_else(|| base_url_of_account(&account()?));
        let sources = [GoogleKey::ServiceAccount, GoogleKey::ServiceAccountKey, GoogleKey::ApplicationCredentials];
        let of_gcloud = std::env::var_os("HOME").is_some_and(|home| {
            PathBuf::from(home).join(".config/gcloud/application_default_credentials.json").is_file()
        });
        let is_given = of_gcloud
            || value(GoogleKey::SkipSignature).as_deref() == Some("true")
            || sources.into_iter().any(|key| value(key).is_some());
        let metadata = ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"]
            .iter()
            .find_map(|name| Some(format!("http://{}", std::env::var(name).ok()?)))
            .unwrap_or_else(|| METADATA_ADDRESS.to_owned());
        let builder = defaults("GOOGLE", endpoint.as_deref())
            .into_iter()
            .fold(builder, |builder, (key, value)| builder.with_config(GoogleKey::Client(key), value));
        let store = builder.with_retry(retry.of_requests()).build()?;
        Ok(Self::of(Kind::Google, store, endpoint, (!is_given).then_some(metadata)))
    }

    pub(crate) fn of_azure(builder: MicrosoftAzureBuilder, retry: Retry) -> object_store::Result<Self> {
        use AzureKey::{
            AccessKey, AccountName, Endpoint, FederatedTokenFile, MsiEndpoint, SasKey, SkipSignature, Token,
            UseAzureCli, UseEmulator,
        };
        let value = |key: AzureKey| builder.get_config_value(&key);
        let is_true = |key: AzureKey| value(key).as_deref() == Some("true");
        let is_emulated = is_true(UseEmulator);
        let endpoint = if is_emulated { std::env::var("AZURITE_BLOB_STORAGE_URL").ok() } else { value(Endpoint) };
        let account = [endpoint.clone(), value(AccountName)].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let sources = [AccessKey, Token, SasKey, FederatedTokenFile, AzureKey::ClientSecret];
        let is_given = is_emulated
            || is_true(SkipSignature)
            || is_true(UseAzureCli)
            || sources.into_iter().any(|key| value(key).is_some());
        let metadata = value(MsiEndpoint).unwrap_or_else(|| METADATA_ADDRESS.to_owned());
        let builder = defaults("AZURE", endpoint.as_deref())
            .into_iter()
            .fold(builder, |builder, (key, value)| builder.with_config(AzureKey::Client(key), value));
        let store = builder.with_retry(retry.of_requests()).build()?;
        let account = Some(account).filter(|account| !account.is_empty());
        Ok(Self::of(Kind::Azure, store, account, (!is_given).then_some(metadata)))
    }

    /// A web server gets the query of its URL with every request: it may be what lets us in.
    fn of_web(url: &Url, retry: Retry) -> object_store::Result<Self> {
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        // Some servers give no parts of files: a whole one may take its time.
        let options = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(CONNECT_SECS))
            .with_timeout_disabled()
            .with_allow_http(url.scheme() == "http");
        let builder = HttpBuilder::new().with_url(format!("{}{query}", url.origin().ascii_serialization()));
        let store = builder.with_retry(retry.of_requests()).with_client_options(options).build()?;
        Ok(Self { kind: Kind::Web, store: Arc::new(store), parts: None, pages: None, account: None, metadata: None })
    }

    /// Refuses a store for which there are no credentials, before requests wait for them one by one.
    ///
    /// # Errors
    /// [`StoreError::NoCredentials`].
    pub(crate) async fn refuse_without_credentials(&self, url: &str) -> Result<()> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        let host = metadata.split_once("://").map_or(metadata.as_str(), |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default();
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        if matches!(timeout(METADATA, TcpStream::connect(&host)).await, Ok(Ok(_))) {
            return Ok(());
        }
        Err(self.no_credentials(metadata, url, "it does not answer".to_owned()))
    }

    /// An error of the first request to a store: without credentials in the environment, a refusal is of those that are not there.
    pub(crate) fn explained(&self, url: &str, error: StoreError) -> StoreError {
        match (error, &self.metadata) {
            (StoreError::Denied { detail, .. }, Some(metadata)) => self.no_credentials(metadata, url, detail),
            (error, _) => error,
        }
    }

    fn no_credentials(&self, metadata: &str, url: &str, detail: String) -> StoreError {
        let (metadata, variables) = (shown(metadata), self.kind.variables());
        StoreError::NoCredentials { url: url.to_owned(), metadata, detail, variables }
    }

    /// The condition that an object is still of this version; none when the version is a weak one, which no server compares so.
    pub(crate) fn if_match(&self, e_tag: Option<&str>) -> Option<String> {
        let e_tag = e_tag.filter(|e_tag| !e_tag.starts_with("W/"))?;
        // Azure's listings give it without the quotes that the header must have.
        let needs_quotes = self.kind == Kind::Azure && !e_tag.starts_with('"');
        Some(if needs_quotes { format!("\"{e_tag}\"") } else { e_tag.to_owned() })
    }

    /// A store in memory.
    #[cfg(test)]
    pub(crate) fn in_memory<S>(store: &Arc<S>) -> Self
    where
        S: ObjectStore + MultipartStore + PaginatedListStore,
    {
        Self {
            kind: Kind::Memory,
            store: Arc::<S>::clone(store),
            parts: Some(Arc::<S>::clone(store)),
            pages: Some(Arc::<S>::clone(store)),
            account: None,
            metadata: None,
        }
    }
}

/// The address that a service account's JSON names instead of Google's own.
fn base_url_of_account(json: &[u8]) -> Option<String> {
    let account: serde_json::Value = serde_json::from_slice(json).ok()?;
    account["gcs_base_url"].as_str().map(str::to_owned)
}

/// What the client is told where the environment says nothing, by `PREFIX_CONNECT_TIMEOUT` and its like.
fn defaults(prefix: &str, endpoint: Option<&str>) -> Vec<(ClientConfigKey, String)> {
    let is_given = |name: &str| std::env::var_os(format!("{prefix}_{name}")).is_some();
    let mut defaults = Vec::new();
    if !is_given("CONNECT_TIMEOUT") {
        defaults.push((ConnectTimeout, format!("{CONNECT_SECS} s")));
    }
    if !is_given("TIMEOUT") {
        defaults.push((Timeout, format!("{REQUEST_SECS} s")));
    }
    // An endpoint that is named with http:// is meant to be used without TLS.
    if !is_given("ALLOW_HTTP") && endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        defaults.push((AllowHttp, "true".to_owned()));
    }
    defaults
}
