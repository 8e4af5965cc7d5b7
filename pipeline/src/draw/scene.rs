//! Scenes: a textured ground and objects of 8 classes, painted by signed distance.
//!
//! A class is a shape, the texture that fills it and a range of hues that overlaps its neighbours'; sizes, places, turns,
//! shades and grounds vary freely, and no two objects of a class have the same outline or the same texture: the shape is
//! stretched, sheared and wobbles, the texture has a pitch and a phase of its own. Only copies are alike in detail.

use super::unbalanced_class;
use crate::random::{Rng, RngExt};
use image::{Rgb, RgbImage};
use std::f32::consts::{PI, TAU};

/// Names of the classes.
pub const CLASSES: [&str; 8] = ["disc", "box", "triangle", "star", "ring", "cross", "crescent", "flower"];
/// Side of a scene.
pub const SIDE_PX: u32 = 128;

type Colour = [f32; 3];

/// An object in a scene.
#[derive(Debug, Clone)]
pub struct Object {
    /// Index into [`CLASSES`].
    pub class: usize,
    x_px: f32,
    y_px: f32,
    radius_px: f32,
    turn: f32,
    colours: [Colour; 2],
    form: Form,
}

/// How an object differs from the others of its class.
#[derive(Debug, Clone)]
struct Form {
    /// Across over down.
    stretch: f32,
    shear: f32,
    /// Phases of two waves along the outline.
    wobble: [f32; 2],
    /// Factor of the texture's frequencies.
    pitch: f32,
    /// Phases of the texture, across and down.
    phases: [f32; 2],
}

impl Form {
    fn random(rng: &mut impl Rng) -> Self {
        let mut between = |low: f32, high: f32| low + (high - low) * rng.random::<f32>();
        Self {
            stretch: between(0.85, 1.18),
            shear: between(-0.25, 0.25),
            wobble: [between(0.0, TAU), between(0.0, TAU)],
            pitch: between(0.7, 1.4),
            phases: [between(0.0, TAU), between(0.0, TAU)],
        }
    }

    /// The point of the plain shape that a point of the object shows.
    fn plain(&self, u: f32, v: f32) -> (f32, f32) {
        let (u, v) = (u * self.stretch + self.shear * v, v / self.stretch);
        let angle = v.atan2(u);
        let grow = 1.0 + 0.07 * (2.0 * angle + self.wobble[0]).sin() + 0.05 * (3.0 * angle + self.wobble[1]).sin();
        (u * grow, v * grow)
    }
}

/// A ground with objects on it.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The objects, from back to front.
    pub objects: Vec<Object>,
    ground: [Colour; 2],
    pattern: u32,
    frequency: f32,
    direction: f32,
    phases: [f32; 2],
    grain: u64,
}

impl Object {
    fn random(rng: &mut impl Rng, class: usize, radius_px: f32, margin: f32) -> Self {
        let side = SIDE_PX as f32;
        let mut place = || margin * radius_px + rng.random::<f32>() * (side - 2.0 * margin * radius_px);
        let (x_px, y_px) = (place(), place());
        let turn = 0.7 * (rng.random::<f32>() - 0.5);
        Self { class, x_px, y_px, radius_px, turn, colours: class_colours(rng, class), form: Form::random(rng) }
    }

    /// x, y, width and height of the disc that holds the object, cut at the image.
    pub fn bbox_px(&self) -> [f32; 4] {
        let side = SIDE_PX as f32;
        let (x, y) = ((self.x_px - self.radius_px).max(0.0), (self.y_px - self.radius_px).max(0.0));
        [x, y, (self.x_px + self.radius_px).min(side) - x, (self.y_px + self.radius_px).min(side) - y]
    }

    /// Area of that disc.
    pub fn area_px(&self) -> f32 {
        PI * self.radius_px * self.radius_px
    }

    /// The object elsewhere: so far to the right and down, turned by so many radians, larger by a factor.
    pub(super) fn moved(&self, right_px: f32, down_px: f32, turn: f32, grown: f32) -> Self {
        Self {
            x_px: self.x_px + right_px,
            y_px: self.y_px + down_px,
            turn: self.turn + turn,
            radius_px: self.radius_px * grown,
            ..self.clone()
        }
    }

    /// Colour at a point, and how much of the point the object covers (0 to 1).
    fn shade(&self, x: f32, y: f32) -> (Colour, f32) {
        let (dx, dy) = ((x - self.x_px) / self.radius_px, (y - self.y_px) / self.radius_px);
        if dx * dx + dy * dy > 1.3 {
            return (self.colours[0], 0.0);
        }
        let (sin, cos) = self.turn.sin_cos();
        let (u, v) = self.form.plain(dx * cos + dy * sin, dy * cos - dx * sin);
        let cover = (0.5 - distance(self.class, u, v) * self.radius_px).clamp(0.0, 1.0);
        let share = texture(self.class, u, v, &self.form);
        (mix(self.colours[0], self.colours[1], share), cover)
    }
}

