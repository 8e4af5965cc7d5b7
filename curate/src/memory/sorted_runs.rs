//! Sorting more records than fit: runs that do are sorted and written, then merged (external merge sort, Knuth volume 3,
//! section 5.4). Equal records come out once.
//!
//! Runs lie one after the other in one scratch file. They are merged a range of values at a time: what each run has of the
//! range is read and sorted with the others' on all threads, which is faster than taking record by record from a heap.

use super::{Memory, Share};
use crate::Result;
use lapidary_pipeline::PipelineError;
use rayon::prelude::*;
use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Bytes written at a time.
const BLOCK_BYTES: usize = 1 << 18;
/// Records between two whose values are kept of each run, at most ...
const STEP_MAX: usize = 4096;
/// ... and so many of them in a run at least, as long as there are as many records.
const STEPS: usize = 512;

/// What can be sorted in runs: records of one length.
pub(crate) trait Record: Copy + Ord + Send + Sync {
    /// Bytes of a record in a file.
    const BYTES: usize;
    /// Appends it.
    fn put(&self, to: &mut Vec<u8>);
    /// Reads it from as many bytes.
    fn get(bytes: &[u8]) -> Self;
}

/// Records on their way to be sorted; several threads may add to them.
#[derive(Debug)]
pub(crate) struct SortedRuns<'a, R> {
    memory: &'a Memory,
    most: usize,
    parts: Mutex<Parts<R>>,
    file: OnceLock<File>,
    /// Bytes of the file that are taken.
    end: AtomicU64,
}

#[derive(Debug)]
struct Parts<R> {
    held: Vec<R>,
    runs: Vec<Run<R>>,
}

/// A sorted run in the file.
#[derive(Debug)]
struct Run<R> {
    at: u64,
    records: usize,
    /// Every so many records ...
    step: usize,
    /// ... the record there, the first of all among them.
    firsts: Vec<R>,
}

impl<'a, R: Record> SortedRuns<'a, R> {
    pub(crate) fn new(memory: &'a Memory) -> Self {
        // A thread may fill the next run while another writes one.
        let most = (memory.share(Share::Run) / 2 / size_of::<R>()).max(1024);
        let parts = Mutex::new(Parts { held: Vec::new(), runs: Vec::new() });
        Self { memory, most, parts, file: OnceLock::new(), end: AtomicU64::new(0) }
    }

    /// Adds records; a full run is written.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn extend(&mut self, records: impl IntoIterator<Item = R>) -> Result<()> {
        for record in records {
            let most = self.most;
            let held = &mut self.parts.get_mut().unwrap_or_else(PoisonError::into_inner).held;
            held.push(record);
            if held.len() >= most {
                let mut full = std::mem::take(held);
                full.par_sort_unstable();
                self.keep(full)?;
            }
        }
        Ok(())
    }

    /// Adds records from one of several threads.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn add(&self, records: &[R]) -> Result<()> {
        for records in records.chunks(self.most) {
            let mut parts = self.lock();
            parts.held.extend_from_slice(records);
            if parts.held.len() >= self.most {
                let mut full = std::mem::take(&mut parts.held);
                drop(parts);
                // On this thread alone: one that waits for others might be given work that adds records.
                full.sort_unstable();
                self.keep(full)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Parts<R>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes sorted records as a run, unless what came more than once leaves room for half of one.
    fn keep(&self, mut sorted: Vec<R>) -> Result<()> {
        sorted.dedup();
        if sorted.len() * 2 <= self.most {
            let mut parts = self.lock();
            sorted.append(&mut parts.held);
            parts.held = sorted;
            return Ok(());
        }
        self.write_run(&sorted)
    }

    fn write_run(&self, sorted: &[R]) -> Result<()> {
        let file = match self.file.get() {
            Some(file) => file,
            None => {
                let file = self.memory.scratch_file()?;
                self.file.get_or_init(|| file)
            }
        };
        let at = self.end.fetch_add((sorted.len() * R::BYTES) as u64, Ordering::Relaxed);
        let (mut bytes, mut next) = (Vec::with_capacity(BLOCK_BYTES + R::BYTES), at);
        for records in sorted.chunks((BLOCK_BYTES / R::BYTES).max(1)) {
            bytes.clear();
            records.iter().for_each(|record| record.put(&mut bytes));
            file.write_all_at(&bytes, next).map_err(scratch("write"))?;
            next += bytes.len() as u64;
        }
        let step = (sorted.len() / STEPS).clamp(1, STEP_MAX);
        let firsts = sorted.iter().step_by(step).copied().collect();
        self.lock().runs.push(Run { at, records: sorted.len(), step, firsts });
        Ok(())
    }

    /// All records, to be read in their order.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn finish(mut self) -> Result<Sorted<R>> {
        let parts = self.parts.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut held = std::mem::take(&mut parts.held);
        held.par_sort_unstable();
        held.dedup();
        if !parts.runs.is_empty() && !held.is_empty() {
            self.write_run(&held)?;
            held.clear();
        }
        let most = self.most;
        let runs = self.parts.into_inner().unwrap_or_else(PoisonError::into_inner).runs;
        Ok(Sorted { held, runs, file: self.file.into_inner(), most })
    }
}

