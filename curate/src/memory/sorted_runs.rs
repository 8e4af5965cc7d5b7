//! Sorting more records than fit: runs that do are sorted and written, then merged (external merge sort, Knuth volume 3,
//! section 5.4). Equal records come out once.

use super::{Memory, Share};
use crate::Result;
use lapidary_pipeline::PipelineError;
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Records read at a time from each run, and written at a time.
const BLOCK_BYTES: usize = 1 << 18;

/// What can be sorted in runs: records of one length.
pub(crate) trait Record: Copy + Ord + Send + Sync {
    /// Bytes of a record in a file.
    const BYTES: usize;
    /// Appends it.
    fn put(&self, to: &mut Vec<u8>);
    /// Reads it from as many bytes.
    fn get(bytes: &[u8]) -> Self;
}

/// Records on their way to be sorted.
#[derive(Debug)]
pub(crate) struct SortedRuns<'a, R> {
    memory: &'a Memory,
    most: usize,
    held: Vec<R>,
    runs: Vec<Run>,
}

/// A sorted run in a file.
#[derive(Debug)]
struct Run {
    file: File,
    records: usize,
}

impl<'a, R: Record> SortedRuns<'a, R> {
    pub(crate) fn new(memory: &'a Memory) -> Self {
        let most = (memory.share(Share::Run) / size_of::<R>()).max(1024);
        Self { memory, most, held: Vec::new(), runs: Vec::new() }
    }

    /// Adds records; a full run is written.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn extend(&mut self, records: impl IntoIterator<Item = R>) -> Result<()> {
        for record in records {
            self.held.push(record);
            if self.held.len() >= self.most {
                self.sort_held();
                // What came more than once may leave room: a run is worth writing from half a share on.
                if self.held.len() * 2 > self.most {
                    self.write_run()?;
                }
            }
        }
        Ok(())
    }

    fn sort_held(&mut self) {
        self.held.par_sort_unstable();
        self.held.dedup();
    }

    fn write_run(&mut self) -> Result<()> {
        let mut file = self.memory.scratch_file()?;
        let mut bytes = Vec::with_capacity(BLOCK_BYTES + R::BYTES);
        for records in self.held.chunks((BLOCK_BYTES / R::BYTES).max(1)) {
            bytes.clear();
            records.iter().for_each(|record| record.put(&mut bytes));
            file.write_all(&bytes).map_err(scratch("write"))?;
        }
        self.runs.push(Run { file, records: self.held.len() });
        self.held.clear();
        Ok(())
    }

    /// All records, to be read in their order.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn finish(mut self) -> Result<Sorted<R>> {
        self.sort_held();
        if !self.runs.is_empty() && !self.held.is_empty() {
            self.write_run()?;
        }
        self.held.shrink_to_fit();
        Ok(Sorted { held: self.held, runs: self.runs })
    }
}

/// Records in their order, each once: held, or in runs that are merged as they are read. They can be read more than once.
#[derive(Debug)]
pub(crate) struct Sorted<R> {
    held: Vec<R>,
    runs: Vec<Run>,
}

impl<R: Record> Sorted<R> {
    /// Reads them.
    pub(crate) fn iter(&self) -> Merge<'_, R> {
        let mut merge = Merge {
            held: self.held.iter(),
            cursors: self.runs.iter().map(|run| Cursor { run, next: 0, bytes: Vec::new(), at: 0 }).collect(),
            heap: BinaryHeap::new(),
            last: None,
            failed: None,
        };
        (0..merge.cursors.len()).for_each(|run| merge.advance(run));
        merge
    }

    /// How many records there are, those counted twice that lie in two runs.
    pub(crate) fn most(&self) -> usize {
        self.held.len() + self.runs.iter().map(|run| run.records).sum::<usize>()
    }

    /// Whether all of them are held.
    #[cfg(test)]
    pub(crate) fn is_held(&self) -> bool {
        self.runs.is_empty()
    }
}

/// Reads sorted records.
pub(crate) struct Merge<'a, R> {
    held: std::slice::Iter<'a, R>,
    cursors: Vec<Cursor<'a>>,
    heap: BinaryHeap<Reverse<(R, usize)>>,
    last: Option<R>,
    failed: Option<crate::CurateError>,
}

/// Where reading a run has come to.
struct Cursor<'a> {
    run: &'a Run,
    next: usize,
    bytes: Vec<u8>,
    at: usize,
}

impl Cursor<'_> {
    fn record<R: Record>(&mut self) -> Result<Option<R>> {
        if self.at == self.bytes.len() {
            let count = (self.run.records - self.next).min((BLOCK_BYTES / R::BYTES).max(1));
            if count == 0 {
                return Ok(None);
            }
            self.bytes.resize(count * R::BYTES, 0);
            self.run.file.read_exact_at(&mut self.bytes, (self.next * R::BYTES) as u64).map_err(scratch("read"))?;
            (self.next, self.at) = (self.next + count, 0);
        }
        let record = R::get(&self.bytes[self.at..self.at + R::BYTES]);
        self.at += R::BYTES;
        Ok(Some(record))
    }
}

impl<R: Record> Merge<'_, R> {
    fn advance(&mut self, run: usize) {
        match self.cursors[run].record() {
            Ok(Some(record)) => self.heap.push(Reverse((record, run))),
            Ok(None) => {}
            Err(e) => self.failed = Some(e),
        }
    }

    fn merged(&mut self) -> Option<R> {
        let Some(Reverse((record, run))) = self.heap.pop() else { return self.held.next().copied() };
        self.advance(run);
        Some(record)
    }
}

impl<R: Record> Iterator for Merge<'_, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        loop {
            if let Some(e) = self.failed.take() {
                return Some(Err(e));
            }
            let record = self.merged()?;
            if self.last.replace(record) != Some(record) {
                return Some(Ok(record));
            }
        }
    }
}

/// An error of a scratch file, which has no name.
pub(crate) fn scratch(what: &'static str) -> impl FnOnce(std::io::Error) -> PipelineError {
    PipelineError::io(what, Path::new("(a scratch file of this stage)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Record for u64 {
        const BYTES: usize = 8;
        fn put(&self, to: &mut Vec<u8>) {
            to.extend(self.to_le_bytes());
        }
        fn get(bytes: &[u8]) -> Self {
            u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn runs_that_are_merged_give_what_sorting_all_gives(
            records in prop::collection::vec(0u64..30_000, 0..20_000)
        ) {
            let mut expected = records.clone();
            expected.sort_unstable();
            expected.dedup();
            for (bytes, is_held) in [(1 << 40, true), (1, expected.len() < 512)] {
                let memory = Memory::bytes(bytes);
                let mut runs = SortedRuns::new(&memory);
                for part in records.chunks(777) {
                    runs.extend(part.iter().copied()).expect("writes");
                }
                let sorted = runs.finish().expect("sorts");
                prop_assert!(sorted.is_held() == is_held || expected.len().abs_diff(512) < 600);
                for _ in 0..2 {
                    let read: Vec<u64> = sorted.iter().collect::<Result<_>>().expect("reads");
                    prop_assert_eq!(&read, &expected, "as often as it is read");
                }
            }
        }
    }
}
