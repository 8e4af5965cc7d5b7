//! Probes of frozen features: how well simple classifiers tell classes apart by them, each by a named protocol.
//!
//! Every choice that a probe makes (a penalty, a learning rate) is made on train images; test images are only counted. Lists of
//! labels are functions of the seed and the images' ids, and stand beside the scores.

mod chosen_c;
mod finite;
mod held_out;
mod label_list;
mod lbfgs;
mod line_search;
mod logistic;
mod quick;
mod ridge;
mod score;

pub(crate) use finite::check_finite;
pub(crate) use held_out::held_out;
pub(crate) use label_list::{LABELS, LabelList};
pub use score::ProbeScore;

use chosen_c::ChosenC;
use lapidary_schemas::config::EvalConfig;
use lapidary_train::operators::Operators;
use lapidary_train::probe::{Features, Neighbours, knn};
use lbfgs::Stop;
use ridge::Ridge;
use std::borrow::Cow;

const KNN: &str = "weighted k-NN, facebookresearch/dino eval_knn.py: comparable on the same images, whole train set, k and temperature";
const LOGISTIC: &str = "logistic regression by L-BFGS, the best C on a held-out tenth of the train labels, facebookresearch/dinov2 \
                        eval/log_regression.py: comparable with all labels (its 10 % is drawn without strata)";
const RIDGE: &str = "ridge in closed form, google-research/big_vision fewshot_lsr.py: comparable for n labels a class, up to the \
                     draw of labels (it reports three seeds)";
const QUICK: &str = "lapidary's own: gradient descent on standardised features; compare with itself only";

/// What is probed: features of the train and of the test images.
pub(crate) struct FrozenFeatures<'a> {
    pub(crate) train: &'a Features,
    pub(crate) test: &'a Features,
    /// Classes that are named.
    pub(crate) classes: usize,
    pub(crate) config: &'a EvalConfig,
    pub(crate) seed: u64,
}

impl FrozenFeatures<'_> {
    /// The k-NN probe for each k of the list, from one pass.
    pub(crate) fn knn<B: Operators>(&self, device: &B::Device) -> Vec<ProbeScore> {
        let (train, test) = (self.train.clone().normalised(), self.test.clone().normalised());
        let list = &self.config.knn_neighbours;
        let most = list.iter().copied().max().unwrap_or(1);
        let neighbours = Neighbours::find::<B>(&train, &test, most, device);
        let temperature = self.config.knn_temperature;
        let score = |k: &usize| {
            let labels = (&train.classes[..], &test.classes[..]);
            let accuracy = knn::accuracy(&neighbours, labels, self.classes, *k, temperature);
            let clipped = (*k > train.len()).then(|| format!("k = {k} is clipped to the {} train images", train.len()));
            ProbeScore::new(format!("knn {k}"), KNN, train.len(), accuracy)
                .with("k", (*k).min(train.len()) as f64)
                .with("temperature", temperature)
                .noting(clipped)
        };
        list.iter().map(score).collect()
    }

    /// The probe `quick` on a list of labels.
    pub(crate) fn quick<B: Operators>(&self, list: &LabelList, device: &B::Device) -> ProbeScore {
        let config = self.config;
        let rates = if config.linear_learning_rates.is_empty() { &[1.0][..] } else { &config.linear_learning_rates };
        let train = self.train.select(&list.indices);
        let linear = quick::probe::<B>(&train, self.test, self.classes, config.linear_steps, rates, self.seed, device);
        let unchosen =
            (linear.held_out == 0).then(|| "no class has two labels: the first learning rate is taken".to_owned());
        ProbeScore::new(format!("quick {}", list.name), QUICK, list.indices.len(), linear.accuracy)
            .with("learning_rate", linear.learning_rate)
            .with("held_out", linear.held_out as f64)
            .noting(list.notes.iter().cloned().chain(unchosen))
    }

    /// Logistic regression and ridge on each list of labels.
    ///
    /// # Errors
    /// When the user interrupts.
    pub(crate) fn by_labels(&self, lists: &[LabelList]) -> crate::Result<Vec<ProbeScore>> {
        let mut scores = Vec::new();
        for list in lists {
            // All images are not copied.
            let train = match list.indices.len() == self.train.len() {
                true => Cow::Borrowed(self.train),
                false => Cow::Owned(self.train.select(&list.indices)),
            };
            scores.push(self.logistic(list, &train)?);
            let ridge = Ridge::fit(&train, self.classes, self.config.ridge_l2).accuracy(self.test);
            let score = ProbeScore::new(format!("ridge {}", list.name), RIDGE, train.len(), ridge);
            scores.push(score.with("l2", self.config.ridge_l2).noting(list.notes.iter().cloned()));
        }
        scores.sort_by_key(|score| score.name.starts_with("ridge"));
        Ok(scores)
    }

    fn logistic(&self, list: &LabelList, train: &Features) -> crate::Result<ProbeScore> {
        let stop = Stop { iterations: self.config.logistic_iterations, gradient_max: chosen_c::GRADIENT_MAX };
        let ChosenC { model, c, held_out, unconverged } =
            ChosenC::fit(train, self.classes, &self.config.logistic_c, stop, self.seed)?;
        let unchosen = (held_out == 0).then(|| format!("no class has two labels: C is not chosen but {c}"));
        let stopped = (unconverged > 0).then(|| {
            format!("{unconverged} fits used up `eval.logistic_iterations` = {}", self.config.logistic_iterations)
        });
        let accuracy = model.accuracy(self.test, self.classes);
        let score = ProbeScore::new(format!("logistic {}", list.name), LOGISTIC, train.len(), accuracy)
            .with("c", c)
            .with("held_out", held_out as f64)
            .with("iterations", model.iterations as f64);
        Ok(score.noting(list.notes.iter().cloned().chain(unchosen).chain(stopped)))
    }
}

#[cfg(test)]
mod tests;
