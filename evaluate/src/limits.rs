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
        ranges.within("eval.labels_per_class", *count, 1..=usize::MAX);
    }
    if config.logistic_c.is_empty() {
        ranges.refuse("eval.logistic_c = [] must name one number at least".to_owned());
    }
    for c in &config.logistic_c {
        ranges.positive("eval.logistic_c", *c);
    }
    ranges.within("eval.logistic_iterations", config.logistic_iterations, 1..=usize::MAX);
    ranges.positive("eval.ridge_l2", config.ridge_l2);
    ranges.within("eval.linear_steps", config.linear_steps, 1..=usize::MAX);
    for rate in &config.linear_learning_rates {
        ranges.positive("eval.linear_learning_rates", *rate);
    }
    ranges.within("eval.attention_px", config.attention_px, 0..=4096);
    ranges.positive("eval.attention_mass", config.attention_mass);
    ranges.within("eval.attention_mass", config.attention_mass.max(0.0), 0.0..=1.0);
    ranges.within("eval.map_images", config.map_images, 0..=2000);
    ranges.within("eval.video_sequences", config.video_sequences, 0..=10_000);
    Ok(ranges.check()?)
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
        ] {
            let config = resolve(None, None, &[change.to_owned()]).expect("resolves");
            let (key, _) = change.split_once('=').expect("a change");
            let error = check(&config.eval).expect_err(change).to_string();
            assert!(error.contains(key), "{change}: {error}");
        }
    }
}
