//! Groups: runs that differ in nothing but the seed, or that somebody called the same.

use super::facts::{Evaluation, RunFacts};
use super::figures::{Quantity, numbers_of, numbers_of_figures};
use super::statistics::Sample;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Settings that differ are shown up to so many.
const SHOWN: usize = 3;
/// The setting that most comparisons are about.
const OBJECTIVE: &str = "objective.kind";

/// Runs of the same settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// What sets it apart.
    pub name: String,
    /// Its runs.
    pub runs: Vec<String>,
    /// Their seeds.
    pub seeds: Vec<u64>,
    /// Steps of each run; none of networks before their first.
    pub steps: Option<u64>,
    /// Every number that all its runs with an evaluation have, in order.
    pub figures: Vec<GroupFigure>,
}

/// A number over a group's runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupFigure {
    /// The probe or measure; `training`.
    pub figure: String,
    /// What of it.
    pub quantity: Quantity,
    /// Over the runs.
    pub sample: Sample,
}

impl Group {
    /// A number of the group.
    pub fn sample(&self, figure: &str, quantity: Quantity) -> Option<&Sample> {
        let found = self.figures.iter().find(|of| of.figure == figure && of.quantity == quantity);
        found.map(|figure| &figure.sample)
    }
}

/// The runs but for those that repeat another's settings, seed and plan, which would make the spread look small; and the
/// names of these.
pub(crate) fn without_repetitions(runs: &[RunFacts]) -> (Vec<RunFacts>, Vec<String>) {
    let (mut seen, mut kept, mut repeated) = (BTreeSet::new(), Vec::new(), Vec::new());
    for run in runs {
        if seen.insert((&run.called, &run.settings, run.seed, &run.plan.digest)) {
            kept.push(run.clone());
        } else {
            repeated.push(run.run.clone());
        }
    }
    (kept, repeated)
}

/// The groups, in the order of their first runs, then their networks as they were before the first step.
pub(crate) fn groups(runs: &[RunFacts]) -> Vec<Group> {
    let mut by_key: Vec<(Key<'_>, Vec<&RunFacts>)> = Vec::new();
    for run in runs {
        let key = Key::of(run);
        match by_key.iter_mut().find(|(other, _)| *other == key) {
            Some((_, of_key)) => of_key.push(run),
            None => by_key.push((key, vec![run])),
        }
    }
    let settings: Vec<&BTreeMap<String, String>> = by_key.iter().map(|(_, runs)| &runs[0].settings).collect();
    let names = unique(by_key.iter().map(|(key, runs)| match key {
        Key::Called(name) => ((*name).to_owned(), runs[0].run.clone()),
        Key::Settings(own) => (name_of(own, &settings), runs[0].run.clone()),
    }));
    let trained = by_key.iter().zip(names).map(|((_, runs), name)| Group {
        name,
        runs: runs.iter().map(|run| run.run.clone()).collect(),
        seeds: runs.iter().map(|run| run.seed).collect(),
        steps: Some(runs[0].steps),
        figures: pooled(runs.iter().map(|run| numbers_of(run))),
    });
    trained.chain(untrained(runs)).collect()
}

/// What makes runs one group.
#[derive(PartialEq, Eq)]
enum Key<'a> {
    Called(&'a str),
    Settings(&'a BTreeMap<String, String>),
}

impl<'a> Key<'a> {
    fn of(run: &'a RunFacts) -> Self {
        run.called.as_deref().map_or(Self::Settings(&run.settings), Key::Called)
    }
}

/// What sets settings apart from the others: the objective where that is enough, else the settings that differ.
fn name_of(own: &BTreeMap<String, String>, all: &[&BTreeMap<String, String>]) -> String {
    let bare = |value: Option<&String>| value.map_or("none".to_owned(), |value| value.trim_matches('"').to_owned());
    let objective = own.get(OBJECTIVE);
    let alike = all.iter().filter(|other| other.get(OBJECTIVE) == objective).count();
    if alike <= 1 {
        return bare(objective);
    }
    let keys: BTreeSet<&String> = all.iter().flat_map(|settings| settings.keys()).collect();
    let differs = |key: &&&String| all.iter().any(|other| other.get(**key) != own.get(**key));
    let differing: Vec<&&String> = keys.iter().filter(differs).collect();
    let shown = differing.iter().take(SHOWN).map(|key| match key.as_str() {
        OBJECTIVE => bare(objective),
        key => format!("{key}={}", bare(own.get(key))),
    });
    let more = if differing.len() > SHOWN { format!(" and {} more", differing.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.collect::<Vec<_>>().join(" "))
}

/// Names that no two groups share: those that would get their first run's name.
fn unique(names: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let names: Vec<(String, String)> = names.collect();
    let is_shared = |name: &String| names.iter().filter(|(other, _)| other == name).count() > 1;
    names.iter().map(|(name, run)| if is_shared(name) { format!("{name} ({run})") } else { name.clone() }).collect()
}

/// The networks before their first step: those of one architecture, probe and evaluation, each seed once.
fn untrained(runs: &[RunFacts]) -> Vec<Group> {
    type Twins<'a> = (Vec<(&'a String, &'a String)>, &'a str, Vec<(u64, &'a Evaluation, &'a RunFacts)>);
    let mut all: Vec<Twins<'_>> = Vec::new();
    for run in runs {
        let Some(evaluation) = &run.evaluation else { continue };
        let model: Vec<_> = run.settings.iter().filter(|(key, _)| key.starts_with("model.")).collect();
        let twin = (run.seed, evaluation, run);
        match all.iter_mut().find(|(other, key, _)| *other == model && *key == evaluation.key) {
            Some((_, _, twins)) if twins.iter().any(|(seed, _, _)| *seed == run.seed) => {}
            Some((_, _, twins)) => twins.push(twin),
            None => all.push((model, &evaluation.key, vec![twin])),
        }
    }
    let names = unique(all.iter().map(|(_, _, twins)| ("untrained".to_owned(), twins[0].2.run.clone())));
    let group = |((_, _, twins), name): (Twins<'_>, String)| Group {
        name,
        runs: twins.iter().map(|(_, _, run)| run.run.clone()).collect(),
        seeds: twins.iter().map(|(seed, _, _)| *seed).collect(),
        steps: None,
        figures: pooled(twins.iter().map(|(_, evaluation, _)| numbers_of_figures(&evaluation.untrained))),
    };
    all.into_iter().zip(names).map(group).collect()
}

/// Each number over the runs that have it, in the order in which they come.
fn pooled(runs: impl Iterator<Item = Vec<(String, Quantity, f64)>>) -> Vec<GroupFigure> {
    let mut all: Vec<(String, Quantity, Vec<f64>)> = Vec::new();
    for (figure, quantity, value) in runs.flatten() {
        match all.iter_mut().find(|(other, of, _)| *other == figure && *of == quantity) {
            Some((_, _, values)) => values.push(value),
            None => all.push((figure, quantity, vec![value])),
        }
    }
    all.into_iter()
        .map(|(figure, quantity, values)| GroupFigure { figure, quantity, sample: Sample::of(values) })
        .collect()
}
