//! Which C a logistic regression takes: the one that does best on a held-out tenth of the train labels; then all labels are
//! trained on with it.

use super::held_out::held_out;
use super::lbfgs::Stop;
use super::logistic::Logistic;
use lapidary_pipeline::interrupt;
use lapidary_train::probe::Features;

/// The greatest component of the mean loss's gradient that counts as zero: scikit-learn's default.
pub(crate) const GRADIENT_MAX: f64 = 1e-4;
/// Share of each class that chooses, as in dinov2.
const HELD_OUT: f64 = 0.1;
/// What is taken where nothing can be held out: scikit-learn's default.
const C_UNCHOSEN: f64 = 1.0;

/// A logistic regression with the C that was chosen.
pub(super) struct ChosenC {
    /// Trained on all labels.
    pub(super) model: Logistic,
    /// The C.
    pub(super) c: f64,
    /// Labels that chose it; 0 where no class has two.
    pub(super) held_out: usize,
    /// Fits that used up their iterations.
    pub(super) unconverged: usize,
}

impl ChosenC {
    /// Fits for each C from the smallest on, each from the one before; of equal ones the smallest C wins.
    ///
    /// # Errors
    /// When the user interrupts.
    pub(super) fn fit(
        train: &Features,
        classes: usize,
        candidates: &[f64],
        stop: Stop,
        seed: u64,
    ) -> crate::Result<Self> {
        let (held, rest) = held_out(&train.classes, HELD_OUT, seed);
        let (held, rest) = (train.select(&held), train.select(&rest));
        let mut ascending = candidates.to_vec();
        ascending.sort_by(f64::total_cmp);
        let mut best: Option<(u64, f64)> = None;
        let mut previous: Option<Logistic> = None;
        let mut unconverged = 0;
        for c in ascending.into_iter().filter(|_| !held.is_empty()) {
            interrupt::check()?;
            let model = Logistic::fit(&rest, c, stop, previous.as_ref());
            unconverged += usize::from(!model.is_converged);
            let right = model.accuracy(&held, classes).first;
            if best.is_none_or(|(most, _)| right > most) {
                best = Some((right, c));
            }
            previous = Some(model);
        }
        let c = best.map_or(C_UNCHOSEN, |(_, c)| c);
        let model = Logistic::fit(train, c, stop, None);
        unconverged += usize::from(!model.is_converged);
        Ok(Self { model, c, held_out: held.len(), unconverged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::features;

    const STOP: Stop = Stop { iterations: 1000, gradient_max: GRADIENT_MAX };

    #[test]
    fn the_best_c_on_the_held_out_labels_is_taken() {
        let train = features(400, 12, 4, 0.3, 0.3);
        let candidates = [1e-8, 1e-3, 1.0, 1e3];
        let chosen = ChosenC::fit(&train, 4, &candidates, STOP, 1).expect("not interrupted");
        assert_eq!((chosen.held_out, chosen.unconverged), (40, 0));
        let (held, rest) = held_out(&train.classes, HELD_OUT, 1);
        let (held, rest) = (train.select(&held), train.select(&rest));
        let right = |c| Logistic::fit(&rest, c, STOP, None).accuracy(&held, 4).first;
        let counts = candidates.map(right);
        assert!(counts.iter().all(|count| *count <= right(chosen.c)), "{counts:?}, {}", chosen.c);
        assert!(counts[0] < right(chosen.c), "a C that is far too small is worse: {counts:?}");
        let reversed: Vec<f64> = candidates.into_iter().rev().collect();
        let again = ChosenC::fit(&train, 4, &reversed, STOP, 1).expect("not interrupted");
        assert_eq!(again.c, chosen.c, "the order of the list does not count");
    }

    #[test]
    fn one_label_a_class_takes_the_default() {
        let train = features(5, 12, 4, 0.3, 2.0).select(&[0, 1, 2, 4]);
        let present: std::collections::BTreeSet<u32> = train.classes.iter().copied().collect();
        assert_eq!(present.len(), 4);
        let chosen = ChosenC::fit(&train, 4, &[1e-3, 1e3], STOP, 1).expect("not interrupted");
        assert_eq!((chosen.held_out, chosen.c), (0, C_UNCHOSEN));
    }
}
