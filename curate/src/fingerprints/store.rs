//! The fingerprints of a set, by image: held while they fit their share of memory, beyond that in scratch files.
//!
//! What is looked at for all images at once lies apart, so that reading it touches nothing else: the hashes of one
//! dihedral transform, the signatures of keypoints, and a [`Summary`] of each image, which is always held.

use super::record::{hashes_to_bytes, read_record, record_to_bytes, signatures_from_bytes};
use super::{Dihedral, Fingerprint, LocalFeatures, Pdq, Signature};
use crate::Result;
use crate::memory::{Memory, Share, scratch};
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;

/// Bytes of an image's hashes, and of a signature or hash.
const HASHES_BYTES: usize = 256;
const HASH_BYTES: usize = 32;
/// Images whose hashes are read at a time.
const BLOCK: usize = 4096;
/// Fingerprints whose mean size says what all will take.
const SAMPLE: usize = 1024;

/// What is held of each fingerprint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) pdq_quality: u8,
    /// Whether the thumbnail is uniform.
    pub(crate) is_uniform: bool,
    pub(crate) mean_rgb: [u8; 3],
    /// Pixels across and down of the working image.
    pub(crate) size: (f32, f32),
    pub(crate) keypoints: u32,
}

impl Summary {
    fn of(print: &Fingerprint) -> Self {
        Self {
            pdq_quality: print.pdq.quality,
            is_uniform: print.thumbnail.is_uniform(),
            mean_rgb: print.mean_rgb,
            size: (print.local.width, print.local.height),
            // An image has at most 16,384.
            keypoints: print.local.signatures.len() as u32,
        }
    }
}

/// Fingerprints by image.
#[derive(Debug)]
pub(crate) struct Prints {
    summaries: Vec<Summary>,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Held(Vec<Fingerprint>),
    Scratch(Files, Vec<Place>),
}

/// Where an image's parts lie: the number of its hashes, its record, the number of its first signature.
#[derive(Debug, Clone, Copy)]
struct Place {
    hashes: u32,
    record: u64,
    record_bytes: u32,
    signature: u64,
}

#[derive(Debug)]
struct Files {
    hashes: File,
    records: File,
    signatures: File,
}

/// Fingerprints on their way into [`Prints`], in any order.
#[derive(Debug)]
pub(crate) struct PrintsWriter<'a> {
    memory: &'a Memory,
    expected: usize,
    images: Vec<usize>,
    summaries: Vec<Summary>,
    held: Vec<Fingerprint>,
    held_bytes: usize,
    scratch: Option<Writers>,
}

#[derive(Debug)]
struct Writers {
    hashes: BufWriter<File>,
    records: BufWriter<File>,
    signatures: BufWriter<File>,
    places: Vec<Place>,
    record_bytes: u64,
    signature_count: u64,
}

impl<'a> PrintsWriter<'a> {
    /// For about so many.
    pub(crate) fn new(memory: &'a Memory, expected: usize) -> Self {
        let (images, summaries, held) = (Vec::new(), Vec::new(), Vec::new());
        Self { memory, expected, images, summaries, held, held_bytes: 0, scratch: None }
    }

    /// Whether those that are expected, if they are as large as those that came, are too many to hold.
    fn is_too_much(&self) -> bool {
        let so_far = self.held.len();
        let expected = if so_far < SAMPLE { so_far } else { so_far.max(self.expected) };
        self.held_bytes / so_far.max(1) * expected > self.memory.share(Share::Fingerprints)
    }

