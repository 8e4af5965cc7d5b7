//! Sequences of frames: three objects that drift, turn and grow before a still ground, in front of one another. The masks of a
//! frame are [`Scene::labels`], exact to the pixel.

use super::scene::Scene;
use crate::random::{Purpose, Rng, RngExt, keyed};

/// Radii of the objects, from back to front.
const RADII_PX: [f32; 3] = [26.0, 22.0, 18.0];
/// Pixels that an object drifts from the first frame to the last, at most, across and down.
const DRIFT_PX: f32 = 44.0;
/// Radians that it turns.
const TURN: f32 = 0.8;
/// What its size is multiplied by at most, or divided.
const GROWTH: f32 = 1.25;

/// Moving objects before a ground.
#[derive(Debug, Clone)]
pub struct Sequence {
    first: Scene,
    motions: Vec<Motion>,
}

/// What becomes of an object from the first frame to the last.
#[derive(Debug, Clone, Copy)]
struct Motion {
    right_px: f32,
    down_px: f32,
    turn: f32,
    grown: f32,
}

impl Sequence {
    /// The sequence of a number, a function of it and the seed.
    pub fn random(seed: u64, number: u64) -> Self {
        let mut rng = keyed(seed, Purpose::Scene, 4, number);
        let first = Scene::of_objects(&mut rng, &RADII_PX);
        let motions = first.objects.iter().map(|object| Motion::random(&mut rng, object.bbox_px())).collect();
        Self { first, motions }
    }

    /// Objects that move.
    pub fn objects(&self) -> usize {
        self.motions.len()
    }

    /// The scene at a time, 0 the first frame and 1 the last.
    pub fn at(&self, time: f32) -> Scene {
        let mut scene = self.first.clone();
        for (object, motion) in scene.objects.iter_mut().zip(&self.motions) {
            let Motion { right_px, down_px, turn, grown } = *motion;
            *object = object.moved(right_px * time, down_px * time, turn * time, grown.powf(time));
        }
        scene
    }
}

impl Motion {
    /// A drift towards the other half of the image, so that no object leaves it.
    fn random(rng: &mut impl Rng, [x, y, width, height]: [f32; 4]) -> Self {
        let mut drift = |middle_px: f32| {
            let length = DRIFT_PX * (0.4 + 0.6 * rng.random::<f32>());
            if middle_px < super::SIDE_PX as f32 / 2.0 { length } else { -length }
        };
        let (right_px, down_px) = (drift(x + width / 2.0), drift(y + height / 2.0));
        let turn = TURN * (2.0 * rng.random::<f32>() - 1.0);
        Self { right_px, down_px, turn, grown: GROWTH.powf(2.0 * rng.random::<f32>() - 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::SIDE_PX;

    #[test]
    fn objects_stay_in_sight_move_and_hide_each_other_and_a_number_repeats() {
        let mut hidden = 0;
        for number in 0..8 {
            let sequence = Sequence::random(1, number);
            let [first, last] = [0.0, 1.0].map(|time| sequence.at(time).labels());
            assert_eq!(first, Sequence::random(1, number).at(0.0).labels());
            assert_eq!(first.len(), (SIDE_PX * SIDE_PX) as usize);
            for label in 1..=sequence.objects() as u8 {
                let area = |labels: &[u8]| labels.iter().filter(|l| **l == label).count();
                let both = first.iter().zip(&last).filter(|(a, b)| **a == label && **b == label).count();
                hidden += usize::from(area(&first) < 60 || area(&last) < 60);
                assert!(both < area(&first).max(area(&last)), "sequence {number}: object {label} does not move");
            }
        }
        assert!(hidden <= 6, "{hidden} of 48 are nearly hidden");
        assert_ne!(Sequence::random(1, 0).at(0.0).labels(), Sequence::random(2, 0).at(0.0).labels());
    }

    #[test]
    fn labels_are_where_the_painted_object_differs_from_the_ground() {
        let with = Sequence::random(3, 0).at(0.5);
        let mut without = with.clone();
        without.objects.clear();
        let (painted, ground) = (with.paint(), without.paint());
        let (mut objects, mut changed) = (0, 0);
        for ((label, seen), behind) in with.labels().iter().zip(painted.pixels()).zip(ground.pixels()) {
            let difference = seen.0.iter().zip(behind.0).map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0);
            if *label == 0 {
                // An object covers less than half of the pixel.
                assert!(difference < 140, "{seen:?} before {behind:?}");
            } else {
                objects += 1;
                changed += usize::from(difference > 8);
            }
        }
        assert!(objects > 1000 && changed * 10 > objects * 9, "{changed} of {objects}");
    }
}
