//! What `eval` may be asked for, key by key.

use crate::Result;
use lapidary_pipeline::Ranges;
use lapidary_schemas::config::EvalConfig;
use lapidary_train::probe;

/// Checks every key of `eval`.
///
/// # Errors
/// [`lapidary_pipeline::PipelineError::Usage`] with each key that is out of its range.
pub(crate) fn check(config: &EvalConfig) -> Result<()> {
    let mut ranges = Ranges::default();
    probe::check(config, &mut ranges);
    ranges.positive("eval.label_share", config.label_share);
    ranges.within("eval.label_share", config.label_share.max(0.0), 0.0..=1.0);
    for share in &config.label_shares {
        ranges.positive("eval.label_shares", *share);
        ranges.within("eval.label_shares", share.max(0.0), 0.0..=1.0);
    }
    for count in &config.labels_per_class {
        ranges.count_at_least("eval.labels_per_class", *count, 1);
    }
    if config.logistic_c.is_empty() {
        ranges.refuse("eval.logistic_c = [] must name one number at least".to_owned());
    }
    for c in &config.logistic_c {
        ranges.positive("eval.logistic_c", *c);
    }
    ranges.count_at_least("eval.logistic_iterations", config.logistic_iterations, 1);
    ranges.positive("eval.ridge_l2", config.ridge_l2);
    ranges.count_at_least("eval.linear_steps", config.linear_steps, 1);
    for rate in &config.linear_learning_rates {
        ranges.positive("eval.linear_learning_rates", *rate);
    }
    trained(config, &mut ranges);
    // All pairs of copies and originals are ranked at once.
    ranges.within("eval.copy_images", config.copy_images, 0..=2048);
    ranges.within("eval.attention_px", config.attention_px, 0..=4096);
    ranges.positive("eval.attention_mass", config.attention_mass);
    ranges.within("eval.attention_mass", config.attention_mass.max(0.0), 0.0..=1.0);
    ranges.within("eval.map_images", config.map_images, 0..=2000);
    ranges.within("eval.video_sequences", config.video_sequences, 0..=10_000);
    Ok(ranges.check()?)
}

/// The keys of probes that are trained step by step.
fn trained(config: &EvalConfig, ranges: &mut Ranges) {
    let (dino, dinov2, mlp) = (&config.dino_linear, &config.dinov2_linear, &config.mlp);
    ranges.within("eval.dino_linear.epochs", dino.epochs, 0..=1 << 20);
    ranges.within("eval.dino_linear.blocks", dino.blocks, 1..=1 << 10);
    if dino.average_patches && dino.blocks != 1 {
        ranges.refuse("eval.dino_linear.average_patches = true goes with eval.dino_linear.blocks = 1 only".to_owned());
    }
    ranges.within("eval.dino_linear.batch", dino.batch, 1..=1 << 20);
    ranges.positive("eval.dino_linear.base_learning_rate", dino.base_learning_rate);
    ranges.within("eval.dinov2_linear.iterations", dinov2.iterations, 0..=1 << 30);
    ranges.within("eval.dinov2_linear.batch", dinov2.batch, 1..=1 << 20);
    ranges.within("eval.mlp.batch", mlp.batch, 1..=1 << 20);
    ranges.within("eval.mlp.dropout", mlp.dropout, 0.0..=0.99);
    let lists = [
        ("eval.dinov2_linear.base_learning_rates", dinov2.iterations, &dinov2.base_learning_rates),
        ("eval.mlp.learning_rates", mlp.steps, &mlp.learning_rates),
    ];
    for (key, steps, rates) in lists {
        if rates.is_empty() && steps > 0 {
            ranges.refuse(format!("{key} = [] must name one number at least"));
        }
        rates.iter().for_each(|rate| ranges.positive(key, *rate));
    }
    if dinov2.blocks.is_empty() && dinov2.iterations > 0 {
        ranges.refuse("eval.dinov2_linear.blocks = [] must name one number at least".to_owned());
    }
    for blocks in &dinov2.blocks {
        ranges.within("eval.dinov2_linear.blocks", *blocks, 1..=1 << 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_pipeline::cli::resolve;

    #[test]
    fn every_key_is_refused_by_its_name_when_it_is_out_of_range() {
        check(&EvalConfig::default()).expect("the default can be");
        for change in [
            "eval.batch=0",
            "eval.knn_neighbours=0",
            "eval.knn_neighbours=[10, 0]",
            "eval.knn_neighbours=[]",
            "eval.label_shares=[0.1, 2.0]",
            "eval.label_shares=[0.0]",
            "eval.labels_per_class=[0]",
            "eval.logistic_c=[]",
            "eval.logistic_c=[1.0, -1.0]",
            "eval.logistic_iterations=0",
            "eval.ridge_l2=0.0",
            "eval.knn_temperature=0.0",
            "eval.knn_temperature=nan",
            "eval.label_share=0.0",
            "eval.label_share=1.5",
            "eval.linear_steps=0",
            "eval.attention_px=5000",
            "eval.attention_mass=0.0",
            "eval.attention_mass=1.5",
            "eval.map_images=3000",
            "eval.video_sequences=20000",
            "eval.linear_learning_rates=[0.1, -1.0]",
            "eval.dino_linear.blocks=0",
            "eval.dino_linear.average_patches=true",
            "eval.dino_linear.batch=0",
            "eval.dino_linear.base_learning_rate=-1.0",
            "eval.dinov2_linear.batch=0",
            "eval.dinov2_linear.base_learning_rates=[]",
            "eval.dinov2_linear.base_learning_rates=[0.1, inf]",
            "eval.dinov2_linear.blocks=[1, 0]",
            "eval.dinov2_linear.blocks=[]",
            "eval.mlp.batch=0",
            "eval.mlp.dropout=1.0",
            "eval.mlp.learning_rates=[]",
            "eval.copy_images=100000",
        ] {
            let config = resolve(None, None, &[change.to_owned()]).expect("resolves");
            let (key, _) = change.split_once('=').expect("a change");
            let error = check(&config.eval).expect_err(change).to_string();
            assert!(error.contains(key), "{change}: {error}");
        }
    }
}
