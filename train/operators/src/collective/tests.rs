//! What ranks compute together, in f64, beside one that has all rows: standardised columns with their gradients, and sums.

use super::*;
use burn::backend::Autodiff;
use burn::tensor::{DType, TensorData};
use burn_flex::Flex;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

type Cpu = Autodiff<Flex>;

const WIDTH: usize = 3;
/// Of three ranks; the second has one row.
const ROWS: [Range<usize>; 3] = [0..4, 4..5, 5..11];

fn rows(range: Range<usize>, turn: f64) -> Tensor<Cpu, 2> {
    let values: Vec<f64> =
        (range.start * WIDTH..range.end * WIDTH).map(|at| (at as f64 * 1.7 + turn).sin() * 3.0).collect();
    let shape = [range.len(), WIDTH];
    Tensor::from_data(TensorData::new(values, shape), (&Default::default(), DType::F64))
}

fn host<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f64> {
    tensor.into_data().to_vec().expect("f64")
}

/// What standardised rows are, and the gradient by the rows of a weighted sum of them.
fn standardised_with_gradient(ranks: &Ranks<Flex>, own: Range<usize>) -> [Vec<f64>; 2] {
    let x = rows(own.clone(), 0.3).require_grad();
    let y = standardise_over_ranks(x.clone(), 11, 1e-5, ranks);
    let gradients = (y.clone() * rows(own, 2.0)).sum();
    ranks.barrier();
    let gradients = gradients.backward();
    ranks.barrier();
    [host(y.inner()), host(x.grad(&gradients).expect("a gradient"))]
}

#[test]
fn columns_of_all_ranks_are_standardised_as_on_one() {
    // burn-autodiff has one table of graphs for the process.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let alone: Ranks<Flex> = Arc::new(Alone);
    let whole = standardised_with_gradient(&alone, 0..11);
    let of_ranks: Vec<[Vec<f64>; 2]> = std::thread::scope(|scope| {
        let ends = collectives::<Cpu>(&[Default::default(); 3]).into_iter().zip(ROWS);
        let threads: Vec<_> =
            ends.map(|(end, own)| scope.spawn(move || standardised_with_gradient(&end, own))).collect();
        threads.into_iter().map(|thread| thread.join().expect("ends")).collect()
    });
    for (what, index) in [("standardised", 0), ("gradient", 1)] {
        let found: Vec<f64> = of_ranks.iter().flat_map(|rank| rank[index].clone()).collect();
        assert_eq!(found.len(), whole[index].len());
        for (found, expected) in found.iter().zip(&whole[index]) {
            assert!((found - expected).abs() < 1e-12, "{what}: {found}, expected {expected}");
        }
    }
}

#[test]
fn a_sum_is_the_same_bits_on_all_ranks_and_names_are_those_of_any() {
    let sums = |ranks: usize| -> Vec<(Vec<u32>, BTreeSet<String>)> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = collectives::<Flex>(&vec![Default::default(); ranks])
                .into_iter()
                .map(|end| {
                    scope.spawn(move || {
                        let own = Tensor::<Flex, 1>::from_floats([0.1, 1e7, -3.3], &Default::default());
                        let sum = sum_over_ranks(own * (end.rank() as f64 + 0.7), &end);
                        let bits = sum.into_data().to_vec::<f32>().expect("f32").iter().map(|v| v.to_bits()).collect();
                        (bits, end.union(BTreeSet::from(["all".to_owned(), format!("of {}", end.rank())])))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("ends")).collect()
        })
    };
    for ranks in [1, 2, 5] {
        let found = sums(ranks);
        assert!(found.iter().all(|rank| *rank == found[0]), "{ranks} ranks");
        assert_eq!(found[0].1.len(), ranks + 1);
        assert_eq!(found, sums(ranks), "each time");
    }
}
