//! A safetensors file, written tensor by tensor: beside the tensors themselves a block of some 64 KiB is in memory. The same
//! tensors and metadata give the same bytes.

use crate::Result;
use crate::model::HostTensor;
use lapidary_pipeline::PipelineError;
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes f32 tensors, sorted by name, under a temporary name that is then renamed.
pub(super) fn write(
    path: &Path,
    tensors: &BTreeMap<String, HostTensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!(metadata));
    let mut at = 0;
    for (name, tensor) in tensors {
        let end = at + 4 * tensor.values.len();
        header.insert(name.clone(), json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut header = serde_json::to_vec(&header).map_err(|e| PipelineError::format(path, e))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    write_whole(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.values().try_for_each(|tensor| write_values(file, &tensor.values))
    })
}

/// Writes a file in pieces, whole or not at all: a temporary name, a sync, a rename.
pub(super) fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!("{name}.{}.writing", std::process::id()));
    let mut file = BufWriter::new(File::create(&temporary).map_err(PipelineError::io("create", &temporary))?);
    let written = write(&mut file)
        .and_then(|()| file.into_inner().map_err(|e| e.into_error()))
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        // A full disk is not made fuller.
        let _ = std::fs::remove_file(&temporary);
        return Err(PipelineError::io("write", path)(error).into());
    }
    Ok(())
}

/// Writes numbers, little-endian.
pub(super) fn write_values(file: &mut impl Write, values: &[f32]) -> std::io::Result<()> {
    const BLOCK: usize = 16 << 10;
    let mut bytes = Vec::with_capacity(4 * BLOCK.min(values.len()));
    for block in values.chunks(BLOCK) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}
