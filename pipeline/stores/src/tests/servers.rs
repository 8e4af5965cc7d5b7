//! Servers over HTTP, in this process, whose buckets are folders: of S3 by s3s, of Google's XML API by us.

use super::gcs_server::{ACCOUNT_FILE, GcsServer};
use super::mirrored::cache;
use super::s3_server;
use crate::address::Address;
use crate::clients::Client;
use crate::mirror::Mirror;
use crate::retry::Retry;
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Location;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const KEY: &str = "AKIDLAPIDARYTEST";
const SECRET: &str = "secret-of-the-lapidary-tests";
pub(super) const SHORT: Retry = Retry::lasting(Duration::from_secs(1));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    S3,
    Google,
}

/// A server with a bucket called `bucket`.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) port: u16,
    folder: TempDir,
}

impl Server {
    /// One of each kind.
    pub(super) fn each() -> [Self; 2] {
        [Kind::S3, Kind::Google].map(Self::start)
    }

    pub(super) fn start(kind: Kind) -> Self {
        let folder = cache();
        fs::create_dir(folder.path().join("bucket")).expect("creates");
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = listener.local_addr().expect("has one").port();
        match kind {
            Kind::S3 => {
                let at = folder.path().to_str().expect("UTF-8").to_owned();
                std::thread::spawn(move || s3_server::serve(listener, &at, KEY, SECRET));
            }
            Kind::Google => {
                let server = GcsServer::bind(listener, folder.path()).expect("binds");
                std::thread::spawn(move || server.serve());
            }
        }
        Self { kind, port, folder }
    }

    /// Where its buckets lie.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn bucket(&self) -> PathBuf {
        self.folder.path().join("bucket")
    }

    /// The service account that Google's is asked with.
    pub(super) fn account(&self) -> String {
        fs::read_to_string(self.folder.path().join(ACCOUNT_FILE)).expect("is there")
    }

    /// `out` in a bucket of it.
    pub(super) fn address(&self, bucket: &str) -> Address {
        match self.kind {
            Kind::S3 => address_in_s3(s3_at(self.port), bucket),
            Kind::Google => address_at_google(&self.account(), bucket),
        }
    }

    /// The same, asked with credentials that are nobody's.
    pub(super) fn address_of_nobody(&self) -> Address {
        match self.kind {
            Kind::S3 => address_in_s3(s3_at(self.port).with_secret_access_key("hunter2-hunter2"), "bucket"),
            Kind::Google => address_at_google(&self.account().replace("tests@", "nobody@"), "bucket"),
        }
    }

    pub(super) fn mirror(&self, cache: &Path) -> Mirror {
        Mirror::of(self.address("bucket"), cache, SHORT).expect("opens")
    }
}

/// Of an S3 server that listens at this port.
pub(super) fn s3_at(port: u16) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(format!("http://127.0.0.1:{port}"))
        .with_access_key_id(KEY)
        .with_secret_access_key(SECRET)
}

pub(super) fn address_in_s3(builder: AmazonS3Builder, bucket: &str) -> Address {
    let client = Client::of_s3(builder.with_bucket_name(bucket), SHORT).expect("builds");
    Address { client, prefix: Location::from("out"), shown: format!("s3://{bucket}/out") }
}

/// `account` is the JSON of a service account, which names the server.
pub(super) fn address_at_google(account: &str, bucket: &str) -> Address {
    let builder = GoogleCloudStorageBuilder::new().with_service_account_key(account).with_bucket_name(bucket);
    let client = Client::of_google(builder, SHORT).expect("builds");
    Address { client, prefix: Location::from("out"), shown: format!("gs://{bucket}/out") }
}
