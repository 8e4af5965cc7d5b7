//! Cutting a JSON file into its records without understanding them.
//!
//! Only the skeleton is read, an object whose fields are lists: so a record that is odd, or no JSON at all, ends nothing, and
//! a file of any size takes the memory of its largest record. Brackets and quotes must pair; where the file ends too early,
//! the error says at which byte.

use crate::{PipelineError, Result};
use memchr::memchr2;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Longest record that is kept.
const RECORD_BYTES_MAX: usize = 256 << 20;
const CHUNK_BYTES: usize = 256 << 10;

/// What is done after a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ingest::sources) enum Then {
    /// The next one is read.
    Next,
    /// The rest of the file is not.
    Stop,
}

/// A record of a list of the file's outermost object.
#[derive(Debug, Clone, Copy)]
pub(in crate::ingest::sources) struct Cut<'a> {
    /// The list's name.
    pub list: &'a str,
    /// Its place in the list, from 0.
    pub index: u64,
    /// Its first byte in the file.
    pub offset_bytes: u64,
    /// Its text; none when it is too long to keep.
    pub text: Option<&'a [u8]>,
}

/// Gives `take` each record of the lists `wanted`, in the file's order.
///
/// # Errors
/// When the file cannot be read, is no JSON object, or ends early; and what `take` returns.
pub(in crate::ingest::sources) fn cut_file(
    path: &Path,
    wanted: &[&str],
    take: impl FnMut(Cut<'_>) -> Result<Then>,
) -> Result<()> {
    let file = File::open(path).map_err(PipelineError::io("open", path))?;
    cut(file, path, wanted, take)
}

/// As [`cut_file`], of any reader; `path` is for errors.
pub(in crate::ingest::sources) fn cut(
    reader: impl Read,
    path: &Path,
    wanted: &[&str],
    mut take: impl FnMut(Cut<'_>) -> Result<Then>,
) -> Result<()> {
    let mut scanner = Scanner { reader, path, buffer: vec![0; CHUNK_BYTES], at: 0, end: 0, offset_bytes: 0 };
    scanner.skip_byte_order_mark()?;
    if scanner.token()? != Some(b'{') {
        return Err(scanner.fault("it is no JSON object"));
    }
    scanner.at += 1;
    let mut key = Vec::new();
    loop {
        match scanner.token()? {
            Some(b'}') => return Ok(()),
            Some(b',') => scanner.at += 1,
            Some(b'"') => {
                key.clear();
                scanner.value(Some(&mut key))?;
                if scanner.token()? != Some(b':') {
                    return Err(scanner.fault("a field without a value"));
                }
                scanner.at += 1;
                let name = serde_json::from_slice::<String>(&key).unwrap_or_default();
                let is_list = scanner.token()? == Some(b'[');
                match wanted.iter().find(|wanted| **wanted == name) {
                    Some(list) if is_list => {
                        if scanner.list(list, &mut take)? == Then::Stop {
                            return Ok(());
                        }
                    }
                    _ => _ = scanner.value(None)?,
                }
            }
            Some(_) => return Err(scanner.fault("no field begins here")),
            None => return Err(scanner.fault("it ends within its outermost object")),
        }
    }
}

struct Scanner<'a, R> {
    reader: R,
    path: &'a Path,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// Where the buffer begins in the file.
    offset_bytes: u64,
}

impl<R: Read> Scanner<'_, R> {
    fn fault(&self, what: &str) -> PipelineError {
        PipelineError::format(self.path, format!("{what} (byte {})", self.offset_bytes + self.at as u64))
    }

    /// Reads on when the buffer is used up; false at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        if self.at < self.end {
            return Ok(true);
        }
        self.offset_bytes += self.end as u64;
        (self.at, self.end) = (0, 0);
        loop {
            match self.reader.read(&mut self.buffer) {
                Ok(read) => self.end = read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(PipelineError::io("read", self.path)(error)),
            }
            return Ok(self.end > 0);
        }
    }

    /// The next byte that is no white space, which is not taken.
    fn token(&mut self) -> Result<Option<u8>> {
        while self.fill()? {
            let rest = &self.buffer[self.at..self.end];
            match rest.iter().position(|byte| !byte.is_ascii_whitespace()) {
                Some(white) => {
                    self.at += white;
                    return Ok(Some(self.buffer[self.at]));
                }
                None => self.at = self.end,
            }
        }
        Ok(None)
    }

    fn skip_byte_order_mark(&mut self) -> Result<()> {
        self.fill()?;
        match &self.buffer[..self.end] {
            [0xef, 0xbb, 0xbf, ..] => self.at = 3,
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(self.fault("it is UTF-16, and JSON is UTF-8: `iconv -f UTF-16 -t UTF-8` converts it"));
            }
            _ => {}
        }
        Ok(())
    }

    /// The elements of a list, whose bracket is next.
    fn list(&mut self, list: &str, take: &mut impl FnMut(Cut<'_>) -> Result<Then>) -> Result<Then> {
        self.at += 1;
        let (mut index, mut record) = (0, Vec::new());
        loop {
            match self.token()? {
                Some(b']') => {
                    self.at += 1;
                    return Ok(Then::Next);
                }
                Some(b',') => self.at += 1,
                Some(b':' | b'}') => return Err(self.fault(&format!("no record of `{list}` begins here"))),
                Some(_) => {
                    record.clear();
                    let offset_bytes = self.offset_bytes + self.at as u64;
                    let kept = self.value(Some(&mut record))?;
                    let text = kept.then_some(&record[..]);
                    if take(Cut { list, index, offset_bytes, text })? == Then::Stop {
                        return Ok(Then::Stop);
                    }
                    index += 1;
                }
                None => return Err(self.fault(&format!("it ends within `{list}`, after record {index}"))),
            }
        }
    }

    /// Takes the value that begins here, into `out` where there is one; false when it is too long for that.
    fn value(&mut self, mut out: Option<&mut Vec<u8>>) -> Result<bool> {
        let (mut depth, mut in_string, mut kept) = (0u32, false, true);
        let mut escaped = false;
        loop {
            if !self.fill()? {
                // A bare number may end with the file; what surrounds it is found missing next.
                return if depth == 0 && !in_string { Ok(kept) } else { Err(self.fault("it ends within a value")) };
            }
            let (taken, ended) =
                span_of_value(&self.buffer[self.at..self.end], &mut depth, &mut in_string, &mut escaped);
            if let Some(out) = out.as_deref_mut().filter(|_| kept) {
                out.extend_from_slice(&self.buffer[self.at..self.at + taken]);
                if out.len() > RECORD_BYTES_MAX {
                    (kept, *out) = (false, Vec::new());
                }
            }
            self.at += taken;
            if ended {
                return Ok(kept);
            }
        }
    }
}

