"""Golden numbers of the probes and of the geometry of features, in float64: facebookresearch/dino's k-NN, scikit-learn's
logistic regression, big_vision's ridge, scikit-learn's clustering metrics, and formulas in numpy.

    pip install torch==2.15 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
    git clone https://github.com/facebookresearch/dino && git -C dino checkout 7c446df5b9f45747937fb0d72314eb9f7b66930a
    python tests/golden/probes.py tests/golden dino

Writes probes.json. Inputs are not stored; a formula makes them. Image i of `classes` has label (7 i + i // 3) mod classes, and
value j of `width` is f32(sin(1.7 x + phase) + 0.8 sin(0.013 x x phase) + apart sin(label width + j)), x = i width + j. An
input is written here as [rows, width, classes, phase, apart].
- knn: by k, of bank [400, 16, 7, 0.3, 0.5] and queries [150, 16, 7, 1.1, 0.5], temperature 0.07: `predictions`, `correct`.
  eval_knn.py's knn_classifier itself gives `correct` (it returns accuracies alone); predictions are its formula's. That no
  prediction hangs on rounding or on a tie is checked.
- logistic: for classes 4 and 2, train [120, 12, classes, 0.3, 0.7], test [40, 12, classes, 1.1, 0.7], by C: `probabilities` of
  the test images, row by row, and `loss` = C sum of losses + 0.5 ||w||^2 (two classes have one vector of weights)
- ridge: by train images (120: the normal equations; 20 of width 30: the kernel): `scores` of test [40, width, 4, 1.1, 0.7]
- kmeans: of [200, 8, 5, 0.3, 0.8] from its first five images: `labels`, `inertia`, `iterations`
- agreement: truth (7 i + i // 3) mod 5, clusters (i i // 3) mod 6, of 150: `acc`, `nmi`, `ari`, `fmi`
- assignment: of costs [9, 9, 1, 0.7, 0]: `columns`, `total`
- silhouette: of [200, 8, 5, 0.3, 0.8] with its labels, and with image 0 alone in a class of its own
- spread: of [90, 10, 3, 0.3, 0.5], a second view being [90, 10, 3, 0.35, 0.5]: `rankme`, `lidar` of the two views,
  `uniformity` (t = 2) and `alignment` (alpha = 2) of L2-normalised features, `std` of each channel of L2-normalised features
  times sqrt(width)
"""

import importlib.util
import json
import pathlib
import sys
import types

import numpy as np
import torch
from drawn_features import features, l2_normalised, labels_of
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, fowlkes_mallows_score, normalized_mutual_info_score, silhouette_score
from sklearn.metrics.cluster import contingency_matrix

folder, reference = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
EPS = 1e-7


