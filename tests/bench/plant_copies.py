"""Plants copies of photographs: a folder of originals and altered copies, and the table that says which is which.

    python plant_copies.py PHOTOS OUT [--each 20] [--seed 0] [--hard | --held-out]

OUT/images holds every photograph once, as the bytes it came as, and --each copies of every kind below, made from
photographs drawn without replacement (each photograph has at most one copy, while there are enough). OUT/truth.csv has a
line for each copy: path, copy_of, kind; a collage has two lines. With --hard the kinds are others, in which little of the
photograph is left as it was; with --held-out others again, on which nothing was tuned.
"""
import argparse
import csv
import io
import pathlib
import random
import shutil

import numpy
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps


def reencoded(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def crop(share):
    def cropped(image, rng, _):
        stretch = rng.uniform(0.9, 1.1)
        width = min(image.width, round(image.width * share**0.5 * stretch))
        height = min(image.height, round(image.height * share**0.5 / stretch))
        x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
        return image.crop((x, y, x + width, y + height))

    return cropped


def aspect(image, rng, _):
    factor = rng.choice([0.7, 0.8, 1.25, 1.4])
    return image.resize((round(image.width * factor), image.height), Image.BICUBIC)


def turned(image, rng, _):
    return image.rotate(rng.choice([-10, 10]), Image.BICUBIC, expand=rng.random() < 0.5)


def hue(image, rng, _):
    h, s, v = image.convert("HSV").split()
    shift = rng.choice([30, 64, 128, 200])
    return Image.merge("HSV", (h.point(lambda p: (p + shift) % 256), s, v)).convert("RGB")


def noise(image, rng, _):
    generator = numpy.random.default_rng(rng.randrange(2**32))
    pixels = numpy.asarray(image, dtype=numpy.float32)
    pixels = pixels + generator.normal(0, rng.uniform(15, 35), pixels.shape)
    return Image.fromarray(numpy.clip(pixels, 0, 255).astype(numpy.uint8))


WORDS = ["SALE 50%", "breaking news", "when you see it", "LAPIDARY", "subscribe!", "photo of the day", "me on monday"]
COLOURS = ["white", "yellow", "red", "black", "cyan", "magenta"]


def text(image, rng, _):
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(1, 3)):
        font = ImageFont.load_default(size=max(10, round(image.height * rng.uniform(0.07, 0.16))))
        place = (image.width * rng.uniform(0.02, 0.4), image.height * rng.uniform(0.02, 0.85))
        draw.text(place, rng.choice(WORDS), rng.choice(COLOURS), font, stroke_width=2, stroke_fill="black")
    return image


