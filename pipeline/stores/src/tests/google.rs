//! What only Google's XML API has, on our server of it: generations, a right that is missing by its name, keys that are no paths, and
//! that the server is as strict as the tests rely on.

use super::mirrored::{FILES, OTHERS, cache, text};
use super::servers::{Kind, SHORT, Server, address_at_google};
use super::store::{made, run};
use crate::StoreError;
use crate::listing::list;
use crate::mirror::Mirror;
use crate::receive::fetch_listed;
use object_store::path::Path as Location;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

/// A content that comes back has its tag again, and another generation: only that tells whether somebody wrote in between.
#[test]
fn a_generation_is_never_had_twice() {
    let server = Server::start(Kind::Google);
    run(async {
        let address = server.address("bucket");
        let (store, at) = (&address.client.store, Location::from("x/manifest.json"));
        let put = async |text: &'static str, mode: PutMode| {
            let options = PutOptions { mode, ..PutOptions::default() };
            store.put_opts(&at, text.into(), options).await
        };
        let first = put("one", PutMode::Create).await.expect("puts");
        put("two", PutMode::Overwrite).await.expect("puts");
        let third = put("one", PutMode::Overwrite).await.expect("puts");
        assert_eq!(first.e_tag, third.e_tag);
        assert_ne!(first.version, third.version);
        let refused = put("three", PutMode::Update(UpdateVersion::from(first))).await.expect_err("is another");
        assert!(matches!(refused, Error::Precondition { .. }), "{refused}");
        put("three", PutMode::Update(UpdateVersion::from(third))).await.expect("replaces");
        store.delete(&at).await.expect("deletes");
        let gone = store.delete(&at).await.expect_err("has gone");
        assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
        assert!(!server.bucket().join("x").exists(), "a store has no folders");
    });
}

/// A cache that knew a manifest before its bytes were put again may still replace it: nothing else was there in between.
#[test]
fn a_manifest_that_was_put_again_is_the_one_that_was_known() {
    let server = Server::start(Kind::Google);
    run(async {
        let a = cache();
        let mirror = server.mirror(a.path());
        made(a.path(), "x", "1", FILES);
        mirror.publish("x").await.expect("publishes");
        let at = server.bucket().join("out/x/manifest.json");
        let written = fs::read(&at).expect("reads");
        fs::write(&at, written).expect("writes");
        assert_eq!(mirror.sync().await.expect("syncs").adopted, 0);
        made(a.path(), "x", "2", OTHERS);
        mirror.publish("x").await.expect("replaces what it knew");
        assert_eq!(text(&at), text(&a.path().join("x/manifest.json")));
    });
}

#[test]
fn a_right_that_is_missing_is_named() {
    let server = Server::start(Kind::Google);
    run(async {
        let a = cache();
        let mirror = Mirror::of(server.address("locked"), a.path(), SHORT).expect("opens");
        let error = mirror.sync().await.expect_err("is refused");
        assert!(matches!(error, StoreError::Denied { .. }), "{error}");
        assert!(error.to_string().contains("does not have storage.objects access to the bucket locked"), "{error}");
    });
}

/// The account's file may name another server than Google's: one URL there and here is two stores.
#[test]
fn the_address_that_an_account_names_is_part_of_the_store() {
    let server = Server::start(Kind::Google);
    let address = server.address("bucket");
    assert_eq!(address.identity(), format!("gs://bucket/out\nhttp://127.0.0.1:{}", server.port));
    let cloud = server.account().replace("gcs_base_url", "unheard_of");
    assert_eq!(address_at_google(&cloud, "bucket").identity(), "gs://bucket/out");
}

#[test]
fn objects_at_google_are_of_the_version_that_was_listed() {
    let server = Server::start(Kind::Google);
    run(async {
        let a = cache();
        let address = server.address("bucket");
        let object = address.at("a b.json").expect("a path");
        address.client.store.put(&object, "first".into()).await.expect("puts");
        let listing = list(&address, SHORT, &address.prefix).await.expect("lists");
        let meta = listing.objects.into_values().next().expect("is there");
        fetch_listed(&address, SHORT, &meta, &a.path().join("x")).await.expect("is of that version");
        assert_eq!(text(&a.path().join("x")), "first");
        address.client.store.put(&object, "other".into()).await.expect("puts");
        let error = fetch_listed(&address, SHORT, &meta, &a.path().join("x")).await.expect_err("is another");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    });
}

#[test]
fn keys_at_google_that_are_no_paths_are_set_aside() {
    let server = Server::start(Kind::Google);
    run(async {
        let address = server.address("bucket");
        for key in ["out/a//b.jpg", "out/c/../d.jpg", "out/e.jpg", "out/f/", "out/z//z.jpg"] {
            assert_eq!(ask(&server, &format!("PUT /bucket/{key}"), "", "x"), (200, String::new()), "{key}");
        }
        for number in 0..1_500 {
            fs::write(server.bucket().join(format!("out/{number:04}.jpg")), b"x").expect("writes");
        }
        let listing = list(&address, SHORT, &address.prefix).await.expect("lists past them");
        assert_eq!(listing.bad_keys, ["out/a//b.jpg", "out/c/../d.jpg", "out/z//z.jpg"]);
        assert_eq!(listing.objects.len(), 1_502);
    });
}

