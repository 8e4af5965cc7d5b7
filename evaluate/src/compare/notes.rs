//! What makes a comparison less than it looks: missing evaluations, other plans, other steps, single runs.

use super::facts::RunFacts;
use super::group::Group;
use std::collections::{BTreeMap, BTreeSet};

/// Sentences for the reader.
pub(crate) fn notes(runs: &[RunFacts], groups: &[Group], repeated: &[String]) -> Vec<String> {
    let mut notes: Vec<String> = runs.iter().flat_map(|run| run.notes.iter().cloned()).collect();
    if !repeated.is_empty() {
        let names = repeated.join(", ");
        notes.push(format!("counted once, since settings, seed and plan are those of another run: {names}"));
    }
    let trained = || groups.iter().filter(|group| group.steps.is_some());
    let single: Vec<&str> = trained().filter(|group| group.runs.len() == 1).map(|group| group.name.as_str()).collect();
    if !single.is_empty() {
        notes.push(format!("of one run no spread is known: {}", single.join(", ")));
    }
    let steps: BTreeSet<Option<u64>> = trained().map(|group| group.steps).collect();
    if steps.len() > 1 {
        let each = trained().map(|group| format!("{} {}", group.name, group.steps.unwrap_or(0)));
        notes.push(format!("the groups were not trained for the same steps: {}", each.collect::<Vec<_>>().join(", ")));
    }
    let keys: BTreeSet<&str> = runs.iter().filter_map(|run| Some(run.evaluation.as_ref()?.key.as_str())).collect();
    if keys.len() > 1 {
        notes.push(
            "the evaluations are of other settings or images: their figures cannot be held beside each other"
                .to_owned(),
        );
    }
    notes.extend(plans(runs, groups));
    notes
}

/// Says of which plans groups with the same seed were trained, when it is not one.
fn plans(runs: &[RunFacts], groups: &[Group]) -> Option<String> {
    let mut of_seed: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for run in runs {
        of_seed.entry(run.seed).or_default().insert(&run.plan.digest);
    }
    if of_seed.values().all(|plans| plans.len() == 1) {
        return None;
    }
    let each = groups.iter().filter(|group| group.steps.is_some()).map(|group| {
        let of_group = runs.iter().filter(|run| group.runs.contains(&run.run));
        let names: BTreeSet<String> = of_group.map(|run| format!("{} {}", run.plan.name, run.plan.digest)).collect();
        format!("{} on {}", group.name, names.into_iter().collect::<Vec<_>>().join(" and "))
    });
    let each = each.collect::<Vec<_>>().join("; ");
    Some(format!("not the same plan: what differs may be the images or their augmentation: {each}"))
}
