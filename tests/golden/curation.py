"""Golden data for curation: hashes, quality, components, water-filling, as the references compute them.

    pip install pillow==11.3.0 numpy==2.2.6 scipy==1.15.3 safetensors pdqhash==0.2.8 imagehash==4.3.2 cleanvision==0.3.7
    python tests/golden/curation.py tests/golden

Reads the input images of pixels.safetensors and writes curation.json:
- images: of each the PDQ hash of every turn and its quality (pdqhash, Meta's C++), imagehash's pHash, and cleanvision's
  brightness percentiles, entropy and blurriness;
- components: edges, and the smallest node of each node's component (scipy.sparse.csgraph);
- filling: a tree of clusters, and for several budgets how many images hierarchical sampling takes from each leaf, at least
  and at most (the remainder goes to children drawn at random), by the formulas of Vo et al. 2024, section 3.3;
- levels: the published fillings of spec/curation.md section 8, test 1.
"""

import json
import sys

import imagehash
import numpy
import pdqhash
from cleanvision.issue_managers.image_property import BlurrinessProperty, BrightnessProperty, EntropyProperty
from PIL import Image
from safetensors.numpy import load_file
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

folder = sys.argv[1]
out = {"images": {}}


def hexadecimal(bits):
    return "".join(f"{byte:02x}" for byte in numpy.packbits(bits))


for key, pixels in load_file(f"{folder}/pixels.safetensors").items():
    if not key.startswith("input."):
        continue
    image = Image.fromarray(pixels)
    hashes, quality = pdqhash.compute_dihedral(pixels)
    blurriness = BlurrinessProperty().calculate(image)
    edges, spread = (
        1 - float(numpy.exp(-0.01 * blurriness[name])) for name in ("blurriness", "blurriness_grayscale_std")
    )
    brightness = BrightnessProperty("dark").calculate(image)
    out["images"][key] = {
        # As it is, then turned: pdqhash's own order.
        "pdq": [hexadecimal(bits) for bits in hashes],
        "pdq_quality": int(quality),
        "phash": str(imagehash.phash(image)),
        "brightness_p99": float(brightness["brightness_perc_99"]),
        "brightness_p5": float(brightness["brightness_perc_5"]),
        "entropy_bits": float(image.entropy()),
        "sharpness": min(1.0, edges + (spread if spread > 0.18 else 0.0)),
    }

rng = numpy.random.default_rng(5)
nodes = 400
edges = rng.integers(0, nodes, (260, 2))
_, labels = connected_components(coo_array((numpy.ones(len(edges)), edges.T), (nodes, nodes)), directed=False)
smallest = {label: int(numpy.flatnonzero(labels == label)[0]) for label in set(labels.tolist())}
out["components"] = {"nodes": nodes, "edges": edges.tolist(), "smallest": [smallest[label] for label in labels.tolist()]}


def filled(sizes, budget):
    """The level x, the remainder, and how many children could take one more."""
    x = max(level for level in range(budget + 1) if sum(min(level, size) for size in sizes) <= budget)
    return x, budget - sum(min(x, size) for size in sizes), sum(size > x for size in sizes)


out["levels"] = []
for sizes, budget, multiplier in [
    ([100, 50, 10, 5, 1], 40, 1),
    ([100, 50, 10, 5, 1], 41, 1),
    ([100, 50, 10, 5, 1], 41, 2),
    ([7, 7, 7], 20, 1),
    ([20000, 200, 1000, 500, 8000], 1000, 1),
]:
    x, remainder, candidates = filled([multiplier * size for size in sizes], budget)
    out["levels"].append(
        {"sizes": sizes, "budget": budget, "multiplier": multiplier, "level": x, "remainder": remainder, "candidates": candidates}
    )

tree = [[int(leaf) for leaf in rng.zipf(1.5, rng.integers(2, 9)).clip(1, 300)] for _ in range(12)]


def taken(node, low, high):
    """Images that sampling takes from each leaf of a node whose own budget lies between low and high: (least, most)."""
    if isinstance(node, int):
        return [(min(low, node), min(high, node))]
    sizes = [child if isinstance(child, int) else sum(child) for child in node]
    bounds = []
    for child, size in zip(node, sizes):
        least, _, _ = filled(sizes, min(low, sum(sizes)))
        most, remainder, _ = filled(sizes, min(high, sum(sizes)))
        bounds += taken(child, min(least, size), min(most + (remainder > 0), size))
    return bounds


total = sum(map(sum, tree))
out["filling"] = {
    "tree": tree,
    "budgets": [{"budget": b, "leaves": taken(tree, b, b)} for b in [1, 5, 12, 13, 40, 100, total // 10, total // 4, total // 2, total]],
}
json.dump(out, open(f"{folder}/curation.json", "w"), separators=(",", ":"))
