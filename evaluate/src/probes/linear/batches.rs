//! Features as they come, cut into batches of one size.

use lapidary_train::probe::Features;

/// Rows that wait until they fill a batch.
#[derive(Debug)]
pub(crate) struct Batches {
    waiting: Features,
    size: usize,
}

impl Batches {
    /// Batches of `size` rows of `dim` values.
    pub(crate) fn new(dim: usize, size: usize) -> Self {
        Self { waiting: Features { dim, values: Vec::new(), classes: Vec::new() }, size }
    }

    /// Appends the rows of `features` and takes out all batches that are full.
    pub(crate) fn push(&mut self, features: &Features) -> Vec<Features> {
        self.waiting.values.extend_from_slice(&features.values);
        self.waiting.classes.extend_from_slice(&features.classes);
        let full = self.waiting.len() / self.size;
        (0..full).map(|_| self.take(self.size)).collect()
    }

    /// What is left, if anything: fewer rows than a batch has.
    pub(crate) fn rest(&mut self) -> Option<Features> {
        let rows = self.waiting.len();
        (rows > 0).then(|| self.take(rows))
    }

    fn take(&mut self, rows: usize) -> Features {
        let dim = self.waiting.dim;
        let values = self.waiting.values.drain(..rows * dim).collect();
        Features { dim, values, classes: self.waiting.classes.drain(..rows).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_order_and_none_is_lost() {
        let mut batches = Batches::new(1, 4);
        let mut seen = Vec::new();
        for first in [0u8, 3, 6] {
            let values: Vec<f32> = (first..first + 3).map(f32::from).collect();
            let full = batches.push(&Features { dim: 1, values, classes: vec![u32::from(first); 3] });
            assert!(full.iter().all(|batch| batch.len() == 4));
            seen.extend(full.into_iter().flat_map(|batch| batch.values));
        }
        let rest = batches.rest().expect("one is left");
        assert_eq!((rest.len(), rest.classes[0]), (1, 6));
        seen.extend(rest.values);
        assert_eq!(seen, (0..9u8).map(f32::from).collect::<Vec<_>>());
        assert!(batches.rest().is_none());
    }
}
