//! How features stand transformations: a chart each, from clean (0) to the strongest (5), trained beside untrained.

use super::chart::{Line, Lines};
use super::made::MadeRun;
use super::text::grouped;
use crate::robustness::{Robustness, Transformed};
use maud::{Markup, html};

/// The section's charts, or none when no run was measured.
pub(super) fn robustness(runs: &[MadeRun]) -> Option<Markup> {
    let measured: Vec<(&str, &Robustness, Option<&Robustness>)> = runs
        .iter()
        .filter_map(|run| {
            let scores = run.scores.as_ref()?;
            Some((run.name.as_str(), scores.trained.robustness.as_ref()?, scores.untrained.robustness.as_ref()))
        })
        .collect();
    let (_, first, _) = measured.first()?;
    let several = measured.len() > 1;
    let chart = |transformed: &Transformed| {
        let mut lines = Vec::new();
        for (place, (run, trained, untrained)) in measured.iter().enumerate() {
            let head = if several { format!("{run}: ") } else { String::new() };
            lines.extend(curves(&head, "", trained, &transformed.name));
            // Of several runs one untrained twin is enough for the eye.
            lines.extend(
                untrained
                    .filter(|_| place == 0)
                    .into_iter()
                    .flat_map(|untrained| curves(&head, ", untrained", untrained, &transformed.name)),
            );
        }
        let mut title = format!("{}: {}", transformed.name, transformed.meaning);
        title.get_mut(..1).into_iter().for_each(str::make_ascii_uppercase);
        Lines { title: &title, x: "strength (0 is the image as it is)", y: "share, or cosine", lines: &lines }.figure()
    };
    Some(html! {
        p.dim {
            "Top-1 of " (first.probe) " on " (grouped(first.images as u64)) " test images under each transformation, and the mean cosine
             between their features and those of the images as they are: " (first.protocol) "."
        }
        div.charts { @for transformed in &first.transformations { (chart(transformed)) } }
    })
}

/// A network's two curves under a transformation.
fn curves(head: &str, tail: &str, of: &Robustness, name: &str) -> Vec<Line> {
    let Some(transformed) = of.transformations.iter().find(|transformed| transformed.name == name) else {
        return Vec::new();
    };
    let curve = |what: &str, clean: f64, value: fn(&crate::Strength) -> f64| {
        let strengths = (1..).zip(&transformed.strengths).map(|(step, strength)| (f64::from(step), value(strength)));
        Line::new(&format!("{head}{what}{tail}"), std::iter::once((0.0, clean)).chain(strengths))
    };
    vec![curve("top-1", of.clean_top1, |strength| strength.top1), curve("cosine", 1.0, |strength| strength.cosine)]
}
