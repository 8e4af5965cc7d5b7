"""Golden data for the executor's operators: what Pillow and torchvision make of two small images, given fixed parameters.

    pip install pillow==11.3.0 torch==2.9.1 torchvision==0.24.1 numpy==2.2.6 scikit-learn==1.7.2 safetensors
    python tests/golden/pixels.py tests/golden

Writes pixels.safetensors (uint8, height x width x 3, one tensor an image: `input.*` and `output.*`; `normalised.*` are
float32, 3 x height x width) and pixels.json (a list of cases: the operator, its parameters as a row of the plan has them,
the names of input and output). `drawn` is made by this script; `photo` is a piece of scikit-learn's china.jpg (by dany13,
CC BY 2.0).
"""

import io
import json
import sys

import numpy as np
import torchvision.transforms.functional as F
from PIL import Image, ImageFilter, ImageOps
from safetensors.numpy import save_file
from sklearn.datasets import load_sample_image
from torchvision.transforms import InterpolationMode


def drawn():
    """Smooth gradients, saturated stripes, noise and flat areas: 132 x 100."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:100, 0:132]
    image = np.stack([x * 255 / 131, y * 255 / 99, (x + y) % 256], -1)
    image[:40, :44] = rng.integers(0, 256, (40, 44, 3))
    image[40:60, 44:] = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [10, 10, 10], [250, 250, 250]])[
        (x[40:60, 44:] // 6) % 6
    ]
    image[70:, :30] = [37, 141, 202]
    return Image.fromarray(image.astype(np.uint8))


images = {"drawn": drawn(), "photo": Image.fromarray(load_sample_image("china.jpg")).crop((240, 100, 420, 240))}
tensors, cases = {}, []
for name, image in images.items():
    tensors[f"input.{name}"] = np.asarray(image).copy()


def case(op, name, output, **parameters):
    key = f"output.{len(cases):03}"
    tensors[key] = np.asarray(output.convert("RGB")).copy()
    cases.append({"op": op, "input": name, "output": key, **parameters})


def factor(value):
    """As plans store factors: in steps of 2^-14."""
    return round(value * 2**14) / 2**14


def turn(value):
    """As plans store turns of the hue: in steps of 2^-16."""
    return round(value * 2**16) / 2**16


def sigma(value):
    """As plans store radii of blurs: in steps of 2^-13."""
    return round(value * 2**13) / 2**13


MODES = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}
for name, image in images.items():
    width, height = image.size
    boxes = [
        (0, 0, width, height),
        (3, 5, 91, 64),
        (17, 11, 40, 53),
        (60, 30, 32, 32),
        (width - 50, height - 70, 50, 70),
        (1, 2, 7, 5),
    ]
    for box, size in zip(boxes * 2, [48, 64, 96, 32, 24, 16, 96, 24, 48, 24, 64, 32]):
        for filter_name, mode in MODES.items():
            x, y, w, h = box
            cropped = F.resized_crop(image, y, x, h, w, [size, size], mode)
            case("crop", name, cropped, x=x, y=y, w=w, h=h, size_px=size, interpolation=filter_name)
    square = F.resized_crop(image, 0, 0, 100, 100, [64, 64], MODES["bicubic"])
    tensors[f"input.{name}-square"] = np.asarray(square).copy()
    at = f"{name}-square"
    normalised = F.normalize(F.to_tensor(square), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    tensors[f"normalised.{at}"] = normalised.numpy()
    case("flip", at, F.hflip(square))
    case("grayscale", at, F.rgb_to_grayscale(square, 3))
    case("solarize", at, ImageOps.solarize(square, 128))
    for value in map(factor, [0.0, 0.2, 0.6, 0.83, 1.0, 1.17, 1.4, 2.0]):
        case("brightness", at, F.adjust_brightness(square, value), factor=value)
        case("contrast", at, F.adjust_contrast(square, value), factor=value)
        case("saturation", at, F.adjust_saturation(square, value), factor=value)
    for value in map(turn, [-0.5, -0.1, -0.037, 0.004, 0.011, 0.05, 0.1, 0.31]):
        case("hue", at, F.adjust_hue(square, value), factor=value)
    for value in map(sigma, [0.1, 0.3, 0.5, 0.8, 1.0, 1.37, 1.75, 2.0]):
        case("blur", at, square.filter(ImageFilter.GaussianBlur(value)), radius=value, blur="pillow")
        case("blur", at, F.gaussian_blur(square, [9, 9], [value, value]), radius=value, blur="torchvision")

OPS = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
rng = np.random.default_rng(11)
for index in range(16):
    name = list(images)[index % 2]
    image = images[name]
    w, h = int(rng.integers(30, 100)), int(rng.integers(30, 90))
    x, y = int(rng.integers(0, image.width - w + 1)), int(rng.integers(0, image.height - h + 1))
    factors = [factor(rng.uniform(0.6, 1.4)), factor(rng.uniform(0.6, 1.4)), factor(rng.uniform(0.8, 1.2))]
    factors.append(turn(rng.uniform(-0.1, 0.1)))
    order = [int(step) for step in rng.permutation(4)]
    flip, gray, solarize = bool(index & 1), index % 5 == 3, index % 7 == 2
    radius = sigma(rng.uniform(0.1, 2.0)) if index % 3 else 0.0
    view = F.resized_crop(image, y, x, h, w, [56, 56], MODES["bicubic"])
    if flip:
        view = F.hflip(view)
    for step in order:
        view = OPS[step](view, factors[step])
    if gray:
        view = F.rgb_to_grayscale(view, 3)
    if radius:
        view = view.filter(ImageFilter.GaussianBlur(radius))
    if solarize:
        view = ImageOps.solarize(view, 128)
    row = {"x": x, "y": y, "w": w, "h": h, "size_px": 56, "interpolation": "bicubic", "flip": flip, "factors": factors}
    case("view", name, view, order=order, grayscale=gray, radius=radius, blur="pillow", solarize=solarize, **row)


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


# Modes other than RGB, as files: what `Image.open(...).convert("RGB")` makes of them.
photo = images["photo"].resize((60, 47))
alpha = photo.copy()
alpha.putalpha(Image.linear_gradient("L").resize(photo.size))
deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
exif = Image.Exif()
exif[0x0112] = 6
files = {
    "gray.jpg": encoded(photo.convert("L"), format="JPEG", quality=90),
    "cmyk.jpg": encoded(photo.convert("CMYK"), format="JPEG", quality=90),
    "progressive.jpg": encoded(photo, format="JPEG", quality=85, progressive=True),
    "oriented.jpg": encoded(photo, format="JPEG", quality=90, exif=exif.tobytes()),
    "palette.png": encoded(photo.quantize(32), format="PNG"),
    "alpha.png": encoded(alpha, format="PNG"),
    "gray-alpha.png": encoded(alpha.convert("LA"), format="PNG"),
    "one-bit.png": encoded(photo.convert("1"), format="PNG"),
    "deep-gray.png": encoded(Image.fromarray(deep), format="PNG"),
    "palette.gif": encoded(photo.quantize(64), format="GIF"),
}
for name, data in files.items():
    tensors[f"file.{name}"] = np.frombuffer(data, np.uint8).copy()
    # Pillow clips 16-bit gray to white; what its high bytes show is wanted.
    shown = Image.fromarray((deep >> 8).astype(np.uint8)) if "deep" in name else Image.open(io.BytesIO(data))
    case("decode", name, shown.convert("RGB"))

save_file(tensors, f"{sys.argv[1]}/pixels.safetensors")
with open(f"{sys.argv[1]}/pixels.json", "w") as out:
    json.dump(cases, out, indent=0)
print(f"{len(cases)} cases, {sum(t.nbytes for t in tensors.values()) / 1e6:.1f} MB")
