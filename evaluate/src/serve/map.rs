//! 2-D maps of a source's images: those that an evaluation wrote (`map.csv`), and projections of its embeddings.

use super::projection::{Axes, SAMPLE};
use crate::Result;
use crate::seeing::MAP_FILE;
use arrow::array::UInt64Array;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Table, column, list_values, read_manifest};
use lapidary_schemas::ImageId;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const ROWS: usize = 4096;

/// Places of images on a map, both ways from 0 to 1.
pub(super) struct Map {
    /// By row of the catalog; none where an image is not on the map.
    points: Vec<Option<(f32, f32)>>,
}

impl Map {
    #[cfg(test)]
    pub(super) fn of_points(points: Vec<Option<(f32, f32)>>) -> Self {
        Self { points }
    }

    /// Where an image lies.
    pub(super) fn point(&self, row: usize) -> Option<(f32, f32)> {
        self.points.get(row).copied().flatten()
    }

    /// The names of a source's maps: `RUN/METHOD` of evaluations, then encoders.
    pub(super) fn names(layout: &Layout, source: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (run, file) in evaluated(layout, source) {
            names.extend(methods(&file).into_iter().map(|method| format!("{run}/{method}")));
        }
        names.sort();
        let folder = layout.out.join(source).join("embeddings");
        let mut encoders: Vec<String> =
            subfolders(&folder).into_iter().filter(|name| read_manifest(&folder.join(name)).is_ok()).collect();
        encoders.sort();
        names.extend(encoders);
        names
    }

    /// Reads or makes a map.
    ///
    /// # Errors
    /// When there is none of that name, or a table cannot be read.
    pub(super) fn read(layout: &Layout, source: &str, name: &str, row_of: &HashMap<ImageId, u32>) -> Result<Self> {
        // Only what is listed is opened, whatever a name says.
        if !Self::names(layout, source).iter().any(|known| known == name) {
            return Err(PipelineError::Usage(format!("`{source}` has no map `{name}`")).into());
        }
        let placed = match name.split_once('/') {
            Some((run, method)) => {
                let file = evaluated(layout, source)
                    .into_iter()
                    .find(|(of, file)| of == run && methods(file).iter().any(|m| m == method));
                let (_, file) = file.expect("it is listed, from just these");
                read_csv(&file, method)?
            }
            None => read_embeddings(&layout.embeddings(source, name))?,
        };
        let mut points = vec![None; row_of.len()];
        for (id, point) in scaled(placed) {
            if let Some(row) = row_of.get(&id) {
                points[*row as usize] = Some(point);
            }
        }
        Ok(Self { points })
    }
}

fn subfolders(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok());
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| !name.starts_with('.')).collect()
}

/// The maps of evaluations on a source, of whichever source the runs are.
fn evaluated(layout: &Layout, source: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for trained_on in subfolders(&layout.out) {
        let evals = layout.out.join(&trained_on).join("evals");
        for run in subfolders(&evals) {
            let file = layout.eval(&trained_on, &run, source).join(MAP_FILE);
            if file.is_file() {
                found.push((run, file));
            }
        }
    }
    found.sort();
    found
}

/// The methods of a table: those with a column `METHOD_x` and a column `METHOD_y`.
fn methods(file: &Path) -> Vec<String> {
    let Ok(mut reader) = csv::Reader::from_path(file) else { return Vec::new() };
    let Ok(headings) = reader.headers() else { return Vec::new() };
    let has = |name: String| headings.iter().any(|heading| heading == name);
    headings
        .iter()
        .filter_map(|name| name.strip_suffix("_x"))
        .filter(|method| has(format!("{method}_y")))
        .map(str::to_owned)
        .collect()
}

type Placed = Vec<(ImageId, (f64, f64))>;

fn read_csv(file: &Path, method: &str) -> Result<Placed> {
    let bad = |detail: String| PipelineError::format(file, detail);
    let mut reader = csv::Reader::from_path(file).map_err(|e| bad(e.to_string()))?;
    let headings = reader.headers().map_err(|e| bad(e.to_string()))?.clone();
    let place = |name: &str| {
        headings.iter().position(|heading| heading == name).ok_or_else(|| bad(format!("it has no column `{name}`")))
    };
    let (id, x, y) = (place("image_id")?, place(&format!("{method}_x"))?, place(&format!("{method}_y"))?);
    let mut placed = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| bad(e.to_string()))?;
        let text = |column: usize| record.get(column).unwrap_or_default();
        let id = text(id).parse::<ImageId>().map_err(|_| bad(format!("`{}` is no image's id", text(id))))?;
        let number = |column: usize| text(column).parse::<f64>().ok().filter(|value| value.is_finite());
        if let (Some(x), Some(y)) = (number(x), number(y)) {
            placed.push((id, (x, y)));
        }
    }
    Ok(placed)
}

