"""Golden data of the optimisers, the schedules and the teacher's moving average (train/src/optimise/golden.rs).

    pip install torch==2.15 numpy
    OMP_NUM_THREADS=1 python tests/golden/optimisers.py      # writes optimisers.json beside it

All in float64. Parameters have the names and shapes of a hybrid student: ViT of dim 4, 2 blocks, 2 heads, MLP ratio 2, 4 px
images in patches of 2; DINO's head 4-4-4 with 6 prototypes and trained norms; Barlow Twins' projector 4-4-4. With the names
sorted, k the number of a name, i that of a value in PyTorch's order and t the step:
    start    p = float32(0.5 cos(0.9 i + 1.7 k))
    gradient g = (0.05 + 0.1 (k mod 5)) sin(0.7 i + 0.9 k + 0.31 t) + 0.02 p
`runs` has, for each run, the values after 20 steps by name: AdamW is torch.optim.AdamW, clipping torch's clip_grad_norm_ on one
tensor, on all of a first component, or on all; LARS is by its formula (facebookresearch/barlowtwins; solo-learn's clip_lr).
`teacher` is the moving average beside the run `adamw_tensor`; `ema` that of 50 steps of a student
    s = 0.5 cos(0.9 i + 1.7 k) + 0.1 sin(0.2 t + i)   from a teacher at p, with momentum 0.9.
`schedules` has learning rate, weight decay, momentum and teacher temperature of every step, by numpy (cosine from its start
to its end after a linspace warm-up, as facebookresearch/dino's cosine_scheduler; the temperature an epoch).
"""

import json
import math
import pathlib

import numpy as np
import torch

STEPS, PER_EPOCH = 20, 5
DIM, GRID, PATCH, K = 4, 2, 2, 6


def shapes():
    out = {
        "backbone.cls_token": (1, 1, DIM),
        "backbone.pos_embed": (1, 1 + GRID * GRID, DIM),
        "backbone.patch_embed.proj.weight": (DIM, 3, PATCH, PATCH),
        "backbone.patch_embed.proj.bias": (DIM,),
        "head.last_layer.weight_v": (K, DIM),
        "head.last_layer.weight_g": (K, 1),
    }
    norms = ["backbone.norm", "projector.0.norm", "projector.1.norm"]
    linears = {}
    for block in range(2):
        at = f"backbone.blocks.{block}"
        norms += [f"{at}.norm1", f"{at}.norm2"]
        linears |= {f"{at}.attn.qkv": (3 * DIM, DIM), f"{at}.attn.proj": (DIM, DIM)}
        linears |= {f"{at}.mlp.fc1": (2 * DIM, DIM), f"{at}.mlp.fc2": (DIM, 2 * DIM)}
    for layer in range(3):
        linears[f"head.mlp.{layer}.linear"] = (DIM, DIM)
        out[f"projector.{layer}.linear.weight"] = (DIM, DIM)
    for name in norms:
        out |= {f"{name}.weight": (DIM,), f"{name}.bias": (DIM,)}
    for name, shape in linears.items():
        out |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return dict(sorted(out.items()))


SHAPES = shapes()


def start(k, shape):
    i = np.arange(math.prod(shape), dtype=np.float64)
    return (0.5 * np.cos(0.9 * i + 1.7 * k)).astype(np.float32).astype(np.float64)


def gradient(k, t, p):
    i = np.arange(p.size, dtype=np.float64)
    return (0.05 + 0.1 * (k % 5)) * np.sin(0.7 * i + 0.9 * k + 0.31 * t) + 0.02 * p


def cosine(start_value, end_value, steps, warmup=0):
    rest = np.arange(steps - warmup)
    curve = end_value + 0.5 * (start_value - end_value) * (1 + np.cos(np.pi * rest / len(rest)))
    return np.concatenate([np.linspace(0, start_value, warmup), curve])


def decayed(name):
    return not (name.endswith(".bias") or len(SHAPES[name]) == 1)


def layer_rate(name, decay, patch_rate, depth=2):
    """DINOv2's rule: layer 0 is what is embedded, layer b + 1 block b, layer depth + 1 all else; decay ** layers above."""
    layer = depth + 1
    if name.startswith("backbone."):
        rest = name.removeprefix("backbone.")
        if rest.startswith("blocks."):
            layer = int(rest.split(".")[1]) + 1
        elif rest.split(".")[0] in ("pos_embed", "cls_token", "patch_embed"):
            layer = 0
    return decay ** (depth + 1 - layer) * (patch_rate if "patch_embed" in name else 1)


RATES = cosine(2e-3, 1e-5, STEPS, 4)
DECAYS = cosine(0.04, 0.4, STEPS)
MOMENTA = cosine(0.9, 1.0, STEPS)


def clip(params, clip_norm, by):
    parts = {}
    for name, p in params.items():
        parts.setdefault({"tensor": name, "module": name.split(".")[0], "global": ""}[by], []).append(p)
    for group in parts.values():
        torch.nn.utils.clip_grad_norm_(group, clip_norm)


