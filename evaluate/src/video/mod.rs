//! Video: the masks of a first frame carried along a sequence by the nearness of patch tokens, nothing learned
//! (facebookresearch/dino eval_video_segmentation.py), on sequences drawn by code whose masks are exact.
//!
//! The drawn sequences ([`Sequence`]) stand for DAVIS 2017, which is not ours to ship: figures are held beside the untrained
//! network's and other runs', never beside published ones.

mod propagation;
mod similarity;

use crate::Result;
use crate::dense::upsample::{greatest, upsampled};
use crate::dense::{mean, measure};
use crate::scores::Measure;
use image::RgbImage;
use lapidary_pipeline::draw::{SIDE_PX, Sequence};
use lapidary_pipeline::interrupt;
use lapidary_pipeline::pixels::resize_and_crop;
use lapidary_schemas::config::EvalConfig;
use lapidary_train::FrozenVit;
use lapidary_train::operators::Operators;
use propagation::{Frame, Propagation};
use similarity::{contour, region};

/// Frames of a sequence.
const FRAMES: usize = 12;
/// Frames before the new one that its labels come from, beside the first.
const LAST_FRAMES: usize = 7;
const TOP_K: usize = 5;
const REACH: usize = 12;
const TEMPERATURE: f64 = 0.1;

const PROTOCOL: &str = "facebookresearch/dino eval_video_segmentation.py (top-k 5, 7 last frames, neighbourhood 12, temperature 0.1) on \
                        sequences drawn by code in place of DAVIS 2017; J or F by davis2017-evaluation, mean over objects of the \
                        mean over frames but the first and the last. Compare with the untrained network and other runs";

/// J and F of an object along a sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tracked {
    region: f64,
    contour: f64,
}

/// The measures of a network; none where `eval.video_sequences` is 0.
///
/// # Errors
/// When the user interrupts.
pub(crate) fn measures<B: Operators>(network: &FrozenVit<B>, config: &EvalConfig, seed: u64) -> Result<Vec<Measure>> {
    if config.video_sequences == 0 {
        return Ok(Vec::new());
    }
    // Frames are no smaller than they are drawn, unless a side is named.
    let own = network.whole_patches_px(0).max(network.whole_patches_px(SIDE_PX as usize));
    let side_px = if config.attention_px == 0 { own } else { network.whole_patches_px(config.attention_px) };
    let mut tracked = Vec::new();
    for number in 0..config.video_sequences as u64 {
        interrupt::check()?;
        tracked.extend(track(network, &Sequence::random(seed, number), side_px)?);
    }
    let of = |name: &str, figure: fn(&Tracked) -> f64| {
        let mut measure = measure(name, PROTOCOL, config.video_sequences * FRAMES, mean(tracked.iter().map(figure)));
        let settings = [
            ("sequences", config.video_sequences as f64),
            ("objects", tracked.len() as f64),
            ("side_px", side_px as f64),
        ];
        measure.settings.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        measure
    };
    Ok(vec![of("video J", |t| t.region), of("video F", |t| t.contour)])
}

/// Each object of a sequence that the first frame shows.
fn track<B: Operators>(network: &FrozenVit<B>, sequence: &Sequence, side_px: usize) -> Result<Vec<Tracked>> {
    let scenes: Vec<_> = (0..FRAMES).map(|frame| sequence.at(frame as f32 / (FRAMES - 1) as f32)).collect();
    let views = scenes.iter().map(|scene| resize_and_crop(&scene.paint(), side_px as u32, side_px as u32));
    let views: Vec<RgbImage> = views.collect::<Result<_, _>>()?;
    let truths: Vec<Vec<u8>> = scenes.iter().map(|scene| scene.labels()).collect();
    let said = propagated(network, &views, &truths[0], sequence.objects() + 1);
    let is_there = |label: &u8| truths[0].contains(label);
    let tracked = (1..=sequence.objects() as u8).filter(is_there).map(|label| {
        let of = |labels: &[u8]| labels.iter().map(|l| *l == label).collect::<Vec<bool>>();
        let pairs = truths[1..FRAMES - 1].iter().zip(&said).map(|(truth, said)| (of(truth), of(said)));
        let (regions, contours): (Vec<f64>, Vec<f64>) =
            pairs.map(|(truth, said)| (region(&truth, &said), contour(&truth, &said, SIDE_PX as usize))).unzip();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        Tracked { region: mean(regions), contour: mean(contours) }
    });
    Ok(tracked.collect())
}

