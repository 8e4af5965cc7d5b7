//! Affine maps of the plane, and the ones that fit matches of keypoints best.

use crate::fingerprints::{Keypoint, LocalFeatures};

/// The largest ratio of a map's two scales, and the range of either.
const SQUEEZE_MAX: f32 = 2.2;
const SCALE_RANGE: (f32, f32) = (0.12, 8.0);

/// A map of the plane: `x' = m[0] x + m[1] y + m[2]`, `y' = m[3] x + m[4] y + m[5]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Affine(pub(crate) [f32; 6]);

impl Affine {
    pub(crate) fn apply(&self, x: f32, y: f32) -> (f32, f32) {
        let m = &self.0;
        (m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5])
    }

    /// The factor by which areas grow; negative in a mirror.
    pub(crate) fn determinant(&self) -> f32 {
        self.0[0] * self.0[4] - self.0[1] * self.0[3]
    }

    /// The map back.
    pub(crate) fn inverse(&self) -> Self {
        let m = &self.0;
        let d = self.determinant();
        let (a, b, c, e) = (m[4] / d, -m[1] / d, -m[3] / d, m[0] / d);
        Self([a, b, -(a * m[2] + b * m[5]), c, e, -(c * m[2] + e * m[5])])
    }

    /// The larger and the smaller of its two scales.
    pub(super) fn scales(&self) -> (f32, f32) {
        let m = &self.0;
        let (sum, difference) = ((m[0] + m[4]).hypot(m[3] - m[1]), (m[0] - m[4]).hypot(m[3] + m[1]));
        ((sum + difference) / 2.0, (sum - difference).abs() / 2.0)
    }

    pub(super) fn is_plausible(&self) -> bool {
        let (large, small) = self.scales();
        large <= SCALE_RANGE.1 && small >= SCALE_RANGE.0 && large <= SQUEEZE_MAX * small
    }
}

pub(super) fn similarity_of(from: &Keypoint, to: &Keypoint) -> Affine {
    let scale = to.sigma / from.sigma;
    let (sin, cos) = (to.angle - from.angle).sin_cos();
    let (p, q) = (scale * cos, scale * sin);
    Affine([p, -q, to.x - (p * from.x - q * from.y), q, p, to.y - (q * from.x + p * from.y)])
}

/// A map for the image itself, from one for its mirror image.
pub(super) fn after_reflection(map: &Affine, width: f32) -> Affine {
    let m = &map.0;
    let shift = width - 1.0;
    Affine([-m[0], m[1], m[0] * shift + m[2], -m[3], m[4], m[3] * shift + m[5]])
}

/// The affine map with the least sum of squared distances.
pub(super) fn least_squares_affine(
    sources: &[Keypoint],
    b: &LocalFeatures,
    matches: &[(usize, usize)],
) -> Option<Affine> {
    let count = matches.len() as f64;
    let point = |k: &Keypoint| [f64::from(k.x), f64::from(k.y)];
    let (mut centre, mut target) = ([0f64; 2], [0f64; 2]);
    for (i, j) in matches {
        let (p, q) = (point(&sources[*i]), point(&b.keypoints[*j]));
        (0..2).for_each(|c| (centre[c] += p[c] / count, target[c] += q[c] / count).0);
    }
    let (mut xx, mut xy, mut yy) = (0f64, 0f64, 0f64);
    let mut sums = [[0f64; 2]; 2];
    for (i, j) in matches {
        let (p, q) = (point(&sources[*i]), point(&b.keypoints[*j]));
        let (dx, dy) = (p[0] - centre[0], p[1] - centre[1]);
        (xx, xy, yy) = (xx + dx * dx, xy + dx * dy, yy + dy * dy);
        for (c, sum) in sums.iter_mut().enumerate() {
            let d = q[c] - target[c];
            (sum[0], sum[1]) = (sum[0] + dx * d, sum[1] + dy * d);
        }
    }
    let determinant = xx * yy - xy * xy;
    // Places on a line say nothing of what lies beside it.
    if determinant < 1e-3 * (xx + yy).powi(2) {
        return least_squares_similarity(sources, b, matches);
    }
    let mut map = [0f32; 6];
    for (c, sum) in sums.iter().enumerate() {
        let (p, q) = ((sum[0] * yy - sum[1] * xy) / determinant, (sum[1] * xx - sum[0] * xy) / determinant);
        map[3 * c] = p as f32;
        map[3 * c + 1] = q as f32;
        map[3 * c + 2] = (target[c] - p * centre[0] - q * centre[1]) as f32;
    }
    Some(Affine(map))
}

/// The rotation, scale and shift with the least sum of squared distances.
pub(super) fn least_squares_similarity(
    sources: &[Keypoint],
    b: &LocalFeatures,
    matches: &[(usize, usize)],
) -> Option<Affine> {
    let count = matches.len() as f32;
    let mean = |f: &dyn Fn(&(usize, usize)) -> f32| matches.iter().map(f).sum::<f32>() / count;
    let centre = (mean(&|m| sources[m.0].x), mean(&|m| sources[m.0].y));
    let target = (mean(&|m| b.keypoints[m.1].x), mean(&|m| b.keypoints[m.1].y));
    let (mut along, mut across, mut square) = (0f32, 0f32, 0f32);
    for (i, j) in matches {
        let (px, py) = (sources[*i].x - centre.0, sources[*i].y - centre.1);
        let (qx, qy) = (b.keypoints[*j].x - target.0, b.keypoints[*j].y - target.1);
        along += px * qx + py * qy;
        across += px * qy - py * qx;
        square += px * px + py * py;
    }
    if square < 1.0 {
        return None;
    }
    let (p, q) = (along / square, across / square);
    Some(Affine([p, -q, target.0 - (p * centre.0 - q * centre.1), q, p, target.1 - (q * centre.0 + p * centre.1)]))
}
