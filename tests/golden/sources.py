#!/usr/bin/env python3
"""What pycocotools and `datasets` read in folders of the layouts that tools write: tests/golden/sources.json.

Run: python3 tests/golden/sources.py          writes the file (pycocotools 2.0.11, datasets 5.2.0, pyarrow, pillow, numpy)
     LAPIDARY=target/release/lapidary python3 tests/golden/sources.py check
                                              ingests each COCO fixture, exports it and reads both with pycocotools

Every fixture is a folder: its files (JSON as text, images and tables in base64) and what the reference read there. Images are
drawn here; a fixture names them by their number. Only annotations of images that are there are compared, and the reference's
NaN is null.
"""
import base64, contextlib, io, json, math, os, shutil, subprocess, sys, tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

HERE = Path(__file__).parent
IMAGES = 12


def picture(number):
    rng = np.random.default_rng(number)
    blocks = rng.integers(0, 255, (3, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.kron(blocks, np.ones((4, 4, 1), np.uint8))).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [picture(number) for number in range(IMAGES)]
WIDTH, HEIGHT = 16, 12


def rle(compressed):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[2:7, 3:9] = 1
    encoded = coco_mask.encode(mask)
    if compressed:
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    flat, counts, value = mask.flatten(order="F"), [0], 0
    for pixel in flat:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": [HEIGHT, WIDTH], "counts": counts}


CATEGORIES = [{"id": 18, "name": "dog", "supercategory": "animal"},
              {"id": 1, "name": "person", "supercategory": "person", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}]
LICENSES = [{"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}]


def image(ident, name, **more):
    return {"id": ident, "file_name": name, "width": WIDTH, "height": HEIGHT, "license": 4, "date_captured": "2013-11-14", **more}


def thing(ident, image_id, category=18, bbox=(1.25, 2.5, 6.1, 5.7), **more):
    x, y, w, h = bbox
    polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {"id": ident, "image_id": image_id, "category_id": category, "bbox": list(bbox), "area": round(w * h, 3), "iscrowd": 0, "segmentation": polygon, **more}


def coco(images, annotations, categories=CATEGORIES, **more):
    return {"info": {"year": 2017}, "licenses": LICENSES, "images": images, "annotations": annotations, "categories": categories, **more}


def official():
    files, at = {}, 0
    for split, first in (("train2017", 100), ("val2017", 200)):
        images = [image(first + k, f"{first + k:012d}.png", flickr_url=f"http://flickr/{first + k}", coco_url=f"http://coco/{split}/{first + k}") for k in range(3)]
        for one in images:
            files[f"{split}/{one['file_name']}"] = at
            at += 1
        things = [thing(10 * first + k, first + k % 2) for k in range(3)]
        things.append(thing(10 * first + 7, first, segmentation=rle(False), iscrowd=1))
        things.append(thing(10 * first + 8, first + 1, segmentation=rle(True), score=0.1))
        people = [thing(10 * first + 9, first + 1, 1, (0.0, 0.5, 3.3, 4.4))]
        keypoints = [{**people[0], "keypoints": [1, 2, 2, 0, 0, 0], "num_keypoints": 1}]
        captions = [{"id": 10 * first + k, "image_id": first + k, "caption": f"a d\u00f6g, \"{k}\"\n"} for k in range(3)]
        files[f"annotations/instances_{split}.json"] = coco(images, things + people)
        files[f"annotations/person_keypoints_{split}.json"] = coco(images, keypoints, CATEGORIES[1:])
        files[f"annotations/captions_{split}.json"] = {"images": images, "annotations": captions, "licenses": LICENSES}
    return files


def flat(folder, json_path, prefix=""):
    images = [image(k, f"{prefix}{k}.png") for k in range(4)]
    return {**{f"{folder}/{k}.png": k for k in range(4)}, json_path: coco(images, [thing(k, k, (18, 1)[k % 2]) for k in range(4)])}


def lvis():
    images = [{"id": k, "coco_url": f"http://images.cocodataset.org/val2017/{k:012d}.png", "width": WIDTH, "height": HEIGHT,
               "neg_category_ids": [], "not_exhaustive_category_ids": [18]} for k in range(1, 5)]
    things = [{key: value for key, value in thing(k, k).items() if key != "iscrowd"} for k in range(1, 5)]
    categories = [{"id": 18, "name": "dog", "synset": "dog.n.01", "frequency": "f", "synonyms": ["dog"]}]
    return {**{f"val2017/{k:012d}.png": k for k in range(1, 5)}, "annotations/lvis_v1_val.json": {"images": images, "annotations": things, "categories": categories, "licenses": LICENSES}}


def odd():
    nan = float("nan")
    images = [image(k, name) for k, name in enumerate(("0.png", "./1.png", "a\\2.png", "a/b/../3.png", "val/4.png"))]
    images[0].update(license=None)
    images[1].update(license=9)
    odd_fields = [dict(bbox=[]), dict(bbox=None), dict(bbox=[None] * 4), dict(bbox=["1", "2", "3", "4"]), dict(bbox=[1, 2, 3, 4, 0.5]),
                  dict(bbox=[-5, -5, 10, 10]), dict(bbox=[600, 600, 10, 10]), dict(bbox=[nan, 1, 2, 3]), dict(bbox=[1, 1, 0, 5]),
                  dict(category_id=None), dict(category_id=77), dict(area=None), dict(area="25"), dict(area=nan), dict(iscrowd=None),
                  dict(iscrowd=True), dict(segmentation=[]), dict(segmentation=None), dict(score=1e-7, attributes={"occluded": False, "id": 3})]
    things = [{**thing(50 + k, k % 5), **fields} for k, fields in enumerate(odd_fields)]
    things += [thing(90, 4), {"id": 91, "image_id": 4, "category_id": 18, "segmentation": [[1, 1, 5, 1, 5, 5]]}]
    files = {"val/0.png": 0, "val/1.png": 1, "val/a/2.png": 2, "val/a/3.png": 3, "val/4.png": 4}
    return {**files, "annotations/instances_val.json": coco(images, things)}


def swapped():
    files = {}
    for at, (split, names) in enumerate((("train", ("cat", "dog")), ("val", ("dog", "cat")))):
        for k in range(2):
            files[f"{split}/{k}.png"] = 2 * at + k
        categories = [{"id": 1 + k, "name": name} for k, name in enumerate(names)]
        files[f"annotations/instances_{split}.json"] = coco([image(k, f"{k}.png") for k in range(2)], [thing(k, k, 1 + k) for k in range(2)], categories)
    return files


COCO_FIXTURES = {
    "official": official(), "roboflow": flat("train", "train/_annotations.coco.json"), "cvat": flat("images", "annotations/instances_default.json"),
    "fiftyone": flat("data", "labels.json"), "label-studio": flat("images", "result.json", "images/"), "lvis": lvis(), "odd": odd(), "swapped": swapped(),
}


def plant(folder, files):
    for path, content in files.items():
        target = Path(folder) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            content = json.dumps(content).encode()
        target.write_bytes(PICTURES[content] if isinstance(content, int) else content)


def plain(value):
    """NaN is null, as no JSON has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def number_of(folder, json_path, one):
    """The number of the picture that an image's record means."""
    name = (one.get("file_name") or "/".join(one["coco_url"].split("/")[-2:])).replace("\\", "/")
    stem, base = json_path.stem.rsplit("_", 1)[-1], Path(folder)
    for place in (base / stem, base / "images", base / "data", base, json_path.parent):
        if os.path.isfile(os.path.normpath(place / name)):
            return PICTURES.index(Path(os.path.normpath(place / name)).read_bytes())
    raise FileNotFoundError(name)


def read_coco(folder, ids=True):
    """What pycocotools reads in all JSON files of a folder, by the numbers of pictures and the names of categories."""
    images, annotations, categories = {}, {}, {}
    for path in sorted(Path(folder).rglob("*.json")):
        if path.name == "manifest.json":
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            reader = COCO(str(path))
        numbers = {ident: number_of(folder, path, one) for ident, one in reader.imgs.items()}
        for ident, number in numbers.items():
            rest = {key: value for key, value in reader.imgs[ident].items() if key not in ("file_name", "license")}
            images.setdefault(str(number), plain(rest))
        names = {ident: one["name"] for ident, one in reader.cats.items()}
        categories.update({one["name"]: plain(one) | categories.get(one["name"], {}) for one in reader.cats.values()})
        for one in reader.anns.values():
            rest = {key: value for key, value in one.items() if key not in ("image_id", "category_id")}
            kind = "caption" if "caption" in one else "object"
            key = (numbers[one["image_id"]], kind, one["id"])
            category = names.get(one["category_id"]) if "category_id" in one else None
            known = annotations.get(key, {"image": key[0], "category": category, "record": {}})
            known["record"] = {**plain(rest), **known["record"]}
            annotations[key] = known
    return {"images": images, "categories": categories, "annotations": [annotations[key] for key in sorted(annotations)]}


HF = {"image": {"_type": "Image"}}
CLASS = {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}


def table(numbers, label=None, features=None, column="image", kind=pa.binary(), **options):
    bytes_ = pa.array([PICTURES[n] for n in numbers], kind)
    image_ = pa.StructArray.from_arrays([bytes_, pa.array([f"{n}.png" for n in numbers])], ["bytes", "path"])
    columns = {column: image_} | ({"label": label} if label is not None else {})
    arrays = pa.table(columns)
    if features:
        arrays = arrays.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = io.BytesIO()
    pq.write_table(arrays, sink, **options)
    return sink.getvalue()


def ints(kind, values=(0, 1, 2)):
    return pa.array(values, kind)


def split_pair(train, test):
    label = {**HF, "label": CLASS}
    return {train: table([0, 1, 2], ints(pa.int64()), label), test: table([3, 4], ints(pa.int64(), (1, 0)), label)}


words = pa.array(["eel", "cat", "dog"])
PARQUET_FIXTURES = {
    "hub": split_pair("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
    "folders": split_pair("train/0000.parquet", "test/0000.parquet"),
    "prefixed": split_pair("mnist-train-00000-of-00001.parquet", "mnist-test-00000-of-00001.parquet"),
    "underscored": split_pair("cifar_train.parquet", "cifar_test.parquet"),
    "bare": split_pair("train.parquet", "test.parquet"),
    **{codec: {"train.parquet": table([0, 1, 2], ints(pa.int64()), {**HF, "label": CLASS}, compression=codec)} for codec in ("none", "gzip", "brotli", "lz4", "zstd")},
    "large": {"train.parquet": table([0, 1, 2], ints(pa.int32()), {**HF, "label": CLASS}, kind=pa.large_binary())},
    "uint8": {"train.parquet": table([0, 1, 2], ints(pa.uint8()), {**HF, "label": CLASS})},
    "numbers": {"train.parquet": table([0, 1, 2], ints(pa.int16(), (10, 2, 10)), {**HF, "label": {"dtype": "int16", "_type": "Value"}})},
    "words": {"train.parquet": table([0, 1, 2], words, {**HF, "label": {"dtype": "string", "_type": "Value"}})},
    "dictionary": {"train.parquet": table([0, 1, 2], words.dictionary_encode())},
    "holes": {"train.parquet": table([0, 1, 2], ints(pa.int64(), (-1, None, 2)), {**HF, "label": CLASS})},
    "column": {"train.parquet": table([0, 1, 2], ints(pa.int64()), {"cover": {"_type": "Image"}, "label": CLASS}, column="cover")},
    "page-v2": {"train.parquet": table([0, 1, 2], ints(pa.int64()), {**HF, "label": CLASS}, data_page_version="2.0", use_dictionary=False)},
}


def read_parquet(folder):
    """What `datasets` reads in a folder: for each split the pictures' numbers and the names of their labels."""
    import datasets
    datasets.disable_progress_bars()
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for split, rows in datasets.load_dataset(str(folder), cache_dir=cache).items():
            column = "cover" if "cover" in rows.features else "image"
            if isinstance(rows.features[column], datasets.Image):
                rows = rows.cast_column(column, datasets.Image(decode=False))
            feature = rows.features["label"]
            def name(label):
                if label is None or label == -1:
                    return None
                return feature.names[label] if isinstance(feature, datasets.ClassLabel) else str(label)
            found[str(split)] = sorted(([PICTURES.index(row[column]["bytes"]), name(row["label"])] for row in rows), key=lambda pair: pair[0])
    return found


def stored(files):
    """A fixture's files, as the golden file holds them."""
    kinds = {int: lambda c: {"picture": c}, dict: lambda c: {"text": json.dumps(c)}, bytes: lambda c: {"base64": base64.b64encode(c).decode()}}
    return {path: kinds[type(content)](content) for path, content in files.items()}


def write():
    golden = {"pictures": [base64.b64encode(p).decode() for p in PICTURES], "coco": {}, "parquet": {}}
    for kind, fixtures, read in (("coco", COCO_FIXTURES, read_coco), ("parquet", PARQUET_FIXTURES, read_parquet)):
        for name, files in fixtures.items():
            with tempfile.TemporaryDirectory() as folder:
                plant(folder, files)
                golden[kind][name] = {"files": stored(files), "reference": read(folder)}
    path = HERE / "sources.json"
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size, "bytes")


def check():
    wrong = 0
    for name, files in COCO_FIXTURES.items():
        with tempfile.TemporaryDirectory() as folder:
            plant(Path(folder) / name, files)
            def lapidary(*arguments):
                subprocess.run([os.path.abspath(os.environ["LAPIDARY"]), *arguments], cwd=folder, check=True, capture_output=True)
            lapidary("ingest", "--data", name, "--set", "ingest.max_reject=1")
            for verb in (["fingerprint"], ["embed"], ["curate", "--set", "curate.evidence=[]"], ["cut", "--size", "all", "--export", "coco"]):
                lapidary(*verb)
            before, after = read_coco(Path(folder) / name), read_coco(Path(folder) / f"out/{name}/subsets/all.coco")
            after["categories"] = {key: {**value, "id": before["categories"].get(key, value)["id"]} for key, value in after["categories"].items()}
            same = all(before[key] == after[key] for key in before)
            wrong += not same
            print(name, "same" if same else f"differs: {before} is now {after}")
    sys.exit(wrong)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    check() if sys.argv[1:] == ["check"] else write()
