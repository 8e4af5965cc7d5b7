//! The table of fingerprints: to Arrow and back.

use super::{
    Detail, Fingerprint, Keypoint, LocalFeatures, Pdq, PdqHashes, Prints, PrintsWriter, Quality, Signature, Thumbnail,
};
use crate::input::{Alignment, Image};
use crate::memory::Memory;
use crate::{CurateError, Result};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float32Array, RecordBatch, UInt8Array, UInt16Array,
    UInt32Array, UInt64Array,
};
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::{Layout, Table, column};
use lapidary_schemas::tables;
use std::path::Path;
use std::sync::Arc;

const BATCH: usize = 1024;
/// Bytes of a keypoint and of a signature.
pub(super) const KEYPOINT_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 32;

/// A batch of the table.
pub(super) fn batch_of(ids: &UInt64Array, fingerprints: &[Fingerprint]) -> Result<RecordBatch> {
    let internal = |e: arrow::error::ArrowError| PipelineError::Internal(e.to_string());
    let f32s = |f: fn(&Quality) -> f32| -> ArrayRef {
        Arc::new(fingerprints.iter().map(|print| Some(f(&print.quality))).collect::<Float32Array>())
    };
    let side = |f: fn(&LocalFeatures) -> f32| -> ArrayRef {
        Arc::new(fingerprints.iter().map(|print| Some(f(&print.local) as u16)).collect::<UInt16Array>())
    };
    let pdq = fingerprints.iter().map(|print| words_to_bytes(print.pdq.by_dihedral.iter().map(|hash| &hash.0)));
    let thumbnails = fingerprints.iter().map(|print| print.thumbnail.0.as_slice());
    let details = fingerprints.iter().map(|print| print.detail.0.as_slice());
    let colours = fingerprints.iter().map(|print| print.mean_rgb);
    let keypoints = fingerprints.iter().map(|print| {
        let fields = print.local.keypoints.iter().flat_map(|keypoint| keypoint.to_stored());
        Some(fields.flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
    });
    let signatures = fingerprints
        .iter()
        .map(|print| Some(words_to_bytes(print.local.signatures.iter().map(|signature| &signature.0))));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.clone()),
        Arc::new(FixedSizeBinaryArray::try_from_iter(pdq).map_err(internal)?),
        Arc::new(fingerprints.iter().map(|print| Some(print.pdq.quality)).collect::<UInt8Array>()),
        f32s(|q| q.brightness_p99),
        f32s(|q| q.brightness_p5),
        f32s(|q| q.entropy_bits),
        f32s(|q| q.sharpness),
        f32s(|q| q.aspect),
        Arc::new(fingerprints.iter().map(|print| Some(print.quality.short_side_px)).collect::<UInt32Array>()),
        Arc::new(fingerprints.iter().map(|print| Some(print.quality.grayscale)).collect::<BooleanArray>()),
        Arc::new(FixedSizeBinaryArray::try_from_iter(thumbnails).map_err(internal)?),
        Arc::new(FixedSizeBinaryArray::try_from_iter(details).map_err(internal)?),
        Arc::new(FixedSizeBinaryArray::try_from_iter(colours).map_err(internal)?),
        side(|local| local.width),
        side(|local| local.height),
        Arc::new(keypoints.collect::<BinaryArray>()),
        Arc::new(signatures.collect::<BinaryArray>()),
    ];
    Ok(RecordBatch::try_new(tables::fingerprints(), columns).map_err(internal)?)
}

/// Reads the fingerprints of a folder, which must be those of `images`; they come out in the images' order.
///
/// # Errors
/// [`crate::CurateError::Mismatch`] when an image has none.
pub(crate) fn read_fingerprints(folder: &Path, images: &[Image], memory: &Memory) -> Result<Prints> {
    let mut prints = PrintsWriter::new(memory, images.len());
    let mut alignment = Alignment::new(images, "fingerprint");
    for shard in Layout::shards(folder)? {
        let table = Table::open(&shard, &[], BATCH)?;
        if table.schema().column_with_name("detail").is_none() {
            let text = format!("`{}` was written by an older version, without the finer thumbnails", shard.display());
            return Err(CurateError::Mismatch(text));
        }
        for batch in table {
            let batch = batch?;
            for (id, print) in column::<UInt64Array>(&batch, "image_id")?.values().iter().zip(read_batch(&batch)?) {
                prints.push(alignment.index_of(*id)?, print)?;
            }
        }
    }
    alignment.require_all()?;
    prints.finish()
}

