//! Each operator of the executor alone, on a view of 224 px: `cargo bench --workspace --bench operators`.

use criterion::Criterion;
use image::RgbImage;
use lapidary_pipeline::pixels::{Executor, Raster, normalise_into};
use lapidary_pipeline::plan::{Crop, Jitter, View};
use lapidary_schemas::ImageId;
use lapidary_schemas::config::{BlurKind, Interpolation};

const SIDE: u16 = 224;
const PLAIN: Jitter = Jitter { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0, order: 0 };

/// A view that copies the upper left corner.
fn copied() -> View {
    View::of_crop(ImageId(1), Crop { x_px: 0, y_px: 0, width_px: SIDE, height_px: SIDE }, SIDE)
}

fn operators(criterion: &mut Criterion) {
    let scene = RgbImage::from_fn(640, 480, |x, y| image::Rgb([(x * 3) as u8, (y * 5) as u8, ((x * y) >> 5) as u8]));
    let image = Raster::from(&scene);
    let jittered = |jitter| View { jitter: Some(jitter), ..copied() };
    let whole = Crop { x_px: 0, y_px: 0, width_px: 640, height_px: 480 };
    let cases = [
        ("copy (in all that follow)", copied()),
        ("crop of 640 x 480, bicubic", View { crop: whole, ..copied() }),
        ("crop of 640 x 480, bilinear", View { crop: whole, interpolation: Interpolation::Bilinear, ..copied() }),
        ("flip", View { flip: true, ..copied() }),
        ("brightness, contrast and saturation of 1", jittered(PLAIN)),
        ("the same and hue", jittered(Jitter { hue: 0.1, ..PLAIN })),
        ("grayscale", View { grayscale: true, ..copied() }),
        ("blur, Pillow's", View { blur_radius_px: 1.5, ..copied() }),
        ("blur, torchvision's", View { blur_radius_px: 1.5, blur: BlurKind::Torchvision, ..copied() }),
        ("solarize", View { solarize: true, ..copied() }),
    ];
    let mut executor = Executor::default();
    for (name, view) in cases {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| executor.render(&image, &view).expect("renders").pixels()[0])
        });
    }
    let rendered = executor.render(&image, &copied()).expect("renders").clone();
    let mut pixels = vec![0f32; 3 * usize::from(SIDE).pow(2)];
    criterion.bench_function("normalise", |bencher| bencher.iter(|| normalise_into(&rendered, &mut pixels)));
}

fn main() {
    operators(&mut Criterion::default().configure_from_args());
}
