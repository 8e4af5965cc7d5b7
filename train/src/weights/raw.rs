//! Tensors as files hold them: a kind of number, a shape, strides, and a place in the file.

use super::blob::Blob;
use crate::model::HostTensor;
use burn::tensor::{bf16, f16};
use std::collections::BTreeMap;

/// A kind of number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Number {
    F16,
    Bf16,
    F32,
    F64,
    /// Anything else, by the file's own word, which no weight of ours is made of.
    Other(String),
}

impl Number {
    /// Bytes of one number; none for what cannot be read.
    pub(super) fn bytes(&self) -> Option<u64> {
        match self {
            Self::F16 | Self::Bf16 => Some(2),
            Self::F32 => Some(4),
            Self::F64 => Some(8),
            Self::Other(_) => None,
        }
    }

    /// The numbers of a row of bytes.
    fn values(&self, bytes: &[u8]) -> Vec<f32> {
        let two = |convert: fn([u8; 2]) -> f32| bytes.chunks_exact(2).map(|b| convert([b[0], b[1]])).collect();
        match self {
            Self::F16 => two(|b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => two(|b| bf16::from_le_bytes(b).to_f32()),
            Self::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Self::F64 => {
                let wide = bytes.chunks_exact(8);
                wide.map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32).collect()
            }
            Self::Other(_) => Vec::new(),
        }
    }
}

/// A tensor that was not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawTensor {
    pub(super) number: Number,
    pub(super) shape: Vec<usize>,
    /// Numbers from one index to the next of each dimension; none means row-major without gaps.
    pub(super) strides: Option<Vec<usize>>,
    /// The byte at which the first number lies.
    pub(super) offset: u64,
    /// The byte at which what belongs to the tensor ends.
    pub(super) end: u64,
}

impl RawTensor {
    /// Reads the tensor, row-major, as f32.
    pub(super) fn read(&self, blob: &Blob) -> Result<HostTensor, String> {
        let Some(width) = self.number.bytes() else {
            return Err(format!("is made of {:?}, not of floating-point numbers", self.number));
        };
        let count = self.shape.iter().try_fold(1u64, |all, side| all.checked_mul(*side as u64));
        let room = self.end.saturating_sub(self.offset) / width;
        let count = count.filter(|count| *count <= room).ok_or_else(|| {
            format!("has shape {:?}, but {room} numbers in the file: it was cut short or repeats itself", self.shape)
        })?;
        let values = match &self.strides {
            Some(strides) if count > 0 && !self.is_contiguous(strides) => {
                // Of a tensor's last number the place is the sum of its strides' last steps.
                let mut steps = self.shape.iter().zip(strides);
                let last = steps.try_fold(0u64, |sum, (side, stride)| {
                    sum.checked_add((*side as u64 - 1).checked_mul(*stride as u64)?)
                });
                let last = last.filter(|last| *last < room).ok_or("has strides that lead out of its storage")?;
                let all = self.number.values(&blob.read(self.offset, (last + 1) * width)?);
                gather(&all, &self.shape, strides, count as usize)
            }
            _ => self.number.values(&blob.read(self.offset, count * width)?),
        };
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(format!("holds {value}, which is not finite"));
        }
        Ok(HostTensor { shape: self.shape.clone(), values })
    }

    fn is_contiguous(&self, strides: &[usize]) -> bool {
        let mut expected = 1usize;
        for (side, stride) in self.shape.iter().zip(strides).rev() {
            if *side != 1 && *stride != expected {
                return false;
            }
            expected = expected.saturating_mul(*side);
        }
        true
    }
}

/// The numbers of a strided tensor in row-major order.
fn gather(all: &[f32], shape: &[usize], strides: &[usize], count: usize) -> Vec<f32> {
    let mut index = vec![0usize; shape.len()];
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let place: usize = index.iter().zip(strides).map(|(i, stride)| i * stride).sum();
        values.push(all[place]);
        for dimension in (0..shape.len()).rev() {
            index[dimension] += 1;
            if index[dimension] < shape[dimension] {
                break;
            }
            index[dimension] = 0;
        }
    }
    values
}

/// The tensors of a file by name, and what it says of itself.
#[derive(Debug)]
pub(super) struct StateDict {
    pub(super) blob: Blob,
    pub(super) tensors: BTreeMap<String, RawTensor>,
    /// Text beside the tensors: a safetensors file's metadata.
    pub(super) about: BTreeMap<String, String>,
}

impl StateDict {
    /// Reads a tensor that is there.
    pub(super) fn read(&self, name: &str) -> Result<HostTensor, String> {
        let raw = self.tensors.get(name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
        raw.read(&self.blob).map_err(|fault| format!("tensor `{name}` {fault}"))
    }
}
