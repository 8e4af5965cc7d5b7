//! What a linear classifier reads of the last blocks: class tokens of some of them, with or without the mean of the patches.

use lapidary_train::probe::Features;

/// How the mean of the last block's patches goes with the class tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Average {
    /// Not at all.
    None,
    /// Behind them, as in facebookresearch/dinov2 `create_linear_input`.
    Appended,
    /// Channel by channel beside the one class token, as in facebookresearch/dino `eval_linear.py`; weights published for it
    /// have this order.
    Interleaved,
}

/// A classifier's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Input {
    /// Last blocks whose class tokens it has.
    pub(crate) blocks: usize,
    /// Whether it has the mean of the patches.
    pub(crate) average: Average,
}

/// Features of the last blocks (see `FrozenVit::last_blocks`): class tokens of `blocks` blocks, then the mean of the patches.
#[derive(Debug, Clone)]
pub(crate) struct LastBlocks {
    /// Shape `[images, (blocks + 1) * width]`.
    pub(crate) features: Features,
    /// Blocks.
    pub(crate) blocks: usize,
}

impl LastBlocks {
    /// Channels of a token.
    pub(crate) fn width(&self) -> usize {
        self.features.dim / (self.blocks + 1)
    }

    /// The features that other probes read: the last block's class token.
    pub(crate) fn class_tokens(&self) -> Features {
        self.read(Input { blocks: 1, average: Average::None })
    }

    /// What a classifier reads, shape `[images, input.width(width)]`.
    pub(crate) fn read(&self, input: Input) -> Features {
        let dim = input.width(self.width());
        let mut values = Vec::with_capacity(self.features.len() * dim);
        for row in self.features.values.chunks_exact(self.features.dim) {
            input.read(row, self.width(), &mut values);
        }
        Features { dim, values, classes: self.features.classes.clone() }
    }
}

impl Input {
    /// Values that it has of tokens of so many channels.
    pub(crate) fn width(self, width: usize) -> usize {
        (self.blocks + usize::from(self.average != Average::None)) * width
    }

    /// Appends what it has of an image's last blocks.
    pub(crate) fn read(self, row: &[f32], width: usize, values: &mut Vec<f32>) {
        let (classes, patches) = row.split_at(row.len() - width);
        let classes = &classes[classes.len() - self.blocks * width..];
        match self.average {
            Average::None => values.extend_from_slice(classes),
            Average::Appended => values.extend(classes.iter().chain(patches)),
            Average::Interleaved => {
                values.extend(classes.iter().zip(patches).flat_map(|(class, patch)| [*class, *patch]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_have_the_references_order() {
        // Two blocks of width 3: class tokens 0..3 and 3..6, patches 6..9.
        let features = Features { dim: 9, values: (0..9u8).map(f32::from).collect(), classes: vec![0] };
        let last = LastBlocks { features, blocks: 2 };
        let read = |blocks, average| last.read(Input { blocks, average }).values;
        assert_eq!(last.class_tokens().values, [3.0, 4.0, 5.0]);
        assert_eq!(read(2, Average::None), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(read(2, Average::Appended), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(read(1, Average::Interleaved), [3.0, 6.0, 4.0, 7.0, 5.0, 8.0]);
    }
}