impl Scene {
    /// A large object of an unbalanced class on a ground, and a small one behind it in every other scene.
    pub fn cluttered(rng: &mut impl Rng) -> Self {
        let mut scene = Self::ground(rng);
        if rng.random::<bool>() {
            let class = unbalanced_class(rng);
            let radius = 14.0 + 10.0 * rng.random::<f32>();
            scene.objects.push(Object::random(rng, class, radius, 1.0));
        }
        let class = unbalanced_class(rng);
        let radius = 44.0 + 16.0 * rng.random::<f32>();
        scene.objects.push(Object::random(rng, class, radius, 0.9));
        scene
    }

    /// One large object of a given class.
    pub fn single(rng: &mut impl Rng, class: usize) -> Self {
        let mut scene = Self::ground(rng);
        let radius = 44.0 + 16.0 * rng.random::<f32>();
        scene.objects.push(Object::random(rng, class, radius, 1.0));
        scene
    }

    /// Objects of these radii, each of another class, from back to front.
    pub(super) fn of_objects(rng: &mut impl Rng, radii_px: &[f32]) -> Self {
        let mut scene = Self::ground(rng);
        let first = rng.random_range(0..CLASSES.len());
        for (number, radius_px) in radii_px.iter().enumerate() {
            let class = (first + 3 * number) % CLASSES.len();
            scene.objects.push(Object::random(rng, class, *radius_px, 1.0));
        }
        scene
    }

    /// Which object is seen at each pixel, row by row: 0 for the ground, else 1 and its index in `objects`. An object is seen
    /// where it covers half of a pixel.
    pub fn labels(&self) -> Vec<u8> {
        let mut labels = Vec::with_capacity((SIDE_PX * SIDE_PX) as usize);
        for (y, x) in (0..SIDE_PX).flat_map(|y| (0..SIDE_PX).map(move |x| (y, x))) {
            let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
            let seen = self.objects.iter().rposition(|object| object.shade(x, y).1 >= 0.5);
            labels.push(seen.map_or(0, |index| index as u8 + 1));
        }
        labels
    }

    fn ground(rng: &mut impl Rng) -> Self {
        let first = muted(rng);
        Self {
            objects: Vec::new(),
            ground: [first, mix(first, muted(rng), 0.5)],
            pattern: rng.random_range(0..4),
            frequency: 0.03 + 0.12 * rng.random::<f32>(),
            direction: rng.random::<f32>() * TAU,
            phases: [rng.random::<f32>() * TAU, rng.random::<f32>() * TAU],
            grain: rng.next_u64(),
        }
    }

    /// Paints the scene, 128 px squared.
    pub fn paint(&self) -> RgbImage {
        RgbImage::from_fn(SIDE_PX, SIDE_PX, |x, y| {
            let grain = (hash(self.grain, x, y) - 0.5) * 0.06;
            let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
            let stains = 0.22 * clouds(self.grain, x, y, 17.0) + 0.16 * clouds(!self.grain, x, y, 7.0);
            let mut colour = mix(self.ground[0], self.ground[1], self.ground_share(x, y)).map(|c| c + stains);
            for (number, object) in self.objects.iter().enumerate() {
                let (shade, cover) = object.shade(x, y);
                // What is dirt on the ground is light and shade on an object.
                let light = 0.20 * clouds(self.grain.rotate_left(8 + number as u32), x, y, 13.0);
                colour = mix(colour, shade.map(|c| c + light), cover);
            }
            Rgb(colour.map(|c| ((c + grain).clamp(0.0, 1.0) * 255.0).round() as u8))
        })
    }

    fn ground_share(&self, x: f32, y: f32) -> f32 {
        let (sin, cos) = self.direction.sin_cos();
        let (u, v) = (x * cos + y * sin, y * cos - x * sin);
        // A slow bend of its own, so that no ground is a piece of another.
        let bend = |along: f32, phase: f32| 6.0 * (along * 0.045 + phase).sin();
        let (u, v) = ((u + bend(v, self.phases[0])) * self.frequency, (v + bend(u, self.phases[1])) * self.frequency);
        let wave = match self.pattern {
            0 => (u * TAU / 2.0).sin(),
            1 => (u * TAU / 2.0).sin() * (v * TAU / 2.0).sin(),
            2 => ((u + 0.6 * (v * 3.0).sin()) * 3.0).sin(),
            _ => (u * 0.7 + (v * 0.9).cos() * 2.0 + (u * 2.3 + v * 1.7).sin()).sin(),
        };
        0.5 + 0.5 * wave
    }
}