    /// Adds the fingerprint of an image.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn push(&mut self, image: usize, print: Fingerprint) -> Result<()> {
        self.images.push(image);
        self.summaries.push(Summary::of(&print));
        if let Some(scratch) = &mut self.scratch {
            return scratch.write(&print);
        }
        self.held_bytes += print.bytes();
        self.held.push(print);
        if self.is_too_much() {
            let file = || Ok::<_, crate::CurateError>(BufWriter::with_capacity(1 << 20, self.memory.scratch_file()?));
            let (hashes, records, signatures) = (file()?, file()?, file()?);
            let (places, record_bytes, signature_count) = (Vec::new(), 0, 0);
            let mut scratch = Writers { hashes, records, signatures, places, record_bytes, signature_count };
            std::mem::take(&mut self.held).iter().try_for_each(|print| scratch.write(print))?;
            self.scratch = Some(scratch);
        }
        Ok(())
    }

    /// The fingerprints by image.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn finish(self) -> Result<Prints> {
        let mut order: Vec<u32> = (0..self.images.len() as u32).collect();
        order.sort_unstable_by_key(|row| self.images[*row as usize]);
        let summaries = order.iter().map(|row| self.summaries[*row as usize]).collect();
        let rows = match self.scratch {
            None => {
                let mut held: Vec<(usize, Fingerprint)> = self.images.into_iter().zip(self.held).collect();
                held.sort_unstable_by_key(|(image, _)| *image);
                Rows::Held(held.into_iter().map(|(_, print)| print).collect())
            }
            Some(written) => {
                let places = order.iter().map(|row| written.places[*row as usize]).collect();
                let file = |writer: BufWriter<File>| writer.into_inner().map_err(|e| scratch("write")(e.into_error()));
                let files = Files {
                    hashes: file(written.hashes)?,
                    records: file(written.records)?,
                    signatures: file(written.signatures)?,
                };
                Rows::Scratch(files, places)
            }
        };
        Ok(Prints { summaries, rows })
    }
}

impl Writers {
    fn write(&mut self, print: &Fingerprint) -> Result<()> {
        let record = record_to_bytes(print);
        self.places.push(Place {
            hashes: self.places.len() as u32,
            record: self.record_bytes,
            record_bytes: record.len() as u32,
            signature: self.signature_count,
        });
        self.record_bytes += record.len() as u64;
        self.signature_count += print.local.signatures.len() as u64;
        self.hashes.write_all(&hashes_to_bytes(&print.pdq)).map_err(scratch("write"))?;
        self.records.write_all(&record).map_err(scratch("write"))?;
        for signature in &print.local.signatures {
            for word in signature.0 {
                self.signatures.write_all(&word.to_le_bytes()).map_err(scratch("write"))?;
            }
        }
        Ok(())
    }
}

impl Prints {
    /// The number of images.
    pub(crate) fn len(&self) -> usize {
        self.summaries.len()
    }

    /// What is held of each.
    pub(crate) fn summaries(&self) -> &[Summary] {
        &self.summaries
    }

