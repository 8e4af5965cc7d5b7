//! The rungs of the ladder, from the cheapest to the costliest, and which settings each depends on.

use lapidary_schemas::config::AdaptConfig;
use serde_json::{Value, json};
use std::str::FromStr;

/// A way of adapting a network. They are ordered by what they hold in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// A linear map of frozen features.
    Linear,
    /// A head with a hidden layer on frozen features.
    Mlp,
    /// Low-rank maps beside queries and values, and a linear head.
    Lora,
    /// From the top downwards, a block after the other.
    Unfreeze,
    /// The linear rung, then everything from there (Kumar et al. 2022).
    LpFt,
    /// Everything at once.
    Full,
}

impl Rung {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Linear, Self::Mlp, Self::Lora, Self::Unfreeze, Self::LpFt, Self::Full];

    /// The name that `--with` takes and that the folder has.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Mlp => "mlp",
            Self::Lora => "lora",
            Self::Unfreeze => "unfreeze",
            Self::LpFt => "lp-ft",
            Self::Full => "full",
        }
    }

    /// Those of the configuration's keys that a rung's result depends on.
    pub(crate) fn settings(self, config: &AdaptConfig) -> Value {
        let tunes = !matches!(self, Self::Linear | Self::Mlp);
        let is_read = |key: &str| match key {
            "mlp_width" | "mlp_dropout" => self == Self::Mlp,
            "lora_learning_rate" | "lora_rank" | "lora_alpha" => self == Self::Lora,
            "lp_ft_learning_rate" | "lp_ft_weight_decay" => self == Self::LpFt,
            "unfreeze_epochs" => self == Self::Unfreeze,
            "learning_rate" | "layer_decay" => matches!(self, Self::Unfreeze | Self::Full),
            "warmup_epochs" | "crop_area_min" | "flip_p" | "pieces" => tunes,
            _ => true,
        };
        let mut settings = json!(config);
        if let Some(table) = settings.as_object_mut() {
            table.retain(|key, _| is_read(key));
        }
        settings
    }
}

impl FromStr for Rung {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = Self::ALL.iter().map(|rung| rung.name()).collect();
        let found = Self::ALL.into_iter().find(|rung| rung.name() == text);
        found.ok_or_else(|| format!("`{text}` is none of {}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_a_rung_is_made_again_for_its_own_settings_alone() {
        for rung in Rung::ALL {
            assert_eq!(rung.name().parse(), Ok(rung));
        }
        let why = "probe".parse::<Rung>().expect_err("no rung");
        assert!(why.contains("`probe` is none of linear, mlp, lora, unfreeze, lp-ft, full"), "{why}");
        let (one, other) = (AdaptConfig::default(), AdaptConfig { lora_rank: 4, ..AdaptConfig::default() });
        let differ = |rung: &Rung| rung.settings(&one) != rung.settings(&other);
        assert_eq!(Rung::ALL.into_iter().filter(differ).collect::<Vec<_>>(), [Rung::Lora]);
        // No key is forgotten by all.
        for key in json!(one).as_object().expect("a table").keys() {
            assert!(Rung::ALL.iter().any(|rung| rung.settings(&one).get(key).is_some()), "{key}");
        }
    }
}