def face(draw, x, y, side):
    """A smiling face, the same on every photograph it is put on."""
    draw.ellipse((x, y, x + side, y + side), "gold", "black", max(1, side // 20))
    for eye in (0.28, 0.6):
        draw.ellipse((x + eye * side, y + 0.28 * side, x + (eye + 0.12) * side, y + 0.45 * side), "black")
    draw.arc((x + 0.2 * side, y + 0.3 * side, x + 0.8 * side, y + 0.8 * side), 20, 160, "black", max(2, side // 14))


def stickers(image, rng, _):
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 4)):
        side = round(min(image.size) * rng.uniform(0.15, 0.35))
        x, y = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
        shape = rng.choice(["face", "face", "star", "box"])
        if shape == "face":
            face(draw, x, y, side)
        elif shape == "star":
            draw.regular_polygon((x + side / 2, y + side / 2, side / 2), 3, rng.randint(0, 90), rng.choice(COLOURS))
            draw.regular_polygon((x + side / 2, y + side / 2, side / 2), 3, rng.randint(0, 90), rng.choice(COLOURS))
        else:
            draw.rectangle((x, y, x + side, y + side * 0.6), rng.choice(COLOURS), "black", 3)
    return image


def border(image, rng, _):
    width = round(min(image.size) * rng.uniform(0.06, 0.15))
    return ImageOps.expand(image, (width, width, width, rng.choice([width, 3 * width])), rng.choice(["white", "black", "navy"]))


def collage(image, rng, other):
    if rng.random() < 0.5:
        height = 320
        parts = [p.resize((round(p.width * height / p.height), height), Image.LANCZOS) for p in (image, other)]
        sheet = Image.new("RGB", (parts[0].width + parts[1].width + 8, height), "white")
        places = [(0, 0), (parts[0].width + 8, 0)]
    else:
        width = 400
        parts = [p.resize((width, round(p.height * width / p.width)), Image.LANCZOS) for p in (image, other)]
        sheet = Image.new("RGB", (width, parts[0].height + parts[1].height), "white")
        places = [(0, 0), (0, parts[0].height)]
    for part, place in zip(parts, places):
        sheet.paste(part, place)
    return sheet


def several(image, rng, other):
    image = crop(rng.uniform(0.5, 0.8))(image, rng, other)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    changes = [text, border, brightness, contrast, hue, noise, turned, stickers]
    for change in rng.sample(changes, 2):
        image = change(image, rng, other)
    image = image.resize((round(image.width * 0.7), round(image.height * 0.7)), Image.BICUBIC)
    return reencoded(image, 40)


def brightness(image, rng, _):
    return ImageEnhance.Brightness(image).enhance(rng.choice([0.5, 0.65, 1.4, 1.7]))


def contrast(image, rng, _):
    return ImageEnhance.Contrast(image).enhance(rng.choice([0.4, 0.6, 1.6, 2.0]))


KINDS = {
    "exact": None,
    "jpeg-50": lambda image, rng, _: reencoded(image, 50),
    "jpeg-20": lambda image, rng, _: reencoded(image, 20),
    "half-size": lambda image, rng, _: image.resize((image.width // 2, image.height // 2), Image.BICUBIC),
    "aspect": aspect,
    "crop-90": crop(0.9),
    "crop-70": crop(0.7),
    "crop-50": crop(0.5),
    "crop-30": crop(0.3),
    "mirror": lambda image, rng, _: ImageOps.mirror(image),
    "turn-90": lambda image, rng, _: image.transpose(rng.choice([Image.ROTATE_90, Image.ROTATE_270])),
    "turn-10": turned,
    "brightness": brightness,
    "contrast": contrast,
    "hue": hue,
    "gray": lambda image, rng, _: image.convert("L").convert("RGB"),
    "blur": lambda image, rng, _: image.filter(ImageFilter.GaussianBlur(rng.uniform(2, 5))),
    "noise": noise,
    "text": text,
    "stickers": stickers,
    "border": border,
    "collage": collage,
    "several": several,
}


def covered(image, rng, _):
    """Half of it under a flat panel."""
    image, share = image.copy(), rng.uniform(0.45, 0.55)
    width, height = image.size
    boxes = [
        (0, 0, round(share * width), height), (round((1 - share) * width), 0, width, height),
        (0, 0, width, round(share * height)), (0, round((1 - share) * height), width, height),
    ]
    ImageDraw.Draw(image).rectangle(rng.choice(boxes), tuple(rng.randrange(256) for _ in range(3)))
    return image


def in_page(image, rng, _):
    """A small picture, 40 % of the width, in a page of text."""
    width, height = rng.choice([(900, 700), (760, 1000)])
    page = Image.new("RGB", (width, height), rng.choice(["white", "ivory", "lavender", "gainsboro"]))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, width, rng.randint(30, 70)), rng.choice(["navy", "darkred", "teal", "dimgray"]))
    size = (round(0.4 * width), round(0.4 * width * image.height / image.width))
    x, y = rng.randint(20, width - size[0] - 20), rng.randint(90, max(91, height - size[1] - 20))
    step = rng.randint(18, 26)
    for line in range(90, height - step, step):
        words = " ".join(rng.choice(WORDS + KINDS_OF_NOISE) for _ in range(rng.randint(4, 9)))
        draw.text((24, line), words, "black", ImageFont.load_default(size=round(0.6 * step)))
    draw.rectangle((x - 8, y - 8, x + size[0] + 8, y + size[1] + 8), page.getpixel((2, height - 2)))
    page.paste(image.resize(size, Image.LANCZOS), (x, y))
    return page


KINDS_OF_NOISE = ["river", "granite", "to be continued", "of the", "seventeen", "however", "market", "was seen", "again,"]


def blend(share):
    return lambda image, rng, other: Image.blend(image, other.resize(image.size, Image.BICUBIC), 1 - share)


def vignette(image, rng, _):
    """Dark towards the corners, with nothing left there."""
    y, x = numpy.mgrid[0 : image.height, 0 : image.width]
    off = numpy.hypot(2 * x / image.width - 1 - rng.uniform(-0.3, 0.3), 2 * y / image.height - 1 - rng.uniform(-0.3, 0.3))
    gain = numpy.clip(1 - (off / rng.uniform(1.0, 1.3)) ** rng.uniform(1.5, 3), 0.03, 1)[..., None]
    return Image.fromarray((numpy.asarray(image) * gain).astype(numpy.uint8))


def warped(image, rng, spread, background):
    """Seen from aside: each corner moves inwards by up to `spread` of a side."""
    width, height = image.size
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    moved = [
        (abs(x - rng.uniform(0, spread) * width), abs(y - rng.uniform(0, spread) * height)) for x, y in corners
    ]
    rows = []
    for (x, y), (u, v) in zip(moved, corners):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    terms = numpy.linalg.solve(numpy.array(rows, dtype=float), numpy.array(corners, dtype=float).ravel())
    return image.transform(image.size, Image.PERSPECTIVE, terms.tolist(), Image.BICUBIC, fillcolor=background)


def perspective(image, rng, _):
    return warped(image, rng, 0.18, rng.choice(["black", "white", "gray"]))


def screen_photo(image, rng, other):
    """A photograph of a screen: seen from aside, with moire and other light."""
    y, x = numpy.mgrid[0 : image.height, 0 : image.width]
    rate = [rng.uniform(1.7, 2.6) for _ in range(4)]
    moire = 1 + rng.uniform(0.06, 0.16) * numpy.sin(rate[0] * x + 0.1 * rate[1] * y) * numpy.sin(rate[2] * y + 0.1 * rate[3] * x)
    pixels = numpy.asarray(image, dtype=float) * moire[..., None] * rng.uniform(0.6, 1.1) + rng.uniform(0, 40)
    shown = ImageOps.expand(Image.fromarray(numpy.clip(pixels, 0, 255).astype(numpy.uint8)), round(0.06 * image.width), "black")
    seen = warped(shown, rng, 0.12, (90, 80, 70)).filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.2)))
    return reencoded(noise(seen, rng, None) if rng.random() < 0.5 else seen, 60)


