"""Golden data for the decoders: small files of every kind that people have, and the RGB that Pillow makes of each.

    pip install pillow==13.0.0 numpy==2.3.5 imagecodecs safetensors
    python tests/golden/formats.py tests/golden

Writes formats.safetensors (uint8: `file.DIGEST` are a file's bytes, `rgb.DIGEST` height x width x 3) and formats.json (a list
of cases: name, digest of the file, digest of the pixels that are right or null where there is no image, the greatest and the
mean difference in levels that are allowed, whether colour profiles are converted, and what the reject has to say). The
pictures are drawn here. Right is what Pillow's open, load and convert("RGB") give, but for what pipeline/pixels.md says is done otherwise on
purpose: 16-bit gray is scaled, and TIFF is not turned by its orientation tag.
"""

import hashlib
import io
import json
import struct
import sys
import zlib

import imagecodecs
import numpy as np
from PIL import Image, ImageCms
from safetensors.numpy import save_file

WIDTH, HEIGHT = 40, 28
tensors, cases = {}, []


def scene(seed, width=WIDTH, height=HEIGHT):
    """Waves and boxes in colours, another picture for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(3):
            fx, fy, phase = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3), rng.uniform(0, 6)
            pixels[..., channel] += np.sin(fx * x + fy * y + phase) * rng.uniform(10, 30)
        pixels[..., channel] += rng.uniform(70, 170)
    for _ in range(4):
        x0, y0 = rng.integers(0, width - 8), rng.integers(0, height - 8)
        pixels[y0 : y0 + rng.integers(3, 9), x0 : x0 + rng.integers(3, 9)] = rng.uniform(0, 255, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGB")


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def opened(data):
    """What Pillow makes of a file; none where it refuses."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        return image.convert("RGB")
    except Exception as error:  # Pillow's refusals are of many types
        print(f"    refused by Pillow: {type(error).__name__}: {error}")
        return None


def case(name, data, right="pillow", levels=0, mean=0.0, convert=False, says=None):
    """A file and its right pixels; `says` is what the reject has to say where the file is not read on purpose."""
    print(name, len(data))
    data = bytes(data)
    file = hashlib.blake2b(data, digest_size=8).hexdigest()
    tensors[f"file.{file}"] = np.frombuffer(data, np.uint8).copy()
    right = opened(data) if isinstance(right, str) else right
    right = None if says else right
    key = None
    if right is not None:
        pixels = np.asarray(right).copy()
        key = hashlib.blake2b(pixels.tobytes() + str(pixels.shape).encode(), digest_size=8).hexdigest()
        tensors[f"rgb.{key}"] = pixels
    cases.append({"name": name, "file": file, "rgb": key, "levels": levels, "mean": mean, "convert": convert, "says": says})


base, gray = scene(1), scene(1).convert("L")
alpha = Image.fromarray((np.indices((HEIGHT, WIDTH)).sum(0) * 3 % 256).astype(np.uint8), "L")
rgba = base.copy()
rgba.putalpha(alpha)
la = Image.merge("LA", (gray, alpha))
palette = base.quantize(16)
frames = [scene(40 + i) for i in range(3)]


# ---- JPEG --------------------------------------------------------------------------------------------------------------

def segments(data):
    """The places of the markers before the scan, and of the scan's."""
    at, found = 2, []
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        found.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return found, at


for tag, options in {
    "444": {"subsampling": 0},
    "422": {"subsampling": 1},
    "420": {"subsampling": 2},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 2},
    "poor": {"quality": 5},
}.items():
    case(f"jpeg-{tag}", encoded(base, "JPEG", **{"quality": 90} | options))
case("jpeg-gray", encoded(gray, "JPEG"))
case("jpeg-rgb", encoded(base, "JPEG", keep_rgb=True))

