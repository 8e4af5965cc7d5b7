"""The same work as `lapidary ingest`, as it is usually written in Python: decode with Pillow, perceptual hash with
imagehash, SHA-256 of the bytes, rows written with pyarrow. Prints seconds and images as JSON."""

import glob
import hashlib
import io
import json
import sys
import time

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

root, out = sys.argv[1], sys.argv[2]
begun = time.perf_counter()
rows = {"path": [], "digest": [], "bytes": [], "width": [], "height": [], "phash": []}
for path in sorted(glob.glob(f"{root}/*2017/*.jpg")):
    with open(path, "rb") as file:
        data = file.read()
    image = Image.open(io.BytesIO(data))
    image.load()
    rows["path"].append(path)
    rows["digest"].append(hashlib.sha256(data).hexdigest())
    rows["bytes"].append(data)
    rows["width"].append(image.width)
    rows["height"].append(image.height)
    rows["phash"].append(str(imagehash.phash(image)))
pq.write_table(pa.table(rows), out, row_group_size=400, compression="zstd")
print(json.dumps({"images": len(rows["path"]), "secs": time.perf_counter() - begun}))
