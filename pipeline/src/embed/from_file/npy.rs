//! NumPy's `.npy`: a matrix of floats, one vector a row, read some rows at a time.
//!
//! Formats 1 and 2, little-endian `f2`, `f4` and `f8`, C order, two axes; whatever else NumPy writes is refused by name. The
//! header's numbers are held against the file's length before anything is allocated for them, so that no input, however
//! damaged, panics or takes more memory than the rows that are asked for.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use crate::{PipelineError, Result};
use arrow::datatypes::{ArrowPrimitiveType, Float16Type};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Bytes of a header at most: NumPy's own for a matrix has 128.
const HEADER_BYTES_MAX: usize = 1 << 16;
/// Values of a vector at most.
pub(crate) const DIM_MAX: usize = 1 << 16;

type F16 = <Float16Type as ArrowPrimitiveType>::Native;

/// What a value is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    F2,
    F4,
    F8,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Self::F2 => 2,
            Self::F4 => 4,
            Self::F8 => 8,
        }
    }

    /// Values as f32; those of `f8` that are too large for it become infinite.
    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F2 => bytes.as_chunks().0.iter().map(|b| F16::from_bits(u16::from_le_bytes(*b)).to_f32()).collect(),
            Self::F4 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::F8 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        }
    }
}

/// A matrix in a file, shape `[rows, dim]`.
#[derive(Debug)]
pub struct Npy {
    path: PathBuf,
    file: File,
    rows: u64,
    dim: usize,
    kind: Kind,
    /// Where its values begin.
    start_bytes: u64,
}

impl Npy {
    /// Opens a matrix and reads its header.
    ///
    /// # Errors
    /// When the file is no matrix of floats that this reads, saying which part of it is not.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(PipelineError::io("open", path))?;
        let length = file.metadata().map_err(PipelineError::io("open", path))?.len();
        let mut start = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(HEADER_BYTES_MAX + 12)];
        file.read_exact_at(&mut start, 0).map_err(PipelineError::io("read", path))?;
        let header = Header::parse(&start).map_err(|wrong| PipelineError::format(path, wrong))?;
        let expected = header.values_bytes().and_then(|bytes| bytes.checked_add(header.start_bytes as u64));
        if expected != Some(length) {
            let expected = expected.map_or_else(|| "more than can be counted".to_owned(), |bytes| bytes.to_string());
            let text = format!("it has {length} bytes; a matrix of {} x {} takes {expected}", header.rows, header.dim);
            return Err(PipelineError::format(path, text));
        }
        let Header { rows, dim, kind, start_bytes } = header;
        Ok(Self { path: path.to_owned(), file, rows, dim, kind, start_bytes: start_bytes as u64 })
    }

    /// Vectors.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Values a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The values of the vectors `first..first + count`, shape `[count, dim]`; fewer where the matrix ends before.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, first: u64, count: usize) -> Result<Vec<f32>> {
        let first = first.min(self.rows);
        let count = (self.rows - first).min(count as u64);
        // Every row is in the file, whose length was checked: none of these products overflows.
        let row_bytes = (self.dim * self.kind.bytes()) as u64;
        let mut bytes = vec![0; (count * row_bytes) as usize];
        let read = self.file.read_exact_at(&mut bytes, self.start_bytes + first * row_bytes);
        read.map_err(PipelineError::io("read", &self.path))?;
        Ok(self.kind.decode(&bytes))
    }
}

/// What the bytes before the values say.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    rows: u64,
    dim: usize,
    kind: Kind,
    start_bytes: usize,
}

impl Header {
    /// Reads a header from the beginning of a file.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as an .npy file does")?;
        let (&[major, minor], rest) = rest.split_first_chunk().ok_or("it ends within its header")?;
        let (length, rest) = match (major, minor) {
            (1, 0) => rest.split_first_chunk().map(|(b, rest)| (u64::from(u16::from_le_bytes(*b)), rest)),
            (2, 0) => rest.split_first_chunk().map(|(b, rest)| (u64::from(u32::from_le_bytes(*b)), rest)),
            _ => return Err(format!("it is of .npy format {major}.{minor}; 1.0 and 2.0 are read")),
        }
        .ok_or("it ends within its header")?;
        if length > HEADER_BYTES_MAX as u64 {
            return Err(format!("its header claims {length} bytes; at most {HEADER_BYTES_MAX} are read"));
        }
        let text = rest.get(..length as usize).ok_or("it ends within its header")?;
        let start_bytes = bytes.len() - rest.len() + text.len();
        let text = std::str::from_utf8(text).map_err(|_| "its header is no text")?;
        let (rows, dim, kind) = read_dictionary(text)?;
        Ok(Self { rows, dim, kind, start_bytes })
    }

    fn values_bytes(&self) -> Option<u64> {
        self.rows.checked_mul(self.dim as u64)?.checked_mul(self.kind.bytes() as u64)
    }
}