for tag in ("baseline", "progressive"):
    data = encoded(scene(5), "JPEG", quality=90, progressive=tag == "progressive")
    marks, scan = segments(data)
    other = encoded(scene(9), "JPEG", quality=90)
    middle = scan + (len(data) - scan) // 2
    variants = {
        "zeros-after": data + bytes(500),
        "text-after": data + b"\r\n--boundary--\r\n" * 4,
        "second-image-after": data + other,
        "fill-bytes": data[: marks[1]] + b"\xff" * 7 + data[marks[1] :],
        "bytes-after-start": data[:2] + b"\x00\x12\x34" + data[2:],
        "bytes-before-marker": data[: marks[2]] + b"\x00\x12\x34" + data[marks[2] :],
        "zero-marker-before-marker": data[: marks[2]] + b"\x00\xff\x00\x34" + data[marks[2] :],
        "bytes-before-scan": data[:scan] + b"\x00" * 9 + data[scan:],
        "bytes-before-end": data[:-2] + b"\x00\x11\x22\x33" * 30 + data[-2:],
        "comment-before-scan": data[:scan] + b"\xff\xfe\x00\x06abcd" + data[scan:],
        "large-segments": data[:2] + b"\xff\xed\x0f\xff" + bytes(4093) + data[2:],
        "cut-in-scan": data[: len(data) * 2 // 3],
        "cut-in-header": data[: marks[1] + 9],
        "without-end-marker": data[:-2],
        "end-marker-half": data[:-1],
        "cut-but-ended": data[:middle] + b"\xff\xd9",
        "end-marker-only-in-thumbnail": data[:2] + b"\xff\xe1\x00\x0aExif\xff\xd8\xff\xd9" + data[2 : len(data) * 2 // 3],
        "flipped-bits": data[:middle] + bytes([data[middle] ^ 0x55, data[middle + 1] ^ 0x0F]) + data[middle + 2 :],
        "warning-then-failure": data[: marks[2]] + b"\x00\x12\x34" + data[marks[2] : scan] + b"\xff\xd8" + data[scan:],
        "warning-then-failure-at-the-end": data[:-2] + b"\x00\x00\x01\xff\xd8" + data[-2:],
        "no-tables": data[: marks[1]] + data[scan:],
        "jfif-9": data[:2] + data[2:].replace(b"JFIF\0\x01", b"JFIF\0\x09", 1),
        "dimension-zero": data.replace(struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", HEIGHT, 0), 1),
    }
    for kind, bytes_ in variants.items():
        case(f"jpeg-{tag}-{kind}", bytes_)
restarts = encoded(scene(30), "JPEG", quality=90, restart_marker_blocks=2)
at = [i for i in range(len(restarts) - 1) if restarts[i] == 0xFF and 0xD0 <= restarts[i + 1] <= 0xD7]
case("jpeg-bytes-before-restart", restarts[: at[1]] + b"\x00" * 40 + restarts[at[1] :])
case("jpeg-restart-missing", restarts[: at[1]] + restarts[at[1] + 2 :])
case("jpeg-restart-of-another-number", restarts[: at[1] + 1] + b"\xd5" + restarts[at[1] + 2 :])
case("jpeg-mpo", encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]))

ink = np.asarray(base.convert("CMYK")).copy()
ink[..., 3] = np.asarray(gray) // 5
cmyk = Image.fromarray(ink, "CMYK")
adobe = encoded(cmyk, "JPEG", quality=95)
marker = adobe.find(b"\xff\xee")
plain = adobe[:marker] + adobe[marker + 2 + int.from_bytes(adobe[marker + 2 : marker + 4], "big") :]
case("jpeg-cmyk-adobe", adobe)
case("jpeg-cmyk-without-marker", plain)
case("jpeg-cmyk-not-inverted", encoded(Image.fromarray(255 - ink, "CMYK"), "JPEG", quality=95))
for tag, options in {"444": {}, "420": {"subsampling": "420"}}.items():
    case(f"jpeg-ycck-{tag}", imagecodecs.jpeg8_encode(255 - ink, level=90, colorspace="CMYK", outcolorspace="YCCK", **options))
case("jpeg-ycck-bytes-before-end", imagecodecs.jpeg8_encode(255 - ink, level=90, colorspace="CMYK", outcolorspace="YCCK")[:-2] + b"\0\1\2\xff\xd9")
case("jpeg-12-bit", imagecodecs.jpeg8_encode(np.asarray(gray).astype(np.uint16) * 16, bitspersample=12))
case("jpeg-lossless-gray", imagecodecs.jpeg8_encode(np.asarray(gray), lossless=True))
case("jpeg-lossless", imagecodecs.jpeg8_encode(np.asarray(base), lossless=True))


# ---- EXIF: the pixels are those that are stored -----------------------------------------------------------------------

def oriented(tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


for tag in range(1, 9):
    case(f"exif-{tag}.jpg", encoded(base, "JPEG", quality=92, exif=oriented(tag)))
    case(f"exif-{tag}.png", encoded(base, "PNG", exif=oriented(tag)))
    case(f"exif-{tag}.webp", encoded(base, "WEBP", lossless=True, exif=oriented(tag)))
    case(f"exif-{tag}.tif", encoded(base, "TIFF", tiffinfo={274: tag}), right=base)


# ---- PNG ---------------------------------------------------------------------------------------------------------------

def chunk(kind, body, crc=None):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) if crc is None else crc)


