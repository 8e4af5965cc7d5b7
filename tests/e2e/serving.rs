//! `lapidary serve` over real connections: who is answered, what is refused, that filters and pages agree with the tables, and
//! the page in a browser.

use crate::browser::{REPORTED, chromium};
use crate::run::{binary, refusal, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server at work.
struct Served {
    child: Child,
    address: String,
    port: u16,
}

impl Served {
    fn start(out: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(binary())
            .args(["serve", "--port", "0", "--out", text(out), "--json"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says its address");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        let address = said["address"].as_str().expect("an address").to_owned();
        let port = address.split('/').nth(2).and_then(|host| host.rsplit(':').next()?.parse().ok()).expect("a port");
        Self { child, address, port }
    }

    /// Status, headers and body of a request as it is written here.
    fn raw(&self, request: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("sets");
        stream.write_all(request.as_bytes()).expect("sends");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answers");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, head, answer[end + 4..].to_vec())
    }

    fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n", self.port))
    }

    fn json(&self, path: &str) -> Value {
        let (status, head, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {head}");
        serde_json::from_slice(&body).expect("JSON")
    }

    /// Ends it as Ctrl-C does; its exit code.
    fn end(&mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("it is there");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.try_wait().expect("it is a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        None
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server on the tree of the report. Each test starts its own: one that all shared would outlive them.
fn served() -> Served {
    Served::start(&REPORTED.out(), &["--source", "pile"])
}

#[test]
fn grids_pages_and_filters_agree_with_the_tables() {
    let served = served();
    let about = served.json("/api/source/pile");
    assert_eq!((&about["images"], &about["subsets"][0]), (&576.into(), &serde_json::json!(["120", 120])), "{about:#}");
    assert_eq!(about["report"], true);
    let all = served.json("/api/grid/pile?limit=500");
    assert_eq!((&all["total"], all["rows"].as_array().map(Vec::len)), (&576.into(), Some(500)));
    let rest = served.json("/api/grid/pile?limit=500&offset=500");
    assert_eq!(rest["rows"].as_array().map(Vec::len), Some(76));
    let mut ids: Vec<&str> = [&all, &rest]
        .iter()
        .flat_map(|page| page["rows"].as_array().expect("rows"))
        .filter_map(|row| row["id"].as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 576, "pages neither repeat nor skip");
    let ranking = std::fs::read(REPORTED.out().join("pile/curation/ranking/manifest.json")).expect("a manifest");
    let ranking: Value = serde_json::from_slice(&ranking).expect("JSON");
    for (reason, count) in
        ranking["facts"]["images_by_reason"].as_object().expect("counts").iter().filter(|(_, n)| **n != 0)
    {
        assert_eq!(served.json(&format!("/api/grid/pile?reason={reason}"))["total"], *count, "{reason}");
    }
    assert_eq!(served.json("/api/grid/pile?subset=120")["total"], 120);
    // The parts of a whole, by cluster and by class.
    let kept = served.json("/api/grid/pile?reason=kept");
    let clusters = kept["clusters"].as_array().expect("counts");
    assert_eq!(
        clusters.iter().filter_map(|pair| pair[1].as_u64()).sum::<u64>(),
        kept["total"].as_u64().expect("a count")
    );
    let (cluster, count) = (&clusters[0][0], &clusters[0][1]);
    assert_eq!(served.json(&format!("/api/grid/pile?reason=kept&cluster={cluster}"))["total"], *count);
    let (class, count) = (all["classes"][0][0].as_str().expect("a name"), &all["classes"][0][1]);
    assert_eq!(served.json(&format!("/api/grid/pile?class={class}"))["total"], *count);
    // By score: from the highest, and within a range.
    let scored = served.json("/api/grid/pile?order=score&score_min=0.9&score_max=1");
    let scores: Vec<f64> =
        scored["rows"].as_array().expect("rows").iter().filter_map(|row| row["score"].as_f64()).collect();
    assert!(
        !scores.is_empty()
            && scores.is_sorted_by(|a, b| a >= b)
            && scores.iter().all(|score| (0.9..=1.0).contains(score))
    );
}

#[test]
fn a_lasso_on_a_map_filters_the_grid() {
    let served = served();
    let about = served.json("/api/source/pile");
    assert_eq!(about["maps"], serde_json::json!(["descriptor"]));
    let map = served.json("/api/map/pile?name=descriptor");
    assert_eq!((&map["images"], map["points"].as_array().map(Vec::len)), (&576.into(), Some(576)));
    let everything = "/api/grid/pile?map=descriptor&lasso=-1,-1;2,-1;2,2;-1,2";
    assert_eq!(served.json(everything)["total"], 576);
    let left = map["points"]
        .as_array()
        .expect("points")
        .iter()
        .filter(|point| point[0].as_f64().is_some_and(|x| x < 0.4))
        .count() as i64;
    let held =
        served.json("/api/grid/pile?map=descriptor&lasso=-1,-1;0.4,-1;0.4,2;-1,2")["total"].as_i64().expect("a count");
    assert!(left > 0 && (held - left).abs() <= 2, "{held} of {left}, whose places are rounded");
}

#[test]
fn thumbnails_come_from_the_shards() {
    let served = served();
    let all = served.json("/api/grid/pile?limit=3");
    for row in all["rows"].as_array().expect("rows") {
        let id = row["id"].as_str().expect("an id");
        let (status, head, body) = served.get(&format!("/thumb/pile/{id}?px=64"));
        assert!(status == 200 && head.to_lowercase().contains("content-type: image/jpeg"), "{head}");
        let image = image::load_from_memory(&body).expect("a JPEG");
        assert_eq!(image.width().max(image.height()), 64);
        assert_eq!(served.json(&format!("/api/image/pile/{id}"))["id"], id);
    }
    let (status, _, report) = served.get("/report/pile");
    assert!(status == 200 && report == std::fs::read(REPORTED.out().join("pile/report.html")).expect("a report"));
}

#[test]
fn what_is_not_there_is_refused_and_nothing_is_written() {
    let served = served();
    let id = served.json("/api/grid/pile?limit=1")["rows"][0]["id"].as_str().expect("an id").to_owned();
    for (path, expected) in [
        ("/nothing".to_owned(), 404),
        ("/api/source/other".to_owned(), 404),
        ("/api/source/..".to_owned(), 400),
        ("/thumb/pile/..%2f..%2fCargo.toml".to_owned(), 400),
        ("/report/%2e%2e".to_owned(), 400),
        ("/../../etc/passwd".to_owned(), 400),
        ("/thumb/pile/ffffffffffffffff".to_owned(), 404),
        ("/thumb/pile/99999999999999999999999999".to_owned(), 400),
        ("/thumb/pile/xyz".to_owned(), 400),
        (format!("/thumb/pile/{id}?px=100000"), 400),
        (format!("/thumb/pile/{id}?px=-1"), 400),
        ("/api/grid/pile?reason=unheard".to_owned(), 400),
        ("/api/grid/pile?subset=../images".to_owned(), 400),
        ("/api/grid/pile?offset=99999999999999999999999".to_owned(), 400),
        ("/api/grid/pile?cluster=-1".to_owned(), 400),
        ("/api/grid/pile?map=descriptor&lasso=1,2".to_owned(), 400),
        ("/api/grid/pile?map=descriptor&lasso=nan,1;2,2;3,inf".to_owned(), 400),
        ("/api/grid/pile?map=../x&lasso=0,0;1,0;1,1".to_owned(), 404),
        ("/api/map/pile?name=none".to_owned(), 404),
        (format!("/api/grid/pile?lasso={}", "0,0;".repeat(9000)), 414),
        ("/%ff".to_owned(), 400),
    ] {
        let (status, head, body) = served.get(&path);
        assert_eq!(status, expected, "{}: {head}", &path[..path.len().min(80)]);
        let said: Value = serde_json::from_slice(&body).expect("an error is JSON");
        assert!(said["error"].as_str().is_some_and(|text| !text.is_empty()));
    }
    assert_eq!(served.json("/api/grid/pile?offset=18446744073709551615")["rows"], Value::Array(Vec::new()));
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let request = format!(
            "{method} /api/grid/pile HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            served.port
        );
        assert_eq!(served.raw(&request).0, 405, "{method}");
    }
    let head = served.get("/").1.to_lowercase();
    for header in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
}

#[test]
fn other_hosts_names_are_not_answered_and_other_addresses_want_a_token() {
    let served = served();
    let host = |served: &Served, host: &str, more: &str| {
        served.raw(&format!("GET /api/sources HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n")).0
    };
    assert_eq!(host(&served, &format!("localhost:{}", served.port), ""), 200);
    for name in ["evil.example", &format!("evil.example:{}", served.port), "127.0.0.1", "169.254.169.254"] {
        assert_eq!(host(&served, name, ""), 421, "{name}");
    }
    let mut open = Served::start(&REPORTED.out(), &["--source", "pile", "--listen", "0.0.0.0"]);
    let token = open.address.split("token=").nth(1).expect("a token").to_owned();
    assert_eq!(token.len(), 32);
    assert_eq!(host(&open, "anywhere", ""), 401);
    assert_eq!(host(&open, "anywhere", "Authorization: Bearer 00000000000000000000000000000000\r\n"), 401);
    assert_eq!(host(&open, "anywhere", &format!("Authorization: Bearer {token}\r\n")), 200);
    let (status, head, _) = open.get(&format!("/?source=pile&token={token}"));
    assert!(status == 302 && head.contains("Location: /?source=pile") && head.contains("HttpOnly"), "{head}");
    assert_eq!(host(&open, "anywhere", &format!("Cookie: lapidary_token={token}\r\n")), 200);
    assert_eq!(open.end(), Some(0), "Ctrl-C ends it");
    let (code, said) =
        refusal(&["serve", "--out", text(&REPORTED.out()), "--source", "pile", "--port", &served.port.to_string()]);
    assert!(code == 2 && said.contains("--port 0"), "{said}");
}

#[test]
fn many_ask_at_once() {
    let served = served();
    let expected = served.json("/api/grid/pile?reason=kept&limit=40");
    let ids: Vec<&str> =
        expected["rows"].as_array().expect("rows").iter().filter_map(|row| row["id"].as_str()).collect();
    std::thread::scope(|scope| {
        for i in 0..24 {
            let (served, expected, ids) = (&served, &expected, &ids);
            scope.spawn(move || {
                for turn in 0..6 {
                    assert_eq!(served.json("/api/grid/pile?reason=kept&limit=40"), *expected);
                    let (status, _, body) = served.get(&format!("/thumb/pile/{}", ids[(i * 7 + turn) % ids.len()]));
                    assert!(status == 200 && body.starts_with(&[0xff, 0xd8]));
                    assert_eq!(served.json("/api/map/pile?name=descriptor")["images"], 576);
                }
            });
        }
        // Who hangs up in the middle of a request takes nobody along.
        let mut half = TcpStream::connect(("127.0.0.1", served.port)).expect("connects");
        half.write_all(b"GET /api/grid/pile HTTP/1.1\r\nHos").expect("sends");
    });
    assert_eq!(served.get("/").0, 200);
}

#[test]
fn the_page_of_serve_works_in_a_browser() {
    let Some(chromium) = chromium() else { return };
    let served = served();
    // Chromium's virtual time now and then waits for a connection for ever.
    let (document, said) =
        (0..4).find_map(|_| document_of(&chromium, &served.address)).expect("chromium loads the page");
    let console: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{console:#?}");
    assert!(
        document.contains("data-ready=\"1\"") && !document.contains("data-error"),
        "{}",
        &document[..400.min(document.len())]
    );
    for part in ["data-total=\"576\"", "data-points=\"576\"", "576 of 576 images", "/thumb/pile/"] {
        assert!(document.contains(part), "{part}");
    }
}

/// A page's document once it has run, and what chromium said; none where that takes too long.
fn document_of(chromium: &Path, address: &str) -> Option<(String, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let [document, said] = ["document", "said"].map(|name| folder.path().join(name));
    let into = |path: &Path| std::fs::File::create(path).expect("creates");
    let mut child = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1280,1200"])
        .args(["--virtual-time-budget=15000", "--dump-dom", address])
        .stdout(into(&document))
        .stderr(into(&said))
        .spawn()
        .expect("chromium starts");
    let begun = Instant::now();
    while child.try_wait().expect("it is a child").is_none() {
        if begun.elapsed() > Duration::from_secs(25) {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("reads")).into_owned();
    Some((read(&document), read(&said)))
}