/// Rows, values a row and their kind from the header's dictionary, a literal of Python.
fn read_dictionary(text: &str) -> Result<(u64, usize, Kind), String> {
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    let inside = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let mut rest = inside.ok_or("its header is no dictionary")?.trim_start();
    while !rest.is_empty() {
        let (key, after) = quoted(rest).ok_or("its header has a key without quotes")?;
        let after = after.trim_start().strip_prefix(':').ok_or_else(|| format!("`{key}` has no value"))?;
        let (value, after) = value_of(after.trim_start());
        let slot = match key {
            "descr" => &mut descr,
            "fortran_order" => &mut fortran,
            "shape" => &mut shape,
            _ => return Err(format!("its header has a key `{}`", shown(key))),
        };
        if slot.replace(value).is_some() {
            return Err(format!("its header has `{key}` twice"));
        }
        rest = after;
    }
    let missing = |key: &str| format!("its header has no `{key}`");
    let descr = descr.ok_or_else(|| missing("descr"))?;
    let kind = match quoted(descr) {
        Some(("<f2", "")) => Kind::F2,
        Some(("<f4", "")) => Kind::F4,
        Some(("<f8", "")) => Kind::F8,
        _ => return Err(format!("its values are {}; '<f2', '<f4' and '<f8' are read", shown(descr))),
    };
    match fortran.ok_or_else(|| missing("fortran_order"))? {
        "False" => {}
        "True" => return Err("it is in Fortran order; numpy.ascontiguousarray gives the order that is read".to_owned()),
        other => return Err(format!("its `fortran_order` is {}", shown(other))),
    }
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let wrong = || format!("its shape is {}, not (vectors, values)", shown(shape));
    let axes = shape.strip_prefix('(').and_then(|shape| shape.strip_suffix(')')).ok_or_else(wrong)?;
    let axes: Vec<&str> = axes.strip_suffix(',').unwrap_or(axes).split(',').map(str::trim).collect();
    let [rows, dim] = axes[..] else { return Err(wrong()) };
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()).flatten().ok_or_else(wrong)
    };
    let (rows, dim) = (number(rows)?, number(dim)?);
    match usize::try_from(dim) {
        Ok(dim @ 1..=DIM_MAX) => Ok((rows, dim, kind)),
        _ => Err(format!("its vectors have {dim} values; 1 to {DIM_MAX} are read")),
    }
}

/// A text in quotes at the beginning, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// A value at the beginning, up to the comma that ends it, and what follows that.
fn value_of(text: &str) -> (&str, &str) {
    let (mut depth, mut quote) = (0i32, None);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, ',') if depth <= 0 => return (text[..index].trim_end(), text[index + 1..].trim_start()),
            (None, _) => {}
        }
    }
    (text.trim_end(), "")
}