def eval_knn():
    """The reference's module, without the networks that it imports."""
    for name in ["vit_utils", "vision_transformer", "utils"]:
        sys.modules.setdefault(name, types.ModuleType(name))
    spec = importlib.util.spec_from_file_location("eval_knn", reference / "eval_knn.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def knn():
    bank, queries = (l2_normalised(features(n, 16, 7, p, 0.5)) for n, p in [(400, 0.3), (150, 1.1)])
    bank_labels, truth = labels_of(400, 7), labels_of(150, 7)
    classifier = eval_knn().knn_classifier
    torch.set_default_dtype(torch.float64)
    found = {}
    for k in [1, 5, 10, 20, 100, 200, 400]:
        similarity = queries @ bank.T
        order = np.argsort(-similarity, axis=1, kind="stable")
        ranked = np.take_along_axis(similarity, order, axis=1)
        if k < 400:
            assert (ranked[:, k - 1] - ranked[:, k]).min() > 1e-6, f"k = {k}: a neighbour hangs on rounding"
        one_hot = np.eye(7)[bank_labels[order[:, :k]]]
        votes = (one_hot * np.exp(ranked[:, :k] / 0.07)[:, :, None]).sum(1)
        best = np.sort(votes, axis=1)
        assert ((best[:, -1] - best[:, -2]) / best[:, -1]).min() > 1e-5, f"k = {k}: a prediction hangs on rounding"
        predictions = votes.argmax(1)
        correct = int((predictions == truth).sum())
        as_tensors = [torch.tensor(a) for a in (bank, bank_labels, queries, truth)]
        top1, _ = classifier(*as_tensors, k, 0.07, 7)
        assert abs(top1 - 100 * correct / 150) < 1e-9, (k, top1, correct)
        found[str(k)] = {"predictions": predictions.tolist(), "correct": correct}
    return found


def logistic():
    found = {}
    for classes in [4, 2]:
        train, test = features(120, 12, classes, 0.3, 0.7), features(40, 12, classes, 1.1, 0.7)
        labels = labels_of(120, classes)
        found[str(classes)] = {}
        for c in [0.01, 1.0, 100.0]:
            model = LogisticRegression(C=c, tol=1e-10, max_iter=100_000).fit(train, labels)
            log_p = model.predict_log_proba(train)[np.arange(120), labels]
            found[str(classes)][str(c)] = {
                "probabilities": model.predict_proba(test).ravel().tolist(),
                "loss": float(-c * log_p.sum() + 0.5 * (model.coef_**2).sum()),
            }
    return found


def ridge():
    found = {}
    for rows, width in [(120, 12), (20, 30)]:
        x, test = features(rows, width, 4, 0.3, 0.7), features(40, width, 4, 1.1, 0.7)
        y = 2 * np.eye(4)[labels_of(rows, 4)] - 1
        mean, std = x.mean(0), x.std(0) + 1e-5
        padded = [np.pad((a - mean) / std, ((0, 0), (0, 1)), constant_values=100.0) for a in (x, test)]
        weights = np.linalg.solve(padded[0].T @ padded[0] + 10.0 * np.eye(width + 1), padded[0].T @ y)
        found[str(rows)] = {"scores": (padded[1] @ weights).ravel().tolist()}
    return found


def kmeans():
    x = features(200, 8, 5, 0.3, 0.8)
    model = KMeans(5, init=x[:5], n_init=1, algorithm="lloyd", tol=0, max_iter=100).fit(x)
    return {"labels": model.labels_.tolist(), "inertia": model.inertia_, "iterations": model.n_iter_}


def agreement():
    i = np.arange(150)
    truth, clusters = labels_of(150, 5), (i * i // 3) % 6
    table = contingency_matrix(truth, clusters)
    rows, columns = linear_sum_assignment(-table)
    return {
        "acc": float(table[rows, columns].sum() / 150),
        "nmi": normalized_mutual_info_score(truth, clusters),
        "ari": adjusted_rand_score(truth, clusters),
        "fmi": fowlkes_mallows_score(truth, clusters),
    }


def assignment():
    costs = features(9, 9, 1, 0.7, 0.0)
    rows, columns = linear_sum_assignment(costs)
    return {"columns": columns.tolist(), "total": float(costs[rows, columns].sum())}


def silhouette():
    x, labels = features(200, 8, 5, 0.3, 0.8), labels_of(200, 5)
    alone = labels.copy()
    alone[0] = 5
    return {"classes": silhouette_score(x, labels), "one_alone": silhouette_score(x, alone)}


def effective_rank(spectrum):
    p = spectrum / spectrum.sum() + EPS
    return float(np.exp(-(p * np.log(p)).sum()))


def spread():
    x, other = features(90, 10, 3, 0.3, 0.5), features(90, 10, 3, 0.35, 0.5)
    both = np.stack([x, other])
    means = both.mean(0)
    between = np.cov(means, rowvar=False, bias=True)
    residuals = (both - means).reshape(-1, 10)
    within = residuals.T @ residuals / len(residuals) + 1e-4 * np.eye(10)
    unit, unit_other = l2_normalised(x), l2_normalised(other)
    return {
        "rankme": effective_rank(np.linalg.svd(x, compute_uv=False)),
        "lidar": effective_rank(np.maximum(eigh(between, within, eigvals_only=True), 0)),
        "uniformity": float(np.log(np.exp(-2 * pdist(unit) ** 2).mean())),
        "alignment": float(((unit - unit_other) ** 2).sum(1).mean()),
        "std": (unit.std(0, ddof=1) * np.sqrt(10)).tolist(),
    }


parts = [knn, logistic, ridge, kmeans, agreement, assignment, silhouette, spread]
golden = {part.__name__: part() for part in parts}
(folder / "probes.json").write_text(json.dumps(golden, indent=1).replace("\n   ", "") + "\n")
