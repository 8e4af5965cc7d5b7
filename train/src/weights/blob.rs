//! A file that is read in places: nothing is allocated before it is known to lie in the file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An open file of a known length.
#[derive(Debug)]
pub(super) struct Blob {
    file: File,
    len: u64,
}

impl Blob {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }

    /// The file's length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The `len` bytes from `offset`.
    pub(super) fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, String> {
        let end = offset.checked_add(len).filter(|end| *end <= self.len);
        let (Some(_), Ok(count)) = (end, usize::try_from(len)) else {
            return Err(format!(
                "{len} bytes from byte {offset} do not lie in its {} bytes: it was cut short",
                self.len
            ));
        };
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, offset).map_err(|e| format!("read at byte {offset}: {e}"))?;
        Ok(bytes)
    }
}

/// The little-endian number of 2 bytes at `at`.
pub(super) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

/// The little-endian number of 4 bytes at `at`.
pub(super) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// The little-endian number of 8 bytes at `at`.
pub(super) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}
