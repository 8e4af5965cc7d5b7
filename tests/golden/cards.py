"""Holds the cards of a subset's export and of a run against the tools that read them; see cards.sh.

    python cards.py EXPORT MODEL_CARD_FOLDER IMAGES
"""

import csv
import io
import json
import logging
import pathlib
import sys

import datasets
import mlcroissant
from huggingface_hub import DatasetCard, ModelCard
from PIL import Image

export, model, images = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])

# The metadata is valid without a warning, and its records are the images.
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
for name in (None, "absl"):
    logging.getLogger(name).addHandler(handler)
dataset = mlcroissant.Dataset(str(export / "croissant.json"))
issues = dataset.metadata.ctx.issues
assert not issues.errors, issues.errors
# When it is published and how it is cited is for whoever publishes it to say.
unsaid = ("citeAs", "datePublished")
assert all(any(name in text for name in unsaid) for text in issues.warnings), issues.warnings
warned = [text for text in said if "WARNING" in text or "not standard" in text]
assert not warned, warned
records = list(dataset.records(record_set="images"))
assert len(records) == images, len(records)
classes = {row["classes/number"]: row["classes/name"] for row in dataset.records(record_set="classes")}
assert len(classes) == 8, classes
ids = set()
for record in records:
    picture = record["images/image"]
    picture = picture if isinstance(picture, Image.Image) else Image.open(io.BytesIO(picture))
    assert picture.size == (record["images/width"], record["images/height"])
    ids.add(int(record["images/image_id"]))
assert len(ids) == images

metadata = json.loads((export / "croissant.json").read_text())
assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.1"
assert metadata["prov:wasDerivedFrom"]["@id"].startswith("urn:lapidary:")
assert metadata["prov:wasGeneratedBy"]["prov:label"].startswith("lapidary cut ")

# The card's front matter is what the hub knows, and its configuration opens the shards.
card = DatasetCard.load(export / "README.md")
assert card.data.license and card.data.pretty_name, card.data
assert card.data.size_categories == ["n<1K"], card.data.size_categories
loaded = datasets.load_dataset(str(export), split="train")
assert loaded.num_rows == images and set(loaded["image_id"]) == ids
with open(export / "attribution.csv", newline="") as file:
    rows = list(csv.DictReader(file))
assert {int(row["image_id"], 16) for row in rows} == ids

card = ModelCard.load(model / "README.md")
results = card.data.eval_results
assert results and all(result.metric_type == "accuracy" and 0 <= result.metric_value <= 100 for result in results), results
print(f"croissant: {len(records)} records, {len(classes)} classes; dataset card: {card.data.tags}; {len(results)} results in the model card")
