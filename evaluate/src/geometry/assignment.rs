//! The assignment of least cost (Kuhn 1955, Munkres 1957; by shortest augmenting paths with potentials, Jonker and Volgenant
//! 1987): each row its own column. O(n^3).

/// The column of each row of a square matrix, such that the costs add up to the least.
///
/// # Shapes
/// - costs: `[n, n]`, row by row, finite
pub(crate) fn assign(costs: &[f64], n: usize) -> Vec<usize> {
    assert_eq!(costs.len(), n * n, "an assignment is of a square matrix");
    // Columns are counted from 1; column 0 stands for the row that is being placed.
    let (mut of_row, mut of_column) = (vec![0f64; n], vec![0f64; n + 1]);
    let mut row_in = vec![usize::MAX; n + 1];
    for row in 0..n {
        row_in[0] = row;
        let (mut least, mut from) = (vec![f64::INFINITY; n + 1], vec![0usize; n + 1]);
        let mut is_reached = vec![false; n + 1];
        let mut column = 0;
        // Grows the tree of cheapest paths until it reaches a column that is free.
        while row_in[column] != usize::MAX {
            is_reached[column] = true;
            let here = row_in[column];
            let (mut step, mut next) = (f64::INFINITY, 0);
            for other in (1..=n).filter(|other| !is_reached[*other]) {
                let reduced = costs[here * n + other - 1] - of_row[here] - of_column[other];
                if reduced < least[other] {
                    (least[other], from[other]) = (reduced, column);
                }
                if least[other] < step {
                    (step, next) = (least[other], other);
                }
            }
            for other in 0..=n {
                if is_reached[other] {
                    of_row[row_in[other]] += step;
                    of_column[other] -= step;
                } else {
                    least[other] -= step;
                }
            }
            column = next;
        }
        // Moves each row of the path one column on.
        while column != 0 {
            row_in[column] = row_in[from[column]];
            column = from[column];
        }
    }
    let mut columns = vec![0; n];
    (1..=n).for_each(|column| columns[row_in[column]] = column - 1);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, golden};
    use serde_json::Value;

    #[test]
    fn columns_are_scipys() {
        let costs: Vec<f64> = features(9, 9, 1, 0.7, 0.0).values.iter().map(|v| f64::from(*v)).collect();
        let columns = assign(&costs, 9);
        let golden = &golden()["assignment"];
        assert_eq!(Value::from(columns.clone()), golden["columns"]);
        let total: f64 = columns.iter().enumerate().map(|(row, column)| costs[row * 9 + column]).sum();
        assert!((total - golden["total"].as_f64().expect("a number")).abs() < 1e-9);
    }

    #[test]
    fn no_permutation_of_five_costs_less() {
        fn permutations(n: usize) -> Vec<Vec<usize>> {
            if n == 0 {
                return vec![vec![]];
            }
            let shorter = permutations(n - 1);
            let longer = |p: &Vec<usize>, at: usize| [&p[..at], &[n - 1], &p[at..]].concat();
            shorter.iter().flat_map(|p| (0..=p.len()).map(move |at| longer(p, at))).collect()
        }
        for phase in 0..20 {
            let costs = features(5, 5, 1, f64::from(phase) * 0.37, 0.0).values;
            let costs: Vec<f64> = costs.iter().map(|v| f64::from(*v)).collect();
            let total = |p: &[usize]| p.iter().enumerate().map(|(row, column)| costs[row * 5 + column]).sum::<f64>();
            let found = total(&assign(&costs, 5));
            let least = permutations(5).iter().map(|p| total(p)).fold(f64::INFINITY, f64::min);
            assert!((found - least).abs() < 1e-9, "phase {phase}: {found} against {least}");
        }
    }
}
