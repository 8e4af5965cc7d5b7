"""Opens shards with Hugging Face `datasets` and shows that images are pictures and labels have names."""

import sys

from datasets import load_dataset

data = load_dataset("parquet", data_files=f"{sys.argv[1]}/part-*.parquet", split="train")
row = data[0]
label = data.features["label"]
print(f"{len(data)} rows; first image {row['image']}")
print(f"label feature {label.__class__.__name__}: {getattr(label, 'names', [])[:8]}")
names = [label.int2str(value) if value is not None else None for value in data[:8]["label"]]
print(f"first labels {names}")
