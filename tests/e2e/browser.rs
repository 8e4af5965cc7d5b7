//! The report and `lapidary serve` in a browser: Debian's chromium, headless. Where it is missing the tests say so and stop.
//!
//! The report's policy lets it load nothing from anywhere, so that a request would be an error in the console, and there must be
//! none. What a reader does is done by a script that a copy of the page gets at its end.

use crate::run::{DRAWN, curated, facts, say, text, tiny};
use image::RgbImage;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use tempfile::TempDir;

/// Wide and narrow windows.
const WIDTHS: [u32; 2] = [1280, 390];
/// Bytes of a report at most.
const REPORT_BYTES_MAX: u64 = 10_000_000;

pub fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let found =
        names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: no chromium (`make setup` installs it)");
    }
    found
}

/// An output tree with a subset, two runs and their evaluations on two probe sets, lines of evidence, and the report of all.
pub struct Reported {
    folder: TempDir,
}

impl Reported {
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn report(&self) -> PathBuf {
        self.out().join("pile/report.html")
    }
}

pub static REPORTED: LazyLock<Reported> = LazyLock::new(|| {
    let reported = Reported { folder: tempfile::tempdir().expect("a folder") };
    let out = reported.out();
    curated(&out, "120");
    // The same images under two names: what is reported on one set and on several.
    facts(&out, &["ingest", "--data", text(&DRAWN.probe()), "--name", "second", "--as-probe"]);
    facts(&out, &["ingest", "--data", text(&DRAWN.probe()), "--as-probe"]);
    tiny(&out, &["plan"]);
    let mut lines = String::new();
    for (run, objective) in [("both", "hybrid"), ("alone", "dino")] {
        let kind = format!("objective.kind={objective}");
        tiny(&out, &["pretrain", "--device", "cpu", "--run", run, "--set", &kind]);
        tiny(&out, &["eval", "--device", "cpu", "--run", run]);
        let compare = ["compare", run, "--called", objective, "--format", "jsonl", "--out", text(&out)];
        lines += &say(&compare);
    }
    tiny(&out, &["eval", "--device", "cpu", "--run", "both", "--probe", "second"]);
    // What `make science` would have left.
    std::fs::create_dir(out.join("science")).expect("creates");
    std::fs::write(out.join("science/science.jsonl"), lines).expect("writes");
    facts(&out, &["report", "--run", "both", "--run", "alone"]);
    reported
});

