//! The table of parameter groups that `lapidary pretrain --dry-run` prints.

use crate::optimise::{GroupRow, describe};
use burn_flex::Flex;
use lapidary_schemas::Config;

/// The group of every parameter that a configuration trains.
pub fn parameter_groups(config: &Config) -> Vec<GroupRow> {
    describe::<Flex>(config, &Default::default())
}

/// The table in lines: name, shape, whether it is decayed, its rate, whether it is frozen at first.
pub fn said_of_groups(rows: &[GroupRow]) -> Vec<String> {
    let shape = |row: &GroupRow| row.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
    let width = |texts: Vec<usize>, least: usize| texts.into_iter().max().unwrap_or(0).max(least);
    let names = width(rows.iter().map(|row| row.name.len()).collect(), "parameter".len());
    let shapes = width(rows.iter().map(|row| shape(row).len()).collect(), "shape".len());
    let mut lines = vec![format!("{:names$}  {:shapes$}  decay  rate", "parameter", "shape")];
    for row in rows {
        let decay = if row.decayed { "yes" } else { "no" };
        let frozen = if row.last_layer { "  frozen at first" } else { "" };
        lines.push(format!("{:names$}  {:shapes$}  {decay:5}  {:.4}{frozen}", row.name, shape(row), row.rate));
    }
    let count = |decayed: bool| -> usize {
        let of = |row: &&GroupRow| row.decayed == decayed;
        rows.iter().filter(of).map(|row| row.shape.iter().product::<usize>()).sum()
    };
    lines.push(format!("{} parameters, {} values: {} decayed", rows.len(), count(true) + count(false), count(true)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_aligns_and_counts() {
        let row = |name: &str, shape: &[usize], decayed, rate| GroupRow {
            name: name.to_owned(),
            shape: shape.to_vec(),
            decayed,
            rate,
            last_layer: name.starts_with("head.last"),
        };
        let rows = [row("norm.bias", &[4], false, 0.5), row("head.last_layer.weight_v", &[6, 4], true, 1.0)];
        assert_eq!(
            said_of_groups(&rows),
            [
                "parameter                 shape  decay  rate",
                "norm.bias                 4      no     0.5000",
                "head.last_layer.weight_v  6 x 4  yes    1.0000  frozen at first",
                "2 parameters, 28 values: 24 decayed",
            ]
        );
    }
}
