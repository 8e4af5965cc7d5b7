//! A fingerprint as bytes of a scratch file; tables have columns instead.

use super::{Detail, Fingerprint, Keypoint, LocalFeatures, Pdq, PdqHashes, Quality, Signature, Thumbnail};
use crate::memory::Fields;

const WORD_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 4 * WORD_BYTES;
const THUMBNAIL_BYTES: usize = Thumbnail::SIDE * Thumbnail::SIDE;

/// The hashes under the eight dihedral transforms, one after the other.
pub(super) fn hashes_to_bytes(pdq: &PdqHashes) -> Vec<u8> {
    pdq.by_dihedral.iter().flat_map(|hash| hash.0).flat_map(u64::to_le_bytes).collect()
}

/// Signatures, or hashes of the same length, one after the other.
pub(super) fn signatures_from_bytes(bytes: &[u8]) -> Vec<Signature> {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let of = |bytes: &[u8]| Signature(std::array::from_fn(|i| word(&bytes[i * WORD_BYTES..][..WORD_BYTES])));
    bytes.chunks_exact(SIGNATURE_BYTES).map(of).collect()
}

/// All of a fingerprint but its hashes and signatures.
pub(super) fn record_to_bytes(print: &Fingerprint) -> Vec<u8> {
    let q = &print.quality;
    let mut bytes =
        Vec::with_capacity(THUMBNAIL_BYTES + print.detail.0.len() + 64 + WORD_BYTES * print.local.keypoints.len());
    bytes.push(print.pdq.quality);
    for value in [q.brightness_p99, q.brightness_p5, q.entropy_bits, q.sharpness, q.aspect] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(q.short_side_px.to_le_bytes());
    bytes.push(u8::from(q.grayscale));
    bytes.extend(print.mean_rgb);
    bytes.extend(print.local.width.to_le_bytes());
    bytes.extend(print.local.height.to_le_bytes());
    bytes.extend(&print.thumbnail.0);
    // 64 x 64 values, or none.
    bytes.extend((print.detail.0.len() as u16).to_le_bytes());
    bytes.extend(&print.detail.0);
    for keypoint in &print.local.keypoints {
        bytes.extend(keypoint.to_stored().into_iter().flat_map(u16::to_le_bytes));
    }
    bytes
}

/// A fingerprint from its record, its hashes and its signatures.
pub(super) fn read_record(record: &[u8], hashes: &[u8], signatures: Vec<Signature>) -> Fingerprint {
    let mut fields = Fields(record);
    let pdq_quality = fields.u8();
    let [brightness_p99, brightness_p5, entropy_bits, sharpness, aspect] = std::array::from_fn(|_| fields.f32());
    let (short_side_px, grayscale) = (fields.u32(), fields.u8() != 0);
    let mean_rgb = std::array::from_fn(|_| fields.u8());
    let (width, height) = (fields.f32(), fields.f32());
    let thumbnail = Thumbnail(fields.take(THUMBNAIL_BYTES).to_vec());
    let detail_bytes = fields.u16();
    let detail = Detail(fields.take(usize::from(detail_bytes)).to_vec());
    let keypoint = |bytes: &[u8]| {
        Keypoint::from_stored(std::array::from_fn(|i| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])))
    };
    let mut by_dihedral = [Pdq::default(); 8];
    by_dihedral.iter_mut().zip(signatures_from_bytes(hashes)).for_each(|(hash, words)| *hash = Pdq(words.0));
    Fingerprint {
        pdq: PdqHashes { by_dihedral, quality: pdq_quality },
        quality: Quality { brightness_p99, brightness_p5, entropy_bits, sharpness, aspect, short_side_px, grayscale },
        thumbnail,
        detail,
        mean_rgb,
        local: LocalFeatures {
            width,
            height,
            keypoints: fields.0.chunks_exact(WORD_BYTES).map(keypoint).collect(),
            signatures,
        },
    }
}
