//! `lapidary explain` by whatever a person has at hand, and in words.

use crate::run::{DRAWN, curated, facts, refusal, say, text, tiny};

#[test]
fn an_image_is_explained_by_whatever_is_at_hand() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    curated(&out, "120");
    tiny(&out, &["plan"]);
    let truth = std::fs::read_to_string(DRAWN.pile().join("truth.csv")).expect("a table");
    let copy = truth.lines().find(|line| line.ends_with(",flipped")).and_then(|line| line.split(',').next());
    let path = copy.expect("a flipped copy");
    let file = path.rsplit('/').next().expect("a name");
    let known = &facts(&out, &["explain", path])[0];
    let id = known["image_id"].as_str().expect("an id");
    let on_disk = DRAWN.pile().join(path);
    for name in [file, id, &id[..13], text(&on_disk), &format!("./{path}"), &id.to_uppercase()] {
        let found = &facts(&out, &["explain", name])[0];
        assert_eq!((&found["image_id"], &found["path"]), (&known["image_id"], &known["path"]), "{name}");
    }
    // In words, of a copy, of an image that stays, and of a rejected file.
    let words = say(&["explain", file, "--out", text(&out)]);
    assert!(words.contains(&format!("`{path}` is image {id} of source `pile`")), "{words}");
    assert!(words.contains("copy of `") || words.contains("in the ranking"), "{words}");
    assert!(words.contains("a copy in its group: `") || words.contains("are copies in its group: `"), "{words}");
    assert!(!words.contains('{'), "no JSON: {words}");
    let first = crate::run::facts(&out, &["explain", &first_kept(&out)]);
    let sentences = first[0]["sentences"].to_string();
    assert!(
        sentences.contains("It is kept: number 1 of ") && sentences.contains("Subsets that hold it: 120."),
        "{sentences}"
    );
    assert!(sentences.contains("views an epoch"), "{sentences}");
    let rejected = rejected(&out);
    let words = say(&["explain", rejected.rsplit('/').next().expect("a name"), "--out", text(&out)]);
    assert!(words.starts_with(&format!("`{rejected}` was rejected when source `pile` was ingested: ")), "{words}");

    let (code, error) = refusal(&["explain", "no-such-file.jpg", "--out", text(&out)]);
    assert!(code == 2 && error.contains("the end of its path"), "{error}");
    // Of 576 images at least two have ids that begin alike.
    let mut starts: Vec<String> = (0..16).map(|digit| format!("{digit:x}")).collect();
    starts.retain(|digit| crate::run::lapidary(&["explain", digit, "--out", text(&out)]).status.code() == Some(2));
    let (_, error) = refusal(&["explain", &starts[0], "--out", text(&out)]);
    assert!(
        error.contains("of source `pile`:") && error.contains("more") && error.contains("hint: give more"),
        "{error}"
    );
}

/// The path of a rejected input.
fn rejected(out: &std::path::Path) -> String {
    use arrow::array::StringArray;
    use lapidary_pipeline::stage::{column, read_table};
    let batches = read_table(&out.join("pile/images/rejects.parquet"), &["path"]).expect("rejects");
    let paths: &StringArray = column(&batches[0], "path").expect("paths");
    paths.value(0).to_owned()
}

/// The id of the image with rank 0.
fn first_kept(out: &std::path::Path) -> String {
    use arrow::array::UInt64Array;
    use lapidary_pipeline::stage::{column, read_table};
    let batches = read_table(&out.join("pile/subsets/120/ids.parquet"), &["image_id"]).expect("a subset");
    let ids: &UInt64Array = column(&batches[0], "image_id").expect("ids");
    format!("{:016x}", ids.value(0))
}
