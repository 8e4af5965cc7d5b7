//! What `adapt` may be asked for, key by key.

use crate::Result;
use lapidary_pipeline::Ranges;
use lapidary_schemas::config::AdaptConfig;

/// Checks every key of `adapt`.
///
/// # Errors
/// [`lapidary_pipeline::PipelineError::Usage`] with each key that is out of its range.
pub(crate) fn check(config: &AdaptConfig) -> Result<()> {
    let mut ranges = Ranges::default();
    ranges.positive("adapt.label_share", config.label_share);
    ranges.within("adapt.label_share", config.label_share.max(0.0), 0.0..=1.0);
    ranges.within("adapt.held_out_share", config.held_out_share, 0.0..=0.9);
    ranges.within("adapt.batch", config.batch, 1..=1 << 20);
    ranges.within("adapt.pieces", config.pieces, 1..=1024);
    ranges.within("adapt.epochs", config.epochs, 1..=1 << 20);
    ranges.count_at_least("adapt.patience", config.patience, 1);
    ranges.at_least("adapt.warmup_epochs", config.warmup_epochs, 0.0);
    for (key, value) in [
        ("adapt.head_learning_rate", config.head_learning_rate),
        ("adapt.learning_rate", config.learning_rate),
        ("adapt.lora_learning_rate", config.lora_learning_rate),
        ("adapt.lp_ft_learning_rate", config.lp_ft_learning_rate),
        ("adapt.layer_decay", config.layer_decay),
    ] {
        ranges.positive(key, value);
    }
    ranges.within("adapt.layer_decay", config.layer_decay.max(0.0), 0.0..=1.0);
    ranges.at_least("adapt.weight_decay", config.weight_decay, 0.0);
    ranges.at_least("adapt.lp_ft_weight_decay", config.lp_ft_weight_decay, 0.0);
    ranges.at_least("adapt.clip_norm", config.clip_norm, 0.0);
    ranges.within("adapt.mlp_width", config.mlp_width, 0..=65_536);
    ranges.within("adapt.mlp_dropout", config.mlp_dropout, 0.0..=0.99);
    ranges.within("adapt.lora_rank", config.lora_rank, 1..=65_536);
    ranges.at_least("adapt.lora_alpha", config.lora_alpha, 0.0);
    ranges.count_at_least("adapt.unfreeze_epochs", config.unfreeze_epochs, 1);
    ranges.within("adapt.crop_area_min", config.crop_area_min, 0.01..=1.0);
    ranges.within("adapt.flip_p", config.flip_p, 0.0..=1.0);
    Ok(ranges.check()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::cli::resolve;

    #[test]
    fn every_key_is_refused_by_its_name_when_it_is_out_of_range() {
        check(&AdaptConfig::default()).expect("the default can be");
        for change in [
            "adapt.label_share=0.0",
            "adapt.label_share=1.5",
            "adapt.held_out_share=0.95",
            "adapt.batch=0",
            "adapt.pieces=0",
            "adapt.epochs=0",
            "adapt.patience=0",
            "adapt.warmup_epochs=-1.0",
            "adapt.head_learning_rate=0.0",
            "adapt.learning_rate=nan",
            "adapt.lora_learning_rate=inf",
            "adapt.lp_ft_learning_rate=-1.0",
            "adapt.layer_decay=1.1",
            "adapt.weight_decay=-0.1",
            "adapt.clip_norm=-1.0",
            "adapt.mlp_dropout=1.0",
            "adapt.lora_rank=0",
            "adapt.unfreeze_epochs=0",
            "adapt.crop_area_min=0.0",
            "adapt.flip_p=1.1",
        ] {
            let config = resolve(None, None, &[change.to_owned()]).expect("resolves");
            let (key, _) = change.split_once('=').expect("a change");
            let error = check(&config.adapt).expect_err(change).to_string();
            assert!(error.contains(key), "{change}: {error}");
        }
    }
}
