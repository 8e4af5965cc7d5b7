"""Golden numbers of train/src/health/measures.rs, in float64 with numpy and scipy, from inputs that a formula makes.

pip install numpy scipy

Writes health.json: `dino` (teacher's distributions, student's log-distributions, centre) and `features`/`embeddings` of several
shapes, each with the metrics expected. Inputs are not stored: value i of an array with phase p is wave(i, p) =
f32(sin(1.7 i + p) + 0.8 sin(0.013 i i p)), in row-major order; distributions are the softmax of 3 wave.
Formulas: RankMe, Garrido et al. 2023, eq. 1 and 2; LiDAR, Thilak et al. 2024, eq. 1 to 4 with delta 1e-4, eps 1e-7, as the
generalised eigenvalues of both scatters; Barlow Twins' cross-correlation with variance + 1e-5.
"""

import json
import pathlib

import numpy as np
from scipy.linalg import eigh
from scipy.special import entr, log_softmax, rel_entr, softmax

EPS = 1e-7


def wave(rows, width, phase):
    i = np.arange(rows * width, dtype=np.float64)
    return (np.sin(1.7 * i + phase) + 0.8 * np.sin(0.013 * i * i * phase)).astype(np.float32).reshape(rows, width).astype(np.float64)


def effective_rank(spectrum):
    p = spectrum / spectrum.sum() + EPS
    return float(np.exp(-(p * np.log(p)).sum()))


def rankme(z):
    return effective_rank(np.linalg.svd(z, compute_uv=False))


def lidar(z, views):
    per_image = z.reshape(views, -1, z.shape[1])
    means = per_image.mean(0)
    between = np.cov(means, rowvar=False, bias=True)
    residuals = (per_image - means).reshape(-1, z.shape[1])
    within = residuals.T @ residuals / len(residuals) + 1e-4 * np.eye(z.shape[1])
    values = eigh(between, within, eigvals_only=True)
    # Of fewer images than dimensions, those beyond are zero but for rounding; each would add eps.
    return effective_rank(np.sort(np.maximum(values, 0))[::-1][: min(len(means), z.shape[1])])


def dino(batch, k, phase):
    views = 3
    teacher = softmax(3 * wave(2 * batch, k, phase), axis=1).astype(np.float32).astype(np.float64)
    student = log_softmax(wave(views * batch, k, phase + 0.5), axis=1).astype(np.float32).astype(np.float64)
    center = wave(1, k, phase + 1)
    log_p = student[: 2 * batch]
    swapped = np.roll(log_p, batch, axis=0)
    mean = teacher.mean(0)
    chosen = teacher.argmax(1)
    entropy = entr(teacher).sum(1).mean()
    return {
        "batch": batch,
        "k": k,
        "phase": phase,
        "expected": {
            "teacher_entropy": entropy,
            "teacher_entropy_share": entropy / np.log(k),
            "kl_teacher_student": rel_entr(teacher, np.exp(swapped)).sum(1).mean(),
            "loss_over_ln_k": 2.5 / np.log(k),
            "prototypes_in_use": len(set(chosen)) / k,
            "prototypes_perplexity": np.exp(entr(mean).sum()),
            "teacher_student_agreement": (chosen == log_p.argmax(1)).mean(),
            "center_norm": np.linalg.norm(center),
        },
    }


def features(batch, width, phase):
    z = wave(2 * batch, width, phase)
    normalised = z / np.linalg.norm(z, axis=1, keepdims=True)
    return {
        "batch": batch,
        "width": width,
        "phase": phase,
        "expected": {
            "feature_std": normalised.std(0, ddof=1).mean() * np.sqrt(width),
            "rankme": rankme(z),
            "lidar": lidar(z, 2),
        },
    }


def embeddings(batch, width, phase):
    z = wave(2 * batch, width, phase)
    a, b = ((v - v.mean(0)) / np.sqrt(v.var(0) + 1e-5) for v in (z[:batch], z[batch:]))
    c = a.T @ b / batch
    off = c[~np.eye(width, dtype=bool)]
    return {
        "batch": batch,
        "width": width,
        "phase": phase,
        "expected": {
            "barlow_diagonal_mean": np.diag(c).mean(),
            "barlow_off_diagonal_rms": np.sqrt((off**2).mean()),
            "embedding_rank": rankme(z - z.mean(0)),
        },
    }


if __name__ == "__main__":
    golden = {
        "dino": [dino(6, 24, 0.2), dino(9, 5, 1.1)],
        "features": [features(12, 16, 0.3), features(5, 24, 0.9), features(40, 8, 2.1)],
        "embeddings": [embeddings(12, 16, 0.4), embeddings(20, 7, 1.3)],
    }
    path = pathlib.Path(__file__).parent / "health.json"
    path.write_text(json.dumps(golden, indent=1, default=float) + "\n")
