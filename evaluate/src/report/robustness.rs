//! How features stand transformations: a chart each, from clean (0) to the strongest (5), trained beside untrained.

use super::chart::{Line, Lines, Panel, legend, number};
use super::made::Measured;
use super::text::grouped;
use crate::robustness::{Robustness, Transformed};
use maud::{Markup, html};

/// A probe set's charts, or none when no run was measured.
pub(super) fn robustness(set: &Measured<'_>) -> Option<Markup> {
    let measured: Vec<(&str, &Robustness, Option<&Robustness>)> = set
        .scored()
        .into_iter()
        .filter_map(|(run, scores)| {
            Some((run, scores.trained.robustness.as_ref()?, scores.untrained.robustness.as_ref()))
        })
        .collect();
    let (_, first, _) = measured.first()?;
    let several = measured.len() > 1;
    let lines = |transformed: &Transformed| {
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
        lines
    };
    let chart = |transformed: &Transformed| {
        let mut title = transformed.name.replace("jpeg", "JPEG");
        title.get_mut(..1).into_iter().for_each(str::make_ascii_uppercase);
        let values = transformed.strengths.iter().map(|strength| number(strength.value));
        let places: Vec<String> = std::iter::once("as it is".to_owned()).chain(values).collect();
        let panel = Panel { y: -0.03..1.03, places: &places };
        Lines { title: &title, x: &transformed.meaning, y: "top-1 as a share, cosine", lines: &lines(transformed) }
            .panel(&panel)
    };
    let names: Vec<String> =
        first.transformations.first().map(&lines).into_iter().flatten().map(|line| line.name().to_owned()).collect();
    Some(html! {
        p.dim {
            "Top-1 of " (first.probe) " on " (grouped(first.images as u64)) " test images under each transformation, and the mean cosine
             between their features and those of the images as they are: " (first.protocol) "."
        }
        (legend(&names))
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
