//! Maps: test features on a plane, by random directions, by principal components and by t-SNE.

use super::pca::Pca;
use super::tsne::{ROWS_MAX, tsne};
use crate::Result;
use crate::csv_file::CsvFile;
use crate::pictures::sampled;
use lapidary_pipeline::random::{Purpose, RngExt, keyed};
use lapidary_train::probe::{Features, Labelled};
use std::f64::consts::TAU;
use std::path::Path;

/// The maps' file.
pub const MAP_FILE: &str = "map.csv";

/// Writes `map.csv` into a folder: a row for each image of a seeded, stratified sample of at most `images` test images. Columns:
/// `image_id`, `class` (its name), and `x` and `y` of `random` (a Gaussian projection, as DinoTwins shows), `pca` and `tsne`, all of
/// L2-normalised features. `test` are the labelled images of `features`, in order.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write_map(
    folder: &Path,
    test: &[Labelled],
    features: &Features,
    classes: &[String],
    images: usize,
    seed: u64,
) -> Result<()> {
    let sample = sampled(test, images.min(ROWS_MAX), seed);
    let index = |one: &Labelled| test.binary_search(one).expect("a sample is of the probe's images");
    let features = features.select(&sample.iter().map(index).collect::<Vec<_>>()).normalised();
    let maps = maps(&features, seed);
    let heading = ["image_id", "class", "random_x", "random_y", "pca_x", "pca_y", "tsne_x", "tsne_y"];
    let mut file = CsvFile::create(&folder.join(MAP_FILE), &heading)?;
    for (row, one) in sample.iter().enumerate() {
        let name = classes.get(one.class as usize).map_or("", String::as_str);
        let places = maps.iter().flat_map(|map| &map[2 * row..2 * row + 2]).map(|place| format!("{place:.6}"));
        file.row([one.id.to_string(), name.to_owned()].into_iter().chain(places))?;
    }
    file.finish()
}

/// The places of rows on each map, `[rows, 2]`.
fn maps(features: &Features, seed: u64) -> [Vec<f64>; 3] {
    let mut pca = Pca::fit(&features.values, features.dim, 2).coordinates(&features.values);
    if features.dim == 1 {
        pca = pca.iter().flat_map(|place| [*place, 0.0]).collect();
    }
    // scikit-learn starts t-SNE at the principal components, scaled to a deviation of 1e-4 along the first.
    let count = features.len() as f64;
    let first = || pca.iter().step_by(2);
    let mean = first().sum::<f64>() / count;
    let deviation = (first().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
    let start: Vec<f64> = pca.iter().map(|place| place / deviation.max(1e-12) * 1e-4).collect();
    let tsne = tsne(&features.values, features.dim, &start);
    [projected(features, seed), pca, tsne]
}

/// The rows along two directions whose weights are drawn from a normal distribution of variance 1 / dim.
fn projected(features: &Features, seed: u64) -> Vec<f64> {
    let mut rng = keyed(seed, Purpose::Projection, features.dim as u64, 0);
    let scale = 1.0 / (features.dim as f64).sqrt();
    let mut normal = || {
        let (radius, turn) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
        (-2.0 * radius.ln()).sqrt() * (TAU * turn).cos() * scale
    };
    let directions: Vec<[f64; 2]> = (0..features.dim).map(|_| [normal(), normal()]).collect();
    let place = |row: &[f32]| {
        let along = |axis: usize| row.iter().zip(&directions).map(|(v, weights)| f64::from(*v) * weights[axis]).sum();
        [along(0), along(1)]
    };
    features.values.chunks_exact(features.dim).flat_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::features;
    use lapidary_schemas::ImageId;

    #[test]
    fn every_image_has_a_place_on_each_map_and_classes_lie_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let features = features(80, 12, 4, 0.3, 6.0);
        let test: Vec<Labelled> =
            (0..80).map(|i| Labelled { id: ImageId(i * 3), class: features.classes[i as usize] }).collect();
        let names: Vec<String> = ["a", "b, c", "d", "e"].map(str::to_owned).into();
        write_map(folder.path(), &test, &features, &names, 40, 1).expect("writes");
        let mut reader = csv::Reader::from_path(folder.path().join(MAP_FILE)).expect("reads");
        let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("rows");
        assert_eq!(rows.len(), 40);
        let place = |row: &csv::StringRecord, column: usize| -> f64 { row[column].parse().expect("a number") };
        // Two random directions need not tell classes apart.
        for column in [4, 6] {
            let near = |row: &csv::StringRecord| {
                let distance = |other: &csv::StringRecord| {
                    (place(row, column) - place(other, column)).hypot(place(row, column + 1) - place(other, column + 1))
                };
                let others = rows.iter().filter(|other| other[0] != row[0]);
                others.min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("39")[1] == row[1]
            };
            assert!(rows.iter().filter(|row| near(row)).count() > 30, "column {column}");
        }
        let [first, second] = [1, 2].map(|seed| projected(&features, seed));
        assert!(first != second && first == projected(&features, 1));
        assert!(rows.iter().all(|row| place(row, 2).abs() < 1.5 && place(row, 3).abs() < 1.5));
        assert!(maps(&features.select(&[3]), 1).iter().flatten().all(|place| place.is_finite()));
    }
}
