//! Masks as run lengths: how many pixels are outside, inside, outside and so on, column by column, as a list of numbers or as
//! pycocotools' text (cocodataset/cocoapi common/maskApi.c, rleFrString).

use super::{Mask, joined};

/// The mask of run lengths; none where they do not add up to the image.
pub(super) fn of_counts(counts: &[u32], (width_px, height_px): (u32, u32)) -> Option<Mask> {
    let mut ends = Vec::with_capacity(counts.len());
    let mut end = 0u32;
    for count in counts {
        end = end.checked_add(*count)?;
        ends.push(end);
    }
    if end != width_px.checked_mul(height_px)? {
        return None;
    }
    let filled = ends.windows(2).step_by(2).map(|pair| pair[0]..pair[1]);
    Some(Mask { width_px, height_px, filled: joined(filled) })
}

/// The run lengths in a text: six bits a character from `0` on, of which one says whether the number goes on and, in its last
/// character, one whether it is negative; from the fourth number on the difference to the one before the previous. None where a
/// number does not end, or is negative or too large in the end.
pub(super) fn counts_of_text(text: &str) -> Option<Vec<u32>> {
    let mut counts: Vec<u32> = Vec::new();
    let mut characters = text.bytes();
    while let Some(mut character) = characters.next() {
        let (mut value, mut bits) = (0i64, 0);
        loop {
            let six = character.checked_sub(b'0').filter(|six| *six < 64 && bits < 35)?;
            value |= i64::from(six & 31) << bits;
            bits += 5;
            if six & 32 == 0 {
                if six & 16 != 0 {
                    value |= -1 << bits;
                }
                break;
            }
            character = characters.next()?;
        }
        if counts.len() > 2 {
            value += i64::from(counts[counts.len() - 2]);
        }
        counts.push(u32::try_from(value).ok()?);
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_make_a_mask_and_what_does_not_add_up_is_none() {
        let mask = of_counts(&[2, 3, 0, 1, 6], (3, 4)).expect("12 pixels");
        assert_eq!((mask.filled.len(), mask.filled.first(), mask.area_px()), (1, Some(&(2..6)), 4));
        for wrong in [&[2, 3][..], &[13], &[], &[u32::MAX, 5, u32::MAX]] {
            assert_eq!(of_counts(wrong, (3, 4)), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_text_that_breaks_off_is_none() {
        assert_eq!(counts_of_text("52203").map(|counts| counts.len()), Some(5));
        // A number that goes on, a character below `0`, one above the 64, a negative count, a number without end.
        for wrong in ["5o", "5 2", "5\u{7f}", "O", "oooooooooooo1"] {
            assert_eq!(counts_of_text(wrong), None, "{wrong}");
        }
    }
}
