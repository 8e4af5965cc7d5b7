//! Patch k-NN: the nearest train patches vote for the label of a patch, as images do in the k-NN probe (cosine, votes
//! exp(similarity / temperature)). A train patch votes for the label of most of its pixels; one that is all crowd does not.

use super::Tokens;
use lapidary_train::operators::Operators;
use lapidary_train::probe::{Features, Neighbours};

/// Neighbours that vote.
pub(super) const NEIGHBOURS: usize = 20;
/// Train patches at most; beyond, every second, third and so on is taken.
const BANK_MAX: usize = 50_000;

/// Train patches with their labels.
pub(super) struct PatchBank {
    bank: Features,
    labels: usize,
    temperature: f64,
}

impl PatchBank {
    /// Of train patches and the share of each label in them, shape `[patches, labels]`; none where all are crowds.
    pub(super) fn new(train: &Tokens, shares: &[f32], labels: usize, temperature: f64) -> Option<Self> {
        let label_of = |shares: &[f32]| {
            let best = (1..labels).fold(0, |best, label| if shares[label] > shares[best] { label } else { best });
            (shares[best] > 0.0).then_some(best as u32)
        };
        let labelled: Vec<(usize, u32)> = shares
            .chunks_exact(labels)
            .enumerate()
            .filter_map(|(row, shares)| Some((row, label_of(shares)?)))
            .collect();
        let taken: Vec<(usize, u32)> =
            labelled.iter().step_by(labelled.len().div_ceil(BANK_MAX).max(1)).copied().collect();
        let values = taken.iter().flat_map(|(row, _)| train.row(*row)).copied().collect();
        let classes: Vec<u32> = taken.iter().map(|(_, label)| *label).collect();
        let bank = Features { dim: train.dim, values, classes }.normalised();
        (!bank.is_empty()).then_some(Self { bank, labels, temperature })
    }

    /// Patches that vote.
    pub(super) fn len(&self) -> usize {
        self.bank.len()
    }

    /// The share of the votes of each label for patches, shape `[patches, labels]`.
    pub(super) fn votes<B: Operators>(&self, tokens: &Tokens, device: &B::Device) -> Vec<f32> {
        let queries = Features { dim: tokens.dim, values: tokens.values.clone(), classes: vec![0; tokens.len()] };
        let neighbours = Neighbours::find::<B>(&self.bank, &queries.normalised(), NEIGHBOURS, device);
        let mut votes = vec![0f32; tokens.len() * self.labels];
        for (query, votes) in votes.chunks_exact_mut(self.labels).enumerate() {
            let weighed = neighbours.of(query).iter().map(|(similarity, index)| {
                (self.bank.classes[*index as usize] as usize, (f64::from(*similarity) / self.temperature).exp())
            });
            let weighed: Vec<(usize, f64)> = weighed.collect();
            let sum: f64 = weighed.iter().map(|(_, weight)| weight).sum();
            weighed.iter().for_each(|(label, weight)| votes[*label] += (weight / sum) as f32);
        }
        votes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn patches_get_the_label_of_those_that_point_the_same_way() {
        let angle = |i: usize| i as f32 * 0.02;
        let values = (0..150).flat_map(|i| [angle(i).cos() * 3.0, angle(i).sin() * 3.0]).collect();
        let train = Tokens { dim: 2, values };
        let shares: Vec<f32> = (0..150)
            .flat_map(|i| match i {
                0..50 => [0.9, 0.1],
                50..100 => [0.0, 0.0],
                _ => [0.3, 0.7],
            })
            .collect();
        let bank = PatchBank::new(&train, &shares, 2, 0.07).expect("100 patches have labels");
        assert_eq!(bank.len(), 100);
        let test = Tokens { dim: 2, values: [0.1f32, 2.9].iter().flat_map(|a| [a.cos(), a.sin()]).collect() };
        let votes = bank.votes::<Flex>(&test, &Default::default());
        assert!(votes[0] > 0.99 && votes[3] > 0.99, "{votes:?}");
        assert!(PatchBank::new(&train, &vec![0.0; 300], 2, 0.07).is_none());
    }
}
