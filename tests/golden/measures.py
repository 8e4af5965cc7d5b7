"""Golden numbers of measures that are no accuracies, by scikit-learn: average precision with and without ties, retrieval, copies
found again, several labels an image.

    pip install numpy==2.4.6 scikit-learn==1.9.1
    python tests/golden/measures.py tests/golden

Writes measures.json. Features are those of probes.py, written [rows, width, classes, phase, apart].
- average_precision: for shift 0 to 4, of 200 scores round(sin(1.7 i + shift) * r), positive where (i i + shift i) mod 7 = 0, r
  being 1e9 (`distinct`, as f32), 4 (`ties`) and 1 (`many_ties`)
- retrieval: `bank`: queries [80, 16, 7, 1.1, 0.5] in bank [300, 16, 7, 0.3, 0.5]; `others`: each of the bank in the rest of it;
  means of average precisions, cosine similarity, same class relevant
- copies: originals [40, 16, 4, 0.3, 0.9]; copies of kind k are originals + 0.4 (1 + k) times [40, 16, 4, 2 + k, 0]; micro average
  precision of all pairs, `all` and by kind
- one_vs_rest: train [120, 12, 4, 0.3, 0.7], test [40, 12, 4, 1.1, 0.7]; an image has its class and, every third, the next one too;
  by C the decision values of the test images, row by row
- multi_label: by C the mean over classes of their average precision
"""

import json
import pathlib
import sys

import numpy as np
from drawn_features import features, l2_normalised, labels_of
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier

folder = pathlib.Path(sys.argv[1])
KINDS = ["cropped", "jpeg", "resized", "flipped", "brightness", "overlaid"]


def average_precision():
    i = np.arange(200)
    found = {}
    for name, r in [("distinct", 1e9), ("ties", 4.0), ("many_ties", 1.0)]:
        # Halves are rounded away from 0, as in Rust.
        half_up = lambda v: np.sign(v) * np.floor(np.abs(v) + 0.5)
        scores = [half_up(np.sin(1.7 * i + shift) * r).astype(np.float32) for shift in range(5)]
        positive = [(i * i + shift * i) % 7 == 0 for shift in range(5)]
        found[name] = [float(average_precision_score(p, s)) for p, s in zip(positive, scores)]
    return found


def retrieval():
    bank, queries = l2_normalised(features(300, 16, 7, 0.3, 0.5)), l2_normalised(features(80, 16, 7, 1.1, 0.5))
    bank_labels, query_labels = labels_of(300, 7), labels_of(80, 7)
    of_bank = [average_precision_score(bank_labels == y, bank @ q) for q, y in zip(queries, query_labels)]
    of_others = []
    for index, (q, y) in enumerate(zip(bank, bank_labels)):
        others = np.arange(300) != index
        of_others.append(average_precision_score((bank_labels == y)[others], (bank @ q)[others]))
    return {"bank": float(np.mean(of_bank)), "others": float(np.mean(of_others))}


def copies():
    originals = features(40, 16, 4, 0.3, 0.9)
    kinds = [originals + 0.4 * (1 + k) * features(40, 16, 4, 2.0 + k, 0.0) for k in range(6)]
    scores = [l2_normalised(kind) @ l2_normalised(originals).T for kind in kinds]
    truth = np.eye(40, dtype=bool)
    found = {kind: float(average_precision_score(truth.ravel(), s.ravel())) for kind, s in zip(KINDS, scores)}
    found["all"] = float(average_precision_score(np.tile(truth.ravel(), 6), np.concatenate([s.ravel() for s in scores])))
    return found


def sets(rows, classes):
    has = np.zeros((rows, classes), dtype=int)
    i, label = np.arange(rows), labels_of(rows, classes)
    has[i, label] = 1
    has[i[i % 3 == 0], (label[i % 3 == 0] + 1) % classes] = 1
    return has


def regressions():
    train, test = features(120, 12, 4, 0.3, 0.7), features(40, 12, 4, 1.1, 0.7)
    for c in [0.01, 1.0, 100.0]:
        model = OneVsRestClassifier(LogisticRegression(C=c, tol=1e-10, max_iter=100_000)).fit(train, sets(120, 4))
        yield str(c), model.decision_function(test)


golden = {
    "average_precision": average_precision(),
    "retrieval": retrieval(),
    "copies": copies(),
    "one_vs_rest": {c: d.ravel().round(9).tolist() for c, d in regressions()},
    "multi_label": {c: float(average_precision_score(sets(40, 4), d, average="macro")) for c, d in regressions()},
}
(folder / "measures.json").write_text(json.dumps(golden) + "\n")
