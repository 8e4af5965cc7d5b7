//! The map that carries one image of a pair onto the other, from unit square to unit square: what the viewer lays one over the
//! other by.

/// x' = m0 x + m1 y + m2, y' = m3 x + m4 y + m5, where (0, 0) is an image's upper left corner and (1, 1) its lower right one.
pub(super) type UnitMap = [f64; 6];

/// From a map between working pixels, of images of these widths and heights.
pub(super) fn of_affine(
    map: [f64; 6],
    (width_a, height_a): (f64, f64),
    (width_b, height_b): (f64, f64),
) -> Option<UnitMap> {
    let all = [width_a, height_a, width_b, height_b];
    let is_sound = all.iter().all(|side| *side > 0.0) && map.iter().all(|value| value.is_finite());
    is_sound.then(|| {
        let [m0, m1, m2, m3, m4, m5] = map;
        [
            m0 * width_a / width_b,
            m1 * height_a / width_b,
            m2 / width_b,
            m3 * width_a / height_b,
            m4 * height_a / height_b,
            m5 / height_b,
        ]
    })
}

/// From the code of a dihedral transform, as `pairs.turn` has it: what makes the second image of the first.
pub(super) fn of_turn(code: &str) -> Option<UnitMap> {
    // Whether rows and columns change places, then whether columns and rows of the second run backwards.
    let (transposed, mirrored, flipped) = match code {
        "none" => (false, false, false),
        "mirror" => (false, true, false),
        "upside_down" => (false, false, true),
        "half" => (false, true, true),
        "transpose" => (true, false, false),
        "left" => (true, false, true),
        "right" => (true, true, false),
        "transverse" => (true, true, true),
        _ => return None,
    };
    let (x, y) = if transposed { ([0.0, 1.0], [1.0, 0.0]) } else { ([1.0, 0.0], [0.0, 1.0]) };
    let reversed = |[a, b]: [f64; 2], backwards: bool| if backwards { [-a, -b, 1.0] } else { [a, b, 0.0] };
    let ([a, b, c], [d, e, f]) = (reversed(x, mirrored), reversed(y, flipped));
    Some([a, b, c, d, e, f])
}

/// As `report.js` reads it.
pub(super) fn text(map: &UnitMap) -> String {
    map.map(|value| format!("{value:.5}")).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
    use image::{Rgb, RgbImage};

    fn carried(map: &UnitMap, (x, y): (f64, f64)) -> (f64, f64) {
        (map[0] * x + map[1] * y + map[2], map[3] * x + map[4] * y + map[5])
    }

    #[test]
    fn turns_carry_each_pixel_to_where_the_turned_image_has_it() {
        let image = RgbImage::from_fn(4, 3, |x, y| Rgb([x as u8, y as u8, 7]));
        let turned = [
            ("none", image.clone()),
            ("mirror", flip_horizontal(&image)),
            ("upside_down", flip_vertical(&image)),
            ("half", rotate180(&image)),
            ("right", rotate90(&image)),
            ("left", rotate270(&image)),
            ("transpose", flip_horizontal(&rotate90(&image))),
            ("transverse", flip_horizontal(&rotate270(&image))),
        ];
        for (code, other) in turned {
            let map = of_turn(code).expect("it is known");
            for (x, y, pixel) in image.enumerate_pixels() {
                let (u, v) = carried(&map, ((f64::from(x) + 0.5) / 4.0, (f64::from(y) + 0.5) / 3.0));
                let place = ((u * f64::from(other.width())) as u32, (v * f64::from(other.height())) as u32);
                assert_eq!(other.get_pixel(place.0, place.1), pixel, "{code} at {x}, {y}");
            }
        }
        assert_eq!(of_turn("sideways"), None);
    }

    #[test]
    fn an_affine_map_is_the_same_in_units() {
        let (a, b) = ((200.0, 100.0), (50.0, 80.0));
        let map = [0.25, 0.1, 3.0, -0.05, 0.7, 4.0];
        let unit = of_affine(map, a, b).expect("it is sound");
        let (u, v) = carried(&unit, (40.0 / 200.0, 30.0 / 100.0));
        let (x, y) = (0.25 * 40.0 + 0.1 * 30.0 + 3.0, -0.05 * 40.0 + 0.7 * 30.0 + 4.0);
        assert!((u - x / 50.0).abs() < 1e-12 && (v - y / 80.0).abs() < 1e-12);
        assert_eq!(of_affine(map, (0.0, 1.0), b), None);
        assert_eq!(of_affine([f64::NAN; 6], a, b), None);
    }
}