def pixelated(image, rng, _):
    """A part of it in squares."""
    image = image.copy()
    width, height = round(0.5 * image.width), round(0.6 * image.height)
    x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    part = image.crop((x, y, x + width, y + height))
    side = rng.randint(10, 20)
    small = part.resize((max(1, width // side), max(1, height // side)), Image.BOX)
    image.paste(small.resize(part.size, Image.NEAREST), (x, y))
    return image


def phone(image, rng, _):
    """A screenshot of a telephone: bars above and below, text under the picture."""
    page = Image.new("RGB", (540, 1100), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, 540, 90), rng.choice(["black", "royalblue", "seagreen"]))
    draw.text((30, 40), rng.choice(WORDS), "white", ImageFont.load_default(size=30))
    shown = image.resize((540, round(540 * image.height / image.width)))
    top = rng.randint(100, 250)
    page.paste(shown, (0, top))
    for line in range(4):
        place = (30, top + min(shown.height, 700) + 30 + 36 * line)
        draw.text(place, " ".join(rng.sample(WORDS, 2)), "black", ImageFont.load_default(size=22))
    draw.rectangle((0, 1030, 540, 1100), "black")
    return page


def solarised(image, rng, _):
    return ImageOps.solarize(image, rng.randint(150, 200))


def turned_cut(image, rng, _):
    """Turned by a third of a right angle and cut to what is filled."""
    turned = image.rotate(rng.choice([-30, 30, 45]), Image.BICUBIC)
    width, height = image.width // 2, image.height // 2
    return turned.crop((width // 2, height // 2, width // 2 + width, height // 2 + height))


HARD_KINDS = {
    "covered": covered,
    "inverted": lambda image, rng, _: ImageOps.invert(image),
    "in-page": in_page,
    "blend-60": blend(0.6),
    "vignette": vignette,
    "posterised": lambda image, rng, _: ImageOps.posterize(image, 2),
    "screen-photo": screen_photo,
    "perspective": perspective,
    "crop-20": crop(0.2),
}
HELD_OUT_KINDS = {
    "pixelated": pixelated,
    "phone": phone,
    "solarised": solarised,
    "turned-cut": turned_cut,
    "covered-text": lambda image, rng, _: text(covered(image, rng, _), rng, _),
    "inverted-jpeg": lambda image, rng, _: reencoded(ImageOps.invert(image).resize((image.width // 2, image.height // 2)), 40),
    "blend-65-half": lambda image, rng, other: blend(0.65)(image, rng, other).resize((image.width // 2, image.height // 2)),
}
BLENDED = ("collage", "blend-60", "blend-65-half")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hard", action="store_true")
    parser.add_argument("--held-out", action="store_true")
    asked = parser.parse_args()
    kinds = HARD_KINDS if asked.hard else HELD_OUT_KINDS if asked.held_out else KINDS
    photos = sorted(p for p in asked.photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    folder = asked.out / "images"
    folder.mkdir(parents=True)
    for number, photo in enumerate(photos):
        shutil.copy(photo, folder / f"photo-{number:05}{photo.suffix}")
    rng = random.Random(asked.seed)
    order = []

    def drawn():
        """The number of a photograph that had no copy yet; all may have another when none is left."""
        if not order:
            order.extend(rng.sample(range(len(photos)), len(photos)))
        return order.pop()

    with open(asked.out / "truth.csv", "w", newline="") as file:
        truth = csv.writer(file, lineterminator="\n")
        truth.writerow(["path", "copy_of", "kind"])
        for kind, change in kinds.items():
            for number in range(asked.each):
                source = drawn()
                other = drawn() if kind in BLENDED else None
                copy = f"{kind}-{number:02}.jpg"
                if change is None:
                    copy = f"{kind}-{number:02}{photos[source].suffix}"
                    shutil.copy(photos[source], folder / copy)
                else:
                    image = Image.open(photos[source]).convert("RGB")
                    second = other is not None and Image.open(photos[other]).convert("RGB")
                    change(image, rng, second).save(folder / copy, quality=rng.randint(75, 95))
                if other is not None and kind != "collage":
                    # What is blended in is a photograph that the folder does not have.
                    (folder / f"photo-{other:05}{photos[other].suffix}").unlink()
                    other = None
                for original in (source, other):
                    if original is not None:
                        truth.writerow([copy, f"photo-{original:05}{photos[original].suffix}", kind])
    print(f"{len(photos)} photographs, {asked.each} copies of each of {len(kinds)} kinds")


main()
