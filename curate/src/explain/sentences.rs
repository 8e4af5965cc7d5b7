//! What is known of an image, in sentences.

use lapidary_schemas::{DecisionReason, QualityIssue, RejectReason};
use serde_json::Value;

/// Copies named; more are counted.
const NAMED: usize = 5;

/// The facts of [`crate::explain`] as sentences, the most telling first.
pub fn sentences(facts: &Value) -> Vec<String> {
    let path = text(&facts["path"]);
    let source = text(&facts["source"]);
    if let Some(reason) = facts["rejected"]["reason"].as_str() {
        let why = RejectReason::from_code(reason).map_or(reason, |reason| reason.text());
        let detail = text(&facts["rejected"]["detail"]);
        let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        return vec![format!("`{path}` was rejected when source `{source}` was ingested: {why}{detail}.")];
    }
    let id = text(&facts["image_id"]);
    let (width, height, format) = (&facts["width"], &facts["height"], text(&facts["format"]));
    let split = text(&facts["split"]);
    let mut said = vec![format!(
        "`{path}` is image {id} of source `{source}`: {format}, {width} x {height} pixels, split {split}."
    )];
    if let Some(source_id) = facts["source_image_id"].as_str() {
        said.push(format!("Its source calls it {source_id}."));
    }
    if let Some(url) = facts["url"].as_str() {
        said.push(format!("It came from {url}."));
    }
    if let Some(license) = facts["license"].as_str() {
        said.push(format!("Its license is {license}."));
    }
    said.extend(decision(&facts["decision"]));
    said.extend(group(&facts["group"]));
    said.extend(subsets(facts));
    if let Some(shard) = facts["shard"].as_str() {
        said.push(format!("Its bytes lie in {shard}."));
    }
    said
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// An image by its path where that is known, else by its id.
fn named(decision: &Value, id: &str, path: &str) -> Option<String> {
    let id = decision[id].as_str()?;
    Some(decision[path].as_str().map_or_else(|| format!("image {id}"), |path| format!("`{path}` ({id})")))
}

fn decision(decision: &Value) -> Vec<String> {
    let Some(code) = decision["reason"].as_str() else {
        return vec!["It has not been curated yet.".to_owned()];
    };
    let score = decision["score"].as_f64().map_or(String::new(), |score| format!(", score {score:.2}"));
    let detail = text(&decision["detail"]);
    let reason = DecisionReason::from_code(code);
    let mut said = vec![match reason {
        Some(DecisionReason::Kept) => kept(decision),
        Some(DecisionReason::Contaminates) => {
            format!("It is dropped: it is a copy of an evaluation image, `{detail}`{score}.")
        }
        Some(DecisionReason::OffTopic) => "It is dropped: no seed retrieved it.".to_owned(),
        Some(DecisionReason::LowQuality) => format!("It is dropped for its quality: {detail}."),
        _ => {
            let why = reason.map_or(code, |reason| reason.text());
            let of = named(decision, "duplicate_of", "duplicate_of_path").unwrap_or_else(|| "another image".to_owned());
            format!("It is dropped as a copy of {of}: {why}{score}.")
        }
    }];
    let by = named(decision, "tied_in_by", "tied_in_by_path");
    if let Some(by) =
        by.filter(|_| !decision["duplicate_of"].is_null() && decision["tied_in_by"] != decision["duplicate_of"])
    {
        said.push(format!("What links it to that group is {by}."));
    }
    let issues: Vec<&str> = decision["issues"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !issues.is_empty() {
        let words = issues.iter().map(|code| QualityIssue::from_code(code).map_or(*code, |issue| issue.text()));
        said.push(format!("It is marked: {}.", words.collect::<Vec<_>>().join(", ")));
    }
    said
}

fn kept(decision: &Value) -> String {
    let number = |key: &str| decision[key].as_u64();
    let place = number("rank").map_or(0, |rank| rank + 1);
    let of = number("ranked_images").map_or(String::new(), |of| format!(" of {of}"));
    match (number("leaf"), number("leaf_position")) {
        (Some(leaf), Some(position)) => {
            format!("It is kept: number {place}{of} in the ranking, number {} of cluster {leaf}.", position + 1)
        }
        _ => format!("It is kept: number {place}{of} in the ranking."),
    }
}

fn group(group: &Value) -> Option<String> {
    let members: Vec<&str> = group.as_array()?.iter().filter_map(|member| member["path"].as_str()).collect();
    let names: Vec<String> = members.iter().take(NAMED).map(|path| format!("`{path}`")).collect();
    let (names, more) = (names.join(", "), members.len().saturating_sub(NAMED));
    match members.len() {
        0 => None,
        1 => Some(format!("One other image is a copy in its group: {names}.")),
        count if more == 0 => Some(format!("{count} other images are copies in its group: {names}.")),
        count => Some(format!("{count} other images are copies in its group: {names} and {more} more.")),
    }
}

fn subsets(facts: &Value) -> Vec<String> {
    let subsets: Vec<&str> = facts["subsets"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut said = vec![if subsets.is_empty() {
        "No subset holds it.".to_owned()
    } else {
        format!("Subsets that hold it: {}.", subsets.join(", "))
    }];
    for plan in facts["plans"].as_array().into_iter().flatten() {
        let (name, views, epochs) = (text(&plan["plan"]), &plan["views_an_epoch"], &plan["epochs"]);
        said.push(format!("Plan `{name}` shows it in {views} views an epoch, in {epochs} epochs."));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image(decision: Value) -> Vec<String> {
        sentences(&json!({
            "path": "a/b.jpg", "image_id": "00000000000000ff", "source": "s", "format": "jpeg", "width": 640, "height": 480,
            "split": "train", "source_image_id": "139", "decision": decision, "subsets": ["30%", "all"], "group": [],
            "plans": [{"plan": "p", "views_an_epoch": 8, "epochs": 3}], "shard": "s/images/part-00000.parquet",
        }))
    }

    #[test]
    fn a_kept_image_has_its_place_and_its_subsets() {
        let said = image(json!({
            "reason": "kept", "rank": 4, "ranked_images": 90, "leaf": 7, "leaf_position": 0, "issues": ["too_dark"],
        }));
        assert_eq!(
            said,
            [
                "`a/b.jpg` is image 00000000000000ff of source `s`: jpeg, 640 x 480 pixels, split train.",
                "Its source calls it 139.",
                "It is kept: number 5 of 90 in the ranking, number 1 of cluster 7.",
                "It is marked: 99 % of its pixels are dark.",
                "Subsets that hold it: 30%, all.",
                "Plan `p` shows it in 8 views an epoch, in 3 epochs.",
                "Its bytes lie in s/images/part-00000.parquet.",
            ]
        );
    }

    #[test]
    fn a_dropped_image_says_whose_copy_it_is_and_a_reject_why() {
        let said = image(json!({
            "reason": "near_copy", "duplicate_of": "00000000000000aa", "duplicate_of_path": "a/c.jpg", "score": 0.971,
            "tied_in_by": "00000000000000bb", "issues": [],
        }));
        assert!(said[2].starts_with("It is dropped as a copy of `a/c.jpg` (00000000000000aa): "), "{said:?}");
        assert!(said[2].ends_with(", score 0.97."), "{said:?}");
        assert_eq!(said[3], "What links it to that group is image 00000000000000bb.");
        let reject =
            json!({"path": "x.jpg", "source": "s", "rejected": {"reason": "truncated", "detail": "it ends early"}});
        let said = sentences(&reject);
        assert!(said[0].starts_with("`x.jpg` was rejected when source `s` was ingested: "), "{said:?}");
        assert!(said[0].ends_with("(it ends early)."), "{said:?}");
        assert_eq!(sentences(&json!({"subsets": []}))[1], "It has not been curated yet.");
    }
}