    /// Whether none lies in a scratch file.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.rows, Rows::Held(_))
    }

    /// An image's fingerprint.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn get(&self, image: usize) -> Result<Cow<'_, Fingerprint>> {
        match &self.rows {
            Rows::Held(prints) => Ok(Cow::Borrowed(&prints[image])),
            Rows::Scratch(files, places) => {
                let place = &places[image];
                let mut record = vec![0; place.record_bytes as usize];
                files.records.read_exact_at(&mut record, place.record).map_err(scratch("read"))?;
                let mut hashes = [0; HASHES_BYTES];
                let at = u64::from(place.hashes) * HASHES_BYTES as u64;
                files.hashes.read_exact_at(&mut hashes, at).map_err(scratch("read"))?;
                let signatures = files.signatures(place.signature, self.summaries[image].keypoints as usize)?;
                Ok(Cow::Owned(read_record(&record, &hashes, signatures)))
            }
        }
    }

    /// Hands on the signatures of images that lie next to each other (see [`Prints::by_place`]), which are read at once.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn signatures_of(&self, images: &[u32], mut hand_on: impl FnMut(usize, &[Signature])) -> Result<()> {
        let (files, places) = match &self.rows {
            Rows::Held(prints) => {
                images.iter().for_each(|image| hand_on(*image as usize, &prints[*image as usize].local.signatures));
                return Ok(());
            }
            Rows::Scratch(files, places) => (files, places),
        };
        let place = |image: &u32| (places[*image as usize].signature, self.summaries[*image as usize].keypoints);
        let Some((first, (last, count))) = images.first().map(place).zip(images.last().map(place)) else {
            return Ok(());
        };
        let all = files.signatures(first.0, (last - first.0) as usize + count as usize)?;
        for image in images {
            let (start, count) = place(image);
            hand_on(*image as usize, &all[(start - first.0) as usize..][..count as usize]);
        }
        Ok(())
    }

    /// An image's keypoints and their signatures.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn local(&self, image: usize) -> Result<Cow<'_, LocalFeatures>> {
        Ok(match self.get(image)? {
            Cow::Borrowed(print) => Cow::Borrowed(&print.local),
            Cow::Owned(print) => Cow::Owned(print.local),
        })
    }

    /// The images in the order in which they are read the fastest.
    pub(crate) fn by_place(&self) -> Vec<u32> {
        let mut images: Vec<u32> = (0..self.len() as u32).collect();
        if let Rows::Scratch(_, places) = &self.rows {
            images.sort_unstable_by_key(|image| places[*image as usize].hashes);
        }
        images
    }

    /// The hashes of all images under a dihedral transform.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn hashes(&self, dihedral: Dihedral) -> Result<Vec<Pdq>> {
        let (files, places) = match &self.rows {
            Rows::Held(prints) => {
                return Ok(prints.iter().map(|print| print.pdq.by_dihedral[dihedral as usize]).collect());
            }
            Rows::Scratch(files, places) => (files, places),
        };
        let mut hashes = vec![Pdq::default(); places.len()];
        let mut image_of = vec![u32::MAX; places.iter().map(|place| place.hashes as usize + 1).max().unwrap_or(0)];
        places.iter().enumerate().for_each(|(image, place)| image_of[place.hashes as usize] = image as u32);
        let mut bytes = Vec::new();
        for (block, images) in image_of.chunks(BLOCK).enumerate() {
            bytes.resize(images.len() * HASHES_BYTES, 0);
            let at = (block * BLOCK * HASHES_BYTES) as u64;
            files.hashes.read_exact_at(&mut bytes, at).map_err(scratch("read"))?;
            for (image, row) in images.iter().zip(bytes.chunks_exact(HASHES_BYTES)) {
                if let Some(hash) = hashes.get_mut(*image as usize) {
                    let hash_bytes = &row[dihedral as usize * HASH_BYTES..][..HASH_BYTES];
                    *hash = Pdq(signatures_from_bytes(hash_bytes)[0].0);
                }
            }
        }
        Ok(hashes)
    }

    /// Leaves out the images that do not stay.
    pub(crate) fn retain(&mut self, stays: &[bool]) {
        fn retain<T>(rows: &mut Vec<T>, stays: &[bool]) {
            let mut stays = stays.iter();
            rows.retain(|_| stays.next().is_some_and(|stays| *stays));
        }
        retain(&mut self.summaries, stays);
        match &mut self.rows {
            Rows::Held(prints) => retain(prints, stays),
            Rows::Scratch(_, places) => retain(places, stays),
        }
    }

    /// These, followed by another set's.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn followed_by(mut self, other: Self, memory: &Memory) -> Result<Self> {
        let bytes = |prints: &[Fingerprint]| prints.iter().map(Fingerprint::bytes).sum::<usize>();
        let other = match (&mut self.rows, other) {
            (Rows::Held(ours), Self { summaries, rows: Rows::Held(theirs) })
                if bytes(ours) + bytes(&theirs) <= memory.share(Share::Fingerprints) =>
            {
                ours.extend(theirs);
                self.summaries.extend(summaries);
                return Ok(self);
            }
            (_, other) => other,
        };
        let mut both = PrintsWriter::new(memory, self.len() + other.len());
        for (first, prints) in [(0, &self), (self.len(), &other)] {
            for image in prints.by_place() {
                both.push(first + image as usize, prints.get(image as usize)?.into_owned())?;
            }
        }
        both.finish()
    }
}

