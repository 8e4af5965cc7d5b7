//! Retrieval: seeds retrieve what is like them (LVD-142M's procedure, DINOv2, appendix A).
//!
//! By `nearest`, each seed retrieves its k nearest images; by `clusters`, the finest clusters that hold enough seeds
//! come whole. Seeds may be a source of their own, or images of the pool itself, named by id or path in a list or a
//! table.

use crate::clusters::{assign, cluster};
use crate::fingerprints::PoolFolders;
use crate::input::columns::{f32s, u64s, write_table};
use crate::input::{Image, Vectors};
use crate::pairs::Neighbours;
use crate::{CurateError, Result};
use arrow::array::{Float32Array, StringArray, UInt64Array};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, StageRun, Table, column, digest_of_file, read_table};
use lapidary_schemas::config::SeedMode;
use lapidary_schemas::tables::{self, RETRIEVED_FILE};
use lapidary_schemas::{Config, Digest, ImageId};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Where seeds come from.
#[derive(Debug, Clone)]
pub(crate) enum Seeds {
    /// Another source's images.
    Source(PoolFolders),
    /// Images of the pool, listed in a file: see [`listed`].
    List(PathBuf),
}

impl Seeds {
    /// The seeds that a configuration names, with the digests of what they are read from; none when it names none.
    ///
    /// # Errors
    /// When there is neither such a source nor such a file.
    pub(crate) fn of(layout: &Layout, config: &Config) -> Result<Option<(Self, BTreeMap<String, Digest>)>> {
        let name = &config.curate.seeds;
        if name.is_empty() {
            return Ok(None);
        }
        let path = Path::new(name);
        if path.is_file() {
            let address = path.canonicalize().map_err(PipelineError::io("open", path))?;
            let digest = digest_of_file(path)?.0;
            let inputs = BTreeMap::from([(address.to_string_lossy().into_owned(), digest)]);
            return Ok(Some((Self::List(address), inputs)));
        }
        let folders = PoolFolders::of(layout, name, &config.embed.encoder)?;
        let inputs = folders.inputs().collect();
        Ok(Some((Self::Source(folders), inputs)))
    }

    /// The seeds' embeddings, those of the pool by the index of their image.
    fn read(&self, images: &[Image], vectors: &Vectors) -> Result<Vectors> {
        let seeds = match self {
            Self::Source(folders) => folders.read_embeddings()?,
            Self::List(path) => {
                let names = listed(path)?;
                let by_path: HashMap<&str, usize> =
                    images.iter().enumerate().map(|(index, image)| (image.path.as_str(), index)).collect();
                let by_id: HashMap<String, usize> =
                    images.iter().enumerate().map(|(index, image)| (image.id.to_string(), index)).collect();
                let mut named = Vec::new();
                for name in &names {
                    let found = by_path.get(name.as_str()).or_else(|| by_id.get(name));
                    let found = found.ok_or_else(|| {
                        PipelineError::format(path, format!("no kept image has the id or path `{name}`"))
                    })?;
                    named.push(*found);
                }
                vectors.select(&named)
            }
        };
        if seeds.is_empty() {
            return Err(PipelineError::Empty("there are no seeds".to_owned()).into());
        }
        if seeds.dim != vectors.dim {
            return Err(CurateError::Mismatch(format!("seeds of {} values, images of {}", seeds.dim, vectors.dim)));
        }
        Ok(seeds)
    }

    /// For each image its similarity to the nearest seed that retrieved it, or none when no seed did.
    ///
    /// # Errors
    /// When there are no seeds, or FAISS refuses.
    pub(crate) fn retrieve(&self, images: &[Image], vectors: &Vectors, config: &Config) -> Result<Vec<Option<f32>>> {
        let seeds = self.read(images, vectors)?;
        match config.curate.seed_mode {
            SeedMode::Nearest => {
                let mut index = Neighbours::new(vectors, &config.curate)?;
                let mut retrieved = vec![None; images.len()];
                for found in index.of(&seeds.values, config.curate.seed_neighbours)? {
                    for (image, similarity) in found {
                        let best: &mut Option<f32> = &mut retrieved[image];
                        *best = Some(best.map_or(similarity, |before| before.max(similarity)));
                    }
                }
                Ok(retrieved)
            }
            SeedMode::Clusters => {
                let levels = cluster(vectors, &config.curate, config.seed)?;
                let finest = &levels[0];
                let mut seeds_in = vec![0usize; finest.centroids.len()];
                let (clusters, _) = assign(&seeds, &finest.centroids)?;
                clusters.into_iter().for_each(|cluster| seeds_in[cluster as usize] += 1);
                let mut to_seeds = Neighbours::new(&seeds, &config.curate)?;
                let nearest = to_seeds.of(&vectors.values, 1)?;
                let retrieved = finest.assignment.iter().zip(nearest).map(|(cluster, found)| {
                    let enough = seeds_in[*cluster as usize] >= config.curate.seed_cluster_min;
                    found.first().filter(|_| enough).map(|(_, similarity)| *similarity)
                });
                Ok(retrieved.collect())
            }
        }
    }
}

