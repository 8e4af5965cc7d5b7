"""kernel_shares.py LOG: the share of time that each kind of kernel takes, and how many were launched, of a log that CubeCL writes with CUBECL_DEBUG_OPTION=profile."""

import collections
import json
import re
import sys

# The first that a kernel's name holds, in small letters, is its kind.
KINDS = [
    ("matmul", "products"), ("gemm", "products"), ("gemv", "products"), ("attention", "attention"), ("ofkeys", "attention"),
    ("ofqueries", "attention"), ("ownkernel", "attention"), ("softmax", "attention"), ("slopes", "attention"),
    ("adamw", "optimiser"), ("average", "optimiser"), ("crossentropy", "cross-entropy"), ("standardise", "standardise"),
    ("residual", "residual and bias"), ("ofbranch", "residual and bias"), ("ofscale", "residual and bias"), ("bias", "residual and bias"),
    ("gelu", "GELU"), ("norm", "LayerNorm"), ("sum", "sums"), ("reduce", "sums"), ("cast", "casts"), ("slice", "copies"),
    ("contiguous", "copies"), ("copy", "copies"), ("cat", "copies"), ("binop", "elementwise"), ("unary", "elementwise"),
    ("scalar", "elementwise"), ("prng", "drawing weights"),
]
SECONDS = {"ns": 1e-9, "µs": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1.0}

took, names, launches = collections.Counter(), collections.Counter(), 0
for line in open(sys.argv[1], errors="replace"):
    found = re.search(r"\|\s*([\d.]+)(ns|µs|us|ms|s)\s*\|\s*(\S.*)", line)
    if not found or found.group(3).rstrip().endswith("|"):
        continue
    secs, name = float(found.group(1)) * SECONDS[found.group(2)], found.group(3).strip()
    names[name] += secs
    launches += 1
    took[next((kind for part, kind in KINDS if part in name.lower()), "others")] += secs
whole = sum(took.values())
if not whole:
    sys.exit("no kernel was measured")
def shares(counter, most=None):
    return {name[:120]: round(secs / whole, 3) for name, secs in counter.most_common(most)}
print(json.dumps({"kernel_shares": shares(took), "largest_kernels": shares(names, 12), "kernel_secs": round(whole, 4), "launches": launches}))
