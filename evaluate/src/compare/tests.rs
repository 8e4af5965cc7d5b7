//! Groups, differences, notes and every format, on facts that are written here.

use super::*;
use std::collections::BTreeMap;

fn run(objective: &str, seed: u64, knn: f64) -> RunFacts {
    let figures = |shift: f64| {
        let figure = |name: &str, top1: f64| Figure { name: name.to_owned(), top1, top5: Some(0.5 + top1 / 2.0) };
        let measure = Figure { name: "retrieval mAP".to_owned(), top1: knn / 2.0, top5: None };
        vec![figure("knn 20", knn + shift), figure("quick 10 %", knn + shift + 0.05), measure]
    };
    RunFacts {
        source: "pile".to_owned(),
        run: format!("{objective}-{seed}"),
        called: None,
        seed,
        settings: BTreeMap::from([
            ("objective.kind".to_owned(), format!("\"{objective}\"")),
            ("model.dim".to_owned(), "96".to_owned()),
        ]),
        plan: PlanFacts { name: "pile/plans/p".to_owned(), digest: format!("d{seed}") },
        steps: 400,
        loss: Some(if objective == "dino" { 2.25 } else { 7.5 } + seed as f64 / 100.0),
        secs: Some(150.0 + seed as f64),
        evaluation: Some(Evaluation {
            probe: "cifar10".to_owned(),
            key: "k".to_owned(),
            chance_top1: 0.1,
            trained: figures(0.0),
            // The same network whatever the objective.
            untrained: vec![Figure { name: "knn 20".to_owned(), top1: 0.2 + seed as f64 / 1000.0, top5: Some(0.6) }],
        }),
        notes: Vec::new(),
    }
}

fn runs() -> Vec<RunFacts> {
    let hybrid = [(1, 0.412), (2, 0.431), (3, 0.405)].map(|(seed, knn)| run("hybrid", seed, knn));
    let dino = [(1, 0.389), (2, 0.371), (3, 0.392)].map(|(seed, knn)| run("dino", seed, knn));
    hybrid.into_iter().chain(dino).collect()
}

#[test]
fn runs_that_differ_in_the_seed_are_one_group_and_the_untrained_network_stands_once() {
    let compared = Comparison::of(&runs());
    let names: Vec<(&str, usize)> = compared.groups.iter().map(|g| (g.name.as_str(), g.runs.len())).collect();
    assert_eq!(names, [("hybrid", 3), ("dino", 3), ("untrained", 3)]);
    let knn = compared.groups[0].sample("knn 20", Quantity::Top1).expect("it has one");
    assert!((knn.mean - 0.416).abs() < 1e-12 && (knn.deviation.expect("three") - 0.013_453_624).abs() < 1e-8);
    assert!(compared.notes.is_empty(), "{:?}", compared.notes);
    let of = |figure: &str, other: &str| {
        let is = |d: &&Difference| {
            d.figure == figure && d.group == "hybrid" && d.other == other && d.quantity == Quantity::Top1
        };
        compared.differences.iter().find(is).expect("compared").clone()
    };
    assert_eq!(of("knn 20", "dino").verdict, Verdict::Larger);
    let [low, high] = of("knn 20", "dino").interval.expect("three each");
    assert!((low - 0.003_460_6).abs() < 1e-6 && (high - 0.060_539_4).abs() < 1e-6, "{low} {high}");
    assert_eq!(of("knn 20", "untrained").verdict, Verdict::Larger);
    assert!(compared.differences.iter().all(|d| d.quantity != Quantity::Loss), "losses are of other kinds");
}

