"""Holds the cards of a subset's exports and of a run against the tools that read them; see cards.sh.

    python cards.py SUBSET MODEL_CARD_FOLDER IMAGES

The exports are SUBSET.parquet, SUBSET.folder and SUBSET.coco.
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

subset, model, images = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
export = pathlib.Path(f"{subset}.parquet")

# What mlcroissant says when it reads.
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
for name in (None, "absl"):
    logging.getLogger(name).addHandler(handler)


def opened(folder):
    """A data set whose metadata is valid, without a warning but of what only who publishes it can say."""
    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors, issues.errors
    unsaid = ("citeAs", "datePublished")
    assert all(any(name in text for name in unsaid) for text in issues.warnings), issues.warnings
    metadata = json.loads((folder / "croissant.json").read_text())
    assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert metadata["prov:wasDerivedFrom"]["@id"].startswith("urn:lapidary:")
    assert metadata["prov:wasGeneratedBy"]["prov:label"].startswith("lapidary cut ")
    return dataset


def records_of(dataset, name):
    return list(dataset.records(record_set=name))


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def attribution(folder):
    with open(folder / "attribution.csv", newline="") as file:
        return list(csv.DictReader(file))


# Parquet: records are the rows.
dataset = opened(export)
records = records_of(dataset, "images")
assert len(records) == images, len(records)
classes = {row["classes/number"]: text(row["classes/name"]) for row in records_of(dataset, "classes")}
assert len(classes) == 8, classes
ids = set()
for record in records:
    picture = record["images/image"]
    picture = picture if isinstance(picture, Image.Image) else Image.open(io.BytesIO(picture))
    assert picture.size == (record["images/width"], record["images/height"])
    ids.add(int(record["images/image_id"]))
assert len(ids) == images
sizes = {f"{int(r['images/image_id']):016x}": (r["images/width"], r["images/height"]) for r in records}

# A folder: a record is a file, which knows its image and its class by its own folder.
folder = pathlib.Path(f"{subset}.folder")
records = records_of(opened(folder), "images")
assert len(records) == images, len(records)
told = {row["file"]: row for row in attribution(folder)}
assert len(told) == images and {int(row["image_id"], 16) for row in told.values()} == ids
for record in records:
    file = text(record["images/file"])
    row = told[file]
    with Image.open(folder / file) as there:
        assert record["images/image"].size == there.size == sizes[row["image_id"]], file
    assert text(record["images/image_id"]) == row["image_id"]
    parts = pathlib.PurePath(file).parts
    assert text(record["images/split"]) == parts[0] == row["split"], file
    assert len(parts) == 2 or text(record["images/class"]) == parts[1] == row["class"], file

# COCO: files as in a folder, and records and annotations as the JSON has them.
folder = pathlib.Path(f"{subset}.coco")
dataset = opened(folder)
told = {row["file"]: row for row in attribution(folder)}
records = records_of(dataset, "images")
assert {text(record["images/file"]) for record in records} == set(told) and len(records) == images
for record in records:
    row = told[text(record["images/file"])]
    assert text(record["images/image_id"]) == row["image_id"] and record["images/image"].size == sizes[row["image_id"]]
assert {row["categories/number"]: text(row["categories/name"]) for row in records_of(dataset, "categories")}
of_images = of_annotations = 0
for path in sorted((folder / "annotations").glob("instances_*.json")):
    split, instances = path.stem.removeprefix("instances_"), json.loads(path.read_text())
    by_id = {image["id"]: image for image in instances["images"]}
    for record in records_of(dataset, f"{split}-records"):
        image = by_id.pop(record[f"{split}-records/id"])
        assert text(record[f"{split}-records/file_name"]) == image["file_name"]
        size = (record[f"{split}-records/width"], record[f"{split}-records/height"])
        assert sizes[told[f"{split}/{image['file_name']}"]["image_id"]] == size == (image["width"], image["height"])
        of_images += 1
    assert not by_id, by_id
    found = records_of(dataset, f"{split}-annotations") if instances["annotations"] else []
    assert len(found) == len(instances["annotations"])
    for record, annotation in zip(found, instances["annotations"]):
        for key in ("id", "image_id", "category_id", "bbox", "area", "iscrowd"):
            assert record[f"{split}-annotations/{key}"] == annotation[key], (key, record, annotation)
        of_annotations += 1
assert of_images == images and of_annotations >= images, (of_images, of_annotations)
warned = [line for line in said if "WARNING" in line or "not standard" in line or "Could not match" in line]
assert not warned, warned

# The card's front matter is what the hub knows, and its configuration opens the shards.
card = DatasetCard.load(export / "README.md")
assert card.data.license and card.data.pretty_name, card.data
assert card.data.size_categories == ["n<1K"], card.data.size_categories
loaded = datasets.load_dataset(str(export), split="train")
assert loaded.num_rows == images and set(loaded["image_id"]) == ids
assert {int(row["image_id"], 16) for row in attribution(export)} == ids

card = ModelCard.load(model / "README.md")
results = card.data.eval_results
assert results and all(result.metric_type == "accuracy" and 0 <= result.metric_value <= 100 for result in results), results
print(f"croissant: {images} images, {len(classes)} classes as shards, a folder and COCO with {of_annotations} annotations; dataset card: {card.data.tags}; {len(results)} results in the model card")
