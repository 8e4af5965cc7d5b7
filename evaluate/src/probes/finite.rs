//! Features must be numbers: a network that has diverged gives none, and every score of it would be an accident.

use crate::{EvaluateError, Result};
use lapidary_train::probe::{Features, Labelled};

/// Refuses features that are not finite, of the network `network`.
///
/// # Errors
/// [`EvaluateError::NotFinite`] with how many images have such features and which is the first.
pub(crate) fn check_finite(network: &'static str, list: &[Labelled], features: &Features) -> Result<()> {
    let is_bad = |index: &usize| features.row(*index).iter().any(|value| !value.is_finite());
    let bad: Vec<usize> = (0..features.len()).filter(is_bad).collect();
    match bad.first() {
        None => Ok(()),
        Some(first) => {
            Err(EvaluateError::NotFinite { network, images: bad.len(), of: features.len(), first: list[*first].id })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::ImageId;

    #[test]
    fn images_without_numbers_are_counted_and_the_first_is_named() {
        let list: Vec<Labelled> = (0..3).map(|i| Labelled { id: ImageId(i + 10), class: 0 }).collect();
        let mut features = Features { dim: 2, values: vec![1.0; 6], classes: vec![0; 3] };
        check_finite("trained", &list, &features).expect("numbers");
        features.values[3] = f32::NAN;
        features.values[4] = f32::INFINITY;
        let error = check_finite("trained", &list, &features).expect_err("not numbers").to_string();
        assert!(
            error.contains("2 of 3 images") && error.contains("trained") && error.contains("000000000000000b"),
            "{error}"
        );
        assert!(error.contains("hint:"), "{error}");
    }
}
