"""Golden distributions of augmentation parameters: 100,000 draws of torchvision's own samplers, as quantiles.

    pip install torch==2.9.1 torchvision==0.24.1 numpy==2.2.6
    python tests/golden/plans.py tests/golden

Writes plans.json: for each image size and range of areas, 1001 quantiles of the crop's share of the area, of its log
aspect, and of where its left and top edge lie in the room they have; quantiles of the jitter's factors; counts of its
24 orders (as the four digits, 0 brightness to 3 hue).
"""

import json
import sys
from collections import Counter

import numpy as np
import torch
from torchvision.transforms import ColorJitter, RandomResizedCrop

DRAWS = 100_000
torch.manual_seed(3)


def quantiles(values):
    if not values:
        return []
    return [round(float(q), 7) for q in np.quantile(np.array(values), np.linspace(0, 1, 1001))]


crops = []
for width, height in [(640, 480), (375, 500), (32, 32), (1000, 120)]:
    for area in [(0.4, 1.0), (0.05, 0.4), (0.08, 1.0)]:
        image = torch.empty(3, height, width)
        share, aspect, left, top = [], [], [], []
        for _ in range(DRAWS):
            y, x, h, w = RandomResizedCrop.get_params(image, list(area), [3 / 4, 4 / 3])
            share.append(w * h / (width * height))
            aspect.append(np.log(w / h))
            # A crop with no room lies nowhere in it.
            if w < width:
                left.append(x / (width - w))
            if h < height:
                top.append(y / (height - h))
        crops.append({
            "width": width, "height": height, "area": area,
            "share": quantiles(share), "log_aspect": quantiles(aspect), "left": quantiles(left), "top": quantiles(top),
            "with_room": [len(left) / DRAWS, len(top) / DRAWS],
        })  # fmt: skip

jitter = ColorJitter(0.4, 0.4, 0.2, 0.1)
orders, factors = Counter(), [[], [], [], []]
for _ in range(DRAWS):
    order, *drawn = ColorJitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    orders["".join(str(int(step)) for step in order)] += 1
    for values, value in zip(factors, drawn):
        values.append(value)
names = ["brightness", "contrast", "saturation", "hue"]
result = {
    "draws": DRAWS,
    "crops": crops,
    "jitter": {name: quantiles(values) for name, values in zip(names, factors)},
    "orders": dict(sorted(orders.items())),
}
with open(f"{sys.argv[1]}/plans.json", "w") as out:
    json.dump(result, out)
print(f"{len(crops)} distributions of crops, {len(orders)} orders")