/// The labels of every frame but the first, `SIDE_PX` squared, from the first's.
fn propagated<B: Operators>(network: &FrozenVit<B>, views: &[RgbImage], first: &[u8], labels: usize) -> Vec<Vec<u8>> {
    let (side_px, dim) = (views[0].width() as usize, network.dim());
    let grid = side_px / network.patch_px();
    let tokens: Vec<Vec<f32>> = views.iter().map(|view| network.patch_features(std::slice::from_ref(view))).collect();
    let propagation = Propagation { grid: (grid, grid), labels, top_k: TOP_K, reach: REACH, temperature: TEMPERATURE };
    let mut shares = vec![0f32; grid * grid * labels];
    for (patch, shares) in shares.chunks_exact_mut(labels).enumerate() {
        let at = |place: usize| nearest(place, grid, SIDE_PX as usize);
        shares[usize::from(first[at(patch / grid) * SIDE_PX as usize + at(patch % grid)])] = 1.0;
    }
    let first = Frame::new(&tokens[0], dim, shares);
    let mut last: Vec<Frame> = Vec::new();
    let mut said = Vec::new();
    for tokens in &tokens[1..] {
        let frame = Frame::new(tokens, dim, Vec::new());
        let earlier: Vec<&Frame> = std::iter::once(&first).chain(&last).collect();
        let shares = propagation.shares(&frame, &earlier);
        said.push(hard(&shares, grid, side_px, labels));
        last.push(frame.with_shares(shares));
        last.drain(..last.len().saturating_sub(LAST_FRAMES));
    }
    said
}

/// The label of each pixel: shares bilinear to the view, each label's brought to 0 to 1, the greatest, nearest to the frame.
fn hard(shares: &[f32], grid: usize, side_px: usize, labels: usize) -> Vec<u8> {
    let mut pixels = upsampled(shares, (grid, grid), (side_px, side_px));
    for label in 0..labels {
        let of_label = || pixels.iter().skip(label).step_by(labels);
        let (least, most) = of_label().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        if most > 0.0 {
            let range = if most > least { most - least } else { 1.0 };
            pixels.iter_mut().skip(label).step_by(labels).for_each(|value| *value = (*value - least) / range);
        }
    }
    let greatest = greatest(&pixels, labels);
    let side = SIDE_PX as usize;
    let at = |place: usize| nearest(place, side, side_px);
    (0..side * side).map(|pixel| greatest[at(pixel / side) * side_px + at(pixel % side)] as u8).collect()
}

/// The place along a line of `of` that lies under the middle of a place of a line of `from`.
fn nearest(place: usize, from: usize, of: usize) -> usize {
    (((place as f64 + 0.5) * of as f64 / from as f64) as usize).min(of - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use lapidary_schemas::config::ModelConfig;
    use lapidary_train::model::{Vit, initialise};

    fn network() -> FrozenVit<Flex> {
        let model = ModelConfig {
            image_px: 32,
            patch_px: 8,
            dim: 24,
            depth: 1,
            heads: 2,
            mlp_ratio: 2,
            ..ModelConfig::default()
        }
        .resolved();
        FrozenVit::new(initialise(Vit::new(&model, false, &Default::default()), 5), &model, &Default::default())
    }

    #[test]
    fn sequences_have_figures_between_nothing_and_all_and_alike_each_time() {
        let (network, config) = (network(), EvalConfig { video_sequences: 2, ..EvalConfig::default() });
        let found = measures(&network, &config, 1).expect("measures");
        assert_eq!(found, measures(&network, &config, 1).expect("measures"));
        assert_eq!(found.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["video J", "video F"]);
        assert_eq!((found[0].images, found[0].settings["side_px"]), (24, 128.0));
        for measure in &found {
            assert!(measure.value.is_some_and(|value| value > 0.1 && value < 1.0), "{measure:?}");
        }
        let none = EvalConfig { video_sequences: 0, ..config };
        assert_eq!(measures(&network, &none, 1).expect("measures"), []);
    }

    #[test]
    fn a_still_sequence_is_tracked_to_the_patch() {
        let network = network();
        let scene = Sequence::random(1, 3).at(0.0);
        let view = resize_and_crop(&scene.paint(), 128, 128).expect("resizes");
        let labels = scene.labels();
        let said = propagated(&network, &[view.clone(), view.clone(), view], &labels, 4);
        assert_eq!(said.len(), 2);
        let same = said[1].iter().zip(&labels).filter(|(a, b)| a == b).count();
        assert!(same as f64 > 0.9 * labels.len() as f64, "{same} of {}", labels.len());
    }
}
