//! The table of pairs as the report reads it: evidence in words, and the map from one image onto the other.

use super::frames::scan;
use super::unit_map::{UnitMap, of_affine, of_turn};
use crate::Result;
use lapidary_schemas::tables::{COMPARED_FILE, PAIRS_FILE};
use lapidary_schemas::{CopyKind, ImageId};
use polars::prelude::*;
use std::collections::HashMap;
use std::path::Path;

/// A pair of images with its evidence.
#[derive(Debug, Clone)]
pub(super) struct PairRow {
    pub(super) a: ImageId,
    pub(super) b: ImageId,
    pub(super) score: f64,
    pub(super) kind: String,
    /// The rest of the evidence, in words.
    pub(super) facts: Vec<String>,
    /// What carries `a` onto `b`, where something was fitted.
    pub(super) map: Option<UnitMap>,
}

impl PairRow {
    /// Score, kind and facts.
    pub(super) fn evidence(&self) -> String {
        let head = format!("score {:.2}", self.score);
        let kind = CopyKind::ALL.iter().find(|kind| kind.code() == self.kind).map_or("", |kind| kind.text());
        [head, kind.to_owned()].into_iter().chain(self.facts.iter().cloned()).collect::<Vec<_>>().join("; ")
    }
}

/// A table of pairs, of which rows are read as they are needed.
pub(super) struct PairTable {
    frame: DataFrame,
    /// Width and height of each image's working pixels.
    sizes: HashMap<u64, (f64, f64)>,
}

impl PairTable {
    /// Reads a folder of pairs.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let frame = scan(&folder.join(PAIRS_FILE))?.collect()?;
        let compared = folder.join(COMPARED_FILE);
        let mut sizes = HashMap::new();
        // Curations of older versions lack it.
        if compared.is_file() {
            let names = ["image_id", "working_width_px", "working_height_px"];
            let frame = scan(&compared)?.select(names.map(col)).collect()?;
            let (ids, widths) = (frame.column(names[0])?.u64()?, frame.column(names[1])?.f32()?);
            let rows = ids.iter().zip(widths.iter()).zip(frame.column(names[2])?.f32()?.iter());
            sizes.extend(rows.filter_map(|((id, width), height)| Some((id?, (f64::from(width?), f64::from(height?))))));
        }
        Ok(Self { frame, sizes })
    }

    /// The score of every row.
    pub(super) fn scores(&self) -> Result<Vec<f64>> {
        Ok(self.frame.column("score")?.f32()?.iter().map(|score| f64::from(score.unwrap_or(0.0))).collect())
    }

    /// The kind of evidence of every row.
    pub(super) fn kinds(&self) -> Result<Vec<String>> {
        Ok(self.frame.column("kind")?.str()?.iter().map(|kind| kind.unwrap_or_default().to_owned()).collect())
    }

    /// Which images each row is of.
    pub(super) fn ids(&self) -> Result<Vec<(ImageId, ImageId)>> {
        let (a, b) = (self.frame.column("a")?.u64()?, self.frame.column("b")?.u64()?);
        Ok(a.iter().zip(b.iter()).map(|(a, b)| (ImageId(a.unwrap_or(0)), ImageId(b.unwrap_or(0)))).collect())
    }

    /// A row.
    pub(super) fn row(&self, row: usize) -> Result<PairRow> {
        let one = self.frame.slice(row as i64, 1);
        let id = |name: &str| -> Result<ImageId> { Ok(ImageId(one.column(name)?.u64()?.get(0).unwrap_or(0))) };
        let number =
            |name: &str| -> Result<Option<f64>> { Ok(one.column(name)?.cast(&DataType::Float64)?.f64()?.get(0)) };
        let word = |name: &str| -> Result<Option<String>> { Ok(one.column(name)?.str()?.get(0).map(str::to_owned)) };
        let (a, b) = (id("a")?, id("b")?);
        let affine = one.column("map")?.list()?.get_as_series(0).and_then(|values| {
            let values: Vec<f64> = values.f32().ok()?.iter().flatten().map(f64::from).collect();
            <[f64; 6]>::try_from(values).ok()
        });
        let turn = word("turn")?;
        let map = match (affine, self.sizes.get(&a.0), self.sizes.get(&b.0)) {
            (Some(affine), Some(size_a), Some(size_b)) => of_affine(affine, *size_a, *size_b),
            _ => turn.as_deref().and_then(of_turn),
        };
        let mut facts = Vec::new();
        facts.extend(number("inliers")?.map(|count| format!("{count:.0} keypoints under one map")));
        facts.extend(number("hash_distance_bits")?.map(|bits| format!("hashes {bits:.0} of 256 bits apart")));
        facts.extend(number("similarity")?.map(|cosine| format!("embeddings at cosine {cosine:.3}")));
        facts.extend(number("agreement")?.map(|share| format!("{:.0} % of what both show agrees", share * 100.0)));
        facts.extend(turn.filter(|turn| turn != "none").map(|turn| format!("turned: {}", turn.replace('_', " "))));
        let score = number("score")?.unwrap_or(0.0);
        Ok(PairRow { a, b, score, kind: word("kind")?.unwrap_or_default(), facts, map })
    }
}