/// A part of a header for an error message.
fn shown(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(version: u8, header: &str, values: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(values);
        bytes
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}          \n")
    }

    fn open(bytes: &[u8]) -> Result<Npy> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.npy");
        std::fs::write(&path, bytes).expect("writes");
        Npy::open(&path)
    }

    fn refused(bytes: &[u8]) -> String {
        let error = open(bytes).expect_err("it is refused");
        assert_eq!(error.exit_code(), 1);
        error.to_string()
    }

    const VALUES: [f32; 6] = [1.0, -2.5, 0.0, 65504.0, 0.125, -0.25];

    fn stored(kind: Kind) -> Vec<u8> {
        match kind {
            Kind::F2 => VALUES.iter().flat_map(|v| F16::from_f32(*v).to_bits().to_le_bytes()).collect(),
            Kind::F4 => VALUES.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Kind::F8 => VALUES.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
        }
    }

    #[test]
    fn every_kind_and_both_formats_give_their_rows() {
        for version in [1, 2] {
            for (kind, descr) in [(Kind::F2, "'<f2'"), (Kind::F4, "'<f4'"), (Kind::F8, "\"<f8\"")] {
                let npy = open(&file(version, &header(descr, "False", "(3, 2)"), &stored(kind))).expect(descr);
                assert_eq!((npy.rows(), npy.dim()), (3, 2));
                assert_eq!(npy.read(0, 3).expect("reads"), VALUES, "{descr}");
                assert_eq!(npy.read(1, 1).expect("reads"), VALUES[2..4]);
                assert_eq!(npy.read(2, 9).expect("reads"), VALUES[4..]);
                assert!(npy.read(3, 1).expect("reads").is_empty() && npy.read(u64::MAX, 1).expect("reads").is_empty());
            }
        }
        let other_order = "{\"shape\":(3,2),\"fortran_order\":False,\"descr\":\"<f4\"}";
        assert_eq!(open(&file(1, other_order, &stored(Kind::F4))).expect("reads").read(0, 3).expect("reads"), VALUES);
    }

    #[test]
    fn what_is_not_read_is_named() {
        let f4 = stored(Kind::F4);
        let of = |descr: &str, fortran: &str, shape: &str| refused(&file(1, &header(descr, fortran, shape), &f4));
        assert!(of("'>f4'", "False", "(3, 2)").contains("its values are '>f4'"));
        assert!(of("'<i8'", "False", "(3, 2)").contains("'<i8'"));
        assert!(of("[('a', '<f4'), ('b', '<f4')]", "False", "(3, 2)").contains("[('a', '<f4')"));
        assert!(of("'<f4'", "True", "(3, 2)").contains("Fortran order"));
        assert!(of("'<f4'", "0", "(3, 2)").contains("`fortran_order` is 0"));
        for shape in ["(6,)", "(1, 3, 2)", "()", "(-3, 2)", "(3, 2", "3", "(3, 99999999999999999999)"] {
            assert!(of("'<f4'", "False", shape).contains("shape"), "{shape}");
        }
        assert!(of("'<f4'", "False", "3, 2").contains("a key without quotes"));
        assert!(of("'<f4'", "False", "(6, 0)").contains("have 0 values"));
        assert!(of("'<f4'", "False", "(0, 70000)").contains("have 70000 values"));
        // Too many values to count, to hold, and one too many and too few.
        assert!(of("'<f4'", "False", "(18446744073709551615, 2)").contains("more than can be counted"));
        assert!(of("'<f4'", "False", "(1000000000000, 2)").contains("takes 8000000000"));
        assert!(of("'<f4'", "False", "(4, 2)").contains("it has") && of("'<f4'", "False", "(2, 2)").contains("it has"));
        assert!(refused(&file(3, &header("'<f4'", "False", "(3, 2)"), &f4)).contains("format 3.0"));
        assert!(refused(b"PAR1").contains("does not begin"));
        assert!(refused(b"").contains("does not begin"));
        assert!(refused(&file(1, "{'descr': '<f4'}", &f4)).contains("no `fortran_order`"));
        assert!(refused(&file(1, "{'descr': '<f4', 'descr': '<f4'}", &f4)).contains("twice"));
        assert!(refused(&file(1, "{'other': 1}", &f4)).contains("`other`"));
        assert!(refused(&file(1, "[]", &f4)).contains("no dictionary"));
        let mut long = MAGIC.to_vec();
        long.extend([2, 0, 255, 255, 255, 255]);
        assert!(refused(&long).contains("claims 4294967295 bytes"));
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let whole = file(1, &header("'<f4'", "False", "(3, 2)"), &stored(Kind::F4));
        assert!(open(&whole).is_ok());
        for length in 0..whole.len() {
            assert!(open(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_opens_is_read_whole(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            shape in "\\(?[0-9, ]{0,12}\\)?",
            descr in "'[<>|]?[fiu][248]'|\\[\\(|\\PC{0,6}",
            values in prop::collection::vec(any::<u8>(), 0..64),
            version in 0u8..4,
        ) {
            let mut bytes = file(version, &header(&descr, "False", &shape), &values);
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Ok(npy) = open(&bytes) {
                let read = npy.read(0, usize::MAX).expect("its length was checked");
                prop_assert_eq!(read.len() as u64, npy.rows() * npy.dim() as u64);
            }
        }

        #[test]
        fn any_matrix_comes_back(rows in 0usize..5, dim in 1usize..5, seed in any::<u32>()) {
            let values: Vec<f32> = (0..rows * dim).map(|i| f32::from_bits(seed.rotate_left(i as u32))).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let npy = open(&file(2, &header("'<f4'", "False", &format!("({rows}, {dim})")), &bytes)).expect("opens");
            let read = npy.read(0, rows).expect("reads");
            prop_assert_eq!(read.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }
    }
}