impl Files {
    /// So many signatures from a number on.
    fn signatures(&self, first: u64, count: usize) -> Result<Vec<Signature>> {
        let mut bytes = vec![0; count * HASH_BYTES];
        self.signatures.read_exact_at(&mut bytes, first * HASH_BYTES as u64).map_err(scratch("read"))?;
        Ok(signatures_from_bytes(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprints::{Detail, Keypoint, Quality, Thumbnail};
    use lapidary_pipeline::random::{Purpose, Rng, keyed};

    /// A fingerprint of noise, as a table gives it back.
    fn drawn(number: u64) -> Fingerprint {
        let mut rng = keyed(9, Purpose::Scene, number, 0);
        let mut print = Fingerprint {
            quality: Quality { sharpness: number as f32, short_side_px: 7, grayscale: true, ..Quality::default() },
            thumbnail: Thumbnail((0..1024).map(|_| rng.next_u32() as u8).collect()),
            detail: Detail((0..number % 2 * 4096).map(|_| rng.next_u32() as u8).collect()),
            mean_rgb: [rng.next_u32() as u8, 3, 250],
            local: LocalFeatures { width: 320.0, height: 240.0, ..LocalFeatures::default() },
            ..Fingerprint::default()
        };
        print.pdq.quality = 77;
        for hash in &mut print.pdq.by_dihedral {
            hash.0 = std::array::from_fn(|_| rng.next_u64());
        }
        for _ in 0..number % 40 {
            print.local.keypoints.push(Keypoint::from_stored(std::array::from_fn(|_| rng.next_u32() as u16)));
            print.local.signatures.push(Signature(std::array::from_fn(|_| rng.next_u64())));
        }
        print
    }

    #[test]
    fn what_lies_in_scratch_files_reads_as_what_is_held() {
        let stores = [1 << 40, 1 << 16].map(|bytes| {
            let memory = Memory::bytes(bytes);
            let mut writer = PrintsWriter::new(&memory, 200);
            // In another order than by image.
            (0..200).for_each(|row| writer.push(row * 77 % 200, drawn((row * 77 % 200) as u64)).expect("writes"));
            let mut prints = writer.finish().expect("finishes");
            prints.retain(&(0..200).map(|image| image % 3 > 0).collect::<Vec<_>>());
            let more = {
                let mut writer = PrintsWriter::new(&memory, 5);
                (0..5).for_each(|image| writer.push(image, drawn(900 + image as u64)).expect("writes"));
                writer.finish().expect("finishes")
            };
            prints.followed_by(more, &memory).expect("appends")
        });
        let [held, scratch] = &stores;
        assert!(held.is_held() && !scratch.is_held());
        assert_eq!((held.len(), held.summaries()), (138, scratch.summaries()), "133 stayed, 5 came");
        let expected = drawn(199);
        assert_eq!(*held.get(132).expect("reads"), expected, "the last that stayed");
        for image in 0..held.len() {
            let (a, b) = (held.get(image).expect("reads"), scratch.get(image).expect("reads"));
            assert_eq!(a, b, "{image}");
            assert_eq!(*scratch.local(image).expect("reads"), a.local);
        }
        for prints in &stores {
            let mut seen = 0;
            for images in prints.by_place().chunks(50) {
                let see = |image: usize, signatures: &[Signature]| {
                    assert_eq!(signatures, held.get(image).expect("reads").local.signatures, "{image}");
                    seen += 1;
                };
                prints.signatures_of(images, see).expect("reads");
            }
            assert_eq!(seen, 138);
        }
        for dihedral in Dihedral::ALL {
            let hashes = held.hashes(dihedral).expect("reads");
            assert_eq!(hashes, scratch.hashes(dihedral).expect("reads"));
            assert_eq!(hashes[0], drawn(1).pdq.by_dihedral[dihedral as usize]);
        }
        assert_ne!(scratch.by_place(), held.by_place());
    }
}
