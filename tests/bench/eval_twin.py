"""The probes of tests/bench/eval.rs in PyTorch and scikit-learn. `eval_twin.py data DIR` makes 60,000 features of 384 values in
100 classes, 50,000 to learn from and 10,000 to test on; `knn DIR` classifies as facebookresearch/dino's eval_knn.py does (chunks of
a hundredth of the test images; its 1000 classes are 100 here, which is to its advantage); `linear DIR` fits scikit-learn's
LogisticRegression on the same float32 values. Both print a JSON object with the seconds taken and write their predictions."""

import json
import pathlib
import sys
import time

import numpy as np

DIM, CLASSES, TRAIN, TEST = 384, 100, 50_000, 10_000
NEIGHBOURS, TEMPERATURE, C, TOLERANCE = [10, 20, 100, 200], 0.07, 0.01, 1e-4
what, folder = sys.argv[1], pathlib.Path(sys.argv[2])


def data():
    """Classes as Gaussians around drawn means, channels of falling variance turned by a drawn rotation, as features of networks
    are: a few directions hold most of the variance."""
    rng = np.random.default_rng(0)
    scale = np.arange(1, DIM + 1) ** -0.5
    rotation = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    means = rng.standard_normal((CLASSES, DIM))
    for split, rows in [("train", TRAIN), ("test", TEST)]:
        labels = rng.integers(0, CLASSES, rows)
        values = (0.18 * means[labels] + rng.standard_normal((rows, DIM))) * scale @ rotation
        (values * 8).astype("<f4").tofile(folder / f"{split}.f32")
        labels.astype("<u4").tofile(folder / f"{split}.u32")


def load(split):
    values = np.fromfile(folder / f"{split}.f32", "<f4").reshape(-1, DIM)
    return values, np.fromfile(folder / f"{split}.u32", "<u4").astype(np.int64)


def knn():
    import torch

    torch.set_num_threads(2)
    (bank, labels), (queries, _) = load("train"), load("test")
    bank, queries = (torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in (bank, queries))
    labels = torch.from_numpy(labels)
    bank = bank.t()

    def classify(k):
        """knn_classifier of the reference, predictions instead of counts."""
        chunk, found = TEST // 100, []
        one_hot = torch.zeros(k, CLASSES)
        for first in range(0, TEST, chunk):
            similarity = torch.mm(queries[first : first + chunk], bank)
            distances, indices = similarity.topk(k, largest=True, sorted=True)
            candidates = labels.view(1, -1).expand(chunk, -1)
            neighbours = torch.gather(candidates, 1, indices)
            one_hot.resize_(chunk * k, CLASSES).zero_()
            one_hot.scatter_(1, neighbours.view(-1, 1), 1)
            weights = distances.clone().div_(TEMPERATURE).exp_()
            votes = torch.sum(torch.mul(one_hot.view(chunk, -1, CLASSES), weights.view(chunk, -1, 1)), 1)
            _, predictions = votes.sort(1, True)
            found.append(predictions[:, 0])
        return torch.cat(found).numpy()

    with torch.inference_mode():
        secs, processor = {}, {}
        for k in NEIGHBOURS:
            began, used = time.perf_counter(), time.process_time()
            predictions = classify(k)
            secs[k], processor[k] = time.perf_counter() - began, time.process_time() - used
            predictions.astype("<u4").tofile(folder / f"knn-{k}.torch")
    print(json.dumps({"knn_20": secs[20], "knn_20_processor": processor[20], "knn_all": sum(secs.values())}))


def linear():
    from sklearn.linear_model import LogisticRegression

    (x, labels), (test, truth) = load("train"), load("test")
    model = LogisticRegression(C=C, tol=TOLERANCE, max_iter=1000)
    began, used = time.perf_counter(), time.process_time()
    model.fit(x, labels)
    secs, processor = time.perf_counter() - began, time.process_time() - used
    predictions = model.predict(test)
    predictions.astype("<u4").tofile(folder / "linear.sklearn")
    top1 = float((predictions == truth).mean())
    print(json.dumps({"secs": secs, "processor": processor, "iterations": int(model.n_iter_[0]), "top1": top1}))


{"data": data, "knn": knn, "linear": linear}[what]()
