"""Draws images that look alike and are no copies of each other: no two of them belong into one group.

    python lookalikes.py OUT [--each 30] [--seed 0]

Kinds: letters (one letterhead, other text), screens (one application, other contents), posters (one template, other pictures),
bars (charts of one style), curves (on one graph paper), receipts, sheets (of music), solids, gradients; with --more the kinds of
`lookalikes_more.py` as well, whose layouts are drawn from the seed; with --held-out those on which nothing was tuned, alone. Writes
OUT/images/KIND_NN.png (JPEG for letters and posters, and half of --more) and OUT/truth.csv without a pair. Needs Pillow and numpy.
"""

import argparse
import colorsys
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import lookalikes_more

WORDS = (
    "amber stone river mountain paper window garden engine letter market window forest signal copper harbour winter "
    "summer orange pencil mirror bridge planet yellow silver castle rocket violin anchor button candle dragon empire "
    "falcon guitar hammer island jacket kettle ladder magnet napkin oyster pillow quartz ribbon saddle tunnel urchin"
).split()


def font(size):
    return ImageFont.load_default(size)


def text(rng, words):
    return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), words))


def letter(rng, _):
    page = Image.new("RGB", (620, 877), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle([40, 40, 120, 90], fill=(30, 60, 140))
    draw.text((135, 45), "Amber & Stone Ltd.", font=font(28), fill=(30, 60, 140))
    draw.text((135, 78), "12 Harbour Road, Falcon Island", font=font(12), fill=(90, 90, 90))
    draw.line([40, 105, 580, 105], fill=(30, 60, 140), width=2)
    for line in range(int(rng.integers(18, 26))):
        draw.text((60, 150 + 24 * line), text(rng, int(rng.integers(6, 9))), font=font(15), fill=(20, 20, 20))
    return page


def screen(rng, _):
    page = Image.new("RGB", (800, 600), (245, 246, 248))
    draw = ImageDraw.Draw(page)
    draw.rectangle([0, 0, 800, 48], fill=(36, 41, 47))
    draw.text((20, 12), "Harbour", font=font(20), fill="white")
    draw.rectangle([0, 48, 180, 600], fill=(255, 255, 255))
    for row, name in enumerate(["Inbox", "Orders", "Customers", "Reports", "Settings"]):
        draw.text((24, 70 + 36 * row), name, font=font(16), fill=(60, 60, 60))
    for row in range(9):
        top = 64 + 58 * row
        draw.rectangle([196, top, 784, top + 48], fill="white", outline=(220, 220, 220))
        hue = tuple(int(255 * v) for v in colorsys.hsv_to_rgb(rng.random(), 0.5, 0.85))
        draw.ellipse([206, top + 8, 238, top + 40], fill=hue)
        draw.text((252, top + 6), text(rng, 3), font=font(15), fill=(20, 20, 20))
        draw.text((252, top + 26), text(rng, 5), font=font(12), fill=(110, 110, 110))
    return page


def scene(rng, width, height):
    """A picture of its own: clouds of colour and a few shapes."""
    small = rng.random((6, 8, 3)) * 255
    picture = Image.fromarray(small.astype("uint8")).resize((width, height), Image.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(20, 120, 2)
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)([x, y, x + w, y + h], fill=colour)
    return picture


def poster(rng, _):
    page = Image.new("RGB", (480, 680), (250, 240, 220))
    draw = ImageDraw.Draw(page)
    draw.rectangle([0, 0, 480, 110], fill=(180, 30, 40))
    draw.text((40, 26), "FALCON FESTIVAL", font=font(42), fill="white")
    page.paste(scene(rng, 400, 330), (40, 140))
    draw.text((40, 500), text(rng, 2).title(), font=font(34), fill=(40, 40, 40))
    draw.text((40, 560), "Harbour Hall, doors open at eight", font=font(20), fill=(40, 40, 40))
    draw.rectangle([0, 630, 480, 680], fill=(180, 30, 40))
    return page


def bars(rng, _):
    page = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(page)
    draw.line([60, 40, 60, 420, 610, 420], fill=(60, 60, 60), width=2)
    for row in range(1, 6):
        draw.line([60, 420 - 70 * row, 610, 420 - 70 * row], fill=(225, 225, 225))
        draw.text((22, 412 - 70 * row), str(20 * row), font=font(13), fill=(90, 90, 90))
    for bar in range(12):
        height = int(rng.integers(20, 350))
        draw.rectangle([78 + 44 * bar, 420 - height, 108 + 44 * bar, 420], fill=(60, 120, 200))
        draw.text((84 + 44 * bar, 428), "JFMAMJJASOND"[bar], font=font(14), fill=(60, 60, 60))
    draw.text((220, 10), "Sales by month", font=font(20), fill=(40, 40, 40))
    return page


def curves(rng, _):
    page = Image.new("RGB", (640, 480), (253, 252, 245))
    draw = ImageDraw.Draw(page)
    for x in range(0, 640, 16):
        draw.line([x, 0, x, 480], fill=(190, 215, 190) if x % 80 else (140, 180, 140))
    for y in range(0, 480, 16):
        draw.line([0, y, 640, y], fill=(190, 215, 190) if y % 80 else (140, 180, 140))
    phase, rate, swing = rng.random(3)
    x = np.arange(640)
    y = 240 + 180 * swing * np.sin(x / 640 * (4 + 16 * rate) + 7 * phase) + 40 * np.sin(x / 90 + 9 * swing)
    draw.line(list(zip(x.tolist(), y.tolist())), fill=(200, 40, 40), width=3)
    return page


def receipt(rng, _):
    page = Image.new("RGB", (320, 720), (250, 250, 246))
    draw = ImageDraw.Draw(page)
    draw.text((70, 24), "HARBOUR MARKET", font=font(20), fill=(30, 30, 30))
    draw.text((84, 52), "12 Harbour Road", font=font(13), fill=(60, 60, 60))
    for row in range(int(rng.integers(14, 20))):
        draw.text((24, 100 + 26 * row), text(rng, 2), font=font(14), fill=(30, 30, 30))
        draw.text((240, 100 + 26 * row), f"{rng.random() * 40:6.2f}", font=font(14), fill=(30, 30, 30))
    draw.text((84, 680), "THANK YOU", font=font(20), fill=(30, 30, 30))
    return page


def sheet(rng, _):
    page = Image.new("RGB", (600, 800), (253, 253, 250))
    draw = ImageDraw.Draw(page)
    for staff in range(9):
        top = 60 + 80 * staff
        for line in range(5):
            draw.line([40, top + 9 * line, 560, top + 9 * line], fill=(40, 40, 40))
        for note in range(18):
            x, y = 70 + 27 * note, top + 4.5 * int(rng.integers(-1, 9))
            draw.ellipse([x, y, x + 10, y + 8], fill=(10, 10, 10))
            draw.line([x + 10, y + 4, x + 10, y - 24], fill=(10, 10, 10), width=2)
    return page


def solid(rng, share):
    return Image.new("RGB", (320, 240), tuple(int(255 * v) for v in colorsys.hsv_to_rgb(share, 0.6, 0.8)))


def gradient(rng, share):
    angle = rng.random() * 2 * np.pi
    y, x = np.mgrid[0:240, 0:320] / 240.0
    along = x * np.cos(angle) + y * np.sin(angle)
    along = ((along - along.min()) / (along.max() - along.min()))[..., None]
    ends = [np.array(colorsys.hsv_to_rgb(hue, 0.6, value)) for hue, value in ((share, 0.95), (rng.random(), 0.4))]
    return Image.fromarray((255 * (ends[0] * (1 - along) + ends[1] * along)).astype("uint8"))


KINDS = {
    "letter": letter, "screen": screen, "poster": poster, "bars": bars, "curves": curves, "receipt": receipt, "sheet": sheet,
    "solid": solid, "gradient": gradient,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--each", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--held-out", action="store_true")
    arguments = parser.parse_args()
    if arguments.each > 30:
        parser.error("--each: colours come again after 30")
    images = arguments.out / "images"
    images.mkdir(parents=True, exist_ok=True)
    if arguments.held_out:
        lookalikes_more.draw(images, lookalikes_more.HELD_OUT, arguments.each, arguments.seed)
    for number, (kind, draw) in enumerate([] if arguments.held_out else KINDS.items()):
        rng = np.random.default_rng([arguments.seed, number])
        for index in range(arguments.each):
            picture = draw(rng, index / arguments.each)
            if kind in ("letter", "poster"):
                picture.save(images / f"{kind}_{index:02}.jpg", quality=88)
            else:
                picture.save(images / f"{kind}_{index:02}.png")
    if arguments.more:
        lookalikes_more.draw(images, lookalikes_more.KINDS, arguments.each, arguments.seed)
    (arguments.out / "truth.csv").write_text("a,b,kind\n")


if __name__ == "__main__":
    main()
