//! PyTorch's `torch.save`: an archive of a pickle, which says what is where, and storages, which hold the numbers.

use super::archive::{Entry, entries};
use super::blob::Blob;
use super::pickle::{Id, MAX_BYTES, Pickle, Value};
use super::raw::{Number, RawTensor, StateDict};
use std::collections::BTreeMap;

/// Dictionaries lie in each other at most so deep: `teacher`, `state_dict`, `module` and the like.
const DEPTH_MAX: usize = 8;
/// Names in all dictionaries of a checkpoint: a large one's optimiser has some 10,000.
const NAMES_MAX: usize = 200_000;

/// Reads what is where; the numbers are read when they are needed. Tensors are named by their dictionaries' keys, joined by
/// dots.
pub(super) fn open(blob: Blob) -> Result<StateDict, String> {
    let entries = entries(&blob)?;
    let mut pickles = entries.iter().filter_map(|(name, entry)| Some((name.strip_suffix("data.pkl")?, *entry)));
    let (Some((prefix, entry)), None) = (pickles.next(), pickles.next()) else {
        return Err("it is no PyTorch checkpoint: its archive holds no `data.pkl`, or more than one".to_owned());
    };
    if entry.len > MAX_BYTES {
        return Err(format!("its pickle has {} bytes, more than weights need", entry.len));
    }
    if let Some(order) = entries.get(&format!("{prefix}byteorder"))
        && blob.read(order.offset, order.len.min(16))? != b"little"
    {
        return Err("its numbers are not little-endian".to_owned());
    }
    let pickle = Pickle::read(&blob.read(entry.offset, entry.len)?)?;
    let mut reader = Reader { pickle: &pickle, entries: &entries, prefix, names: 0, tensors: BTreeMap::new() };
    reader.walk(pickle.root(), "", 0)?;
    let tensors = reader.tensors;
    if tensors.is_empty() {
        return Err("it is no checkpoint of weights: it holds no tensors by name".to_owned());
    }
    Ok(StateDict { blob, tensors, about: BTreeMap::new() })
}

struct Reader<'a> {
    pickle: &'a Pickle,
    entries: &'a BTreeMap<String, Entry>,
    prefix: &'a str,
    names: usize,
    tensors: BTreeMap<String, RawTensor>,
}

impl Reader<'_> {
    fn walk(&mut self, id: Id, name: &str, depth: usize) -> Result<(), String> {
        match self.pickle.get(id) {
            Value::Dictionary(pairs) if depth < DEPTH_MAX => {
                for (key, value) in pairs {
                    self.names += 1;
                    if self.names > NAMES_MAX {
                        return Err("its dictionaries hold each other over and over".to_owned());
                    }
                    let key = match self.pickle.get(*key) {
                        Value::Text(key) if key.len() <= 128 => key.clone(),
                        Value::Int(key) => key.to_string(),
                        _ => continue,
                    };
                    let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                    self.walk(*value, &name, depth + 1)?;
                }
            }
            Value::Tensor { storage, offset, shape, strides } => {
                let Value::Storage { number, key, count } = self.pickle.get(*storage) else { return Ok(()) };
                let tensor = self.tensor((number, key, *count), *offset, shape, strides);
                let tensor = tensor.map_err(|fault| format!("tensor `{name}` {fault}"))?;
                self.tensors.insert(name.to_owned(), tensor);
            }
            _ => {}
        }
        Ok(())
    }

    fn tensor(
        &self,
        (number, key, count): (&str, &str, u64),
        offset: u64,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<RawTensor, String> {
        let number = match number {
            "f16" => Number::F16,
            "bf16" => Number::Bf16,
            "f32" => Number::F32,
            "f64" => Number::F64,
            other => Number::Other(other.to_owned()),
        };
        let name = format!("{}data/{key}", self.prefix);
        let entry = self.entries.get(&name).ok_or_else(|| format!("lies in `{name}`, which is missing"))?;
        // Of numbers that are not read the width does not matter.
        let width = number.bytes().unwrap_or(1);
        let outside = || format!("does not lie in its storage `{name}` of {} bytes: it was cut short", entry.len);
        let bytes = count.checked_mul(width).filter(|bytes| *bytes <= entry.len).ok_or_else(outside)?;
        let start = offset.checked_mul(width).filter(|start| *start <= bytes).ok_or_else(outside)?;
        let (offset, end) = (entry.offset + start, entry.offset + bytes);
        Ok(RawTensor { number, shape: shape.to_vec(), strides: Some(strides.to_vec()), offset, end })
    }
}
