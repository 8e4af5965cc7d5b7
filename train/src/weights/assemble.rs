//! A layout's tensors as ours: parts joined, tokens folded, shapes checked, and nothing left over that would matter.

use super::detect::Found;
use super::names::Layout;
use super::raw::StateDict;
use super::shapes::shapes;
use crate::model::HostTensor;
use lapidary_schemas::config::ModelConfig;
use std::collections::{BTreeMap, BTreeSet};

/// Our tensors, and the names that were passed over.
pub(super) type Assembled = (BTreeMap<String, HostTensor>, Vec<String>);

/// Reads the tensors of a network.
pub(super) fn assemble(file: &StateDict, found: &Found, model: &ModelConfig) -> Result<Assembled, String> {
    let mut reader = Reader { file, found, used: BTreeSet::new(), values_left: file.blob.len() };
    let mut tensors = BTreeMap::new();
    for (ours, shape) in shapes(model) {
        if ours == "pos_embed" || ours == "reg_token" {
            continue;
        }
        let tensor = reader.parameter(&ours, &shape)?;
        tensors.insert(ours, tensor);
    }
    let name = |ours: &str| found.naming.names(ours).concat();
    // transformers has them even where there are none.
    if model.registers > 0 || found.has(found.naming, "reg_token") {
        let tensor = reader.exact(&name("reg_token"), &[1, model.registers, model.dim])?;
        if model.registers > 0 {
            tensors.insert("reg_token".to_owned(), tensor);
        }
    }
    if found.has(found.naming, "pos_embed") {
        let positions = reader.any(&name("pos_embed"))?;
        let tensor = fold(positions, model, &mut tensors)?;
        tensors.insert("pos_embed".to_owned(), tensor);
    }
    if found.has(found.naming, "mask_token") {
        let mut mask = reader.any(&name("mask_token"))?;
        if mask.values.len() != model.dim {
            return Err(format!(
                "tensor `{}` has shape {:?}; [1, {}] was expected",
                name("mask_token"),
                mask.shape,
                model.dim
            ));
        }
        mask.shape = vec![1, 1, model.dim];
        tensors.insert("mask_token".to_owned(), mask);
    }
    let used = reader.used;
    let mut ignored: Vec<String> = found.beside.clone();
    let mut unknown = Vec::new();
    for (name, whole) in &found.names {
        if used.contains(name) {
            continue;
        }
        if is_passed_over(name) { ignored.push(whole.clone()) } else { unknown.push(format!("`{whole}`")) }
    }
    if !unknown.is_empty() {
        let more = if unknown.len() > 4 { format!(" and {} more", unknown.len() - 4) } else { String::new() };
        unknown.truncate(4);
        return Err(format!(
            "it holds {}{more}, for which a {} backbone has no place: such a network would compute something else",
            unknown.join(", "),
            found.layout.name()
        ));
    }
    ignored.sort();
    Ok((tensors, ignored))
}

/// Names within a backbone that its features do not depend on.
fn is_passed_over(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    matches!(
        first,
        "head" | "head_dist" | "head_drop" | "classifier" | "pooler" | "dino_head" | "ibot_head" | "rope_embed"
    ) || name.ends_with("num_batches_tracked")
        || name.ends_with("relative_position_index")
}

struct Reader<'a> {
    file: &'a StateDict,
    found: &'a Found,
    used: BTreeSet<String>,
    /// Each number takes at least 2 bytes of the file, unless names share them over and over.
    values_left: u64,
}

impl Reader<'_> {
    /// A tensor by the name without prefix, of whatever shape.
    fn any(&mut self, name: &str) -> Result<HostTensor, String> {
        let whole = self.found.names.get(name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
        let tensor = self.file.read(whole)?;
        let left = self.values_left.checked_sub(tensor.values.len() as u64);
        self.values_left = left.ok_or("its tensors share their numbers over and over")?;
        self.used.insert(name.to_owned());
        Ok(tensor)
    }

    /// A tensor by the name without prefix, of one shape.
    fn exact(&mut self, name: &str, shape: &[usize]) -> Result<HostTensor, String> {
        let raw = self.found.raw(self.file, name);
        let raw = raw.ok_or_else(|| format!("tensor `{name}` of shape {shape:?} is missing"))?;
        if raw.shape != shape {
            return Err(format!("tensor `{name}` has shape {:?}; {shape:?} was expected", raw.shape));
        }
        self.any(name)
    }

    /// A parameter of ours: its parts one after another.
    fn parameter(&mut self, ours: &str, shape: &[usize]) -> Result<HostTensor, String> {
        let names = self.found.naming.names(ours);
        let mut part = shape.to_vec();
        part[0] /= names.len();
        let mut values = Vec::with_capacity(shape.iter().product());
        let is_qkv_bias = ours.ends_with("attn.qkv.bias");
        for name in &names {
            if is_qkv_bias && !self.found.names.contains_key(name) && self.may_lack(name) {
                values.extend(std::iter::repeat_n(0.0, part[0]));
            } else {
                values.append(&mut self.exact(name, &part)?.values);
            }
        }
        let mask = format!("{}_mask", names[0]);
        if is_qkv_bias && self.found.names.contains_key(&mask) {
            let mask = self.exact(&mask, shape)?;
            values.iter_mut().zip(mask.values).for_each(|(value, mask)| *value *= mask);
        }
        Ok(HostTensor { shape: shape.to_vec(), values })
    }

    /// Whether a layout knows networks without this bias of queries, keys or values: then it is 0.
    fn may_lack(&self, name: &str) -> bool {
        let is_key = name.contains(".k_") || name.contains(".key.");
        match self.found.layout {
            Layout::TransformersDinov3 => is_key,
            // Eva has all of them or none, but never the keys' where they are fused.
            Layout::TimmEva => is_key || !self.found.names.contains_key(&name.replace(".v_bias", ".q_bias")),
            _ => false,
        }
    }
}

/// The position embedding with the class token's row first and none for registers, which take theirs into themselves.
fn fold(
    positions: HostTensor,
    model: &ModelConfig,
    tensors: &mut BTreeMap<String, HostTensor>,
) -> Result<HostTensor, String> {
    let (dim, patches) = (model.dim, model.grid() * model.grid());
    let rows = positions.values.len() / dim;
    if positions.shape != [1, rows, dim] || rows < patches {
        return Err(format!("`pos_embed` has shape {:?}; [1, {}, {dim}] was expected", positions.shape, 1 + patches));
    }
    let (prefix, grid) = positions.values.split_at((rows - patches) * dim);
    let mut values = vec![0.0; dim];
    if !prefix.is_empty() {
        values.copy_from_slice(&prefix[..dim]);
    }
    if let Some(registers) = tensors.get_mut("reg_token") {
        registers.values.iter_mut().zip(prefix.iter().skip(dim)).for_each(|(token, place)| *token += place);
    }
    values.extend_from_slice(grid);
    Ok(HostTensor { shape: vec![1, 1 + patches, dim], values })
}
