//! Which parameters of a classifier are trained at an epoch, by their names.

use lapidary_train::model::is_lora;

/// What is trained beside the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Everything.
    All,
    /// The low-rank maps.
    Lora,
    /// The last norm and the last block at first; a block more downwards after each so many epochs; in the end tokens,
    /// positions and patch projection.
    FromTheTop {
        /// Epochs between two steps downwards.
        every: usize,
    },
}

impl Learned {
    /// How many times something more has begun to learn by an epoch, from 0, in a network of so many blocks.
    pub(crate) fn stage(self, epoch: usize, blocks: usize) -> usize {
        match self {
            Self::All | Self::Lora => 0,
            Self::FromTheTop { every } => (epoch / every).min(blocks),
        }
    }

    /// Whether a parameter is trained at a stage.
    pub(crate) fn is_learned(self, name: &str, stage: usize, blocks: usize) -> bool {
        let Some(inner) = name.strip_prefix("backbone.") else { return true };
        match self {
            Self::All => true,
            Self::Lora => is_lora(name),
            Self::FromTheTop { .. } => {
                let mut parts = inner.split('.');
                match (parts.next(), parts.next().and_then(|block| block.parse::<usize>().ok())) {
                    (Some("norm"), _) => true,
                    (Some("blocks"), Some(block)) => block + stage + 1 >= blocks,
                    _ => stage >= blocks,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_begin_to_learn_from_the_top_downwards_and_tokens_last() {
        let learned = Learned::FromTheTop { every: 2 };
        let names = [
            "head.fc2.weight",
            "backbone.norm.bias",
            "backbone.blocks.2.attn.qkv.weight",
            "backbone.blocks.1.mlp.fc1.bias",
            "backbone.blocks.0.norm1.weight",
            "backbone.pos_embed",
        ];
        let at = |epoch: usize| {
            let stage = learned.stage(epoch, 3);
            names.iter().filter(|name| learned.is_learned(name, stage, 3)).count()
        };
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 100].map(at), [3, 3, 4, 4, 5, 5, 6, 6, 6]);
        assert!(Learned::Lora.is_learned("backbone.blocks.0.attn.lora.q.lora_a.weight", 0, 3));
        assert!(!Learned::Lora.is_learned("backbone.blocks.0.attn.qkv.weight", 0, 3));
        assert!(names.iter().all(|name| Learned::All.is_learned(name, 0, 3)));
    }
}
