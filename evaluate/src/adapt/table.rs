//! The ladder as one table: what each rung cost and gained.

use super::scores::Adapted;

/// Lines for people, in the order given; gains are over the linear rung, where it is there.
pub fn said_of_rungs(rungs: &[Adapted]) -> Vec<String> {
    let linear = rungs.iter().find(|rung| rung.kind == "linear");
    let line = |cells: [String; 10]| {
        let [kind, trained, share, epochs, steps, seconds, peak, held, test, gain] = cells;
        format!(
            "{kind:<9} {trained:>12} {share:>7} {epochs:>9} {steps:>7} {seconds:>9} {peak:>9} {held:>9} {test:>16} {gain:>12}"
        )
    };
    let heading = [
        "rung",
        "trained",
        "share",
        "epochs",
        "steps",
        "seconds",
        "peak MiB",
        "held-out",
        "test top-1, -5",
        "over linear",
    ];
    let percent = |value: f64| format!("{:.1} %", value * 100.0);
    let of = |rung: &Adapted| {
        let gain = linear.map_or_else(
            || "-".to_owned(),
            |linear| format!("{:+.1} points", 100.0 * (rung.test_top1 - linear.test_top1)),
        );
        line([
            rung.kind.clone(),
            grouped(rung.trainable_parameters),
            percent(rung.trainable_parameters as f64 / rung.parameters.max(1) as f64),
            // Which epoch is kept, of how many.
            format!("{} of {}", rung.best_epoch, rung.epochs),
            rung.steps.to_string(),
            format!("{:.1}", rung.seconds),
            format!("{:.0}", rung.peak_mib),
            rung.held_out_top1.map_or_else(|| "-".to_owned(), percent),
            format!("{} {:>7}", percent(rung.test_top1), percent(rung.test_top5)),
            gain,
        ])
    };
    let notes = rungs.iter().flat_map(|rung| rung.notes.iter().map(|note| format!("note: {}: {note}", rung.kind)));
    std::iter::once(line(heading.map(str::to_owned))).chain(rungs.iter().map(of)).chain(notes).collect()
}

/// Thousands apart.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn rung(kind: &str, trained: usize, top1: f64) -> Adapted {
        Adapted {
            run: "r".to_owned(),
            probe: "p".to_owned(),
            kind: kind.to_owned(),
            classes: 10,
            labels: 900,
            held_out: 100,
            test_images: 500,
            parameters: 1_234_567,
            trainable_parameters: trained,
            steps: 450,
            epochs: 30,
            best_epoch: 25,
            seconds: 12.34,
            peak_mib: 210.4,
            held_out_top1: (kind != "full").then_some(0.5),
            test_top1: top1,
            test_top5: 0.9,
            settings: BTreeMap::new(),
            history: Vec::new(),
            notes: vec!["x".to_owned(); usize::from(kind == "full")],
        }
    }

    #[test]
    fn a_line_a_rung_says_what_it_cost_and_gained() {
        let lines =
            said_of_rungs(&[rung("linear", 1_930, 0.4), rung("lora", 13_000, 0.4525), rung("full", 1_234_567, 0.39)]);
        assert_eq!(
            lines,
            [
                "rung           trained   share    epochs   steps   seconds  peak MiB  held-out   test top-1, -5  over linear",
                "linear           1,930   0.2 %  25 of 30     450      12.3       210    50.0 %   40.0 %  90.0 %  +0.0 points",
                "lora            13,000   1.1 %  25 of 30     450      12.3       210    50.0 %   45.2 %  90.0 %  +5.2 points",
                "full         1,234,567 100.0 %  25 of 30     450      12.3       210         -   39.0 %  90.0 %  -1.0 points",
                "note: full: x",
            ]
        );
        assert!(said_of_rungs(&[rung("lora", 5, 0.4)])[1].ends_with(" -"), "without the linear rung there is no gain");
    }
}
