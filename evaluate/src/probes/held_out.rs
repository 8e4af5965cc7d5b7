//! Which labelled images choose a probe's strength: a share of each class, held out from training, never test images.

use lapidary_pipeline::random::{Purpose, Rng, keyed};
use std::collections::BTreeMap;

/// Indices of what is held out and of the rest, both ascending: of each class the rounded share, one at least of two or more, all
/// but one at most. A class of one label is trained on; if all classes are so, nothing is held out.
pub(crate) fn held_out(classes: &[u32], share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut by_class: BTreeMap<u32, Vec<(u64, usize)>> = BTreeMap::new();
    for (index, class) in classes.iter().enumerate() {
        // The word 1 keeps this draw apart from that of the probe's lists, which is by image.
        let key = keyed(seed, Purpose::ProbeSample, index as u64, 1).next_u64();
        by_class.entry(*class).or_default().push((key, index));
    }
    let (mut held, mut rest) = (Vec::new(), Vec::new());
    for mut class in by_class.into_values() {
        class.sort_unstable();
        let most = class.len() - 1;
        let count = ((class.len() as f64 * share).round() as usize).max(1).min(most);
        held.extend(class[..count].iter().map(|(_, index)| *index));
        rest.extend(class[count..].iter().map(|(_, index)| *index));
    }
    held.sort_unstable();
    rest.sort_unstable();
    (held, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_two_or_more_is_held_out_and_each_class_is_trained_on() {
        for of_each in 1..=12usize {
            let classes: Vec<u32> = (0..3 * of_each).map(|i| (i % 3) as u32).collect();
            for share in [0.1, 0.2] {
                let (held, rest) = held_out(&classes, share, 1);
                let mut all = [&held[..], &rest[..]].concat();
                all.sort_unstable();
                assert_eq!(all, (0..3 * of_each).collect::<Vec<_>>(), "none is lost or twice");
                let expected = ((of_each as f64 * share).round() as usize).max(1).min(of_each - 1);
                for class in 0..3 {
                    assert_eq!(held.iter().filter(|i| classes[**i] == class).count(), expected, "{of_each} of each");
                }
            }
        }
        let classes = [0, 1].repeat(50);
        assert_eq!(held_out(&classes, 0.2, 1), held_out(&classes, 0.2, 1));
        assert_ne!(held_out(&classes, 0.2, 1), held_out(&classes, 0.2, 2));
    }
}