/// Writes which images were retrieved, and how near to a seed they are.
pub(crate) fn write_retrieved<'a>(
    run: &mut StageRun,
    retrieved: impl Iterator<Item = (&'a Image, f32)> + Clone,
) -> Result<()> {
    let ids = u64s(retrieved.clone().map(|(image, _)| Some(image.id.0)));
    let similarities = f32s(retrieved.map(|(_, similarity)| Some(similarity)));
    write_table(run, RETRIEVED_FILE, tables::retrieved(), vec![ids, similarities])
}

/// Reads how near to a seed the retrieved images of a folder are, by id; none where there were no seeds.
///
/// # Errors
/// When the table cannot be read.
pub(crate) fn read_retrieved(folder: &Path) -> Result<HashMap<u64, f32>> {
    let path = folder.join(RETRIEVED_FILE);
    let mut retrieved = HashMap::new();
    if path.is_file() {
        for batch in read_table(&path, &[])? {
            let ids: &UInt64Array = column(&batch, "image_id")?;
            let similarities: &Float32Array = column(&batch, "similarity")?;
            retrieved.extend(ids.values().iter().copied().zip(similarities.values().iter().copied()));
        }
    }
    Ok(retrieved)
}

/// The ids or paths that a file lists: one a line, or the column `image_id` (a subset's `ids.parquet`, say) or `path`
/// of a Parquet table.
fn listed(path: &Path) -> Result<Vec<String>> {
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("parquet")) {
        let text = std::fs::read_to_string(path).map_err(PipelineError::io("read", path))?;
        return Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect());
    }
    let schema = Table::open(path, &[], 1)?.schema().clone();
    let name = ["image_id", "path"].into_iter().find(|name| schema.column_with_name(name).is_some());
    let name = name.ok_or_else(|| PipelineError::format(path, "it has no column `image_id` or `path`"))?;
    let mut names = Vec::new();
    for batch in read_table(path, &[name])? {
        if name == "image_id" {
            names.extend(column::<UInt64Array>(&batch, name)?.values().iter().map(|id| ImageId(*id).to_string()));
        } else {
            names.extend(column::<StringArray>(&batch, name)?.iter().flatten().map(str::to_owned));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LVD-142M counts its sample-based parts so (DINOv2, appendix A): 1,281,167 images x 32 = 40,997,344.
    #[test]
    fn seeds_that_share_no_neighbour_retrieve_so_many_each() {
        let count = 60;
        let angle = |i: usize| std::f32::consts::TAU * i as f32 / count as f32;
        let values = (0..count).flat_map(|i| [angle(i).cos(), angle(i).sin()]).collect();
        let vectors = Vectors { dim: 2, values };
        let image = |i: usize| Image { id: ImageId(i as u64), path: format!("{i}.jpg"), ..Image::default() };
        let images: Vec<Image> = (0..count).map(image).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seeds.txt");
        std::fs::write(&path, "5.jpg\n\n000000000000001e\n50.jpg\n").expect("writes");
        for (seed_neighbours, retrieved) in [(1, 3), (5, 15), (9, 27), (60, 60)] {
            let mut config = Config::default();
            config.curate.seed_neighbours = seed_neighbours;
            let found = Seeds::List(path.clone()).retrieve(&images, &vectors, &config).expect("retrieves");
            assert_eq!(found.iter().flatten().count(), retrieved, "{seed_neighbours} each");
            assert!(found[5].is_some_and(|similarity| similarity > 0.999));
        }
    }
}
