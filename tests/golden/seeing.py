"""Golden numbers of masks, segmentation, label propagation, robustness and maps of features.

    pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 torch==2.15 torchvision==0.29.2 pillow==13.0 pycocotools==2.0.11
    python tests/golden/seeing.py tests/golden ../shared/data/coco/annotations

Writes seeing.json and the pictures in seeing/. Value i of an input without numbers of its own is
f32(sin(1.7 i + phase) + 0.8 sin(0.013 i i phase)).
- masks: annotations as COCO has them (polygons; run lengths as numbers and as text) with `size`, `area` and the run lengths
  `decoded` of pycocotools' decoded mask
- coco: by file of annotations of real images (2017 instances, a part of them; they are not in the repository): masks, the sum of
  their areas, and the sum of (first pixel + 31 x the one after the last) of each run, column by column, modulo 2^32
- confusion: truth (7 i + i // 3) mod 6, predicted (5 i + i i // 7) mod 6 but where i mod 3 = 0 the truth, of 600 pixels, of which
  those with i mod 11 = 0 count for nothing and class 4 of the truth is class 5: scikit-learn's matrix and what follows from it
- propagation: of facebookresearch/dino eval_video_segmentation.py, `label_propagation` in its own order of operations: features
  [frames, 20, 12] of phases 0.3, 0.35, ..., a grid of 4 rows and 5 columns, three labels, top-k 5, neighbourhood 2
- upsampled: PyTorch's bilinear interpolation of [4, 5] (phase 0.3) to [12, 20]
- similarity: J and F of pairs of masks (davis2017-evaluation metrics.py: db_eval_iou, f_measure, _seg2bmap)
- pca: of 40 x 7 (phase 0.3), scikit-learn: explained variance and the first three coordinates; the greatest weight of each
  direction is positive
- tsne: of 60 x 5 (phase 0.3), perplexity 12: scikit-learn's joint probabilities, the squared gradient norm and the divergence at
  an embedding [60, 2] of phase 0.7, that embedding after 6 exaggerated steps, and the divergence that its exact method ends with
  from 1e-4 times it
- attention: the class token's attention in the last block of weights/dino (a network of DINO's code) on an image of 24 px
  (phase 0.3), position embedding resized as DINO resizes it
- pictures: a drawn image of 60 x 44 rotated, warped and re-encoded by Pillow and torchvision
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pycocotools import mask as coco
from scipy.ndimage import binary_dilation
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, _t_sne
from sklearn.metrics import confusion_matrix
from scipy.spatial.distance import squareform
from torchvision.transforms import functional as TF


def wave(count, phase):
    x = np.arange(count, dtype=np.float64)
    return (np.sin(1.7 * x + phase) + 0.8 * np.sin(0.013 * x * x * phase)).astype(np.float32)


def runs(mask):
    flat = mask.reshape(-1, order="F")
    counts, value, length = [], 0, 0
    for pixel in flat:
        if pixel != value:
            counts.append(length)
            value, length = pixel, 0
        length += 1
    return [int(c) for c in counts + [length]]


def mask_cases():
    rng = np.random.default_rng(7)
    cases = []

    def polygons(name, parts, size=(30, 40)):
        h, w = size
        rle = coco.merge(coco.frPyObjects(parts, h, w))
        cases.append({"name": name, "size": [h, w], "segmentation": parts, "area": int(coco.area(rle)),
                      "decoded": runs(coco.decode(rle))})

    polygons("square", [[1, 1, 5, 1, 5, 4, 1, 4]])
    polygons("square at halves", [[1.5, 1.5, 5.5, 1.5, 5.5, 4.5, 1.5, 4.5]])
    polygons("whole image", [[0, 0, 40, 0, 40, 30, 0, 30]])
    polygons("smaller than a pixel", [[7.1, 7.1, 7.3, 7.1, 7.2, 7.4]])
    polygons("a sliver", [[2, 2, 38, 2.2, 2, 2.4]])
    polygons("a line", [[3, 3, 9, 9, 3, 3]])
    polygons("upright line", [[3, 3, 3, 20, 3.1, 20]])
    polygons("corners named twice", [[4, 4, 4, 4, 20, 4, 20, 4, 20, 20, 4, 20, 4, 4]])
    polygons("first corner again", [[4, 4, 20, 6, 18, 25, 4, 4]])
    polygons("left of the image", [[-20, 5, 8.3, 9, -12.5, 22]])
    polygons("right and below", [[30, 20, 70.7, 25, 45, 66.6]])
    polygons("outside", [[-20, -20, -5, -20, -5, -5]])
    polygons("outside to the right", [[50, 3, 60, 3, 60, 20]])
    polygons("around the image", [[-50, -50, 90, -50, 90, 80, -50, 80]])
    polygons("one row", [[0, 10, 40, 10, 40, 11, 0, 11]])
    polygons("one column", [[10, 0, 11, 0, 11, 30, 10, 30]])
    polygons("crosses itself", [[5, 5, 30, 25, 30, 5, 5, 25]])
    polygons("a star", [[20, 2, 26, 25, 6, 10, 34, 10, 12, 27]])
    polygons("two parts", [[2, 2, 12, 3, 8, 14], [20, 15, 35, 16, 30, 28, 22, 27]])
    polygons("parts that overlap", [[2, 2, 22, 3, 18, 24], [10, 5, 35, 6, 30, 28]])
    polygons("a tiny image", [[0.2, 0.1, 1.7, 0.4, 1.1, 0.9]], (1, 2))
    polygons("a column of an image", [[0, 2, 1, 2, 1, 9, 0, 9]], (12, 1))
    for i in range(24):
        corners = int(rng.integers(3, 14))
        parts = []
        for _ in range(int(rng.integers(1, 5))):
            spread = float(rng.choice([3, 15, 60]))
            middle = rng.uniform(-5, 45, 2)
            parts.append([round(float(v), 2) for v in (middle + rng.normal(0, spread, (corners, 2))).reshape(-1)])
        polygons(f"random {i}", parts)
    for i in range(6):
        h, w = int(rng.integers(1, 40)), int(rng.integers(1, 50))
        shape = rng.random((h, w)) < [0.5, 0.05, 0.95, 0.0, 1.0, 0.3][i]
        if i == 5:
            shape[: h // 2] = True
        pixels = np.asfortranarray(shape.astype(np.uint8))
        rle = coco.encode(pixels)
        counts = runs(pixels)
        for name, said in [("text", rle["counts"].decode()), ("numbers", counts)]:
            again = coco.frPyObjects({"size": [h, w], "counts": said}, h, w) if name == "numbers" else rle
            assert (coco.decode(again) == pixels).all()
            cases.append({"name": f"run lengths {i} as {name}", "size": [h, w], "iscrowd": 1,
                          "segmentation": {"size": [h, w], "counts": said}, "area": int(coco.area(rle)),
                          "decoded": counts})
    large = np.zeros((500, 700), np.uint8, order="F")
    large[100:400, 30:650] = 1
    rle = coco.encode(large)
    cases.append({"name": "large run lengths", "size": [500, 700],
                  "segmentation": {"size": [500, 700], "counts": rle["counts"].decode()},
                  "area": int(coco.area(rle)), "decoded": runs(large)})
    return cases


def real(folder):
    found = {}
    for path in sorted(folder.glob("instances_*.json")):
        data = json.loads(path.read_text())
        sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
        count, area, checksum = 0, 0, 0
        for annotation in data["annotations"]:
            h, w = sizes[annotation["image_id"]]
            said = annotation["segmentation"]
            rle = coco.merge(coco.frPyObjects(said, h, w)) if isinstance(said, list) else coco.frPyObjects(said, h, w)
            count, area = count + 1, area + int(coco.area(rle))
            ends = np.cumsum(runs(coco.decode(rle)))
            checksum += sum(int(a) + 31 * int(b) for a, b in zip(ends[::2], ends[1::2]))
        found[path.name] = {"masks": count, "area": area, "checksum": checksum % 2**32}
    return found


def confusion():
    i = np.arange(600)
    truth = (7 * i + i // 3) % 6
    truth[truth == 4] = 5
    predicted = (5 * i + i * i // 7) % 6
    predicted[i % 3 == 0] = truth[i % 3 == 0]
    kept = i % 11 != 0
    matrix = confusion_matrix(truth[kept], predicted[kept], labels=range(6)).astype(float)
    overlap, of_truth, of_predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    union = of_truth + of_predicted - overlap
    iou = overlap / union
    present = of_truth > 0
    return {"iou": iou.tolist(), "miou": iou[present].mean(), "miou_without_background": iou[1:][present[1:]].mean(),
            "accuracy": overlap.sum() / matrix.sum(), "classes": int(present.sum())}


def propagate(feat_tar, sources, segs, h, w, size, topk, temperature):
    mask = torch.zeros(h, w, h, w)
    for i in range(h):
        for j in range(w):
            for p in range(max(i - size, 0), min(i + size + 1, h)):
                for q in range(max(j - size, 0), min(j + size + 1, w)):
                    mask[i, j, p, q] = 1
    mask = mask.reshape(h * w, h * w)
    target = F.normalize(feat_tar, dim=1)
    affinity = torch.stack([torch.exp(target @ F.normalize(s, dim=1).T / temperature) * mask for s in sources])
    affinity = affinity.transpose(2, 1).reshape(-1, h * w)
    least = torch.topk(affinity, dim=0, k=topk)[0].min(dim=0)[0]
    affinity[affinity < least] = 0
    affinity = affinity / affinity.sum(0, keepdim=True)
    labels = torch.cat(segs, dim=0)
    return affinity.T @ labels


def propagation():
    h, w, dim, frames = 4, 5, 12, 4
    features = [torch.tensor(wave(h * w * dim, 0.3 + 0.05 * f).reshape(h * w, dim)).double() for f in range(frames)]
    first = F.one_hot(torch.tensor([(i + i // 4) % 3 for i in range(h * w)]), 3).double()
    segs, kept = [first], []
    found = []
    for f in range(1, frames):
        # The first frame, and at most the two before this one.
        sources = [features[0]] + [k[0] for k in kept]
        labels = [first] + [k[1] for k in kept]
        soft = propagate(features[f], sources, labels, h, w, 2, 5, 0.1)
        found.append(soft.reshape(-1).tolist())
        kept = (kept + [(features[f], soft)])[-2:]
    return {"frames": found}


def boundary(seg):
    e, s, se = np.zeros_like(seg), np.zeros_like(seg), np.zeros_like(seg)
    e[:, :-1], s[:-1, :], se[:-1, :-1] = seg[:, 1:], seg[1:, :], seg[1:, 1:]
    b = (seg ^ e) | (seg ^ s) | (seg ^ se)
    b[-1, :] = seg[-1, :] ^ e[-1, :]
    b[:, -1] = seg[:, -1] ^ s[:, -1]
    b[-1, -1] = 0
    return b


def similarity():
    h, w = 60, 90
    y, x = np.mgrid[0:h, 0:w]
    disc = lambda cx, cy, r: (x - cx) ** 2 + (y - cy) ** 2 <= r * r
    pairs = {
        "near": ([40, 30, 15], [43, 31, 14]), "apart": ([20, 20, 10], [70, 40, 10]), "same": ([40, 30, 15], [40, 30, 15]),
        "none found": ([40, 30, 15], [0, 0, -1]), "none there": ([0, 0, -1], [40, 30, 15]), "nothing": ([0, 0, -1], [0, 0, -1]),
        "at the edge": ([2, 58, 20], [4, 55, 22]), "larger": ([45, 30, 8], [45, 30, 24]),
    }
    out = []
    for name, (a, b) in pairs.items():
        empty = lambda d: np.zeros((h, w), bool) if d[2] < 0 else disc(*d)
        truth, found = empty(a), empty(b)
        union = (truth | found).sum()
        j = 1.0 if union == 0 else (truth & found).sum() / union
        reach = math.ceil(0.008 * math.hypot(h, w))
        yy, xx = np.mgrid[-reach:reach + 1, -reach:reach + 1]
        disk = yy * yy + xx * xx <= reach * reach
        bt, bf = boundary(truth), boundary(found)
        dt, df = binary_dilation(bt, disk), binary_dilation(bf, disk)
        nt, nf = bt.sum(), bf.sum()
        if nf == 0 and nt > 0:
            p, r = 1, 0
        elif nf > 0 and nt == 0:
            p, r = 0, 1
        elif nf == 0 and nt == 0:
            p, r = 1, 1
        else:
            p, r = (bf & dt).sum() / nf, (bt & df).sum() / nt
        f = 0.0 if p + r == 0 else 2 * p * r / (p + r)
        out.append({"name": name, "truth": a, "found": b, "j": float(j), "f": float(f)})
    return out


def positive(directions):
    return np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(1)])


def pca():
    x = wave(40 * 7, 0.3).reshape(40, 7).astype(np.float64)
    fitted = PCA(3, svd_solver="full").fit(x)
    signs = positive(fitted.components_)
    return {"variance": fitted.explained_variance_.tolist(),
            "coordinates": (fitted.transform(x) * signs).reshape(-1).tolist()}


def tsne():
    n = 60
    x = wave(n * 5, 0.3).reshape(n, 5)
    distances = ((x[:, None].astype(np.float64) - x[None].astype(np.float64)) ** 2).sum(-1).astype(np.float32)
    p = _t_sne._joint_probabilities(distances, 12, 0)
    start = wave(n * 2, 0.7).astype(np.float64)
    kl, gradient = _t_sne._kl_divergence(start, p, 1.0, n, 2, skip_num_points=0)
    moved, _, _ = _t_sne._gradient_descent(
        _t_sne._kl_divergence, start, 0, 6, n_iter_check=1000, momentum=0.5, learning_rate=50.0,
        args=[12 * p, 1.0, n, 2], kwargs={"skip_num_points": 0})
    fitted = TSNE(2, perplexity=12, method="exact", init=(1e-4 * start.reshape(n, 2)).astype(np.float32), max_iter=1000,
                  learning_rate="auto").fit(x)
    return {"joint": squareform(p)[:5].reshape(-1).tolist(), "divergence": float(kl),
            "gradient": gradient.reshape(-1).tolist(), "descended": moved.reshape(-1).tolist(), "final_divergence": float(fitted.kl_divergence_)}


def attention(folder):
    checkpoint = torch.load(folder / "weights/dino/checkpoint.pth", weights_only=False, map_location="cpu")
    state = {k.removeprefix("module.").removeprefix("backbone."): v.double() for k, v in checkpoint["teacher"].items()}
    config = json.loads((folder / "weights/dino/config.json").read_text())
    heads = config["num_attention_heads"]
    weight = state["patch_embed.proj.weight"]
    dim, _, patch, _ = weight.shape
    side = 3 * patch * 2
    image = torch.tensor(wave(3 * side * side, 0.3)).double().reshape(1, 3, side, side)
    x = F.conv2d(image, weight, state["patch_embed.proj.bias"], stride=patch).flatten(2).transpose(1, 2)
    pos = state["pos_embed"]
    old, new = int(math.sqrt(pos.shape[1] - 1)), side // patch
    grid = pos[:, 1:].reshape(1, old, old, dim).permute(0, 3, 1, 2)
    scale = (new + 0.1) / old
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic", recompute_scale_factor=False)
    assert grid.shape[-1] == new and new != old
    x = torch.cat([state["cls_token"], x], 1) + torch.cat([pos[:, :1], grid.permute(0, 2, 3, 1).reshape(1, -1, dim)], 1)
    norm = lambda x, name: F.layer_norm(x, (dim,), state[name + ".weight"], state[name + ".bias"], 1e-6)
    depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
    for b in range(depth):
        name = f"blocks.{b}."
        lin = lambda x, n: F.linear(x, state[name + n + ".weight"], state[name + n + ".bias"])
        qkv = lin(norm(x, name + "norm1"), "attn.qkv").reshape(1, -1, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        weights = ((qkv[0] * (dim // heads) ** -0.5) @ qkv[1].transpose(-1, -2)).softmax(-1)
        x = x + lin((weights @ qkv[2]).transpose(1, 2).reshape(1, -1, dim), "attn.proj")
        x = x + lin(F.gelu(lin(norm(x, name + "norm2"), "mlp.fc1")), "mlp.fc2")
    found = weights[0, :, 0, 1:]
    masks = []
    for head in found:
        # visualize_attention.py and eval: the least weights that together have at most 1 - mass are left out.
        value, index = torch.sort(head)
        value = value / value.sum()
        kept = torch.cumsum(value, 0) > 1 - 0.6
        mask = torch.zeros(len(head), dtype=torch.int)
        mask[index[kept]] = 1
        masks.append(mask.tolist())
    return {"side": side, "weights": found.reshape(-1).tolist(), "masks": masks}


def drawn():
    y, x = np.mgrid[0:44, 0:60].astype(np.float64)
    red = 127 + 120 * np.sin(0.31 * x + 0.17 * y)
    green = 127 + 120 * np.sin(0.11 * x * y / 9 + 1.0)
    blue = np.where((x - 30) ** 2 + (y - 22) ** 2 < 180, 230, 4 * x)
    return Image.fromarray(np.stack([red, green, blue], -1).round().clip(0, 255).astype(np.uint8))


def pictures(folder):
    folder.mkdir(exist_ok=True)
    image = drawn()
    image.save(folder / "drawn.png")
    gray = (124, 116, 104)
    for angle in [5, 30, -45, 90]:
        image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=gray).save(folder / f"rotate{angle}.png")
    corners = {"mild": [(4, 2), (57, 1), (55, 41), (2, 40)], "strong": [(16, 3), (50, 12), (58, 43), (5, 30)]}
    start = [(0, 0), (59, 0), (59, 43), (0, 43)]
    coefficients = {}
    for name, end in corners.items():
        TF.perspective(image, start, end, TF.InterpolationMode.BILINEAR, list(gray)).save(folder / f"warp-{name}.png")
        coefficients[name] = {"corners": end, "coefficients": TF._get_perspective_coeffs(start, end)}
    for quality in [75, 25, 7]:
        path = folder / "again.jpg"
        image.save(path, quality=quality)
        Image.open(path).convert("RGB").save(folder / f"jpeg{quality}.png")
        path.unlink()
    return coefficients


def main():
    folder = pathlib.Path(sys.argv[1])
    upsampled = F.interpolate(torch.tensor(wave(20, 0.3).reshape(1, 1, 4, 5)), size=(12, 20), mode="bilinear")
    golden = {
        "masks": mask_cases(), "coco": real(pathlib.Path(sys.argv[2])), "confusion": confusion(), "propagation": propagation(),
        "upsampled": upsampled.reshape(-1).tolist(), "similarity": similarity(), "pca": pca(), "tsne": tsne(),
        "attention": attention(folder), "warps": pictures(folder / "seeing"),
    }
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()]
    (folder / "seeing.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
