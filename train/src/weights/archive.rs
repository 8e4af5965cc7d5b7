//! The entries of a ZIP archive as `torch.save` writes it: stored, not compressed; ZIP64 where it is large.
//!
//! Only the central directory and each entry's local header are read (APPNOTE.TXT 4.3), and every place is held against the
//! file's length.

use super::blob::{Blob, le16, le32, le64};
use std::collections::BTreeMap;

const END: u32 = 0x0605_4b50;
const END_64_LOCATOR: u32 = 0x0706_4b50;
const END_64: u32 = 0x0606_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
/// The longest that the end record and its comment can be.
const END_MAX_BYTES: u64 = 22 + 65_535;
/// A directory of more bytes than this is none: a large checkpoint's has under 1 MiB.
const DIRECTORY_MAX_BYTES: u64 = 64 << 20;

/// Where an entry's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// The entries by name.
pub(super) fn entries(blob: &Blob) -> Result<BTreeMap<String, Entry>, String> {
    let (offset, len) = directory(blob)?;
    if len > DIRECTORY_MAX_BYTES {
        return Err(format!("its ZIP directory would have {len} bytes"));
    }
    let bytes = blob.read(offset, len)?;
    let mut found = BTreeMap::new();
    let mut at = 0;
    while at < bytes.len() {
        let (name, entry, next) = central(blob, &bytes, at)?;
        if found.insert(name.clone(), entry).is_some() {
            return Err(format!("its ZIP directory has two entries `{name}`"));
        }
        at = next;
    }
    Ok(found)
}

/// Where the central directory lies: `(offset, bytes)`.
fn directory(blob: &Blob) -> Result<(u64, u64), String> {
    let tail_len = END_MAX_BYTES.min(blob.len());
    let tail_at = blob.len() - tail_len;
    let tail = blob.read(tail_at, tail_len)?;
    let found = (0..tail.len()).rev().find(|at| le32(&tail, *at) == Some(END) && tail.len() - at >= 22);
    let at = found.ok_or("its ZIP directory is missing: it was cut short")?;
    let field = |offset| le32(&tail, at + offset).map(u64::from);
    let (Some(len), Some(offset)) = (field(12), field(16)) else { return Err("its ZIP end is cut short".to_owned()) };
    if len != u64::from(u32::MAX) && offset != u64::from(u32::MAX) {
        return Ok((offset, len));
    }
    let locator = (tail_at + at as u64).checked_sub(20).ok_or("its ZIP64 locator is missing")?;
    let locator = blob.read(locator, 20)?;
    let place = le64(&locator, 8).filter(|_| le32(&locator, 0) == Some(END_64_LOCATOR));
    let end = blob.read(place.ok_or("its ZIP64 locator is missing")?, 56)?;
    match (le32(&end, 0), le64(&end, 48), le64(&end, 40)) {
        (Some(END_64), Some(offset), Some(len)) => Ok((offset, len)),
        _ => Err("its ZIP64 end is damaged".to_owned()),
    }
}

/// An entry of the central directory: its name, its bytes, and where the next begins.
fn central(blob: &Blob, bytes: &[u8], at: usize) -> Result<(String, Entry, usize), String> {
    let damaged = || format!("its ZIP directory is damaged at byte {at}");
    let short = |offset| le16(bytes, at + offset).map(usize::from).ok_or_else(damaged);
    let long = |offset| le32(bytes, at + offset).map(u64::from).ok_or_else(damaged);
    if long(0)? != u64::from(CENTRAL) {
        return Err(damaged());
    }
    let (method, name_len, extra_len, comment_len) = (short(10)?, short(28)?, short(30)?, short(32)?);
    let name_end = at + 46 + name_len;
    let name = bytes.get(at + 46..name_end).ok_or_else(damaged)?;
    let name = std::str::from_utf8(name).map_err(|_| damaged())?.to_owned();
    let extra = bytes.get(name_end..name_end + extra_len).ok_or_else(damaged)?;
    let (mut len, mut packed_len, mut header) = (long(24)?, long(20)?, long(42)?);
    let mut wide = zip64(extra).into_iter();
    for field in [&mut len, &mut packed_len, &mut header] {
        if *field == u64::from(u32::MAX) {
            *field = wide.next().ok_or_else(damaged)?;
        }
    }
    if method != 0 || len != packed_len || short(8)? & 1 != 0 {
        return Err(format!("its entry `{name}` is compressed or encrypted, which `torch.save` never writes"));
    }
    let local = blob.read(header, 30)?;
    let (Some(LOCAL), Some(local_name), Some(local_extra)) = (le32(&local, 0), le16(&local, 26), le16(&local, 28))
    else {
        return Err(format!("its entry `{name}` is damaged"));
    };
    let offset = header + 30 + u64::from(local_name) + u64::from(local_extra);
    if offset.checked_add(len).is_none_or(|end| end > blob.len()) {
        return Err(format!("its entry `{name}` does not lie in the file: it was cut short"));
    }
    Ok((name, Entry { offset, len }, name_end + extra_len + comment_len))
}

/// The numbers of the ZIP64 field among the extra fields.
fn zip64(extra: &[u8]) -> Vec<u64> {
    let mut at = 0;
    while let (Some(id), Some(len)) = (le16(extra, at), le16(extra, at + 2)) {
        let end = at + 4 + usize::from(len);
        if id == 1 {
            let field = extra.get(at + 4..end).unwrap_or_default();
            return (0..field.len() / 8).filter_map(|i| le64(field, i * 8)).collect();
        }
        at = end;
    }
    Vec::new()
}
