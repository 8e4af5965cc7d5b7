//! A keypoint: its place, scale and direction, and how a table stores them.

/// A place in an image that is found again in its copies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Keypoint {
    /// In pixels of the working image.
    pub(crate) x: f32,
    pub(crate) y: f32,
    /// Blur of the level it was found at, in pixels of the working image.
    pub(crate) sigma: f32,
    /// The direction of its strongest gradients, in radians, 0 to 2 pi, from x towards y.
    pub(crate) angle: f32,
}

const ANGLE_UNITS: f32 = 65_536.0 / std::f32::consts::TAU;
const PLACE_UNITS: f32 = 64.0;
const SIGMA_UNITS: f32 = 256.0;

impl Keypoint {
    /// As tables have it: x, y, sigma and angle.
    pub(crate) fn to_stored(self) -> [u16; 4] {
        let rounded = |value: f32, units: f32| (value * units).round().clamp(0.0, 65_535.0) as u16;
        let angle = (self.angle * ANGLE_UNITS).round() as u32 as u16;
        [rounded(self.x, PLACE_UNITS), rounded(self.y, PLACE_UNITS), rounded(self.sigma, SIGMA_UNITS), angle]
    }

    /// From a table.
    pub(crate) fn from_stored([x, y, sigma, angle]: [u16; 4]) -> Self {
        let [x, y, sigma, angle] = [x, y, sigma, angle].map(f32::from);
        Self { x: x / PLACE_UNITS, y: y / PLACE_UNITS, sigma: sigma / SIGMA_UNITS, angle: angle / ANGLE_UNITS }
    }
}

/// A keypoint and where in the scale space it was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) keypoint: Keypoint,
    pub(crate) octave: usize,
    pub(crate) level: usize,
    pub(super) strength: f32,
}

impl Found {
    /// Its place and blur in pixels of its octave.
    pub(crate) fn in_octave(&self) -> (f32, f32, f32) {
        let shrink = 1.0 / (1 << self.octave) as f32;
        (self.keypoint.x * shrink, self.keypoint.y * shrink, self.keypoint.sigma * shrink)
    }
}
