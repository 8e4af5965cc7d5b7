"""Opens shards with Hugging Face `datasets`: images must be pictures, and labels must have names.

    pip install datasets pillow; python tests/bench/open_with_datasets.py out/coco/images
"""

import sys

from datasets import load_dataset

data = load_dataset("parquet", data_files=f"{sys.argv[1]}/part-*.parquet", split="train")
names = data.features["labels"].feature.names
for row in data.select(range(3)):
    picture = row["image"]
    assert picture.size == (row["width"], row["height"]), row["image_id"]
    labels = [names[label] for label in row["labels"] or []]
    print(f"{row['image_id']:016x} {picture.format} {picture.size} {picture.mode}: {', '.join(labels) or 'no labels'}")
print(f"{len(data)} pictures; {len(names)} classes: {', '.join(names[:8])} ...")
