//! TensorBoard event files: scalars by name and step (tensorboard/compat/proto/event.proto, summary.proto; TFRecord's framing).
//! Stock TensorBoard reads them; tests/golden/tensorboard_events.py checks that.
//!
//! The file is made again from `metrics.jsonl` when a run resumes, so that both hold the same steps.

use crate::Result;
use lapidary_pipeline::PipelineError;
use lapidary_pipeline::stage::write_synced;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The event file in a run's folder. TensorBoard takes any name with `tfevents` in it.
pub const EVENTS_FILE: &str = "tensorboard/events.out.tfevents.0.lapidary";

/// An event file at work.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Makes the file again from lines of metrics; their wall times are counted back from now by what the steps took.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(path: &Path, lines: &[Value]) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(PipelineError::io("create folder", folder))?;
        }
        let secs: Vec<f64> = lines.iter().map(|line| line["step_secs"].as_f64().unwrap_or(0.0)).collect();
        let mut wall_time = now_secs() - secs.iter().sum::<f64>();
        let mut bytes = framed(&version_event(wall_time));
        for (line, secs) in lines.iter().zip(secs) {
            wall_time += secs;
            bytes.extend(framed(&scalars_event(line, wall_time)));
        }
        write_synced(path, &bytes)?;
        let file = OpenOptions::new().append(true).open(path).map_err(PipelineError::io("open", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends the scalars of a step's line.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, line: &Value) -> Result<()> {
        let bytes = framed(&scalars_event(line, now_secs()));
        Ok(self.file.write_all(&bytes).map_err(PipelineError::io("write", &self.path))?)
    }
}

fn now_secs() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Event { wall_time = 1, file_version = 3 }.
fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = fixed64(1, wall_time);
    event.extend(bytes_field(3, b"brain.Event:2"));
    event
}

/// Event { wall_time = 1, step = 2, summary = 5 { value = 1 { tag = 1, simple_value = 2 } } }: every number of the line.
fn scalars_event(line: &Value, wall_time: f64) -> Vec<u8> {
    let mut summary = Vec::new();
    for (name, value) in line.as_object().into_iter().flatten().filter(|(name, _)| *name != "step") {
        if let Some(value) = value.as_f64() {
            let mut scalar = bytes_field(1, name.as_bytes());
            scalar.push(2 << 3 | 5);
            scalar.extend((value as f32).to_le_bytes());
            summary.extend(bytes_field(1, &scalar));
        }
    }
    let mut event = fixed64(1, wall_time);
    event.push(2 << 3);
    event.extend(varint(line["step"].as_u64().unwrap_or(0)));
    event.extend(bytes_field(5, &summary));
    event
}

fn fixed64(field: u8, value: f64) -> Vec<u8> {
    [&[field << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn bytes_field(field: u8, bytes: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A record: its length, the length's checksum, the record, its checksum.
fn framed(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u64).to_le_bytes();
    [&length[..], &masked_crc32c(&length).to_le_bytes(), record, &masked_crc32c(record).to_le_bytes()].concat()
}

/// TFRecord's checksum: CRC-32C, rotated and offset.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: a step has some hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A scalar as it is read back: step, name, value.
    type Scalar = (u64, String, f32);

    fn read_varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }

    /// The fields of a message: number, and bytes as they are or the number in 8 bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = read_varint(&mut bytes);
            let length = match key & 7 {
                0 => {
                    let value = read_varint(&mut bytes);
                    found.push((key >> 3, value.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => read_varint(&mut bytes) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        found
    }

    fn field(of: &[(u64, Vec<u8>)], number: u64) -> Option<Vec<u8>> {
        of.iter().find(|(found, _)| *found == number).map(|(_, bytes)| bytes.clone())
    }

    /// All scalars of an event file, whose checksums hold; TensorBoard's own writer puts them in tensors, ours and the older
    /// writers in `simple_value`.
    fn read(mut bytes: &[u8]) -> Vec<Scalar> {
        let mut scalars = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
            let crc = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
            let record = &bytes[12..12 + length];
            assert_eq!(crc(8), masked_crc32c(&bytes[..8]), "checksum of the length");
            assert_eq!(crc(12 + length), masked_crc32c(record), "checksum of the record");
            bytes = &bytes[16 + length..];
            let event = fields(record);
            let step = field(&event, 2).map_or(0, |step| u64::from_le_bytes(step.try_into().expect("8 bytes")));
            let Some(summary) = field(&event, 5) else { continue };
            for (_, value) in fields(&summary) {
                let value = fields(&value);
                let name = String::from_utf8(field(&value, 1).expect("a name")).expect("UTF-8");
                // TensorProto { float_val = 5, packed or not }.
                let simple = field(&value, 2).or_else(|| field(&fields(&field(&value, 8)?), 5)).expect("a value");
                scalars.push((step, name, f32::from_le_bytes(simple[..4].try_into().expect("4 bytes"))));
            }
        }
        scalars
    }

    #[test]
    fn tensorboards_own_file_is_read_and_ours_reads_back() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
        let golden = include_bytes!("../../tests/golden/events.tfevents");
        let expected: Vec<Scalar> = (0..4)
            .flat_map(|step| {
                [
                    (step * 100, "loss".to_owned(), 1.5 / (step + 1) as f32),
                    (step * 100, "rankme".to_owned(), step as f32),
                ]
            })
            .collect();
        assert_eq!(read(golden), expected, "written by tests/golden/tensorboard_events.py");
        let temporary = tempfile::tempdir().expect("a folder");
        let path = temporary.path().join(EVENTS_FILE);
        let line = |step: u64| json!({"step": step, "loss": 1.5 / (step + 1) as f64, "rankme": step, "skipped": true, "x": null});
        let mut writer = EventWriter::create(&path, &[]).expect("creates");
        (0..300).for_each(|step| writer.write(&line(step)).expect("writes"));
        let whole = read(&std::fs::read(&path).expect("reads"));
        assert_eq!(whole.len(), 600);
        assert_eq!(whole[599], (299, "rankme".to_owned(), 299.0));
        // A resumed run's file is that of one that was never cut off.
        let lines: Vec<Value> = (0..200).map(line).collect();
        let mut writer = EventWriter::create(&path, &lines).expect("creates");
        (200..300).for_each(|step| writer.write(&line(step)).expect("writes"));
        assert_eq!(read(&std::fs::read(&path).expect("reads")), whole);
    }
}
