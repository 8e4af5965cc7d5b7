//! How the result is measured.

use super::{DinoLinearConfig, Dinov2LinearConfig, MlpProbeConfig, ProbeCropsConfig};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Probes of `lapidary eval`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Images a batch when features are computed.
    pub batch: usize,
    /// Neighbours that vote in the k-NN probe: each number of the list is reported, the first is the headline (`knn_top1`) and
    /// what `pretrain.watch` uses. A number alone is a list of one.
    #[serde(serialize_with = "number_or_list", deserialize_with = "list_of_number_or_list")]
    pub knn_neighbours: Vec<usize>,
    /// Temperature of the votes, exp(similarity / temperature).
    pub knn_temperature: f64,
    /// Train images whose features are computed; 0 means all. Chosen by seed, stratified by class.
    pub max_train: usize,
    /// Test images whose features are computed; 0 means all.
    pub max_test: usize,
    /// Share of the train labels that the probe `quick` sees (0 to 1), stratified by class.
    pub label_share: f64,
    /// Shares of the train labels (0 to 1) that logistic regression and ridge are measured with, stratified by class.
    pub label_shares: Vec<f64>,
    /// Labels a class that they are measured with as well.
    pub labels_per_class: Vec<usize>,
    /// Inverse strengths of the logistic regression's penalty, scikit-learn's C; the best on held-out train images is kept.
    pub logistic_c: Vec<f64>,
    /// Iterations of L-BFGS at most, for each C.
    pub logistic_iterations: usize,
    /// Penalty of the ridge regression.
    pub ridge_l2: f64,
    /// Test images that clusters, silhouette, uniformity and ranks are measured on; 0 means all. Chosen by seed, stratified.
    pub geometry_images: usize,
    /// Of these, images whose crops and mirror images are compared with them, for alignment and LiDAR; 0 means none.
    pub view_images: usize,
    /// Steps of `quick`'s gradient descent.
    pub linear_steps: usize,
    /// Its learning rates; the best on a held-out fifth of the labels is kept.
    pub linear_learning_rates: Vec<f64>,
    /// Images whose attention maps, patch colours and patch matches are drawn.
    pub attention_images: usize,
    /// Linear classifier after DINO.
    pub dino_linear: DinoLinearConfig,
    /// Linear classifiers after DINOv2.
    pub dinov2_linear: Dinov2LinearConfig,
    /// Crops that both learn from.
    pub crops: ProbeCropsConfig,
    /// Classifier with a hidden layer.
    pub mlp: MlpProbeConfig,
    /// Test images that retrieve others; 0 leaves retrieval out. Chosen by seed, stratified.
    pub retrieval_images: usize,
    /// Test images that copies are made of, to be found again; 0 leaves that out. Chosen by seed, stratified.
    pub copy_images: usize,
    /// Side in pixels of what attention, patch colours, patch matches and drawn sequences are computed on, cut to whole patches;
    /// 0 means the network's own. facebookresearch/dino shows 480.
    pub attention_px: usize,
    /// Share of a head's attention (above 0, at most 1) that its mask keeps.
    pub attention_mass: f64,
    /// Train images, and as many test images, whose masks segmentation is learned from and measured on; 0 means none. Chosen by
    /// seed, stratified.
    pub dense_images: usize,
    /// Drawn sequences along which masks are propagated; 0 means none.
    pub video_sequences: usize,
    /// Test images that are transformed to see how features change; 0 means none. Chosen by seed, stratified.
    pub robustness_images: usize,
    /// Test images on the maps of features (at most 2,000); 0 means none. Chosen by seed, stratified.
    pub map_images: usize,
    /// Test images whose nearest train images are listed; 0 means none. Chosen by seed, stratified.
    pub neighbour_queries: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            batch: 64,
            knn_neighbours: vec![20, 10, 100, 200],
            knn_temperature: 0.07,
            max_train: 0,
            max_test: 0,
            label_share: 0.1,
            label_shares: vec![0.01, 0.1, 1.0],
            labels_per_class: vec![1, 5, 10],
            logistic_c: vec![1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5],
            logistic_iterations: 1000,
            ridge_l2: 1024.0,
            geometry_images: 5000,
            view_images: 128,
            linear_steps: 500,
            linear_learning_rates: vec![0.1, 0.3, 1.0, 3.0, 10.0],
            attention_images: 6,
            dino_linear: DinoLinearConfig::default(),
            dinov2_linear: Dinov2LinearConfig::default(),
            crops: ProbeCropsConfig::default(),
            mlp: MlpProbeConfig::default(),
            retrieval_images: 5000,
            copy_images: 64,
            attention_px: 0,
            attention_mass: 0.6,
            dense_images: 100,
            video_sequences: 4,
            robustness_images: 64,
            map_images: 500,
            neighbour_queries: 16,
        }
    }
}

/// A list of one is written as the number, so that what was written before there were lists keeps its digest.
fn number_or_list<S: Serializer>(list: &[usize], serializer: S) -> Result<S::Ok, S::Error> {
    match list {
        [number] => number.serialize(serializer),
        list => list.serialize(serializer),
    }
}

fn list_of_number_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a whole number or a list of whole numbers")]
    enum NumberOrList {
        Number(usize),
        List(Vec<usize>),
    }
    Ok(match NumberOrList::deserialize(deserializer)? {
        NumberOrList::Number(number) => vec![number],
        NumberOrList::List(list) => list,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_a_number_or_a_list_and_one_is_written_as_a_number() {
        let read = |text: &str| serde_json::from_str::<EvalConfig>(text);
        let one = read(r#"{"knn_neighbours": 5}"#).expect("a number");
        assert_eq!(one.knn_neighbours, [5]);
        assert_eq!(serde_json::to_value(&one).expect("plain")["knn_neighbours"], 5);
        let many = read(r#"{"knn_neighbours": [10, 20]}"#).expect("a list");
        assert_eq!(many.knn_neighbours, [10, 20]);
        assert_eq!(read(&serde_json::to_string(&many).expect("plain")).expect("again"), many);
        let error = read(r#"{"knn_neighbours": "many"}"#).expect_err("no number").to_string();
        assert!(error.contains("a whole number or a list of whole numbers"), "{error}");
    }
}
