//! The colour of uniform images: a wall, a sky, a frame of black. Their hashes, thumbnails and descriptors are all
//! alike, so that of all that is kept of them only the colour tells them apart.

/// Levels of a channel by which copies of a uniform image differ at most, as JPEG and a change of format leave them.
pub(crate) const LEVELS_APART_MAX: u8 = 8;

/// Whether two mean colours are those of copies.
pub(crate) fn is_same_colour(a: [u8; 3], b: [u8; 3]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= LEVELS_APART_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_within_eight_levels_a_channel_are_the_same() {
        assert!(is_same_colour([10, 20, 30], [18, 12, 30]));
        assert!(!is_same_colour([10, 20, 30], [19, 20, 30]));
        assert!(!is_same_colour([20, 200, 20], [220, 20, 20]));
    }
}
