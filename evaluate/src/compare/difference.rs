//! Which differences between groups are larger than the spread over seeds.

use super::figures::Quantity;
use super::group::Group;
use super::statistics::welch_interval;
use serde::Serialize;

/// What is to be said of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// 0 lies outside its interval.
    Larger,
    /// 0 lies inside.
    Within,
    /// One of the groups has one run, and no spread is known.
    Unknown,
}

impl Verdict {
    /// As tables write it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Larger => "larger than the spread",
            Self::Within => "within the spread",
            Self::Unknown => "no spread is known",
        }
    }
}

/// A difference of means.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The probe or measure; `training`.
    pub figure: String,
    /// What of it.
    pub quantity: Quantity,
    /// A group.
    pub group: String,
    /// The one that is taken off.
    pub other: String,
    /// Runs of each.
    pub runs: [usize; 2],
    /// The difference.
    pub difference: f64,
    /// Welch's 95 % interval of it; none where no spread is known.
    pub interval: Option<[f64; 2]>,
    /// What is to be said of it.
    pub verdict: Verdict,
}

/// Every pair of groups on every number that both have. Losses are left out: those of two objectives are not of one kind.
pub(crate) fn differences(groups: &[Group]) -> Vec<Difference> {
    let mut all = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        for other in &groups[index + 1..] {
            for figure in group.figures.iter().filter(|figure| figure.quantity != Quantity::Loss) {
                let Some(sample) = other.sample(&figure.figure, figure.quantity) else { continue };
                let interval = welch_interval(&figure.sample, sample);
                let verdict = match interval {
                    None => Verdict::Unknown,
                    Some([low, high]) if low > 0.0 || high < 0.0 => Verdict::Larger,
                    Some(_) => Verdict::Within,
                };
                all.push(Difference {
                    figure: figure.figure.clone(),
                    quantity: figure.quantity,
                    group: group.name.clone(),
                    other: other.name.clone(),
                    runs: [figure.sample.values.len(), sample.values.len()],
                    difference: figure.sample.mean - sample.mean,
                    interval,
                    verdict,
                });
            }
        }
    }
    all
}
