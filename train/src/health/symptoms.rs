//! Each symptom, as one line of metrics and the last few show it. What lasts long enough to be said is
//! [`super::verdict`]'s to count.

use super::names;
use super::verdict::thresholds::*;
use super::verdict::{Expected, Symptom};
use serde_json::Value;
use std::collections::VecDeque;

/// What a step shows of a symptom.
pub(super) struct LookAt {
    pub(super) is_seen: bool,
    pub(super) measured: String,
    /// Looks in a row that count as lasting.
    pub(super) looks: usize,
    /// Steps before this one since which it is there, as a rule: half a window.
    pub(super) lasted_steps: usize,
}

/// Looks in a row at whole windows, one a step.
const WINDOW_LOOKS: usize = WINDOW_STEPS / 2;

/// What a line shows of a symptom; none when it says nothing of it.
pub(super) fn look_at(symptom: Symptom, line: &Value, windows: &Windows, expected: &Expected) -> Option<LookAt> {
    let number = |name: &str| line[name].as_f64().filter(|value| value.is_finite());
    let once_in_a_while = |is_seen: bool, measured: String| LookAt { is_seen, measured, looks: LOOKS, lasted_steps: 0 };
    let of_window = |is_seen: bool, measured: String| LookAt {
        is_seen,
        measured,
        looks: WINDOW_LOOKS,
        lasted_steps: WINDOW_STEPS / 2,
    };
    Some(match symptom {
        Symptom::Uniform => {
            let (entropy, kl) = (number(names::TEACHER_ENTROPY_SHARE)?, number(names::KL_TEACHER_STUDENT)?);
            let is_seen = entropy > UNIFORM_ENTROPY_SHARE && kl < UNIFORM_KL_SHARE * expected.ln_k;
            once_in_a_while(is_seen, format!("teacher entropy {entropy:.3} of ln K, KL to the student {kl:.1e} nats"))
        }
        Symptom::FewPrototypes => {
            let perplexity = number(names::PROTOTYPES_PERPLEXITY)?;
            let least = PERPLEXITY_MIN.max(PERPLEXITY_SHARE_MIN * expected.perplexity_max);
            let of = expected.perplexity_max;
            once_in_a_while(
                perplexity < least,
                format!("perplexity {perplexity:.2} of {of:.0} prototypes within reach"),
            )
        }
        Symptom::Point => {
            let std = number(names::FEATURE_STD)?;
            once_in_a_while(
                std < FEATURE_STD_MIN,
                format!("std of normalised features x sqrt(width) is {std:.3}, not near 1"),
            )
        }
        Symptom::FewDimensions => {
            let rank = number(names::RANKME)?;
            let least = RANK_MIN.max(RANK_SHARE_MIN * expected.rank_max);
            let mut measured = format!("RankMe {rank:.1} of {:.0}", expected.rank_max);
            let off = number(names::BARLOW_OFF_DIAGONAL_RMS);
            if let Some(off) = off {
                measured += &format!(", RMS off the diagonal {off:.2}");
            }
            once_in_a_while(rank < least || off.is_some_and(|off| off > OFF_DIAGONAL_RMS_MAX), measured)
        }
        Symptom::Stuck => {
            let share = number("loss_dino")? / expected.ln_k;
            let is_seen = (share - 1.0).abs() < STUCK_WITHIN;
            let looks = if is_seen { STUCK_STEPS } else { WINDOW_LOOKS };
            LookAt { is_seen, measured: format!("DINO's loss {share:.4} of ln K"), looks, lasted_steps: 0 }
        }
        Symptom::Diverging => {
            let (loss, first, lowest) = (windows.mean_loss()?, windows.first_loss?, windows.lowest_loss?);
            let is_seen = loss > first && loss > DIVERGING_RATIO * lowest;
            of_window(is_seen, format!("mean loss {loss:.4} of {WINDOW_STEPS} steps, {lowest:.4} at its lowest"))
        }
        Symptom::Drowned => {
            let ratio = windows.median_ratio()?;
            let is_seen = !(1.0 / GRADIENT_RATIO_MAX..=GRADIENT_RATIO_MAX).contains(&ratio);
            let (most, least) = if ratio > 1.0 { ("Barlow Twins'", "DINO's") } else { ("DINO's", "Barlow Twins'") };
            let times = ratio.max(1.0 / ratio);
            of_window(is_seen, format!("{most} gradient norm is {times:.0} times {least}"))
        }
        Symptom::Waiting => {
            let share = windows.wait_share()?;
            of_window(share > DATA_WAIT_SHARE_MAX, format!("{:.0} % of {WINDOW_STEPS} steps' time", share * 100.0))
        }
    })
}

/// The last steps' losses, ratios of gradients and times.
#[derive(Debug, Default)]
pub(super) struct Windows {
    losses: VecDeque<f64>,
    first_loss: Option<f64>,
    lowest_loss: Option<f64>,
    gradient_ratios: VecDeque<f64>,
    /// Seconds waited and in all.
    times: VecDeque<(f64, f64)>,
}

fn push<T>(window: &mut VecDeque<T>, value: T) {
    if window.len() == WINDOW_STEPS {
        window.pop_front();
    }
    window.push_back(value);
}

impl Windows {
    /// Adds a step's line.
    pub(super) fn note(&mut self, line: &Value) {
        let number = |name: &str| line[name].as_f64().filter(|value| value.is_finite());
        if let Some(loss) = number("loss") {
            push(&mut self.losses, loss);
            if let Some(mean) = self.mean_loss() {
                self.first_loss.get_or_insert(mean);
                self.lowest_loss = Some(self.lowest_loss.map_or(mean, |lowest| lowest.min(mean)));
            }
        }
        if let Some((barlow, dino)) = number("gradient_norm_barlow").zip(number("gradient_norm_dino"))
            && barlow > 0.0
            && dino > 0.0
        {
            push(&mut self.gradient_ratios, barlow / dino);
        }
        if let Some((waited, secs)) = number("data_wait_secs").zip(number("step_secs")) {
            push(&mut self.times, (waited, secs));
        }
    }

    /// The mean loss of a whole window.
    fn mean_loss(&self) -> Option<f64> {
        (self.losses.len() == WINDOW_STEPS).then(|| self.losses.iter().sum::<f64>() / WINDOW_STEPS as f64)
    }

    fn median_ratio(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.gradient_ratios.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        (sorted.len() == WINDOW_STEPS).then(|| sorted[WINDOW_STEPS / 2])
    }

    fn wait_share(&self) -> Option<f64> {
        let (waited, secs) = self.times.iter().fold((0.0, 0.0), |sum, time| (sum.0 + time.0, sum.1 + time.1));
        (self.times.len() == WINDOW_STEPS && secs > 0.0).then(|| waited / secs)
    }
}
