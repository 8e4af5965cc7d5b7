//! The header of a safetensors file; the tensors themselves are read when they are needed.

use super::blob::{Blob, le64};
use super::raw::{Number, RawTensor, StateDict};
use safetensors::tensor::{Dtype, Metadata};
use std::collections::BTreeMap;

/// A header of more bytes than this is none: a large network's has some 100 KiB.
const HEADER_MAX_BYTES: u64 = 16 << 20;

/// Reads a file's header.
pub(super) fn open(blob: Blob) -> Result<StateDict, String> {
    let len = le64(&blob.read(0, 8)?, 0).unwrap_or(u64::MAX);
    if len > HEADER_MAX_BYTES {
        return Err(format!("it is no safetensors file: its header would have {len} bytes"));
    }
    let head = blob.read(8, len)?;
    // Its order of reading checks that tensors lie one after another and have the bytes that their shapes need.
    let metadata: Metadata = serde_json::from_slice(&head).map_err(|e| format!("it is no safetensors file: {e}"))?;
    let first = 8 + len;
    let end = first + metadata.data_len() as u64;
    if end > blob.len() {
        return Err(format!("it was cut short: {} bytes, where its header tells of {end}", blob.len()));
    }
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let number = match info.dtype {
            Dtype::F16 => Number::F16,
            Dtype::BF16 => Number::Bf16,
            Dtype::F32 => Number::F32,
            Dtype::F64 => Number::F64,
            other => Number::Other(format!("{other:?}")),
        };
        let (from, to) = info.data_offsets;
        let shape = info.shape.clone();
        let raw = RawTensor { number, shape, strides: None, offset: first + from as u64, end: first + to as u64 };
        tensors.insert(name, raw);
    }
    let about = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(StateDict { blob, tensors, about })
}