fn read_batch(batch: &RecordBatch) -> Result<Vec<Fingerprint>> {
    let mut prints = Vec::with_capacity(batch.num_rows());
    let (pdq, pdq_quality): (&FixedSizeBinaryArray, &UInt8Array) =
        (column(batch, "pdq")?, column(batch, "pdq_quality")?);
    let [thumbnail, detail, mean_rgb]: [&FixedSizeBinaryArray; 3] =
        [column(batch, "thumbnail")?, column(batch, "detail")?, column(batch, "mean_rgb")?];
    let width: &UInt16Array = column(batch, "working_width_px")?;
    let height: &UInt16Array = column(batch, "working_height_px")?;
    let (keypoints, signatures): (&BinaryArray, &BinaryArray) =
        (column(batch, "keypoints")?, column(batch, "signatures")?);
    for (row, quality) in measures_of(batch)?.into_iter().enumerate() {
        let mut by_dihedral = [Pdq::default(); 8];
        for (hash, words) in by_dihedral.iter_mut().zip(bytes_to_words(pdq.value(row))) {
            *hash = Pdq(words);
        }
        let keypoint = |bytes: &[u8]| {
            Keypoint::from_stored(std::array::from_fn(|i| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])))
        };
        prints.push(Fingerprint {
            pdq: PdqHashes { by_dihedral, quality: pdq_quality.value(row) },
            quality,
            thumbnail: Thumbnail(thumbnail.value(row).to_vec()),
            detail: Detail(detail.value(row).to_vec()),
            mean_rgb: std::array::from_fn(|channel| mean_rgb.value(row)[channel]),
            local: LocalFeatures {
                width: f32::from(width.value(row)),
                height: f32::from(height.value(row)),
                keypoints: keypoints.value(row).chunks_exact(KEYPOINT_BYTES).map(keypoint).collect(),
                signatures: bytes_to_words(signatures.value(row)).map(Signature).collect(),
            },
        });
    }
    Ok(prints)
}

/// The measures of quality of a folder's images, in the order of `images`; nothing else is read.
///
/// # Errors
/// [`crate::CurateError::Mismatch`] when an image has none.
pub(crate) fn read_measures(folder: &Path, images: &[Image]) -> Result<Vec<Quality>> {
    let mut measures = vec![Quality::default(); images.len()];
    let mut alignment = Alignment::new(images, "fingerprint");
    for shard in Layout::shards(folder)? {
        for batch in Table::open(&shard, MEASURE_COLUMNS, 65_536)? {
            let batch = batch?;
            for (id, quality) in column::<UInt64Array>(&batch, "image_id")?.values().iter().zip(measures_of(&batch)?) {
                measures[alignment.index_of(*id)?] = quality;
            }
        }
    }
    alignment.require_all()?;
    Ok(measures)
}

/// What [`measures_of`] reads.
const MEASURE_COLUMNS: &[&str] = &[
    "image_id",
    "brightness_p99",
    "brightness_p5",
    "entropy_bits",
    "sharpness",
    "aspect",
    "short_side_px",
    "grayscale",
];

fn measures_of(batch: &RecordBatch) -> Result<Vec<Quality>> {
    let f32s = |name: &str| column::<Float32Array>(batch, name);
    let (p99, p5, entropy) = (f32s("brightness_p99")?, f32s("brightness_p5")?, f32s("entropy_bits")?);
    let (sharpness, aspect) = (f32s("sharpness")?, f32s("aspect")?);
    let short_side: &UInt32Array = column(batch, "short_side_px")?;
    let grayscale: &BooleanArray = column(batch, "grayscale")?;
    let measures = (0..batch.num_rows()).map(|row| Quality {
        brightness_p99: p99.value(row),
        brightness_p5: p5.value(row),
        entropy_bits: entropy.value(row),
        sharpness: sharpness.value(row),
        aspect: aspect.value(row),
        short_side_px: short_side.value(row),
        grayscale: grayscale.value(row),
    });
    Ok(measures.collect())
}

fn words_to_bytes<'a>(words: impl Iterator<Item = &'a [u64; 4]>) -> Vec<u8> {
    words.flatten().flat_map(|word| word.to_le_bytes()).collect()
}

fn bytes_to_words(bytes: &[u8]) -> impl Iterator<Item = [u64; 4]> + '_ {
    bytes.chunks_exact(SIGNATURE_BYTES).map(|bytes| {
        std::array::from_fn(|i| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().expect("eight bytes")))
    })
}
