//! The geometry of features: whether clusters are classes, how near images of a class lie, how many dimensions are in use, and
//! how little a view of an image moves.
//!
//! Measured on test images, on a seeded and stratified sample beyond `eval.geometry_images`. No label is learned from.

mod agreement;
mod assignment;
mod kmeans;
mod silhouette;
mod spread;
mod views;

pub use agreement::Agreement;
pub(crate) use views::{VIEWS, view_features};

use lapidary_train::health::{lidar, rankme};
use lapidary_train::probe::Features;
use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The geometry of a network's class features. All but RankMe and LiDAR are of L2-normalised features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Test images that it is measured on.
    pub images: usize,
    /// Clusters of k-means: as many as these images have classes.
    pub clusters: usize,
    /// Agreement of the clusters with the classes.
    pub agreement: Agreement,
    /// Mean silhouette of the classes (-1 to 1); none where all or none of the images share a class.
    pub silhouette_of_classes: Option<f64>,
    /// Mean silhouette of the clusters.
    pub silhouette_of_clusters: Option<f64>,
    /// RankMe (Garrido et al. 2023): dimensions in use, between 1 and `rank_max`.
    pub rankme: f64,
    /// The fewer of images and dimensions.
    pub rank_max: usize,
    /// Uniformity (Wang and Isola 2020, t = 2): at most 0, lower is more uniform.
    pub uniformity: Option<f64>,
    /// Mean over channels of the deviation times the root of the width: 1 when features point everywhere alike.
    pub channel_std_mean: f64,
    /// The same of the channel that varies least.
    pub channel_std_min: f64,
    /// Images whose views are compared: the image, its mirror image, its four corner crops of 3/4 of each side.
    pub view_images: usize,
    /// Alignment (Wang and Isola 2020, alpha = 2) of these views: 0 to 4, lower is steadier.
    pub alignment: Option<f64>,
    /// LiDAR (Thilak et al. 2024) of these views: at most the fewer of images less one and dimensions.
    pub lidar: Option<f64>,
}

impl Geometry {
    /// Of features with their classes, and of views `[VIEWS * images, dim]`, view by view; neither may be empty, but views may.
    pub(crate) fn of(features: &Features, views: Option<Features>, seed: u64) -> Self {
        let rows = matrix(features);
        let features = features.clone().normalised();
        let k = features.classes.iter().collect::<BTreeSet<_>>().len();
        let clusters = kmeans::kmeans(&features, k, seed);
        let std = spread::channel_std(&features);
        let views = views.filter(|views| !views.is_empty());
        let view_images = views.as_ref().map_or(0, |views| views.len() / VIEWS);
        let of_views = views.as_ref().filter(|_| view_images > 1).map(|views| lidar(&matrix(views), VIEWS));
        Self {
            images: features.len(),
            clusters: k,
            agreement: Agreement::between(&features.classes, &clusters.labels),
            silhouette_of_classes: silhouette::silhouette(&features, &features.classes),
            silhouette_of_clusters: silhouette::silhouette(&features, &clusters.labels),
            rankme: rankme(&rows),
            rank_max: rows.nrows().min(rows.ncols()),
            uniformity: spread::uniformity(&features),
            channel_std_mean: std.iter().sum::<f64>() / std.len() as f64,
            channel_std_min: std.iter().copied().fold(f64::INFINITY, f64::min),
            view_images,
            alignment: views.and_then(|views| spread::alignment(&views.normalised(), VIEWS)),
            lidar: of_views.filter(|rank| rank.is_finite()),
        }
    }
}

fn matrix(features: &Features) -> DMatrix<f64> {
    DMatrix::from_row_iterator(features.len(), features.dim, features.values.iter().map(|value| f64::from(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{features, golden};

    #[test]
    fn ranks_are_numpys() {
        let (first, second) = (features(90, 10, 3, 0.3, 0.5), features(90, 10, 3, 0.35, 0.5));
        let golden = &golden()["spread"];
        let mut both = first.clone();
        both.values.extend(&second.values);
        both.classes.extend(&second.classes);
        for (name, found) in [("rankme", rankme(&matrix(&first))), ("lidar", lidar(&matrix(&both), 2))] {
            let expected = golden[name].as_f64().expect("a number");
            assert!((found - expected).abs() < 1e-6, "{name}: {found} against {expected}");
        }
    }

    #[test]
    fn classes_that_lie_apart_are_found_and_views_are_optional() {
        let apart = features(120, 12, 4, 0.3, 8.0);
        let geometry = Geometry::of(&apart, None, 1);
        assert!(geometry.agreement.acc > 0.99 && geometry.clusters == 4, "{geometry:?}");
        assert!(geometry.silhouette_of_classes.expect("four classes") > 0.5, "{geometry:?}");
        assert_eq!((geometry.view_images, geometry.alignment, geometry.lidar), (0, None, None));
        let mixed = Geometry::of(&features(120, 12, 4, 0.3, 0.0), None, 1);
        assert!(mixed.agreement.acc < 0.6 && mixed.uniformity < geometry.uniformity, "{mixed:?}");
    }

    #[test]
    fn views_that_are_the_image_itself_are_aligned() {
        let image = features(20, 12, 4, 0.3, 0.5);
        let all: Vec<usize> = (0..VIEWS).flat_map(|_| 0..20).collect();
        let geometry = Geometry::of(&image, Some(image.select(&all)), 1);
        assert_eq!((geometry.view_images, geometry.alignment), (20, Some(0.0)));
        assert!(geometry.lidar.expect("20 images") > 1.0);
    }

    #[test]
    fn one_image_has_a_geometry_too() {
        let geometry = Geometry::of(&features(1, 12, 1, 0.3, 0.5), None, 1);
        assert_eq!((geometry.clusters, geometry.silhouette_of_classes, geometry.uniformity), (1, None, None));
    }
}
