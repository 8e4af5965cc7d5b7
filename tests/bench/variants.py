"""Distinct images in any number, from real ones: each image of CIFAR-10 and Tiny ImageNet, and seven drawn variants of it.

    python variants.py DATA OUT --images 1000000

DATA is the folder that holds cifar10/ and tiny-imagenet/. OUT/*.parquet have the column image: struct<bytes, path>, 20,000 rows
a file. A variant is a crop of half to nine tenths of the area at a drawn place, resized to the image's size, every other one
mirrored, with drawn brightness, contrast and saturation, saved as JPEG of quality 88. The same number gives the same images.
"""
import argparse
import io
import multiprocessing
import pathlib
import random

import pyarrow
import pyarrow.parquet
from PIL import Image, ImageEnhance, ImageOps

VARIANTS = 8
ROWS = 20_000


def variant(image, rng):
    share, stretch = rng.uniform(0.5, 0.9), rng.uniform(0.85, 1.18)
    width = min(image.width, round(image.width * (share * stretch) ** 0.5))
    height = min(image.height, round(image.height * (share / stretch) ** 0.5))
    x, y = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    image = image.resize(image.size, Image.BICUBIC, box=(x, y, x + width, y + height))
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(rng.uniform(0.6, 1.4))
    return image


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def variants_of(source):
    number, original = source
    image = Image.open(io.BytesIO(original)).convert("RGB")
    rng = random.Random(number)
    return [original] + [encoded(variant(image, rng)) for _ in range(VARIANTS - 1)]


def originals(data):
    """The images of both sets, one of each in turn while there are two."""
    tables = [sorted(pathlib.Path(data, name).glob("*.parquet")) for name in ("cifar10", "tiny-imagenet")]
    read = [(row["bytes"] for table in of for row in pyarrow.parquet.read_table(table, columns=["image"])["image"].to_pylist()) for of in tables]
    while read:
        for images in list(read):
            image = next(images, None)
            if image is None:
                read.remove(images)
            else:
                yield image


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=1_000_000)
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    rows, written = [], 0

    def write(rows):
        image = pyarrow.array(rows, pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]))
        pyarrow.parquet.write_table(pyarrow.table({"image": image}), args.out / f"{written:07}.parquet", compression="none")

    with multiprocessing.Pool() as pool:
        sources = enumerate(originals(args.data))
        for number, images in enumerate(pool.imap(variants_of, sources, chunksize=64)):
            rows += [{"bytes": image, "path": f"{number:06}_{i}.jpg"} for i, image in enumerate(images)]
            while len(rows) >= ROWS or written + len(rows) >= args.images:
                here = rows[: min(ROWS, args.images - written)]
                write(here)
                rows, written = rows[len(here):], written + len(here)
                if written >= args.images:
                    return
    raise SystemExit(f"there are originals for {written + len(rows)} images only")


if __name__ == "__main__":
    main()