/// The embeddings of a folder on their two main axes, a batch at a time. Rows are in the order of image ids, which are hashes, so
/// that the first of them are a sample to find the axes from.
fn read_embeddings(folder: &Path) -> Result<Placed> {
    let (mut ids, mut first, mut dim): (Vec<u64>, Vec<f32>, usize) = Default::default();
    let (mut placed, mut axes): (Placed, Option<Axes>) = Default::default();
    let mut place = |axes: &Axes, ids: &[u64], vectors: &[f32]| {
        placed.extend(ids.iter().map(|id| ImageId(*id)).zip(axes.places(vectors)));
    };
    for shard in Layout::shards(folder)? {
        for batch in Table::open(&shard, &["image_id", "embedding"], ROWS)? {
            let batch = batch?;
            let of: &UInt64Array = column(&batch, "image_id")?;
            let (vectors, width) = list_values(&batch, "embedding")?;
            if let Some(axes) = &axes {
                place(axes, of.values(), vectors);
                continue;
            }
            ids.extend_from_slice(of.values());
            first.extend_from_slice(vectors);
            dim = width;
            if ids.len() >= SAMPLE {
                axes = Axes::of(&first, dim);
                axes.iter().for_each(|axes| place(axes, &ids, &first));
                (ids, first) = Default::default();
            }
        }
    }
    // Fewer than a sample.
    if let Some(axes) = Axes::of(&first, dim) {
        place(&axes, &ids, &first);
    }
    Ok(placed)
}

/// Places from 0 to 1, the same scale both ways, the middle of the map in the middle.
fn scaled(placed: Placed) -> Vec<(ImageId, (f32, f32))> {
    let fold = |pick: fn(&(f64, f64)) -> f64| {
        let values = || placed.iter().map(|(_, point)| pick(point));
        (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
    };
    let ((x0, x1), (y0, y1)) = (fold(|p| p.0), fold(|p| p.1));
    let side = (x1 - x0).max(y1 - y0).max(1e-300) * 1.02;
    let place = |value: f64, low: f64, high: f64| (0.5 + (value - (low + high) / 2.0) / side) as f32;
    placed.iter().map(|(id, (x, y))| (*id, (place(*x, x0, x1), place(*y, y0, y1)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluations_map_is_found_and_read_and_no_other_file_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(folder.path());
        let eval = layout.eval("pile", "demo", "probe");
        std::fs::create_dir_all(&eval).expect("creates");
        let text = "image_id,class,pca_x,pca_y,half_x\n000000000000000a,cat,-1,0,3\n000000000000000b,dog,1,0.5,3\n00000000000000ff,dog,nan,0,1\n";
        std::fs::write(eval.join(MAP_FILE), text).expect("writes");
        assert_eq!(Map::names(&layout, "probe"), ["demo/pca"]);
        assert!(Map::names(&layout, "pile").is_empty());
        let row_of = HashMap::from([(ImageId(10), 1), (ImageId(11), 0), (ImageId(255), 2)]);
        let map = Map::read(&layout, "probe", "demo/pca", &row_of).expect("reads");
        let (left, right) = (map.point(1).expect("is there"), map.point(0).expect("is there"));
        assert!(left.0 < 0.02 && right.0 > 0.98 && right.1 > left.1, "{left:?} {right:?}");
        assert_eq!((map.point(2), map.point(9)), (None, None));
        for name in ["demo/half", "demo/../../x", "../images", "nothing"] {
            assert!(Map::read(&layout, "probe", name, &row_of).is_err(), "{name}");
        }
        std::fs::write(eval.join(MAP_FILE), "image_id,pca_x,pca_y\nzzz,1,1\n").expect("writes");
        assert!(Map::read(&layout, "probe", "demo/pca", &row_of).is_err());
    }
}