/// A page's document once it is loaded, and what stood in the console.
fn loaded(chromium: &Path, address: &str) -> (String, Vec<String>) {
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=8000"])
        .args(["--window-size=1280,1000", "--dump-dom", address])
        .output()
        .expect("chromium starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    (String::from_utf8_lossy(&output.stdout).into_owned(), console)
}

/// What a script says of a page at whose end it stands, in a window of a width: it calls `say` with its findings. The page stands
/// in a frame, since chromium makes no window narrower than 500 pixels.
fn found_by(chromium: &Path, page: &Path, width: u32, script: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let (inner, outer) = (folder.path().join("page.html"), folder.path().join("frame.html"));
    let html = std::fs::read_to_string(page).expect("a page");
    let script = format!(
        "<script>addEventListener('load',()=>setTimeout(async()=>{{const say=found=>parent.postMessage(found,'*');\
         try{{{script}}}catch(error){{say({{error:String(error.stack)}})}}}},300))</script>"
    );
    std::fs::write(&inner, html + &script).expect("writes");
    let frame = format!(
        "<!DOCTYPE html><script>addEventListener('message',event=>{{document.documentElement.dataset.found=\
         encodeURIComponent(JSON.stringify(event.data))}})</script>\
         <iframe src='page.html' style='border:0;width:{width}px;height:900px'></iframe>"
    );
    std::fs::write(&outer, frame).expect("writes");
    let (document, console) = loaded(chromium, &format!("file://{}", outer.display()));
    assert!(console.is_empty(), "{console:#?}");
    let found = document.split_once("data-found=\"").map(|(_, rest)| rest.split('"').next().unwrap_or_default());
    let found: Value = serde_json::from_str(&decoded(found.expect("the script said something"))).expect("JSON");
    assert_eq!(found["error"], Value::Null, "{found:#}");
    found
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let two = |rest: &mut dyn Iterator<Item = u8>| String::from_utf8(rest.take(2).collect()).expect("ASCII");
        bytes.push(if byte == b'%' { u8::from_str_radix(&two(&mut rest), 16).expect("hexadecimal") } else { byte });
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// A picture of a page in a window of a width. Chromium makes no window narrower than 500 pixels, so the page stands in a frame.
pub fn screenshot(chromium: &Path, page: &Path, (width, height): (u32, u32), dark: bool) -> RgbImage {
    let folder = tempfile::tempdir().expect("a folder");
    let (frame, picture) = (folder.path().join("frame.html"), folder.path().join("picture.png"));
    let html = format!(
        "<!DOCTYPE html><meta name=color-scheme content='light dark'><body style='margin:0'><iframe src='file://{}' style='border:0;width:{width}px;height:{height}px'></iframe>",
        page.display()
    );
    std::fs::write(&frame, html).expect("writes");
    let scheme = format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 });
    let (size, into) =
        (format!("--window-size={},{height}", width.max(500)), format!("--screenshot={}", picture.display()));
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=8000"])
        .args([&scheme, &size, &into, &format!("file://{}", frame.display())])
        .output()
        .expect("chromium starts");
    let image = image::open(&picture).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    image::imageops::crop_imm(&image.to_rgb8(), 0, 0, width, height).to_image()
}

