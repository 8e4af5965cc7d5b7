//! A line search for the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 3.5 and 3.6).

use super::lbfgs::dot;

/// Share of the slope that a step must decrease the value by.
const SUFFICIENT: f64 = 1e-4;
/// Share of the slope that may be left.
const CURVATURE: f64 = 0.9;
/// Values that are looked at before the search gives up.
const TRIES: usize = 30;
/// An increase below this share of the value is rounding.
const ROUNDING: f64 = 1e-12;

/// A point with the function's value and gradient there.
#[derive(Debug, Clone)]
pub(crate) struct Probed {
    pub(crate) point: Vec<f64>,
    pub(crate) value: f64,
    pub(crate) gradient: Vec<f64>,
}

impl Probed {
    pub(crate) fn at(point: Vec<f64>, f: &mut impl FnMut(&[f64], &mut [f64]) -> f64) -> Self {
        let mut gradient = vec![0.0; point.len()];
        let value = f(&point, &mut gradient);
        Self { point, value, gradient }
    }
}

/// A step along the line: its length, value and slope.
#[derive(Debug, Clone, Copy)]
struct Step {
    length: f64,
    value: f64,
    slope: f64,
}

/// The point that a step along `direction` leads to, which must descend; none when no step decreases the value.
pub(crate) fn search(
    here: &Probed,
    direction: &[f64],
    first: f64,
    f: &mut impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Option<Probed> {
    let start = Step { length: 0.0, value: here.value, slope: dot(&here.gradient, direction) };
    let mut best: Option<Probed> = None;
    let mut look = |length: f64, best: &mut Option<Probed>| {
        let point = here.point.iter().zip(direction).map(|(x, d)| x + length * d).collect();
        let probed = Probed::at(point, f);
        let step = Step { length, value: probed.value, slope: dot(&probed.gradient, direction) };
        if best.as_ref().map_or(here.value, |best| best.value) > probed.value || is_found(start, step) {
            *best = Some(probed);
        }
        step
    };
    let (mut low, mut length) = (start, first);
    let mut tries = 0;
    // Widens until an interval holds a good step.
    let mut high = loop {
        let step = look(length, &mut best);
        tries += 1;
        if is_found(start, step) {
            return best;
        }
        if !is_lower(start, step) || (tries > 1 && step.value >= low.value) {
            break step;
        }
        if step.slope >= 0.0 {
            break std::mem::replace(&mut low, step);
        }
        if tries == TRIES {
            return best;
        }
        (low, length) = (step, length * 2.0);
    };
    // Narrows it: `low` is the lowest step so far that decreases enough, and its slope points towards `high`.
    while tries < TRIES {
        let step = look(between(low, high), &mut best);
        tries += 1;
        if is_found(start, step) {
            return best;
        }
        if !is_lower(start, step) || step.value >= low.value {
            high = step;
        } else {
            if step.slope * (high.length - low.length) >= 0.0 {
                high = low;
            }
            low = step;
        }
        if (high.length - low.length).abs() <= f64::EPSILON * low.length.max(high.length) {
            break;
        }
    }
    best
}

fn is_lower(start: Step, step: Step) -> bool {
    step.value <= start.value + SUFFICIENT * step.length * start.slope + ROUNDING * start.value.abs()
}

fn is_found(start: Step, step: Step) -> bool {
    is_lower(start, step) && step.slope.abs() <= -CURVATURE * start.slope
}

/// The minimum of the cubic through both ends, kept off the ends by a tenth of their distance.
fn between(low: Step, high: Step) -> f64 {
    let span = high.length - low.length;
    let d1 = low.slope + high.slope - 3.0 * (low.value - high.value) / (low.length - high.length);
    let square = d1 * d1 - low.slope * high.slope;
    let cubic = high.length
        - span * (high.slope + span.signum() * square.max(0.0).sqrt() - d1)
            / (high.slope - low.slope + 2.0 * span.signum() * square.max(0.0).sqrt());
    let (nearest, farthest) = (low.length + 0.1 * span, low.length + 0.9 * span);
    let inside = cubic >= nearest.min(farthest) && cubic <= nearest.max(farthest);
    if inside && square >= 0.0 { cubic } else { low.length + 0.5 * span }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_too_long_or_too_short_are_mended() {
        // (x - 3)^2 + 0.1 (x - 3)^4: steps of 1e-3 and of 1e3 both end near 3.
        let mut f = |x: &[f64], gradient: &mut [f64]| {
            let y = x[0] - 3.0;
            gradient[0] = 2.0 * y + 0.4 * y.powi(3);
            y * y + 0.1 * y.powi(4)
        };
        for first in [1e-3, 0.1, 1.0, 1e3] {
            let here = Probed::at(vec![0.0], &mut f);
            let direction: Vec<f64> = here.gradient.iter().map(|g| -g).collect();
            let found = search(&here, &direction, first, &mut f).expect("a step");
            let slopes = (found.gradient[0] * direction[0], here.gradient[0] * direction[0]);
            assert!(found.value < here.value && slopes.0.abs() <= 0.9 * slopes.1.abs(), "{first}: {found:?}");
        }
    }

    #[test]
    fn a_line_that_only_rises_has_no_step() {
        let mut f = |x: &[f64], gradient: &mut [f64]| {
            gradient[0] = -1.0;
            x[0].abs()
        };
        let here = Probed::at(vec![0.0], &mut f);
        assert!(search(&here, &[1.0], 1.0, &mut f).is_none());
    }
}
