//! How many images would go at other thresholds, from pairs that are there: nothing is compared again.

use crate::Result;
use crate::groups::members_of;
use crate::pairs::Compared;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{read_manifest, require_manifest};
use lapidary_schemas::Config;
use lapidary_schemas::tables::COMPARED_FILE;
use serde::Serialize;
use std::path::Path;

/// What a threshold comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtThreshold {
    /// The least score of a pair that links its images.
    pub score_min: f32,
    /// Groups of two or more images.
    pub groups: u32,
    /// Images in those groups.
    pub images_in_groups: usize,
    /// Images that would go: copies, and what contaminates an evaluation set.
    pub copies: usize,
}

/// Groups the pairs of a folder (`OUT/SOURCE/curation/pairs` or `OUT/NAME/duplicates`) at each of these thresholds;
/// everything else is as configured.
///
/// # Errors
/// When a threshold is not from 0 to 1, or the folder holds no pairs.
pub fn copies_at(folder: &Path, thresholds: &[f32], config: &Config) -> Result<Vec<AtThreshold>> {
    if let Some(wrong) = thresholds.iter().find(|threshold| !(0.0..=1.0).contains(*threshold)) {
        return Err(PipelineError::Usage(format!("a threshold of {wrong} is not from 0 to 1")).into());
    }
    let hint = "run `lapidary curate`, or `lapidary duplicates DIR`, first";
    require_manifest(folder, "pairs", hint)?;
    if !folder.join(COMPARED_FILE).is_file() {
        let manifest = read_manifest(folder)?;
        let text =
            format!("`{}` was made by lapidary {}, without what groups need", folder.display(), manifest.lapidary);
        return Err(PipelineError::Usage(format!("{text}\nhint: {hint}")).into());
    }
    let compared = Compared::read(folder)?;
    let least = thresholds.iter().copied().fold(config.curate.against_score_min, f32::min);
    let pairs = compared.read_pairs(folder, least)?;
    let at = |score_min: &f32| {
        let mut curate = config.curate.clone();
        curate.score_min = *score_min;
        let members = members_of(&compared, &pairs, &curate);
        AtThreshold {
            score_min: *score_min,
            groups: members.last().map_or(0, |member| member.group + 1),
            images_in_groups: members.len(),
            copies: members.iter().filter(|member| !member.stays()).count(),
        }
    };
    Ok(thresholds.iter().map(at).collect())
}
