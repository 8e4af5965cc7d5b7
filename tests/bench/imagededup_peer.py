"""imagededup's pHash on a folder: seconds, and its ten nearest of each image as `path,path,score` (score: 64 less the bits).

    python imagededup_peer.py IMAGES OUT.csv
"""
import contextlib
import csv
import json
import os
import pathlib
import sys
import time

os.environ["TQDM_DISABLE"] = "1"
from imagededup.methods import PHash

images, out = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
with contextlib.redirect_stdout(sys.stderr):
    begun = time.perf_counter()
    method = PHash(verbose=False)
    codes = method.encode_images(image_dir=str(images), recursive=True, num_enc_workers=2)
    found = method.find_duplicates(encoding_map=codes, max_distance_threshold=10, scores=True, num_dist_workers=2)
    secs = time.perf_counter() - begun
    if out != "-":
        found = method.find_duplicates(encoding_map=codes, max_distance_threshold=64, scores=True, search_method="brute_force_cython")
if out != "-":
    with open(out, "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        for name, others in found.items():
            for other, bits in sorted(others, key=lambda pair: pair[1])[:10]:
                table.writerow([name, other, 64 - bits])
print(json.dumps({"secs": secs}))
