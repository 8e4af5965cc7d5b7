//! Uploads in parts: each lies in a folder of its own until it is completed or taken back.

use super::objects::{Buckets, Object, tag_of};
use super::reply::{Refusal, Result};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

/// A part that is not the last must have so many bytes.
const PART_BYTES_MIN: u64 = 5 << 20;
const PARTS_MAX: u64 = 10_000;
/// Which object an upload is to become.
const TARGET: &str = "target";

/// A part as the request that completes an upload names it.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    number: u64,
    e_tag: String,
}

impl Buckets {
    /// Begins an upload; its id.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub(super) fn begin_upload(&self, bucket: &str, key: &str) -> Result<String> {
        self.bucket(bucket)?;
        let id = format!("upload-{:x}", self.number());
        fs::create_dir(self.scratch(&id))?;
        fs::write(self.scratch(&id).join(TARGET), target(bucket, key))?;
        Ok(id)
    }

    /// Puts a part; its tag. A part of a number that is there is replaced.
    ///
    /// # Errors
    /// When there is no such upload of this object, or no part has such a number.
    pub(super) fn put_part(&self, (bucket, key): (&str, &str), id: &str, number: u64, bytes: &[u8]) -> Result<String> {
        let folder = self.upload(bucket, key, id)?;
        if !(1..=PARTS_MAX).contains(&number) {
            return Err(Refusal::invalid(format!("a part has a number of 1 to {PARTS_MAX}")));
        }
        let written = self.write(bytes)?;
        fs::rename(written, folder.join(number.to_string()))?;
        Ok(tag_of(bytes)?)
    }

    /// Puts the parts together, as an object that replaces whatever is there.
    ///
    /// # Errors
    /// When there is no such upload of this object, a part is not there, is too short or out of order, or is another.
    pub(super) fn complete_upload(&self, (bucket, key): (&str, &str), id: &str, request: &[u8]) -> Result<Object> {
        let folder = self.upload(bucket, key, id)?;
        let parts = parts_of(request)?;
        if parts.is_empty() || !parts.is_sorted_by(|a, b| a.number < b.number) {
            return Err(Refusal::new(400, "InvalidPartOrder", "there must be parts, in ascending order"));
        }
        for (at, part) in parts.iter().enumerate() {
            let path = folder.join(part.number.to_string());
            let is_it = path.is_file() && tag_of(File::open(&path)?)? == part.e_tag;
            if !is_it {
                return Err(Refusal::new(400, "InvalidPart", format!("part {} is not {}", part.number, part.e_tag)));
            }
            if at + 1 < parts.len() && fs::metadata(&path)?.len() < PART_BYTES_MIN {
                return Err(Refusal::new(400, "EntityTooSmall", format!("part {} is too short", part.number)));
            }
        }
        let whole = self.scratch(&self.number().to_string());
        let mut file = File::create_new(&whole)?;
        for part in &parts {
            io::copy(&mut File::open(folder.join(part.number.to_string()))?, &mut file)?;
        }
        file.flush()?;
        let object = self.install(bucket, key, &whole, None)?;
        fs::remove_dir_all(folder)?;
        Ok(object)
    }

    /// Takes an upload back, with its parts.
    ///
    /// # Errors
    /// When there is no such upload of this object.
    pub(super) fn abort_upload(&self, bucket: &str, key: &str, id: &str) -> Result<()> {
        Ok(fs::remove_dir_all(self.upload(bucket, key, id)?)?)
    }

    fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<PathBuf> {
        let folder = self.scratch(id);
        let is_id = id.strip_prefix("upload-").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let is_of_object = || fs::read_to_string(folder.join(TARGET)).is_ok_and(|text| text == target(bucket, key));
        if is_id && is_of_object() { Ok(folder) } else { Err(Refusal::new(404, "NoSuchUpload", "")) }
    }
}

fn target(bucket: &str, key: &str) -> String {
    format!("{bucket}\n{key}")
}

/// Reads `<CompleteMultipartUpload>` with an `ETag` and a `PartNumber` in each `Part`, and nothing else.
fn parts_of(request: &[u8]) -> Result<Vec<Part>> {
    let malformed = || Refusal::new(400, "MalformedCompleteMultipartUploadRequest", "");
    let text = std::str::from_utf8(request).map_err(|_| malformed())?;
    let mut rest = text.strip_prefix("<CompleteMultipartUpload>").ok_or_else(malformed)?;
    let mut parts = Vec::new();
    while let Some(part) = rest.strip_prefix("<Part>") {
        let (part, after) = part.split_once("</Part>").ok_or_else(malformed)?;
        let (e_tag, number) = part
            .strip_prefix("<ETag>")
            .and_then(|part| part.strip_suffix("</PartNumber>")?.split_once("</ETag><PartNumber>"))
            .ok_or_else(malformed)?;
        parts.push(Part { number: number.parse().map_err(|_| malformed())?, e_tag: e_tag.replace("&quot;", "\"") });
        rest = after;
    }
    if rest == "</CompleteMultipartUpload>" { Ok(parts) } else { Err(malformed()) }
}
