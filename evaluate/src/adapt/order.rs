//! The order of an epoch's images: a function of seed, epoch and image, whatever the order of the list.

use lapidary_pipeline::random::{Purpose, Rng, keyed};
use lapidary_train::probe::Labelled;

/// Places in the list, in the order of an epoch.
pub(crate) fn epoch_order(list: &[Labelled], seed: u64, epoch: usize) -> Vec<usize> {
    let key = |index: usize| keyed(seed, Purpose::EpochOrder, epoch as u64, list[index].id.0).next_u64();
    let mut keyed: Vec<(u64, usize)> = (0..list.len()).map(|index| (key(index), index)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::ImageId;

    #[test]
    fn each_epoch_has_every_image_once_in_an_order_of_its_own() {
        let list: Vec<Labelled> = (0..50).map(|i| Labelled { id: ImageId(i * 7919), class: 0 }).collect();
        let mut first = epoch_order(&list, 1, 0);
        assert_eq!(first, epoch_order(&list, 1, 0));
        assert_ne!(first, epoch_order(&list, 1, 1));
        assert_ne!(first, epoch_order(&list, 2, 0));
        first.sort_unstable();
        assert_eq!(first, (0..50).collect::<Vec<_>>());
    }
}