#[test]
fn the_report_opens_without_an_error_and_asks_nobody_for_anything() {
    let Some(chromium) = chromium() else { return };
    let page = REPORTED.report();
    assert!(page.metadata().expect("a report").len() < REPORT_BYTES_MAX);
    let html = std::fs::read_to_string(&page).expect("a report");
    for outside in ["http://", "https://", "src=\"//", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    let (document, console) = loaded(&chromium, &format!("file://{}", page.display()));
    assert!(console.is_empty(), "{console:#?}");
    assert!(document.contains("data-ready=\"1\"") && !document.contains("data-error="));
    // Every picture says what it is, every control has a name, every chart a table.
    let found = found_by(
        &chromium,
        &page,
        WIDTHS[0],
        "const all=query=>[...document.querySelectorAll(query)];\
         say({pictures:all('img').length,dumb:all('img:not([alt]),img[alt=\"\"]').length,\
         nameless:all('button,select').filter(one=>!one.textContent.trim()&&!one.getAttribute('aria-label')&&!one.querySelector('img[alt]')&&!one.closest('label')).length,\
         charts:all('.chart').length,tables:all('.chart table').length,unnamed:all('.chart svg:not([aria-label])').length,\
         empty:all('.chart svg').filter(svg=>svg.querySelectorAll('polyline,rect,path,circle').length===0).length,\
         broken:all('img').filter(img=>img.complete&&img.naturalWidth===0).length,heads:all('h2').map(one=>one.textContent)})",
    );
    assert!(found["pictures"].as_u64().is_some_and(|n| n > 100), "{found:#}");
    assert_eq!((&found["dumb"], &found["nameless"], &found["unnamed"]), (&0.into(), &0.into(), &0.into()), "{found:#}");
    assert_eq!((&found["empty"], &found["broken"]), (&0.into(), &0.into()), "{found:#}");
    assert!(found["charts"].as_u64().is_some_and(|n| n > 8) && found["charts"] == found["tables"], "{found:#}");
    let heads = [
        "What was found",
        "Lineage",
        "In and out",
        "Duplicate groups",
        "Pairs",
        "Gallery",
        "Balance",
        "Training",
        "Evaluation",
    ];
    assert_eq!(found["heads"].as_array().expect("a list")[..heads.len()], heads);
    assert_eq!(found["heads"].as_array().and_then(|heads| heads.last()), Some(&"Evidence".into()));
}

#[test]
fn every_probe_set_is_reported_with_its_protocols_and_evidence_with_its_differences() {
    let Some(chromium) = chromium() else { return };
    let found = found_by(
        &chromium,
        &REPORTED.report(),
        WIDTHS[0],
        "const all=(query,root=document)=>[...root.querySelectorAll(query)],texts=(query,root)=>all(query,root).map(one=>one.textContent);\
         const cells=query=>all(query+' tbody tr').map(row=>[...row.cells].map(cell=>cell.textContent));\
         say({sets:texts('#evaluation .probe-set>h3'),overview:cells('.probe-overview'),\
         protocols:all('#evaluation .probe-set').map(set=>texts('.protocols dd',set).length),\
         pictured:texts('#features .probe-set>h3'),sentence:document.querySelectorAll('ol.found li')[4].textContent,\
         evidence:document.querySelector('#evidence').textContent,charts:all('#evidence .chart').length})",
    );
    assert_eq!(found["sets"], serde_json::json!(["Probe set probe", "Probe set second"]), "{found:#}");
    assert_eq!(found["pictured"], found["sets"], "{found:#}");
    let overview = found["overview"].as_array().expect("rows");
    let named: Vec<[&Value; 2]> = overview.iter().map(|row| [&row[0], &row[1]]).collect();
    assert_eq!(named, [["probe", "both"], ["probe", "alone"], ["second", "both"]], "{found:#}");
    for (set, run, row) in [("probe", "both", 0), ("probe", "alone", 1), ("second", "both", 2)] {
        let scores = REPORTED.out().join(format!("pile/evals/{run}/{set}/scores.json"));
        let scores: Value = serde_json::from_slice(&std::fs::read(scores).expect("scores")).expect("JSON");
        let knn = format!("{:.1} %", scores["trained"]["knn_top1"].as_f64().expect("a share") * 100.0);
        assert_eq!(overview[row][6], knn.as_str(), "{set}, {run}");
    }
    let protocols = found["protocols"].as_array().expect("counts");
    assert!(protocols.iter().all(|count| count.as_u64() > Some(4)), "each set names its protocols: {found:#}");
    assert!(found["sentence"].as_str().is_some_and(|text| text.contains("on second, both has ")), "{found:#}");
    let evidence = found["evidence"].as_str().expect("text");
    for part in ["Runs on pile, 12 steps each", "hybrid", "dino", "untrained", "of one run no spread is known"] {
        assert!(evidence.contains(part), "{part}: {evidence}");
    }
    assert_eq!(found["charts"], 1);
}

#[test]
fn counts_in_the_report_are_those_of_the_tables() {
    let Some(chromium) = chromium() else { return };
    let found = found_by(
        &chromium,
        &REPORTED.report(),
        WIDTHS[0],
        "const rows=query=>[...document.querySelectorAll(query+' tbody tr')].map(row=>[...row.cells].map(cell=>cell.textContent));\
         const options=name=>Object.fromEntries([...document.querySelectorAll('#gallery-filter select[name='+name+'] option[data-count]')].map(o=>[o.value,Number(o.dataset.count)]));\
         say({counts:rows('#counts-table'),reasons:options('reason'),clusters:options('cluster'),subset:options('subset'),\
         lines:[...document.querySelectorAll('#training .legend')].map(one=>[...one.children].map(li=>li.textContent)),\
         sentences:document.querySelectorAll('ol.found li').length})",
    );
    let curated =
        std::fs::read_to_string(REPORTED.out().join("pile/curation/ranking/manifest.json")).expect("a manifest");
    let curated: Value = serde_json::from_str(&curated).expect("JSON");
    let by_reason = curated["facts"]["images_by_reason"].as_object().expect("counts");
    for (reason, count) in by_reason {
        let words = reason.replace('_', " ");
        let row = found["counts"].as_array().expect("rows").iter().find(|row| row[1] == words.as_str());
        assert_eq!(row.expect("a row")[2], count.to_string().as_str(), "{reason}");
        if count.as_u64() != Some(0) {
            assert_eq!(found["reasons"][reason], *count, "{reason}");
        }
    }
    let sum = |counts: &Value| counts.as_object().expect("counts").values().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(sum(&found["reasons"]), 576);
    assert_eq!(Some(sum(&found["clusters"])), by_reason["kept"].as_u64());
    assert_eq!((&found["subset"]["yes"], sum(&found["subset"])), (&120.into(), 576));
    assert_eq!(found["sentences"], 5);
    // Both runs in one chart.
    let lines = found["lines"].as_array().expect("legends");
    assert!(lines.iter().any(|names| names[0] == "both" && names[1] == "alone"), "{lines:#?}");
}

#[test]
fn the_filter_and_the_viewer_of_the_report_work_by_hand_and_by_key() {
    let Some(chromium) = chromium() else { return };
    let found = found_by(
        &chromium,
        &REPORTED.report(),
        WIDTHS[0],
        "const q=query=>document.querySelector(query),wait=()=>new Promise(done=>setTimeout(done,60));\
         const shown=()=>[...document.querySelectorAll('.tile')].filter(tile=>tile.offsetParent).length;\
         const key=(target,key)=>target.dispatchEvent(new KeyboardEvent('keydown',{key,bubbles:true,cancelable:true}));\
         const before=shown(),select=q('#gallery-filter select[name=reason]');\
         select.value='exact_duplicate';select.dispatchEvent(new Event('input',{bubbles:true}));await wait();\
         const filtered=shown(),said=q('#gallery-filter output').textContent,wanted=Number(select.selectedOptions[0].dataset.count);\
         q('#gallery-filter button').click();await wait();const reset=shown();\
         q('.pair .opener').click();await wait();const viewer=q('#viewer');\
         const pair={open:viewer.open,sides:viewer.querySelectorAll('.sides img').length,facts:q('.facts').textContent,title:viewer.querySelector('h3').textContent,focus:viewer.contains(document.activeElement)};\
         const mode=async name=>{const radio=q('#viewer input[value='+name+']');radio.checked=true;radio.dispatchEvent(new Event('input',{bubbles:true}));await wait()};\
         await mode('overlay');const above=q('.over img+img');\
         pair.matrix=above.style.transform;pair.opacity=above.style.opacity;pair.width=above.getBoundingClientRect().width;\
         const slider=q('#viewer input[type=range]');slider.value='0.2';slider.dispatchEvent(new Event('input',{bubbles:true}));await wait();pair.faded=q('.over img+img').style.opacity;\
         await mode('difference');pair.blend=getComputedStyle(q('.over img+img')).mixBlendMode;\
         const first=viewer.dataset.at;key(viewer,'ArrowRight');await wait();pair.next=[first,viewer.dataset.at,viewer.querySelector('h3').textContent];\
         key(viewer,'ArrowLeft');await wait();pair.back=viewer.dataset.at;\
         q('#viewer .close').click();for(let i=0;i<20&&!document.activeElement.classList.contains('opener');i++)await wait();pair.closed=!viewer.open;pair.returned=document.activeElement.classList.contains('opener');\
         const plot=q('.plot[data-chart]');plot.focus();key(plot,'ArrowRight');key(plot,'ArrowRight');const readout=plot.nextElementSibling.textContent;\
         const root=document.documentElement,scheme=getComputedStyle(document.body).backgroundColor;q('#theme').click();await wait();\
         say({before,filtered,said,wanted,reset,pair,readout,themes:[scheme,getComputedStyle(document.body).backgroundColor],errors:root.dataset.error||'' })",
    );
    assert_eq!((&found["before"], &found["reset"]), (&576.into(), &576.into()), "{found:#}");
    assert_eq!(found["filtered"], found["wanted"], "{found:#}");
    assert_eq!(found["said"], format!("{} of 576 pictures shown", found["wanted"]).as_str());
    let pair = &found["pair"];
    assert_eq!((&pair["open"], &pair["sides"], &pair["focus"]), (&true.into(), &2.into(), &true.into()), "{found:#}");
    assert!(pair["facts"].as_str().is_some_and(|facts| facts.starts_with("score ")), "{found:#}");
    assert!(pair["matrix"].as_str().is_some_and(|matrix| matrix.starts_with("matrix(")), "{found:#}");
    assert_eq!(
        (&pair["opacity"], &pair["faded"], &pair["blend"]),
        (&"0.5".into(), &"0.2".into(), &"difference".into()),
        "{found:#}"
    );
    assert!(pair["width"].as_f64().is_some_and(|width| width > 50.0), "{found:#}");
    assert_ne!(pair["next"][0], pair["next"][1], "{found:#}");
    assert_eq!(
        (&pair["back"], &pair["closed"], &pair["returned"]),
        (&pair["next"][0], &true.into(), &true.into()),
        "{found:#}"
    );
    assert!(
        found["readout"].as_str().is_some_and(|text| text.contains(": ") && text.chars().any(|c| c.is_ascii_digit())),
        "{found:#}"
    );
    assert_ne!(found["themes"][0], found["themes"][1]);
    assert_eq!(found["errors"], "");
}

#[test]
fn the_report_is_legible_wide_and_narrow_light_and_dark() {
    let Some(chromium) = chromium() else { return };
    let page = REPORTED.report();
    for width in WIDTHS {
        for dark in [false, true] {
            let picture = screenshot(&chromium, &page, (width, 1600), dark);
            let luma = |pixel: &image::Rgb<u8>| pixel.0.iter().map(|level| u32::from(*level)).sum::<u32>() / 3;
            let corner = luma(picture.get_pixel(4, 1500));
            assert_eq!(corner < 60, dark, "{width} px: the background has level {corner}");
            // Letters stand out from it: there are pixels of the other end.
            let opposite =
                picture.pixels().filter(|pixel| if dark { luma(pixel) > 180 } else { luma(pixel) < 80 }).count();
            assert!(opposite > 2000, "{width} px, dark {dark}: {opposite} pixels of ink");
            if let Some(folder) = std::env::var_os("LAPIDARY_SCREENSHOTS") {
                let name = format!("report-{width}-{}.png", if dark { "dark" } else { "light" });
                picture.save(Path::new(&folder).join(name)).expect("saves");
            }
        }
    }
    for width in WIDTHS {
        let script = "const root=document.documentElement;const wide=[...document.querySelectorAll('main *')].filter(one=>\
                      one.getBoundingClientRect().right>innerWidth+1&&!one.closest('.scroll,.strips,.gallery-box'));\
                      say({window:innerWidth,page:root.scrollWidth,wide:wide.map(one=>one.tagName+'.'+one.className),\
                      letters:Math.min(...[...document.querySelectorAll('.chart svg')].map(svg=>svg.getBoundingClientRect().width/svg.viewBox.baseVal.width*\
                      Number(svg.querySelector('text').getAttribute('font-size'))))})";
        let found = found_by(&chromium, &page, width, script);
        // A scroll bar takes some of the window.
        assert_eq!(found["window"], width);
        assert!(found["page"].as_u64() <= Some(u64::from(width)), "{found:#}");
        assert_eq!(found["wide"], Value::Array(Vec::new()), "{found:#}");
        assert!(found["letters"].as_f64().is_some_and(|px| px > 7.5), "letters of charts: {found:#}");
    }
}
