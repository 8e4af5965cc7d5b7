"""Golden data for clusters and sets: k-means from given centroids, score normalisation, odd sizes.

    pip install numpy==2.2.6 scikit-learn==1.7.2 faiss-cpu==1.12.0 pandas cleanvision==0.3.7
    python tests/golden/clusters.py tests/golden

Writes clusters.json:
- points and their first k as initial centroids; scikit-learn's centroids and inertia after some updates (tol 0, n_init 1);
- faiss: the objective before each update, of faiss.Kmeans from the same centroids;
- split: points of which one cluster is empty at first and only one other can be split, and faiss's centroids after one update;
- normalised: queries, references and a background, and q' . r' of SSCD's augmented vectors (spec/curation.md section 3);
- sizes: lists of image sizes (roots of pixels), and which of them cleanvision marks as odd.
"""

import json
import sys

import faiss
import numpy
import pandas
from cleanvision.issue_managers.image_property import SizeProperty
from sklearn.cluster import KMeans

folder = sys.argv[1]
rng = numpy.random.default_rng(11)
k, dim = 9, 6


def listed(array, digits=7):
    return [[round(float(value), digits) for value in row] for row in array]


centres = rng.normal(0, 1, (k, dim))
points = numpy.round(centres[rng.integers(0, k, 300)] + rng.normal(0, 0.7, (300, dim)), 4).astype(numpy.float32)
out = {"k": k, "points": listed(points, 4), "lloyd": []}
for updates in (1, 4, 12):
    found = KMeans(k, init=points[:k], n_init=1, max_iter=updates, tol=0, algorithm="lloyd").fit(points)
    out["lloyd"].append({"updates": updates, "centroids": listed(found.cluster_centers_), "inertia": float(found.inertia_)})
kmeans = faiss.Kmeans(dim, k, niter=12, min_points_per_centroid=1, max_points_per_centroid=10000)
kmeans.train(points, init_centroids=points[:k])
out["faiss"] = [float(objective) for objective in kmeans.obj]

many = numpy.round(rng.normal(1, 0.05, (60, 4)), 4).astype(numpy.float32)
points = numpy.concatenate([many, [[-9, -9, -9, -9]]]).astype(numpy.float32)
start = numpy.array([[1, 1, 1, 1], [-9, -9, -9, -9], [50, 50, 50, 50]], numpy.float32)
kmeans = faiss.Kmeans(4, 3, niter=1, min_points_per_centroid=1, max_points_per_centroid=10000)
kmeans.train(points, init_centroids=start)
out["split"] = {"points": listed(points, 4), "start": listed(start), "centroids": listed(kmeans.centroids)}


def unit(rows):
    array = rng.normal(0, 1, (rows, 8)).astype(numpy.float32)
    return array / numpy.linalg.norm(array, axis=1, keepdims=True)


queries, references, background = unit(6), unit(10), unit(25)
beta = 0.8
nearest = -numpy.sort(-(queries @ background.T), axis=1)[:, 0:3]
augmented = numpy.concatenate([queries, -beta * nearest.mean(axis=1, keepdims=True)], axis=1)
ones = numpy.concatenate([references, numpy.ones((len(references), 1), numpy.float32)], axis=1)
out["normalised"] = {
    "queries": listed(queries),
    "references": listed(references),
    "background": listed(background),
    "beta": beta,
    "scores": listed(augmented @ ones.T),
}

out["sizes"] = []
for sizes in (
    [*range(90, 130), 500, 8],
    [100] * 30 + [101, 99],
    [64, 80, 96, 112, 128],
    [10, 11, 12, 13, 30.0, 18.9, 19.0],
):
    judge = SizeProperty()
    scores = judge.get_scores(pandas.DataFrame({"size": [float(size) for size in sizes]}), "odd_size")
    odd = judge.mark_issue(scores, "odd_size")["is_odd_size_issue"].tolist()
    out["sizes"].append({"sizes": [float(size) for size in sizes], "odd": odd})

with open(f"{folder}/clusters.json", "w") as file:
    json.dump(out, file)
