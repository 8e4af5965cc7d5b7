"""Python's faiss-cpu on the embeddings that the bench `curation` wrote: the same index, the same k-means, 2 threads.

    python faiss_peer.py FOLDER

Prints a JSON object: its seconds over ours.
"""
import json
import sys
import time

import faiss
import numpy

folder = sys.argv[1]
ours = json.load(open(f"{folder}/ours.json"))
vectors = numpy.fromfile(f"{folder}/vectors.f32", dtype=numpy.float32).reshape(-1, ours["dim"])
faiss.omp_set_num_threads(2)
count, dim = vectors.shape
lists = max(1, count // 256)
begun = time.perf_counter()
index = faiss.index_factory(dim, f"IVF{lists}_HNSW32,Flat", faiss.METRIC_INNER_PRODUCT)
index.train(vectors[:: max(1, count // (lists * 20))])
index.nprobe = 8
index.add(vectors)
for start in range(0, count, 4096):
    index.search(vectors[start : start + 4096], ours["k"])
knn = time.perf_counter() - begun
begun = time.perf_counter()
kmeans = faiss.Kmeans(
    dim, 1000, niter=ours["iterations"], max_points_per_centroid=ours["max_points"], min_points_per_centroid=1, seed=1
)
kmeans.train(vectors)
kmeans.index.search(vectors, 1)
secs = time.perf_counter() - begun
print(f"  faiss-cpu {faiss.__version__}: k-NN graph {knn:.2f} s (ours {ours['knn']:.2f}), k-means {secs:.2f} s (ours {ours['kmeans']:.2f})", file=sys.stderr)
print(json.dumps({"knn_vs_faiss": round(knn / ours["knn"], 2), "kmeans_vs_faiss": round(secs / ours["kmeans"], 2)}))