#[test]
fn every_doubt_is_said() {
    let mut some = runs();
    some.truncate(4);
    let repeated = RunFacts { run: "again".to_owned(), ..some[0].clone() };
    some.push(repeated);
    some[3].plan.digest = "other".to_owned();
    some[3].steps = 300;
    some[3].notes.push("run `dino-1` is odd".to_owned());
    if let Some(evaluation) = &mut some[3].evaluation {
        evaluation.key = "other".to_owned();
    }
    let compared = Comparison::of(&some);
    assert_eq!(compared.groups[0].runs.len(), 3, "a repetition does not count");
    let text = compared.notes.join("\n");
    for expected in [
        "run `dino-1` is odd",
        "counted once, since settings, seed and plan are those of another run: again",
        "of one run no spread is known: dino",
        "not trained for the same steps: hybrid 400, dino 300",
        "the evaluations are of other settings or images",
        "not the same plan: what differs may be the images or their augmentation: hybrid on pile/plans/p d1",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let unknown = compared.differences.iter().filter(|d| d.group == "hybrid" && d.other == "dino");
    assert!(
        unknown.clone().count() > 0 && unknown.clone().all(|d| d.verdict == Verdict::Unknown && d.interval.is_none())
    );
    // A run without evaluation still has its loss and time.
    let bare = RunFacts { evaluation: None, ..run("barlow-twins", 1, 0.3) };
    let text = render(&Comparison::of(&[bare]), Format::Text).expect("text");
    assert!(text.contains("barlow-twins     1    400  7.510    151.0") && !text.contains("Probes"), "{text}");
}

#[test]
fn groups_are_named_by_what_differs_or_as_somebody_called_them() {
    let names = |runs: &[RunFacts]| -> Vec<String> {
        let groups = Comparison::of(runs).groups;
        groups.into_iter().filter(|group| group.steps.is_some()).map(|group| group.name).collect()
    };
    let with = |key: &str, value: &str| {
        let mut run = run("hybrid", 1, 0.4);
        run.settings.insert(key.to_owned(), value.to_owned());
        run.run = format!("{key}-{value}");
        run
    };
    assert_eq!(
        names(&[with("objective.dino_weight", "0.3"), with("objective.dino_weight", "1.0")]),
        ["objective.dino_weight=0.3", "objective.dino_weight=1.0"]
    );
    let called = |name: &str, run: RunFacts| RunFacts { called: Some(name.to_owned()), ..run };
    // Whatever their settings are: the subset differs from seed to seed.
    let arms = [
        called("curated", with("cut.size", "1")),
        called("curated", with("cut.size", "2")),
        called("random", run("hybrid", 1, 0.4)),
    ];
    assert_eq!(names(&arms), ["curated", "random"]);
    let many = |seed: &str| {
        let mut run = with("a", seed);
        for key in ["b", "c", "d"] {
            run.settings.insert(key.to_owned(), seed.to_owned());
        }
        run
    };
    assert_eq!(names(&[many("1"), many("2")])[0], "a=1 b=1 c=1 and 1 more");
}

#[test]
fn facts_survive_a_line_of_json_and_a_bad_line_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("science.jsonl");
    let lines: Vec<String> = runs().iter().map(|run| serde_json::to_string(run).expect("plain")).collect();
    std::fs::write(&path, format!("{}\n\n", lines.join("\n"))).expect("writes");
    let (read, text) =
        (read_lines(&path).expect("reads"), |runs: &[RunFacts]| render(&Comparison::of(runs), Format::Text));
    assert_eq!(read.len(), 6);
    // serde_json may read a number as its neighbour.
    assert_eq!(text(&read).expect("text"), text(&runs()).expect("text"));
    std::fs::write(&path, format!("{}\n{{\"run\": 3}}\n", lines[0])).expect("writes");
    let error = read_lines(&path).expect_err("line 2").to_string();
    assert!(error.contains("line 2") && error.contains("science.jsonl"), "{error}");
}

/// Text as it was approved; `LAPIDARY_APPROVE=1` writes it anew.
fn approved(name: &str, found: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/compare/testdata").join(name);
    if std::env::var_os("LAPIDARY_APPROVE").is_some() {
        std::fs::write(&path, found).expect("writes");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{} differs; LAPIDARY_APPROVE=1 accepts it", path.display());
}

#[test]
fn every_format_is_as_it_was_approved() {
    let compared = Comparison::of(&runs());
    let of = |format| render(&compared, format).expect("renders");
    for (name, format) in [
        ("compared.txt", Format::Text),
        ("compared.csv", Format::Csv),
        ("compared.md", Format::Markdown),
        ("compared.tex", Format::Latex),
    ] {
        approved(name, &of(format));
    }
    let json: serde_json::Value = serde_json::from_str(&of(Format::Json)).expect("JSON");
    assert_eq!(json["groups"][1]["name"], "dino");
    assert_eq!(json["differences"].as_array().map(Vec::len), Some(compared.differences.len()));
    assert_eq!(json["rule"], RULE);
    let html = of(Format::Html);
    assert!(html.contains(">Training</h2>") && html.contains("41.60 ± 1.35"), "{html}");
}