/// A request as a client that is not `object_store` might send it; the status and the body of the answer.
fn ask(server: &Server, line: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("connects");
    let authorization =
        if headers.contains("Authorization") { "" } else { "Authorization: Bearer token-of-the-lapidary-tests\r\n" };
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}{headers}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reads");
    let (head, body) = answer.split_once("\r\n\r\n").expect("has a body");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

#[test]
fn the_server_is_strict() {
    let server = Server::start(Kind::Google);
    assert_eq!(ask(&server, "PUT /bucket/x", "", "body").0, 200);
    let upload = ask(&server, "POST /bucket/long?uploads=", "", "").1;
    let id = upload.split("<UploadId>").nth(1).and_then(|text| text.split('<').next()).expect("has an id").to_owned();
    let part = format!("PUT /bucket/long?partNumber=1&uploadId={id}");
    assert_eq!(ask(&server, &part, "", "short").0, 200);
    assert_eq!(ask(&server, &part.replace("=1&", "=2&"), "", "short").0, 200);
    let e_tag = format!("\"{}\"", &blake3::hash(b"short").to_hex()[..32]);
    let named =
        |number: u32, e_tag: &str| format!("<Part><ETag>{e_tag}</ETag><PartNumber>{number}</PartNumber></Part>");
    let whole = |parts: &str| format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let complete = format!("POST /bucket/long?uploadId={id}");
    let twice = whole(&[named(1, &e_tag), named(1, &e_tag)].concat());
    let both = whole(&[named(1, &e_tag), named(2, &e_tag)].concat());
    let [unknown, other] = [whole(&named(3, &e_tag)), whole(&named(1, "\"0\""))];
    let condition = "x-goog-if-generation-match: 0\r\n";
    let forged = "Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.e30.AAAA\r\n";
    for (line, headers, body, status, code) in [
        ("GET /bucket/x", "Authorization: Basic eDp5\r\n", "", 401, "AuthenticationRequired"),
        ("GET /bucket/x", forged, "", 401, "AuthenticationRequired"),
        ("GET /none/x", "", "", 404, "NoSuchBucket"),
        ("GET /bucket/none", "", "", 404, "NoSuchKey"),
        ("GET /bucket/x?versionId=1", "", "", 400, "InvalidArgument"),
        ("GET /bucket/x", "Range: bytes=9-10\r\n", "", 416, "InvalidRange"),
        ("GET /bucket/x", "Range: lines=0-1\r\n", "", 400, "InvalidArgument"),
        ("GET /bucket/x", "If-Match: \"0\"\r\n", "", 412, "PreconditionFailed"),
        ("GET /bucket/%2", "", "", 400, "InvalidURI"),
        ("GET /bucket?list-type=1", "", "", 400, "InvalidArgument"),
        ("GET /bucket?list-type=2&prefix=a&prefix=b", "", "", 400, "InvalidArgument"),
        ("GET /bucket?list-type=2&continuation-token=!", "", "", 400, "InvalidArgument"),
        ("PUT /bucket/x", condition, "body", 412, "PreconditionFailed"),
        ("PUT /bucket/x", "x-goog-if-generation-match: new\r\n", "body", 400, "InvalidArgument"),
        ("PUT /bucket/x", "x-goog-copy-source: bucket/y\r\n", "", 501, "NotImplemented"),
        ("DELETE /bucket/x", condition, "", 412, "PreconditionFailed"),
        ("DELETE /bucket", "", "", 405, "MethodNotAllowed"),
        (&part.replace("=1&", "=0&"), "", "x", 400, "InvalidArgument"),
        (&part.replace("/long", "/other"), "", "x", 404, "NoSuchUpload"),
        (&part, condition, "x", 400, "NotImplemented"),
        (&complete, condition, &whole(&named(1, &e_tag)), 400, "NotImplemented"),
        (&complete, "", "<Complete/>", 400, "Malformed"),
        (&complete, "", &whole(""), 400, "InvalidPartOrder"),
        (&complete, "", &twice, 400, "InvalidPartOrder"),
        (&complete, "", &unknown, 400, "InvalidPart"),
        (&complete, "", &other, 400, "InvalidPart"),
        (&complete, "", &both, 400, "EntityTooSmall"),
    ] {
        let (answered, text) = ask(&server, line, headers, body);
        assert!(answered == status && text.contains(&format!("<Code>{code}")), "{line} {headers}: {answered} {text}");
    }
    assert_eq!(ask(&server, &complete, "", &whole(&named(1, &e_tag))).0, 200, "the last part may be short");
    assert_eq!(ask(&server, "GET /bucket/long", "", "").1, "short");
    assert_eq!(ask(&server, &complete, "", &whole(&named(1, &e_tag))).0, 404, "it is complete");
}
