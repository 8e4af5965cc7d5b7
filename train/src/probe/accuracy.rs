//! Counts of right answers: top-1 and top-5.

use serde::{Deserialize, Serialize};

/// Counts of right answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Images tested.
    pub tested: u64,
    /// Images whose class had the highest score.
    pub first: u64,
    /// Images whose class was among the five highest.
    pub in_five: u64,
}

impl Accuracy {
    /// Counts an image whose classes scored so; ties between classes go to the lower index.
    pub fn count(&mut self, scores: &[f64], truth: u32) {
        let truth = truth as usize;
        let above =
            |(class, score): &(usize, &f64)| **score > scores[truth] || (**score == scores[truth] && *class < truth);
        let rank = scores.iter().enumerate().filter(above).count();
        self.tested += 1;
        self.first += u64::from(rank == 0);
        self.in_five += u64::from(rank < 5);
    }

    /// The same, of votes: a class without one is not among the answers. With one neighbour there is one answer, and top-5 is
    /// top-1.
    pub fn count_votes(&mut self, votes: &[f64], truth: u32) {
        if votes[truth as usize] > 0.0 {
            self.count(votes, truth);
        } else {
            self.tested += 1;
        }
    }

    /// Share of images whose class scored highest.
    pub fn top1(&self) -> f64 {
        self.first as f64 / self.tested.max(1) as f64
    }

    /// Share of images whose class was among the five highest.
    pub fn top5(&self) -> f64 {
        self.in_five as f64 / self.tested.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_counted() {
        let mut accuracy = Accuracy::default();
        let scores = [0.1, 0.9, 0.5, 0.4, 0.3, 0.2, 0.1];
        [1, 5, 6].into_iter().for_each(|truth| accuracy.count(&scores, truth));
        assert_eq!(accuracy, Accuracy { tested: 3, first: 1, in_five: 2 });
        accuracy.count(&[0.0; 8], 0);
        assert_eq!(accuracy.first, 2, "ties go to the lower class");
    }
    #[test]
    fn a_class_without_a_vote_is_no_answer() {
        let mut accuracy = Accuracy::default();
        let votes = [0.0, 0.9, 0.0, 0.4];
        [1, 3, 0, 2].into_iter().for_each(|truth| accuracy.count_votes(&votes, truth));
        assert_eq!(accuracy, Accuracy { tested: 4, first: 1, in_five: 2 });
    }
}