def adamw(clip_norm=0.0, by="tensor", freeze=0, layer_decay=1.0, patch_rate=1.0):
    params = {n: torch.nn.Parameter(torch.tensor(start(k, s).reshape(s))) for k, (n, s) in enumerate(SHAPES.items())}
    teacher = {n: p.detach().clone() for n, p in params.items() if not n.startswith("projector.")}
    groups = [{"params": [p], "name": n} for n, p in params.items()]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    for t in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = RATES[t] * layer_rate(group["name"], layer_decay, patch_rate)
            group["weight_decay"] = DECAYS[t] if decayed(group["name"]) else 0.0
        for k, p in enumerate(params.values()):
            flat = p.detach().numpy().reshape(-1)
            p.grad = torch.tensor(gradient(k, t, flat).reshape(p.shape))
        if clip_norm:
            clip(params, clip_norm, by)
        if t < freeze:
            for name, p in params.items():
                if "last_layer" in name:
                    p.grad = None
        optimiser.step()
        for name, old in teacher.items():
            old.mul_(MOMENTA[t]).add_(params[name].detach(), alpha=1 - MOMENTA[t])
    host = lambda tensors: {n: p.detach().numpy().reshape(-1) for n, p in tensors.items()}
    return host(params), host(teacher)


def lars(clip_lr, trust=0.02, bias_rate=0.1):
    """Learning rates are 100 times AdamW's; the norm of `backbone.norm.bias` starts as any other's."""
    params = {n: start(k, s) for k, (n, s) in enumerate(SHAPES.items())}
    # A weight of zeros: its ratio is 1 at first.
    params["projector.2.linear.weight"] *= 0
    momentum = {}
    for t in range(STEPS):
        for k, (name, p) in enumerate(params.items()):
            g, lr = gradient(k, t, p), 100 * RATES[t]
            if decayed(name):
                wd = DECAYS[t]
                full = g + wd * p
                np_, ng = np.linalg.norm(p), np.linalg.norm(g if clip_lr else full)
                if clip_lr:
                    if np_ > 0 and ng > 0:
                        ratio = trust * np_ / (ng + np_ * wd + 1e-8)
                        # As a tensor divided by 0 in the warm-up's first step: infinity.
                        g = full * (min(ratio / lr, 1.0) if lr > 0 else 1.0)
                else:
                    g = full * (trust * np_ / ng if np_ > 0 and ng > 0 else 1.0)
            else:
                lr *= bias_rate
            momentum[name] = 0.9 * momentum[name] + g if name in momentum else g
            params[name] = p - lr * momentum[name]
    return params


def ema():
    out = {}
    for k, (name, shape) in enumerate(SHAPES.items()):
        if name.startswith("projector."):
            continue
        i = np.arange(math.prod(shape), dtype=np.float64)
        teacher = start(k, shape)
        for t in range(50):
            teacher = 0.9 * teacher + 0.1 * (0.5 * np.cos(0.9 * i + 1.7 * k) + 0.1 * np.sin(0.2 * t + i))
        out[name] = teacher
    return out


def schedules():
    out = []
    for epochs, per_epoch, warmup_epochs, temperature in [(10, 7, 2, (0.02, 0.07, 4)), (6, 11, 1, (0.04, 0.04, 0))]:
        steps = epochs * per_epoch
        first, last, warm = temperature
        temperatures = np.concatenate([np.linspace(first, last, warm), np.ones(epochs - warm) * last])
        out.append({
            "epochs": epochs, "per_epoch": per_epoch, "warmup_epochs": warmup_epochs, "temperature": temperature,
            "learning_rate": list(cosine(5e-4 * 64 / 256, 1e-6, steps, warmup_epochs * per_epoch)),
            "weight_decay": list(cosine(0.04, 0.4, steps)),
            "momentum": list(cosine(0.996, 1.0, steps)),
            "teacher_temperature": [temperatures[step // per_epoch] for step in range(steps)],
        })
    return out


def main():
    runs = {}
    runs["adamw_tensor"], teacher = adamw(clip_norm=0.6, by="tensor", freeze=6)
    runs["adamw_module"], _ = adamw(clip_norm=1.5, by="module")
    runs["adamw_global"], _ = adamw(clip_norm=1.5, by="global", freeze=6)
    runs["adamw_layers"], _ = adamw(layer_decay=0.7, patch_rate=0.2)
    runs["lars_barlow"], runs["lars_solo"] = lars(False), lars(True)
    brief = lambda tensors: {n: [float(f"{v:.9g}") for v in values] for n, values in tensors.items()}
    out = {
        "shapes": SHAPES,
        "runs": {name: brief(run) for name, run in runs.items()},
        "teacher": brief(teacher),
        "ema": brief(ema()),
        "schedules": schedules(),
    }
    pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


main()
