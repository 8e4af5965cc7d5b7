"""fastdup on a folder: seconds, and its similarity table at no threshold and k 10 as `path,path,score`.

    python fastdup_peer.py IMAGES OUT.csv
"""
import csv
import json
import os
import pathlib
import sys
import tempfile
import time

import fastdup

images, out = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
with tempfile.TemporaryDirectory() as work:
    said, saved = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(saved, 1)
    begun = time.perf_counter()
    fastdup.run(
        input_dir=str(images), work_dir=work, threshold=0.0, lower_threshold=0.0, nearest_neighbors_k=10, num_threads=2
    )
    secs = time.perf_counter() - begun
    os.dup2(said, 1)
    with open(f"{work}/similarity.csv", newline="") as table, open(out, "w", newline="") as file:
        rows = csv.reader(table)
        next(rows)
        # It names files as it was given them, or from the root without the leading slash.
        path = lambda name: os.path.relpath(os.path.join("/", name) if not os.path.exists(name) else name, images)
        csv.writer(file, lineterminator="\n").writerows([path(a), path(b), s] for a, b, s in rows)
print(json.dumps({"secs": secs}))