/// How many of `bytes` belong to the value, and whether it ends with them.
pub(in crate::ingest::sources) fn span_of_value(
    bytes: &[u8],
    depth: &mut u32,
    in_string: &mut bool,
    escaped: &mut bool,
) -> (usize, bool) {
    let mut at = 0;
    while at < bytes.len() {
        if *escaped {
            *escaped = false;
            at += 1;
            continue;
        }
        if *in_string {
            let Some(next) = memchr2(b'"', b'\\', &bytes[at..]) else { return (bytes.len(), false) };
            at += next + 1;
            if bytes[at - 1] == b'\\' {
                *escaped = true;
            } else {
                *in_string = false;
                if *depth == 0 {
                    return (at, true);
                }
            }
            continue;
        }
        match bytes[at] {
            b'"' => *in_string = true,
            b'{' | b'[' => *depth += 1,
            b'}' | b']' if *depth == 0 => return (at, true),
            b'}' | b']' => {
                *depth -= 1;
                if *depth == 0 {
                    return (at + 1, true);
                }
            }
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' if *depth == 0 => return (at, true),
            _ => {}
        }
        at += 1;
    }
    (bytes.len(), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hands bytes out a few at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let len = self.1.min(self.0.len()).min(out.len());
            out[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    fn records(json: &[u8], drop_bytes: usize) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        cut(Drops(json, drop_bytes), Path::new("x.json"), &["images", "annotations"], |cut| {
            let text = cut.text.expect("short");
            assert_eq!(&json[cut.offset_bytes as usize..][..text.len()], text);
            found.push((format!("{}/{}", cut.list, cut.index), String::from_utf8_lossy(text).into_owned()));
            Ok(Then::Next)
        })?;
        Ok(found)
    }

    #[test]
    fn records_are_cut_wherever_the_reader_stops() {
        let json = "\u{feff}{\"info\": {\"images\": [1]}, \"x\": NaN, \"images\" : [ {\"a\": \"]}\\\\\\\"[\"} ,7,\"s\", {oops, NaN}],\n\
            \"annotations\":[[1,[2]]], \"annotations2\": null}";
        let expected = [
            ("images/0", "{\"a\": \"]}\\\\\\\"[\"}"),
            ("images/1", "7"),
            ("images/2", "\"s\""),
            ("images/3", "{oops, NaN}"),
            ("annotations/0", "[1,[2]]"),
        ];
        for drop_bytes in [1, 2, 3, 7, 1000] {
            let found = records(json.as_bytes(), drop_bytes.max(3)).expect("cuts");
            let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(found, expected, "{drop_bytes}");
        }
    }

    #[test]
    fn a_file_that_ends_early_says_where() {
        for json in
            ["", "[]", "{", "{\"images\": [", "{\"images\": [{\"a\": 1}, {\"b\"", "{\"images\": \"x", "{\"a\"}", "{7}"]
        {
            let error = records(json.as_bytes(), 64).expect_err(json).to_string();
            assert!(error.contains("x.json") && error.contains("byte"), "{json}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_or_refused(bytes in proptest::collection::vec(prop_oneof![
            Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b'\\'), Just(b','), Just(b':'), any::<u8>(),
        ], 0..64)) {
            let mut json = b"{\"images\":[".to_vec();
            json.extend(bytes);
            let _ = cut(&json[..], Path::new("x"), &["images"], |_| Ok(Then::Next));
        }
    }
}