def png(head, raw, before=b"", after=b""):
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", *head)) + before + chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + body + after + chunk(b"IEND", b"")


def rows(array):
    return b"".join(b"\0" + row.tobytes() for row in array)


ramp = (np.linspace(0, 65535, WIDTH)[None, :] * np.ones((HEIGHT, 1))).astype(np.uint16)
wide = np.asarray(base).astype(np.uint16) * 257 + np.asarray(alpha).astype(np.uint16)[..., None] % 97
scaled = Image.fromarray(((ramp.astype(int) + 128) // 257).astype(np.uint8), "L").convert("RGB")
case("png-rgb", encoded(base, "PNG"))
case("png-gray", encoded(gray, "PNG"))
case("png-rgba", encoded(rgba, "PNG"))
case("png-gray-alpha", encoded(la, "PNG"))
case("png-palette", encoded(palette, "PNG"))
case("png-palette-transparent", encoded(palette, "PNG", transparency=3))
case("png-palette-alphas", encoded(palette, "PNG", transparency=bytes(range(0, 256, 16))))
case("png-rgb-transparent-colour", encoded(base, "PNG", transparency=base.getpixel((3, 3))))
case("png-gray-transparent-level", encoded(gray, "PNG", transparency=gray.getpixel((3, 3))))
case("png-one-bit", encoded(base.convert("1"), "PNG"))
case("png-two-bit-palette", encoded(base.quantize(4), "PNG", bits=2))
case("png-four-bit-palette", encoded(base.quantize(13), "PNG", bits=4))
for bits in (1, 2, 4):
    levels = np.asarray(gray) >> (8 - bits)
    packed = np.packbits(((levels[..., None] >> np.arange(bits - 1, -1, -1)) & 1).reshape(HEIGHT, -1).astype(np.uint8), axis=1)
    case(f"png-{bits}-bit-gray", png((WIDTH, HEIGHT, bits, 0, 0, 0, 0), rows(packed)))
case("png-gray-16", encoded(Image.fromarray(ramp), "PNG"), right=scaled)
case("png-gray-alpha-16", png((WIDTH, HEIGHT, 16, 4, 0, 0, 0), rows(np.stack([ramp, ramp[::-1]], -1).astype(">u2"))), levels=1, mean=0.5)
case("png-rgb-16", png((WIDTH, HEIGHT, 16, 2, 0, 0, 0), rows(wide.astype(">u2"))), levels=1, mean=0.5)
case("png-rgba-16", png((WIDTH, HEIGHT, 16, 6, 0, 0, 0), rows(np.concatenate([wide, ramp[..., None]], -1).astype(">u2"))), levels=1, mean=0.5)
interlaced = b""
for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
    interlaced += rows(np.asarray(base)[y0::dy, x0::dx])
case("png-interlaced", png((WIDTH, HEIGHT, 8, 2, 0, 0, 1), interlaced))
case("png-animated", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]))
case("png-animated-beside-a-default-image", encoded(base, "PNG", save_all=True, append_images=frames, default_image=True))
whole = encoded(base, "PNG")
case("png-trailing", whole + bytes(999))
case("png-without-end-chunk", whole[:-12])
case("png-end-chunk-cut", whole[:-6])
case("png-cut-in-data", whole[: len(whole) // 2])
parts = zlib.compress(rows(np.asarray(base)))
two = whole[:33] + chunk(b"IDAT", parts[:300]) + chunk(b"IDAT", parts[300:])
case("png-second-data-chunk-missing", whole[:33] + chunk(b"IDAT", parts[:300]))
case("png-second-data-chunk-cut", two[:-40])
case("png-two-data-chunks-without-end-chunk", two)
case("png-cut-in-header", whole[:20])
case("png-crc-of-text-wrong", png((WIDTH, HEIGHT, 8, 2, 0, 0, 0), rows(np.asarray(base)), before=chunk(b"tEXt", b"a\0b", crc=1)), right=base)
case("png-crc-of-header-wrong", whole[:29] + bytes(4) + whole[33:])
case("png-data-damaged", whole[:200] + bytes([whole[200] ^ 0xFF]) + whole[201:])
case("png-no-rows", png((WIDTH, 0, 8, 2, 0, 0, 0), b""))
case("png-gamma", png((WIDTH, HEIGHT, 8, 2, 0, 0, 0), rows(np.asarray(base)), before=chunk(b"gAMA", struct.pack(">I", 100000))))


# ---- GIF ---------------------------------------------------------------------------------------------------------------

few = base.quantize(32)
case("gif-still", encoded(few, "GIF"))
case("gif-interlaced", encoded(few, "GIF", interlace=1))
case("gif-not-interlaced", encoded(few, "GIF", interlace=0))
case("gif-transparent", encoded(palette, "GIF", transparency=3))
case("gif-gray", encoded(gray, "GIF"))
case("gif-animated", encoded(frames[0].quantize(32), "GIF", save_all=True, append_images=[f.quantize(32) for f in frames[1:]]))
gif = encoded(few, "GIF")
case("gif-without-trailer", gif[:-1])
case("gif-trailing", gif + b"hello" * 9)
case("gif-cut-in-data", gif[: len(gif) * 2 // 3])
case("gif-cut-in-palette", gif[:30])
descriptor = gif.find(b"\x2c" + struct.pack("<HHHH", 0, 0, WIDTH, HEIGHT))
larger = gif[:6] + struct.pack("<HH", WIDTH + 9, HEIGHT + 5) + gif[10:descriptor]
case("gif-frame-smaller-than-the-canvas", larger + b"\x2c" + struct.pack("<HHHH", 4, 3, WIDTH, HEIGHT) + gif[descriptor + 9 :])


# ---- WebP: libwebp's pixels where nothing is lost, near them where it is ------------------------------------------------

case("webp-lossy", encoded(base, "WEBP", quality=90), levels=2, mean=0.3)
case("webp-lossy-poor", encoded(base, "WEBP", quality=5), levels=2, mean=0.3)
case("webp-lossy-alpha", encoded(rgba, "WEBP", quality=90), levels=2, mean=0.3)
case("webp-lossless", encoded(base, "WEBP", lossless=True))
case("webp-lossless-alpha", encoded(rgba, "WEBP", lossless=True, exact=True))
case("webp-animated", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
case("webp-animated-lossy", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=80), levels=2, mean=0.3)
webp = encoded(base, "WEBP", lossless=True)
case("webp-trailing", webp + bytes(99))
case("webp-cut-in-data", webp[: len(webp) * 2 // 3])
case("webp-cut-in-header", webp[:22])


# ---- BMP ---------------------------------------------------------------------------------------------------------------

case("bmp-rgb", encoded(base, "BMP"))
case("bmp-palette", encoded(palette, "BMP"))
case("bmp-gray", encoded(gray, "BMP"))
case("bmp-one-bit", encoded(base.convert("1"), "BMP"))
bmp = encoded(base, "BMP")
case("bmp-top-down", bmp[:22] + struct.pack("<i", -HEIGHT) + bmp[26:])
case("bmp-32", encoded(rgba, "BMP"))
case("bmp-cut-in-data", bmp[: len(bmp) // 2])
case("bmp-cut-in-header", bmp[:30])
case("bmp-trailing", bmp + bytes(99))
indices = np.asarray(palette)
runs = b"".join(b"".join(bytes([1, v]) for v in row) + b"\0\0" for row in indices[::-1]) + b"\0\1"
table = b"".join(bytes([r, g, b, 0]) for b, g, r in np.array(palette.getpalette()[:48] + [0] * 720).reshape(-1, 3)[:256])
head = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(runs), 0, 0, 256, 256)
case("bmp-run-lengths", b"BM" + struct.pack("<IHHI", 54 + 1024 + len(runs), 0, 0, 54 + 1024) + head + table + runs)


# ---- TIFF --------------------------------------------------------------------------------------------------------------

case("tiff-plain", encoded(base, "TIFF"))
case("tiff-gray", encoded(gray, "TIFF"))
case("tiff-rgba", encoded(rgba, "TIFF"))
case("tiff-one-bit", encoded(base.convert("1"), "TIFF"))
case("tiff-gray-16", encoded(Image.fromarray(ramp), "TIFF"), right=scaled)
case("tiff-pages", encoded(scene(40), "TIFF", save_all=True, append_images=[scene(41), scene(42)]))
case("tiff-big", encoded(base, "TIFF", big_tiff=True))
entries = [(256, 3, 1, WIDTH << 16), (257, 3, 1, HEIGHT << 16), (258, 3, 1, 8 << 16), (259, 3, 1, 1 << 16), (262, 3, 1, 1 << 16),
           (273, 4, 1, 8), (277, 3, 1, 1 << 16), (278, 3, 1, HEIGHT << 16), (279, 4, 1, WIDTH * HEIGHT)]
directory = struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHII", *entry) for entry in entries) + bytes(4)
case("tiff-big-endian", b"MM\0*" + struct.pack(">I", 8 + WIDTH * HEIGHT) + np.asarray(gray).tobytes() + directory)
for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
    case(f"tiff-{compression}", encoded(base, "TIFF", compression=compression))
case("tiff-group4", encoded(base.convert("1"), "TIFF", compression="group4"))
case("tiff-cmyk", encoded(cmyk, "TIFF"), levels=1, mean=0.5)
case("tiff-palette", encoded(palette, "TIFF"), says="unsupported")
case("tiff-jpeg", encoded(base, "TIFF", compression="jpeg", quality=90), levels=3, mean=0.5)
tiff = encoded(base, "TIFF")
case("tiff-cut-in-data", tiff[: len(tiff) // 2])
case("tiff-trailing", tiff + bytes(99))


# ---- What is not read, and says so by name -----------------------------------------------------------------------------

case("avif", encoded(base, "AVIF", quality=50), says="AVIF is not read")
case("jpeg-2000.jp2", encoded(base, "JPEG2000"), says="JPEG 2000 is not read")
case("jpeg-2000.j2k", imagecodecs.jpeg2k_encode(np.asarray(base), codecformat="j2k"), says="JPEG 2000 is not read")
case("jpeg-xl", imagecodecs.jpegxl_encode(np.asarray(base)), says="JPEG XL is not read")
case("jpeg-xr", imagecodecs.jpegxr_encode(np.asarray(base)), says="JPEG XR is not read")
case("jpeg-ls", imagecodecs.jpegls_encode(np.asarray(gray)), says="JPEG-LS is not read")
case("qoi", imagecodecs.qoi_encode(np.asarray(base)), says="QOI is not read")
case("ico", encoded(base, "ICO"), says="ICO is not read")
case("ppm", encoded(base, "PPM"), says="PNM is not read")
case("dds", encoded(base, "DDS"), says="DDS is not read")
case("pdf", encoded(base, "PDF")[:200], says="PDF is not read")
case("eps", encoded(base, "EPS")[:200], says="PostScript is not read")
case("svg", b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", says="SVG is not read")
case("html", b"<!DOCTYPE html><html><body>404</body></html>", says="HTML is not read")
case("heic", b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(64), says="HEIC is not read")
case("psd", b"8BPS\0\x01" + bytes(64), says="PSD is not read")
case("git-lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", says="a Git LFS pointer is not read")
case("text", b"hello, world", says="begins with")


# ---- Colour profiles ---------------------------------------------------------------------------------------------------

def tag_table(tags, space, kind=b"mntr"):
    """A version 2 ICC profile of these tags."""
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s6H4sI4s4sQI3I", size, b"none", 0x02400000, kind, space, b"XYZ " if kind == b"mntr" else b"Lab ",
                       2026, 1, 1, 0, 0, 0, b"acsp", 0, b"none", b"none", 0, 0, 0xF6D6, 0x10000, 0xD32D)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


def s15(*values):
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def common(name):
    text = name.encode() + b"\0"
    return {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(79),
        b"cprt": b"text\0\0\0\0CC0\0",
        b"wtpt": b"XYZ \0\0\0\0" + s15(0.9642, 1.0, 0.8249),
    }


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


# Adobe RGB (1998)'s primaries, adapted to D50.
primaries = {b"rXYZ": (0.60974, 0.31111, 0.01947), b"gXYZ": (0.20528, 0.62567, 0.06087), b"bXYZ": (0.14919, 0.06322, 0.74457)}
rgb_tags = {name: b"XYZ \0\0\0\0" + s15(*xyz) for name, xyz in primaries.items()} | {k: gamma(2.2) for k in (b"rTRC", b"gTRC", b"bTRC")}
wide_profile = tag_table(common("wide") | rgb_tags, b"RGB ")
gray_profile = tag_table(common("gray") | {b"kTRC": gamma(1.4)}, b"GRAY")
# A press in two steps an ink: 16 colours in Lab, full ink near black.
lab = []
for c in (0, 1):
    for m in (0, 1):
        for y in (0, 1):
            for k in (0, 1):
                lightness = 255 * (1 - 0.25 * c - 0.3 * m - 0.08 * y) * (1 - 0.85 * k)
                lab += [round(max(lightness, 0)), round(128 + (60 * m - 35 * c) * (1 - k)), round(128 + (70 * y - 40 * c - 10 * m) * (1 - k))]
lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + s15(1, 0, 0, 0, 1, 0, 0, 0, 1) + bytes(range(256)) * 4 + bytes(lab) + bytes(range(256)) * 3
ink_profile = tag_table(common("press") | {b"A2B0": lut}, b"CMYK", b"prtr")
srgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def converted(data, profile):
    image = Image.open(io.BytesIO(data))
    image.load()
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    # Black stays where the profile puts it: without littleCMS's compensation, which it forces on perceptual intent.
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    return ImageCms.profileToProfile(image, source, target, renderingIntent=intent, outputMode="RGB")


jpeg = {"quality": 95, "subsampling": 0}
for name, image, form, profile, options in (
    ("icc-wide.jpg", base, "JPEG", wide_profile, jpeg),
    ("icc-wide.png", base, "PNG", wide_profile, {}),
    ("icc-wide.webp", base, "WEBP", wide_profile, {"lossless": True}),
    ("icc-wide.tif", base, "TIFF", wide_profile, {}),
    ("icc-gray.png", gray, "PNG", gray_profile, {}),
    ("icc-gray.jpg", gray, "JPEG", gray_profile, jpeg),
    ("icc-press.jpg", cmyk, "JPEG", ink_profile, {"quality": 95}),
):
    data = encoded(image, form, icc_profile=profile, **options)
    case(f"{name}-ignored", data)
    # Profiles of inks are not converted.
    right = "pillow" if image is cmyk else converted(data, profile)
    case(f"{name}-converted", data, right=right, levels=2, mean=0.6, convert=True)
for name, profile in (("srgb", srgb_profile), ("damaged", wide_profile[:300]), ("gray-on-colour", gray_profile)):
    case(f"icc-{name}.png-converted", encoded(base, "PNG", icc_profile=profile), convert=True)
long = wide_profile + bytes(66000)
case("icc-in-pieces.jpg-converted", encoded(base, "JPEG", icc_profile=long, **jpeg), right=converted(encoded(base, "JPEG", **jpeg), wide_profile), levels=2, mean=0.6, convert=True)

out = sys.argv[1]
save_file(tensors, f"{out}/formats.safetensors")
with open(f"{out}/formats.json", "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
print(len(cases), "cases,", sum(t.nbytes for t in tensors.values()) // 1024, "KiB")