/// Records in their order, each once: held, or in runs that are merged as they are read. They can be read more than once.
#[derive(Debug)]
pub(crate) struct Sorted<R> {
    held: Vec<R>,
    runs: Vec<Run<R>>,
    file: Option<File>,
    /// About so many are merged at a time.
    most: usize,
}

impl<R: Record> Sorted<R> {
    /// Reads them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<R>> {
        let (mut blocks, mut block, mut next) = (self.blocks(), Cow::<[R]>::Owned(Vec::new()), 0);
        std::iter::from_fn(move || {
            loop {
                if let Some(record) = block.get(next) {
                    next += 1;
                    return Some(Ok(*record));
                }
                match blocks.next()? {
                    Ok(records) => (block, next) = (records, 0),
                    Err(e) => return Some(Err(e)),
                }
            }
        })
    }

    /// Reads them, so many at a time.
    pub(crate) fn blocks(&self) -> Blocks<'_, R> {
        Blocks {
            sorted: self,
            held: self.held.chunks(self.most),
            bounds: self.bounds().into_iter(),
            cursors: self.runs.iter().map(|run| Cursor { run, next: 0, rest: Vec::new() }).collect(),
            is_done: self.runs.is_empty(),
        }
    }

    /// Values that cut the runs into ranges of about as many records as are merged at a time.
    fn bounds(&self) -> Vec<R> {
        // Each stands for the records up to the next of its run.
        let mut firsts: Vec<(R, usize)> =
            self.runs.iter().flat_map(|run| run.firsts.iter().map(|first| (*first, run.step))).collect();
        firsts.par_sort_unstable();
        let (mut bounds, mut records) = (Vec::new(), 0);
        for (first, step) in firsts {
            if records >= self.most {
                bounds.push(first);
                records = 0;
            }
            records += step;
        }
        bounds
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

/// Reads sorted records, a range of values after the other.
pub(crate) struct Blocks<'a, R> {
    sorted: &'a Sorted<R>,
    held: std::slice::Chunks<'a, R>,
    bounds: std::vec::IntoIter<R>,
    cursors: Vec<Cursor<'a, R>>,
    is_done: bool,
}

/// Where reading a run has come to.
struct Cursor<'a, R> {
    run: &'a Run<R>,
    next: usize,
    /// Records that were read, and lie beyond the last bound.
    rest: Vec<R>,
}

impl<R: Record> Cursor<'_, R> {
    /// The next records below a bound; without one all.
    fn below(&mut self, bound: Option<&R>, file: &File) -> Result<Vec<R>> {
        let run = self.run;
        // Up to the first that is known to lie beyond.
        let steps = bound.map_or(run.firsts.len(), |bound| run.firsts.partition_point(|first| first < bound));
        let end = (steps * run.step).min(run.records);
        let mut records = std::mem::take(&mut self.rest);
        if end > self.next {
            let mut bytes = vec![0; (end - self.next) * R::BYTES];
            file.read_exact_at(&mut bytes, run.at + (self.next * R::BYTES) as u64).map_err(scratch("read"))?;
            records.extend(bytes.chunks_exact(R::BYTES).map(R::get));
            self.next = end;
        }
        if let Some(bound) = bound {
            self.rest = records.split_off(records.partition_point(|record| record < bound));
        }
        Ok(records)
    }
}

impl<'a, R: Record> Iterator for Blocks<'a, R> {
    type Item = Result<Cow<'a, [R]>>;

    fn next(&mut self) -> Option<Result<Cow<'a, [R]>>> {
        if let Some(held) = self.held.next() {
            return Some(Ok(Cow::Borrowed(held)));
        }
        while !self.is_done {
            let bound = self.bounds.next();
            self.is_done = bound.is_none();
            let file = self.sorted.file.as_ref().expect("runs lie in a file");
            let parts: Result<Vec<Vec<R>>> =
                self.cursors.par_iter_mut().map(|cursor| cursor.below(bound.as_ref(), file)).collect();
            let mut records = match parts {
                Ok(parts) => parts.concat(),
                Err(e) => {
                    self.is_done = true;
                    return Some(Err(e));
                }
            };
            if !records.is_empty() {
                records.par_sort_unstable();
                records.dedup();
                return Some(Ok(Cow::Owned(records)));
            }
        }
        None
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
                let mut from_one = SortedRuns::new(&memory);
                let from_several = SortedRuns::new(&memory);
                for part in records.chunks(777) {
                    from_one.extend(part.iter().copied()).expect("writes");
                }
                records.par_chunks(777).for_each(|part| from_several.add(part).expect("writes"));
                for runs in [from_one, from_several] {
                    let sorted = runs.finish().expect("sorts");
                    prop_assert!(sorted.is_held() == is_held || expected.len().abs_diff(512) < 600);
                    for _ in 0..2 {
                        let read: Vec<u64> = sorted.iter().collect::<Result<_>>().expect("reads");
                        prop_assert_eq!(&read, &expected, "as often as it is read");
                    }
                    let blocks: Vec<Cow<'_, [u64]>> = sorted.blocks().collect::<Result<_>>().expect("reads");
                    prop_assert!(blocks.iter().all(|block| !block.is_empty() && (is_held || block.len() < 4 * 1024)));
                    prop_assert_eq!(blocks.concat(), expected.clone());
                }
            }
        }
    }
}
