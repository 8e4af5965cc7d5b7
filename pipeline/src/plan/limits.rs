//! What `plan` may be asked for, key by key.

use crate::{Ranges, Result};
use lapidary_schemas::config::PlanConfig;

/// Views of an image at most: their index has a byte in the plan.
const VIEWS_MAX: usize = 255;
/// Stronger jitter leaves nothing of an image.
const JITTER_MAX: f32 = 100.0;
/// Wider blur leaves nothing of a view.
const BLUR_RADIUS_MAX_PX: f32 = 1000.0;

/// Checks every key of the plan's views.
///
/// # Errors
/// [`crate::PipelineError::Usage`] with each key that is out of its range.
pub(super) fn check(plan: &PlanConfig) -> Result<()> {
    let mut ranges = Ranges::default();
    for (index, view) in plan.views.iter().enumerate() {
        let key = |name: &str| format!("plan.view {index}: {name}");
        ranges.within(&key("size_px"), view.size_px, 1..=u16::MAX);
        let [least, greatest] = view.area;
        if !(0.0 < least && least <= greatest && greatest <= 1.0) {
            ranges.refuse(key(&format!("area = [{least}, {greatest}] must be 0 < least <= greatest <= 1")));
        }
        let [least, greatest] = view.aspect;
        if !(0.0 < least && least <= greatest && greatest.is_finite()) {
            ranges.refuse(key(&format!("aspect = [{least}, {greatest}] must be 0 < least <= greatest")));
        }
        for (name, probability) in [
            ("flip_p", view.flip_p),
            ("jitter_p", view.jitter_p),
            ("grayscale_p", view.grayscale_p),
            ("blur_p", view.blur_p),
            ("solarize_p", view.solarize_p),
        ] {
            ranges.within(&key(name), probability, 0.0..=1.0);
        }
        for (name, strength) in
            [("brightness", view.brightness), ("contrast", view.contrast), ("saturation", view.saturation)]
        {
            ranges.within(&key(name), strength, 0.0..=JITTER_MAX);
        }
        ranges.within(&key("hue"), view.hue, 0.0..=0.5);
        let [least, greatest] = view.blur_radius_px;
        if !(0.0 <= least && least <= greatest && greatest <= BLUR_RADIUS_MAX_PX) {
            let range = format!("0 <= least <= greatest <= {BLUR_RADIUS_MAX_PX}");
            ranges.refuse(key(&format!("blur_radius_px = [{least}, {greatest}] must be {range}")));
        }
    }
    let views: usize = plan.views.iter().map(|view| usize::from(view.count)).sum();
    if !(1..=VIEWS_MAX).contains(&views) {
        ranges.refuse(format!("plan.view: {views} views an image (the sum of count) must be 1 to {VIEWS_MAX}"));
    }
    ranges.check()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::config::ViewSpec;

    fn refusal(change: impl FnOnce(&mut ViewSpec)) -> String {
        let mut view = ViewSpec::default();
        change(&mut view);
        check(&PlanConfig { views: vec![view], ..PlanConfig::default() }).expect_err("it cannot be").to_string()
    }

    #[test]
    fn each_key_is_named_when_it_cannot_be() {
        check(&PlanConfig { views: vec![ViewSpec::default()], ..PlanConfig::default() }).expect("the default can be");
        assert!(refusal(|v| v.size_px = 0).contains("plan.view 0: size_px = 0"));
        assert!(refusal(|v| v.area = [0.5, 0.4]).contains("area"));
        assert!(refusal(|v| v.aspect = [0.5, f32::INFINITY]).contains("aspect"));
        assert!(refusal(|v| v.flip_p = -0.1).contains("flip_p = -0.1 must be 0 to 1"));
        assert!(refusal(|v| v.solarize_p = f32::NAN).contains("solarize_p"));
        assert!(refusal(|v| v.brightness = -1.0).contains("brightness"));
        assert!(refusal(|v| v.hue = 0.6).contains("hue"));
        assert!(refusal(|v| v.blur_radius_px = [2.0, 1.0]).contains("blur_radius_px"));
        assert!(refusal(|v| v.blur_radius_px = [0.0, 1e9]).contains("blur_radius_px"));
        assert!(refusal(|v| v.count = 0).contains("0 views an image"));
    }
}
