//! What was found, in five sentences with the numbers: data, curation, subset, training, evaluation.

use super::classes::ClassCounts;
use super::counts::by_reason;
use super::made::{Made, MadeRun, Measured};
use super::text::{grouped, percent, wilson, words};
use super::training::{metrics, verdicts_of};
use crate::Result;
use crate::scores::{NetworkScores, Scores};
use lapidary_schemas::{DecisionReason, RejectReason};
use maud::{Markup, html};
use serde_json::Value;

/// The five sentences. Of a stage that has not run the sentence says how to run it.
pub(super) fn sentences(made: &Made, classes: Option<&ClassCounts>) -> Result<[String; 5]> {
    Ok([data(made), curation(made), subset(made, classes), training(&made.runs)?, evaluation(&made.measured())])
}

/// A sentence for the page: its subject, which ends at the colon, stands out, and what is between backticks is code.
pub(super) fn marked(sentence: &str) -> Markup {
    let (subject, rest) = sentence.split_once(": ").unwrap_or(("", sentence));
    // A number and its sign stay on one line.
    let rest = rest.replace(" %", "\u{a0}%");
    let parts = rest.split('`').enumerate();
    html! {
        @if !subject.is_empty() { b { (subject) ". " } }
        @for (i, part) in parts { @if i % 2 == 1 { code { (part) } } @else { (part) } }
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

fn data(made: &Made) -> String {
    let rows = made.images.manifest.rows;
    let by_reason = made.images.manifest.facts["rejected_by_reason"].as_object().into_iter().flatten();
    let counts = by_reason.filter_map(|(code, count)| Some((RejectReason::from_code(code)?.text(), count.as_u64()?)));
    let most = counts
        .max_by_key(|(_, count)| *count)
        .map(|(text, count)| format!(", most often because {text} ({})", grouped(count)));
    let rejected = if rows.rejected == 0 {
        "none was rejected".to_owned()
    } else {
        format!("{} rejected{}", counted(rows.rejected, "was", "were"), most.unwrap_or_default())
    };
    format!(
        "Data: Of {} of `{}`, {} images and {rejected}.",
        counted(rows.input, "input", "inputs"),
        made.source,
        counted(rows.output, "is", "are")
    )
}

fn curation(made: &Made) -> String {
    let Some(curated) = &made.curated else { return "Curation: None yet; `lapidary curate` makes one.".to_owned() };
    let reasons = by_reason(made);
    let total: u64 = reasons.iter().map(|(_, count, _)| count).sum();
    let kept: u64 =
        reasons.iter().filter(|(code, ..)| code == DecisionReason::Kept.code()).map(|(_, count, _)| count).sum();
    let dropped = reasons.iter().filter(|(code, count, _)| code != DecisionReason::Kept.code() && *count > 0);
    let dropped: Vec<String> =
        dropped.take(3).map(|(code, count, _)| format!("{} ({})", words(code), grouped(*count))).collect();
    let why = if dropped.is_empty() { String::new() } else { format!(", most of all as {}", dropped.join(", ")) };
    let truth = &curated.facts["truth"];
    let planted = match (truth["recall"].as_f64(), truth["precision"].as_f64()) {
        (Some(recall), Some(precision)) => {
            format!(
                "; of the planted copies {} were found, and {} of the grouped pairs are right",
                percent(recall),
                percent(precision)
            )
        }
        _ => String::new(),
    };
    if kept == total {
        return format!(
            "Curation: All {} images stay: none is a copy of another, or was dropped for another reason.",
            grouped(total)
        );
    }
    format!(
        "Curation: {} of {} images stay and {} dropped{why}, in {} of copies{planted}.",
        grouped(kept),
        grouped(total),
        counted(total - kept, "was", "were"),
        counted(curated.facts["duplicate_groups"].as_u64().unwrap_or(0), "group", "groups"),
    )
}

fn subset(made: &Made, classes: Option<&ClassCounts>) -> String {
    let Some(cut) = &made.subset else { return "Subset: None yet; `lapidary cut --size N` cuts one.".to_owned() };
    let ranked = cut.manifest.facts["ranked"].as_u64().unwrap_or(0);
    let labelled = classes.filter(|counts| counts.subset.iter().sum::<u64>() > 0);
    let balance = labelled.map(|counts| {
        let (before, after) = counts.entropies();
        let of = |counts: &[u64]| counts.iter().filter(|count| **count > 0).count();
        let change = match after - before {
            // Less than the digits that are shown.
            less if less.abs() < 0.005 => "as even as",
            less if less < 0.0 => "less even than",
            _ => "more even than",
        };
        format!(
            "; it shows {} of {} classes, {change} all images: entropy {after:.2} nats against {before:.2}, of at most {:.2}",
            of(&counts.subset),
            counts.all.len(),
            (counts.all.len() as f64).ln()
        )
    });
    let size = cut.manifest.rows.output;
    format!(
        "Subset: The first {} of {} ranked images were cut ({}){}.",
        grouped(size),
        grouped(ranked),
        percent(size as f64 / ranked.max(1) as f64),
        balance.unwrap_or_default()
    )
}

/// Means of the loss over the first and the last tenth of the steps.
fn losses(steps: &[Value]) -> Option<(f64, f64)> {
    let losses: Vec<f64> =
        steps.iter().filter_map(|step| step["loss"].as_f64()).filter(|loss| loss.is_finite()).collect();
    let tenth = (losses.len() / 10).max(1);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    (!losses.is_empty()).then(|| (mean(&losses[..tenth]), mean(&losses[losses.len() - tenth..])))
}

fn training(runs: &[MadeRun]) -> Result<String> {
    if runs.is_empty() {
        return Ok("Training: No run yet; `lapidary pretrain` trains one.".to_owned());
    }
    let mut parts = Vec::new();
    for run in runs {
        let manifest = &run.run.manifest;
        let change = losses(&metrics(run)?).map(|(first, last)| {
            let verb = if last < first { "fell" } else { "rose" };
            format!(", its loss {verb} from {first:.2} to {last:.2}")
        });
        let collapse = verdicts_of(run)
            .into_iter()
            .find(|verdict| verdict.symptom.is_collapse() && verdict.recovered_at.is_none());
        let health = collapse.map_or("it did not collapse".to_owned(), |verdict| {
            verdict.to_string().lines().next().unwrap_or_default().to_owned()
        });
        parts.push(format!(
            "`{}` ({}) took {}{}, and {health}",
            run.name,
            manifest.config["objective"]["kind"].as_str().unwrap_or("an objective of its own"),
            counted(manifest.facts["steps"].as_u64().unwrap_or(0), "step", "steps"),
            change.unwrap_or_default(),
        ));
    }
    Ok(format!("Training: Run {} (means over the first and the last tenth of the steps).", parts.join("; run ")))
}

/// The score that a network is known by.
fn headline(network: &NetworkScores) -> f64 {
    network.knn_top1
}

/// The runs of a probe set, the best in front.
fn by_headline<'a>(set: &Measured<'a>) -> Vec<(&'a str, &'a Scores)> {
    let mut scored = set.scored();
    scored.sort_by(|a, b| headline(&b.1.trained).total_cmp(&headline(&a.1.trained)));
    scored
}

/// Of the first probe set in words, of each other the best run's figure.
fn evaluation(sets: &[Measured<'_>]) -> String {
    let mut sets = sets.iter().map(by_headline).filter(|scored| !scored.is_empty());
    let scored = sets.next().unwrap_or_default();
    let Some((best, scores)) = scored.first() else {
        return "Evaluation: None of this run yet; `lapidary eval` measures one.".to_owned();
    };
    let share = headline(&scores.trained);
    let (low, high) = wilson(share, scores.test_images as u64);
    let others: Vec<String> = scored
        .iter()
        .skip(1)
        .map(|(name, scores)| format!("`{name}` {}", percent(headline(&scores.trained))))
        .collect();
    let others = if others.is_empty() { String::new() } else { format!("; the other runs: {}", others.join(", ")) };
    let elsewhere: Vec<String> = sets
        .filter_map(|scored| {
            let (run, scores) = scored.first()?;
            let [trained, untrained] = [&scores.trained, &scores.untrained].map(|network| percent(headline(network)));
            Some(format!("on `{}`, `{run}` has {trained}, untrained {untrained}", scores.probe))
        })
        .collect();
    let elsewhere = if elsewhere.is_empty() { String::new() } else { format!("; {}", elsewhere.join("; ")) };
    format!(
        "Evaluation: On `{}` the features of `{best}` name the class of {} of {} test images by k-NN (95 % interval {:.1} to {:.1}), those \
         of the same network untrained {}, and guessing {}{others}{elsewhere}.",
        scores.probe,
        percent(share),
        grouped(scores.test_images as u64),
        low * 100.0,
        high * 100.0,
        percent(headline(&scores.untrained)),
        percent(scores.chance_top1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn losses_are_means_of_tenths_and_skip_what_is_no_number() {
        let steps: Vec<Value> = (0..100).map(|i| json!({"loss": 100 - i})).chain([json!({"loss": null})]).collect();
        assert_eq!(losses(&steps), Some((95.5, 5.5)));
        assert_eq!(losses(&[]), None);
    }

    #[test]
    fn a_sentence_has_its_subject_and_its_code() {
        let text = marked("Data: Of `a<b`, 3 are images.").into_string();
        assert_eq!(text, "<b>Data. </b>Of <code>a&lt;b</code>, 3 are images.");
    }

    #[test]
    fn counts_agree_with_their_verbs() {
        assert_eq!(counted(1, "is", "are"), "1 is");
        assert_eq!(counted(1200, "is", "are"), "1,200 are");
    }
}
