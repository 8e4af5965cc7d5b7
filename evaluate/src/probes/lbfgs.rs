//! L-BFGS (Nocedal and Wright 2006, algorithms 7.4 and 7.5) with a line search that meets the strong Wolfe conditions
//! (algorithms 3.5 and 3.6): the minimum of a smooth function of many variables from its values and gradients.

use super::line_search::{self, Probed};
use std::collections::VecDeque;

/// Pairs of steps and changes of the gradient that stand for the Hessian.
const MEMORY: usize = 10;
/// A decrease below this share of the value ends the search, as in SciPy's L-BFGS-B: 64 times the precision of f64.
const DECREASE_MIN: f64 = 64.0 * f64::EPSILON;

/// When L-BFGS stops.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// Iterations at most.
    pub iterations: usize,
    /// The greatest component of the gradient that counts as zero.
    pub gradient_max: f64,
}

/// Where the search ended.
#[derive(Debug, Clone)]
pub(crate) struct Minimum {
    /// The point.
    pub(crate) point: Vec<f64>,
    /// Iterations that were taken.
    pub(crate) iterations: usize,
    /// Whether it ended before its iterations were used up.
    pub(crate) is_converged: bool,
}

/// What a gradient is multiplied by to make up for the function's bends: an approximate inverse of its Hessian, symmetric and
/// positive.
pub(crate) type Precondition<'a> = &'a dyn Fn(&[f64]) -> Vec<f64>;

/// Minimises `f`, which writes its gradient at a point and returns its value. With a preconditioner the first step has its length;
/// later ones are scaled by what was learned of the function in any case.
pub(crate) fn minimise(
    start: Vec<f64>,
    stop: Stop,
    precondition: Option<Precondition<'_>>,
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Minimum {
    let mut here = Probed::at(start, &mut f);
    let mut pairs: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    for iteration in 0..stop.iterations {
        if greatest(&here.gradient) <= stop.gradient_max {
            return Minimum { point: here.point, iterations: iteration, is_converged: true };
        }
        let mut direction = descent(&here.gradient, &pairs, precondition);
        if dot(&direction, &here.gradient) >= 0.0 {
            // The pairs have lost their meaning to rounding.
            pairs.clear();
            direction = descent(&here.gradient, &pairs, precondition);
        }
        let is_scaled = precondition.is_some() || !pairs.is_empty();
        let first = if is_scaled { 1.0 } else { 1.0 / dot(&here.gradient, &here.gradient).sqrt() };
        let Some(next) = line_search::search(&here, &direction, first.min(1.0), &mut f) else {
            return Minimum { point: here.point, iterations: iteration, is_converged: true };
        };
        let decrease = here.value - next.value;
        pairs.extend(Pair::between(&here, &next));
        if pairs.len() > MEMORY {
            pairs.pop_front();
        }
        let scale = here.value.abs().max(next.value.abs()).max(1.0);
        here = next;
        if decrease <= DECREASE_MIN * scale {
            return Minimum { point: here.point, iterations: iteration + 1, is_converged: true };
        }
    }
    let is_converged = greatest(&here.gradient) <= stop.gradient_max;
    Minimum { point: here.point, iterations: stop.iterations, is_converged }
}

/// A step and the change of the gradient over it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// 1 over their product.
    inverse: f64,
}

impl Pair {
    /// None where the curvature is not positive, which only rounding brings about.
    fn between(here: &Probed, next: &Probed) -> Option<Self> {
        let step = difference(&next.point, &here.point);
        let change = difference(&next.gradient, &here.gradient);
        let product = dot(&step, &change);
        (product > f64::EPSILON * dot(&change, &change)).then(|| Self { step, change, inverse: 1.0 / product })
    }
}

/// The direction of descent: minus the approximate inverse Hessian times the gradient (algorithm 7.4).
fn descent(gradient: &[f64], pairs: &VecDeque<Pair>, precondition: Option<Precondition<'_>>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let share = pair.inverse * dot(&pair.step, &direction);
        add(&mut direction, -share, &pair.change);
        shares.push(share);
    }
    let apply = |values: &[f64]| precondition.map_or_else(|| values.to_vec(), |precondition| precondition(values));
    direction = apply(&direction);
    if let Some(last) = pairs.back() {
        let scale = 1.0 / (last.inverse * dot(&last.change, &apply(&last.change)));
        direction.iter_mut().for_each(|value| *value *= scale);
    }
    for (pair, share) in pairs.iter().zip(shares.into_iter().rev()) {
        let back = pair.inverse * dot(&pair.change, &direction);
        add(&mut direction, share - back, &pair.step);
    }
    direction
}

/// The scalar product.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], scale: f64, values: &[f64]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += scale * value);
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |greatest, value| value.abs().max(greatest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rosenbrock's valley in ten dimensions, whose minimum is at ones.
    fn rosenbrock(x: &[f64], gradient: &mut [f64]) -> f64 {
        gradient.fill(0.0);
        let mut value = 0.0;
        for i in 0..x.len() - 1 {
            let (across, along) = (x[i + 1] - x[i] * x[i], 1.0 - x[i]);
            value += 100.0 * across * across + along * along;
            gradient[i] += -400.0 * x[i] * across - 2.0 * along;
            gradient[i + 1] += 200.0 * across;
        }
        value
    }

    #[test]
    fn the_bottom_of_rosenbrocks_valley_is_found() {
        let stop = Stop { iterations: 500, gradient_max: 1e-9 };
        let found = minimise(vec![-1.2; 10], stop, None, rosenbrock);
        assert!(found.is_converged && found.iterations > 10, "{found:?}");
        assert!(found.point.iter().all(|x| (x - 1.0).abs() < 1e-7), "{found:?}");
    }

    #[test]
    fn too_few_iterations_are_said() {
        let found = minimise(vec![-1.2; 10], Stop { iterations: 5, gradient_max: 1e-9 }, None, rosenbrock);
        assert!(!found.is_converged && found.iterations == 5, "{found:?}");
    }

    #[test]
    fn a_start_at_the_minimum_stays() {
        let found = minimise(vec![1.0; 10], Stop { iterations: 5, gradient_max: 1e-9 }, None, rosenbrock);
        assert!(found.is_converged && found.iterations == 0);
    }

    #[test]
    fn a_preconditioner_takes_fewer_iterations_to_the_same_minimum() {
        // A bowl whose axes bend from 1 to 10^5.
        let bends: Vec<f64> = (0..20).map(|i| 10f64.powf(f64::from(i) / 4.0)).collect();
        let bowl = |x: &[f64], gradient: &mut [f64]| {
            gradient.iter_mut().zip(x).zip(&bends).for_each(|((g, x), bend)| *g = bend * (x - 1.0) + (x - 1.0).powi(3));
            x.iter().zip(&bends).map(|(x, bend)| 0.5 * bend * (x - 1.0).powi(2) + 0.25 * (x - 1.0).powi(4)).sum()
        };
        let stop = Stop { iterations: 1000, gradient_max: 1e-9 };
        let precondition = |gradient: &[f64]| gradient.iter().zip(&bends).map(|(g, bend)| g / bend).collect();
        let (plain, with) =
            (minimise(vec![0.0; 20], stop, None, bowl), minimise(vec![0.0; 20], stop, Some(&precondition), bowl));
        assert!(with.is_converged && 5 * with.iterations < plain.iterations, "{with:?}, {plain:?}");
        assert!(with.point.iter().all(|x| (x - 1.0).abs() < 1e-8), "{with:?}");
    }
}
