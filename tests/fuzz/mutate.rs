//! Inputs: a valid file, damaged in ways that readers meet and in ways that attackers think of. The input of an index is a
//! function of (seed, target, index) alone, so that it can be made again.

/// SplitMix64 (Steele et al. 2014): small, seeded, the same everywhere.
pub struct Random(u64);

impl Random {
    /// The generator of an input.
    pub fn of(seed: u64, target: &str, index: u64) -> Self {
        let name = target
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut random = Self(seed ^ name.rotate_left(17));
        random.0 = random.next() ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Integers at which arithmetic goes wrong.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Words that texts of these kinds stumble over.
const WORDS: &[&str] = &[
    "null",
    "true",
    "\"\"",
    "{}",
    "[]",
    "[[",
    "]]",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "'",
    "\\",
    "\\u0000",
    "\\ud800",
    "NaN",
    "Infinity",
    "-1",
    "0",
    "1e999",
    "-0.0",
    "1.5",
    "9223372036854775808",
    "18446744073709551616",
    "\u{feff}",
    "\0",
    "\r\n",
    "\n",
    "\t",
    "../",
    "/",
    "//",
    "./",
    "=",
    "#",
    "\"\"\"",
    "'''",
    "images",
    "annotations",
    "categories",
    "id",
    "image_id",
    "file_name",
    "bbox",
    "segmentation",
    "counts",
    "size",
    "license",
    "plan",
    "ingest",
    "[[plan.view]]",
    "\u{1f600}",
];

/// The input of an index: one file of the corpus after a few changes, now and then none.
pub fn input(seed: u64, target: &str, index: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Random::of(seed, target, index);
    let mut bytes = random.pick(corpus).clone();
    let changes = random.below(6) + usize::from(index >= corpus.len() as u64);
    for _ in 0..changes {
        change(&mut bytes, corpus, &mut random);
    }
    bytes.truncate(1 << 20);
    // A reader that checks sums would turn away every change before anything is read.
    if target == "png" && random.below(4) > 0 {
        mend_png(&mut bytes);
    }
    if target == "parquet" && random.below(4) > 0 {
        mend_parquet(&mut bytes);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len());
    let span = |random: &mut Random, len: usize| {
        let longest = *random.pick(&[4, 16, 64, 1024, usize::MAX]);
        random.below(longest.min(len - at.min(len)) + 1)
    };
    match random.below(12) {
        0 => {
            for _ in 0..=random.below(8) {
                let at = random.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
        1 => {
            for _ in 0..=random.below(8) {
                let at = random.below(bytes.len());
                let value = random.next() as u8;
                bytes.get_mut(at).into_iter().for_each(|byte| *byte = value);
            }
        }
        2..=4 => set_edge(bytes, at, random),
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(at..at + span(random, bytes.len()))),
        7 => {
            let copy = bytes[at..at + span(random, bytes.len())].to_vec();
            let to = random.below(bytes.len());
            (0..=random.below(3)).for_each(|_| drop(bytes.splice(to..to, copy.iter().copied())));
        }
        8 => {
            let other = random.pick(corpus);
            let from = random.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        9 => {
            let other = random.pick(corpus);
            let from = random.below(other.len());
            let len = span(random, bytes.len()).min(other.len() - from.min(other.len()));
            bytes[at..at + len].copy_from_slice(&other[from..from + len]);
        }
        10 => set_number(bytes, at, random),
        _ => {
            let word = random.pick(WORDS).as_bytes();
            let times = *random.pick(&[1, 1, 1, 1, 2, 300]);
            let replaced = if random.below(2) == 0 { span(random, bytes.len()).min(word.len()) } else { 0 };
            drop(bytes.splice(at..at + replaced, word.repeat(times)));
        }
    }
}

/// Overwrites 1, 2, 4 or 8 bytes by an edge, or one beside it, in either order.
fn set_edge(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = *random.pick(&[1, 2, 4, 8]);
    let edge = random.pick(EDGES).wrapping_add(random.below(3) as u64).wrapping_sub(1);
    let little = edge.to_le_bytes();
    let mut value = little[..width].to_vec();
    if random.below(2) == 0 {
        value.reverse();
    }
    bytes[at..].iter_mut().zip(value).for_each(|(byte, value)| *byte = value);
}

/// Overwrites the next number that is written in digits.
fn set_number(bytes: &mut Vec<u8>, from: usize, random: &mut Random) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[from..].iter().position(is_digit).map(|at| from + at) else { return };
    let end = bytes[start..].iter().position(|b| !is_digit(b)).map_or(bytes.len(), |len| start + len);
    let edge = random.pick(EDGES);
    let sign = *random.pick(&["", "", "-", "0.", "1e"]);
    bytes.splice(start..end, format!("{sign}{edge}").into_bytes());
}

/// Computes the sums of a PNG's chunks again.
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = at.checked_add(8 + len).filter(|end| end + 4 <= bytes.len()) else { return };
        let sum = crc32(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
}

/// The sum of PNG's chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0u32, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum)))
}

/// Gives a Parquet file its ends again, and a footer that lies in the file.
fn mend_parquet(bytes: &mut [u8]) {
    let len = bytes.len();
    if len < 12 {
        return;
    }
    bytes[..4].copy_from_slice(b"PAR1");
    bytes[len - 4..].copy_from_slice(b"PAR1");
    let footer = u32::from_le_bytes([bytes[len - 8], bytes[len - 7], bytes[len - 6], bytes[len - 5]]) as usize;
    if footer > len - 12 {
        bytes[len - 8..len - 4].copy_from_slice(&((len - 12) as u32).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_made_again_and_the_next_is_another() {
        let corpus = [b"{\"id\": 1, \"bbox\": [1, 2, 3, 4]}".to_vec(), b"{}".to_vec(), Vec::new()];
        let all: Vec<Vec<u8>> = (0..2000).map(|index| input(5, "coco_json", index, &corpus)).collect();
        assert!((0..2000).all(|index| input(5, "coco_json", index, &corpus) == all[index as usize]));
        let distinct: std::collections::BTreeSet<&Vec<u8>> = all.iter().collect();
        assert!(distinct.len() > 1000, "{}", distinct.len());
        assert_ne!(all, (0..2000).map(|index| input(6, "coco_json", index, &corpus)).collect::<Vec<_>>());
        // The example of the PNG specification: the sum of an empty IEND.
        assert_eq!(crc32(b"IEND"), 0xae42_6082);
    }
}
