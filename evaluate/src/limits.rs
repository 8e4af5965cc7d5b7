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
    ranges.within("eval.linear_steps", config.linear_steps, 1..=usize::MAX);
    for rate in &config.linear_learning_rates {
        ranges.positive("eval.linear_learning_rates", *rate);
    }
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
            "eval.knn_temperature=0.0",
            "eval.knn_temperature=nan",
            "eval.label_share=0.0",
            "eval.label_share=1.5",
            "eval.linear_steps=0",
            "eval.linear_learning_rates=[0.1, -1.0]",
        ] {
            let config = resolve(None, None, &[change.to_owned()]).expect("resolves");
            let (key, _) = change.split_once('=').expect("a change");
            let error = check(&config.eval).expect_err(change).to_string();
            assert!(error.contains(key), "{change}: {error}");
        }
    }
}
