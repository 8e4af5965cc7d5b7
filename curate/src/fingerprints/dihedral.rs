//! The dihedral group of the square: the eight ways to turn and mirror an image onto its own axes.

/// A quarter turn, a mirror, or both: how a copy's pixels follow from the original's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dihedral {
    /// As it is.
    None,
    /// Left and right changed.
    Mirror,
    /// Top and bottom changed.
    UpsideDown,
    /// Half a dihedral.
    Half,
    /// Rows and columns changed.
    Transpose,
    /// A quarter turn anticlockwise.
    Left,
    /// A quarter turn clockwise.
    Right,
    /// Rows and columns changed along the other diagonal.
    Transverse,
}

impl Dihedral {
    /// All eight, the identity first.
    pub(crate) const ALL: [Self; 8] = [
        Self::None,
        Self::Mirror,
        Self::UpsideDown,
        Self::Half,
        Self::Transpose,
        Self::Left,
        Self::Right,
        Self::Transverse,
    ];

    /// Whether rows and columns change places, and then whether columns and rows run backwards: value (row, column) of
    /// the transformed grid is value (column, row) or (row, column), reversed where it says so, of the grid itself.
    pub(crate) fn steps(self) -> (bool, bool, bool) {
        match self {
            Self::None => (false, false, false),
            Self::Mirror => (false, true, false),
            Self::UpsideDown => (false, false, true),
            Self::Half => (false, true, true),
            Self::Transpose => (true, false, false),
            Self::Left => (true, false, true),
            Self::Right => (true, true, false),
            Self::Transverse => (true, true, true),
        }
    }

    /// The place in a grid of `side` x `side`, row after row, that a place of the transformed grid shows.
    #[cfg(test)]
    pub(crate) fn source(self, row: usize, column: usize, side: usize) -> usize {
        let (transposed, mirrored, flipped) = self.steps();
        let row = if flipped { side - 1 - row } else { row };
        let column = if mirrored { side - 1 - column } else { column };
        if transposed { column * side + row } else { row * side + column }
    }

    /// The values of a transformed grid of `side` x `side`, row after row.
    pub(crate) fn transformed<T: Copy>(self, grid: &[T], side: usize) -> Vec<T> {
        let (transposed, mirrored, flipped) = self.steps();
        let mut values = Vec::with_capacity(side * side);
        for row in 0..side {
            let row = if flipped { side - 1 - row } else { row };
            let start = values.len();
            if transposed {
                values.extend((0..side).map(|column| grid[column * side + row]));
            } else {
                values.extend_from_slice(&grid[row * side..(row + 1) * side]);
            }
            if mirrored {
                values[start..].reverse();
            }
        }
        values
    }

    /// Its name in tables.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mirror => "mirror",
            Self::UpsideDown => "upside_down",
            Self::Half => "half",
            Self::Transpose => "transpose",
            Self::Left => "left",
            Self::Right => "right",
            Self::Transverse => "transverse",
        }
    }

    /// The transform that tables call so.
    pub(crate) fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dihedral| dihedral.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_do_what_their_names_say() {
        // 0 1 2 / 3 4 5 / 6 7 8
        let transformed =
            |dihedral: Dihedral| -> Vec<usize> { (0..9).map(|i| dihedral.source(i / 3, i % 3, 3)).collect() };
        assert_eq!(transformed(Dihedral::Mirror), [2, 1, 0, 5, 4, 3, 8, 7, 6]);
        assert_eq!(transformed(Dihedral::UpsideDown), [6, 7, 8, 3, 4, 5, 0, 1, 2]);
        assert_eq!(transformed(Dihedral::Half), [8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(transformed(Dihedral::Transpose), [0, 3, 6, 1, 4, 7, 2, 5, 8]);
        assert_eq!(transformed(Dihedral::Left), [2, 5, 8, 1, 4, 7, 0, 3, 6]);
        assert_eq!(transformed(Dihedral::Right), [6, 3, 0, 7, 4, 1, 8, 5, 2]);
        assert_eq!(transformed(Dihedral::Transverse), [8, 5, 2, 7, 4, 1, 6, 3, 0]);
        for dihedral in Dihedral::ALL {
            assert_eq!(dihedral.transformed(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 3), transformed(dihedral), "{dihedral:?}");
        }
    }
}