/// Signed distance, in radii, from the edge of a class's shape; negative inside.
fn distance(class: usize, u: f32, v: f32) -> f32 {
    let radius = u.hypot(v);
    let angle = v.atan2(u);
    match class {
        0 => radius - 0.85,
        1 => u.abs().max(v.abs()) - 0.7,
        2 => (v.max(u.abs() * 0.866 - v * 0.5)) - 0.48,
        3 => radius - (0.62 + 0.3 * (angle * 5.0).cos()),
        4 => (radius - 0.68).abs() - 0.22,
        5 => (u.abs().max(v.abs()) - 0.85).max(u.abs().min(v.abs()) - 0.27),
        6 => (radius - 0.85).max(0.72 - (u - 0.42).hypot(v)),
        _ => radius - (0.72 + 0.16 * (angle * 8.0).cos()),
    }
}

/// Share (0 to 1) of an object's second colour at a point.
fn texture(class: usize, u: f32, v: f32, form: &Form) -> f32 {
    let hard = |wave: f32| if wave > 0.0 { 1.0 } else { 0.0 };
    let Form { pitch, phases: [p, q], .. } = form;
    // Nothing grown or woven repeats exactly: each object's texture runs unevenly in its own way.
    let angle = v.atan2(u);
    let sector = angle + 0.22 * (2.0 * angle + p).sin() + 0.12 * (5.0 * angle + q).sin();
    let (u, v) = (
        u + 0.10 * (4.1 * v + p).sin() + 0.07 * (8.3 * u + 6.7 * v + q).sin(),
        v + 0.10 * (4.7 * u + q).sin() + 0.07 * (7.9 * v - 5.9 * u + p).sin(),
    );
    match class {
        0 => hard((u * 12.0 * pitch + p).sin()),
        1 => hard((u * 10.0 * pitch + p).sin() * (v * 10.0 * pitch + q).sin()),
        2 => 0.5 + 0.5 * (v * pitch + 0.4 * (u * 3.0 + p).sin()),
        3 => hard((sector * 5.0 + p).sin()),
        // A whole number of sectors, so that they meet.
        4 => hard((sector * (12.0 * pitch).round() + p).sin() + 0.5 * q.sin()),
        5 => hard((u * 14.0 * pitch + p).sin() * (v * 14.0 * pitch + q).sin() - 0.5),
        6 => hard((u.hypot(v) * 22.0 * pitch + p).sin()),
        _ => hard(0.3 * pitch - u.hypot(v)),
    }
}

fn mix(from: Colour, to: Colour, share: f32) -> Colour {
    std::array::from_fn(|c| from[c] + share * (to[c] - from[c]))
}

/// A muted colour, for grounds.
fn muted(rng: &mut impl Rng) -> Colour {
    let gray = 0.2 + 0.6 * rng.random::<f32>();
    std::array::from_fn(|_| gray + 0.3 * (rng.random::<f32>() - 0.5))
}

/// The two colours of an object: its class's hue, within a twelfth of a turn, and the one across the wheel; bright or dark,
/// strong or weak as it comes.
fn class_colours(rng: &mut impl Rng, class: usize) -> [Colour; 2] {
    let hue = class as f32 / CLASSES.len() as f32 + (rng.random::<f32>() - 0.5) / 6.0;
    let mut shade = |hue: f32| rgb_from_hsv(hue, 0.5 + 0.5 * rng.random::<f32>(), 0.4 + 0.6 * rng.random::<f32>());
    [shade(hue), shade(hue + 0.5)]
}

fn rgb_from_hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    [5.0, 3.0, 1.0].map(|offset: f32| {
        let k = (offset + hue * 6.0).rem_euclid(6.0);
        value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

/// Smooth noise between -0.5 and 0.5, `cell_px` from one value to the next; every seed has its own.
fn clouds(seed: u64, x: f32, y: f32, cell_px: f32) -> f32 {
    let (u, v) = (x / cell_px, y / cell_px);
    let (column, row) = (u as u32, v as u32);
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (s, t) = (ease(u.fract()), ease(v.fract()));
    let at = |dx: u32, dy: u32| hash(seed, column + dx, row + dy) - 0.5;
    let above = at(0, 0) + s * (at(1, 0) - at(0, 0));
    let below = at(0, 1) + s * (at(1, 1) - at(0, 1));
    above + t * (below - above)
}

/// A value in 0 to 1 for a pixel, from an integer hash (SplitMix64's finaliser).
fn hash(seed: u64, x: u32, y: u32) -> f32 {
    let mut z = seed ^ (u64::from(x) << 32 | u64::from(y)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}
