"""Whole training steps of a tiny network by facebookresearch/dino's own functions and Barlow Twins' formula, in f64.

    pip install torch torchvision timm==1.0.31 safetensors numpy
    git clone https://github.com/facebookresearch/dino REFERENCES/dino
    OMP_NUM_THREADS=1 python tests/golden/trainer_steps.py tests/golden/trainer REFERENCES

Of each run (`hybrid`, `dino`, `barlow-twins`: 20 steps; a state is rounded to f32 before every step) writes
steps-RUN.safetensors and steps-RUN.json. Names are Lapidary's, shapes PyTorch's, the first dimension is the step:
- student.NAME, `[21, ...]`: parameters before each step and after the last;
- gradient.NAME, `[20, ...]`: gradients before clipping;
- teacher.NAME, `[...]`: the teacher after the last step; it starts as the student;
- center, `[21, K]`.
In the JSON file: the loss and its parts, learning rate, weight decay, momentum and teacher temperature of each step, and how
many tensors were clipped. curve.json holds the losses of 200 steps of a hybrid run that is left to itself, with its start in
curve.safetensors.
Batches are a formula of whole numbers (`pixels`), exact in f32. Weights are drawn wider than at the start of a run, so that
every part of the network matters.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

OUT, REFERENCES = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(REFERENCES / "dino"))
import utils  # noqa: E402
import vision_transformer as vits  # noqa: E402
from main_dino import DINOLoss  # noqa: E402

torch.set_default_dtype(torch.float64)
DIM, HEADS, DEPTH, PATCH, SIDE, SMALL, BATCH = 8, 2, 2, 4, 16, 8, 8
PROTOTYPES, HIDDEN, BOTTLENECK, WIDTH, LAMBDA = 32, 8, 8, 16, 0.0051
EPOCHS, PER_EPOCH = 5, 4
PEAK, END, DECAY, MOMENTUM = 2e-3, 1e-5, (0.04, 0.4), 0.9
# Scale of Barlow Twins' loss, weight of DINO's, the norm to which each tensor is clipped.
RUNS = {"hybrid": (0.05, 2.0, 3.0), "dino": (0.0, 1.0, 1.0), "barlow-twins": (0.3, 0.0, 3.0)}


def hashed(count, seed):
    """Whole numbers from 0 to 255 that look random."""
    values = (np.arange(count).astype(np.uint64) * 2654435761 + seed * 40503 + 12345) % 2**32
    values = (values ^ (values >> 15)) * 2246822519 % 2**32
    return (values ^ (values >> 13)) % 256


def pixels(step, kind, view, side):
    """Views `[BATCH, 3, side, side]`: three quarters are the image's own, a quarter the view's; multiples of 1/256."""
    count = BATCH * 3 * side * side
    own = hashed(count, 7919 * step + side)
    noise = hashed(count, 7919 * step + 104729 * (view + 1) + 1299709 * (kind + 1))
    values = (own.astype(np.float64) * 3 + noise.astype(np.float64)) / 256 - 2
    return torch.from_numpy(values.reshape(BATCH, 3, side, side))


def standardised(z):
    """BatchNorm1d without scale and shift, as Barlow Twins' last one."""
    return nn.functional.batch_norm(z, None, None, training=True, eps=1e-5)


def barlow_twins(z1, z2):
    correlation = standardised(z1).T @ standardised(z2) / len(z1)
    diagonal = torch.eye(len(correlation), dtype=torch.bool)
    return ((correlation[diagonal] - 1) ** 2).sum() + LAMBDA * (correlation[~diagonal] ** 2).sum()


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = vits.VisionTransformer(
            img_size=[SIDE], patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, mlp_ratio=2, qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6))
        self.head = vits.DINOHead(DIM, PROTOTYPES, norm_last_layer=False, hidden_dim=HIDDEN, bottleneck_dim=BOTTLENECK)
        hidden = lambda inputs: [nn.Linear(inputs, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        self.projector = nn.Sequential(*hidden(DIM), *hidden(WIDTH), nn.Linear(WIDTH, WIDTH, bias=False))


def randomise(module, seed):
    generator = torch.Generator().manual_seed(seed)
    normal = lambda p: torch.randn(p.shape, generator=generator)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.endswith("weight_g") or (p.ndim == 1 and name.endswith("weight")):
                p.copy_(1 + 0.1 * normal(p))
            elif p.ndim == 1:
                p.copy_(0.1 * normal(p))
            elif p.ndim == 3:
                p.copy_(0.5 * normal(p))
            else:
                p.copy_(normal(p) / p[0].numel() ** 0.5)
            p.copy_(p.float())


def ours(name, batch_norm=False):
    """Lapidary's name of a parameter: the layers of a head are counted without its activations and norms."""
    parts = name.split(".")
    for module, step in [("mlp", 3 if batch_norm else 2), ("projector", 3)]:
        if module in parts[:2] and not name.startswith("backbone"):
            at = parts.index(module) + 1
            index = int(parts[at])
            parts[at : at + 1] = [str(index // step), "linear" if index % step == 0 else "norm"]
    return ".".join(parts)


def used(name, barlow_scale, dino_weight):
    return not (name.startswith("head.") and dino_weight == 0 or name.startswith("projector.") and barlow_scale == 0)


def train(barlow_scale, dino_weight, clip, epochs, per_epoch, rounds, seed):
    """Yields what holds at each step: before it, and once more after the last."""
    student = Student()
    randomise(student, seed)
    dino_student = utils.MultiCropWrapper(student.backbone, student.head)
    other = Student()
    teacher = utils.MultiCropWrapper(other.backbone, other.head)
    teacher.load_state_dict(dino_student.state_dict())
    loss_of_dino = DINOLoss(PROTOTYPES, 4, 0.04, 0.07, 3, epochs)
    parameters = [(n, p) for n, p in student.named_parameters() if used(n, barlow_scale, dino_weight)]
    trained = nn.Module()
    trained.student = student
    groups = utils.get_params_groups(trained)
    optimizer = torch.optim.AdamW(groups)
    rates = utils.cosine_scheduler(PEAK, END, epochs, per_epoch, warmup_epochs=2)
    decays = utils.cosine_scheduler(*DECAY, epochs, per_epoch)
    momenta = utils.cosine_scheduler(MOMENTUM, 1, epochs, per_epoch)
    for step in range(epochs * per_epoch + 1):
        if rounds:
            with torch.no_grad():
                for p in [p for _, p in parameters] + list(teacher.parameters()):
                    p.copy_(p.float())
                loss_of_dino.center = loss_of_dino.center.float().double()
        state = {
            "student": {ours(n): p.detach().float().clone() for n, p in parameters},
            "teacher": {ours(n): p.detach().float().clone() for n, p in teacher.named_parameters()},
            "center": loss_of_dino.center[0].float().clone(),
        }
        if step == epochs * per_epoch:
            yield state
            return
        for index, group in enumerate(optimizer.param_groups):
            group["lr"] = rates[step]
            group["weight_decay"] = decays[step] if index == 0 else 0.0
        loss, parts = 0, {}
        if dino_weight > 0:
            crops = [pixels(step, 0, v, SIDE) for v in range(2)] + [pixels(step, 1, v, SMALL) for v in range(2)]
            with torch.no_grad():
                targets = teacher(crops[:2])
            parts["loss_dino"] = loss_of_dino(dino_student(crops), targets, step // per_epoch)
            loss = loss + dino_weight * parts["loss_dino"]
        if barlow_scale > 0:
            z1, z2 = (student.projector(student.backbone(pixels(step, 2, v, SIDE))) for v in range(2))
            parts["loss_barlow"] = barlow_twins(z1, z2)
            loss = loss + barlow_scale * parts["loss_barlow"]
        optimizer.zero_grad()
        loss.backward()
        state["gradient"] = {ours(n): p.grad.float().clone() for n, p in parameters}
        norms = utils.clip_gradients(student, clip)
        utils.cancel_gradients_last_layer(step // per_epoch, student, 1)
        optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(teacher.parameters(), dino_student.parameters()):
                mine.mul_(momenta[step]).add_((1 - momenta[step]) * theirs)
        state["scalars"] = {
            "loss": loss.item(), **{name: part.item() for name, part in parts.items()},
            "learning_rate": rates[step], "weight_decay": decays[step], "momentum": momenta[step],
            "teacher_temperature": float(loss_of_dino.teacher_temp_schedule[step // per_epoch]),
            "clipped": sum(norm > clip for norm in norms), "tensors": len(norms),
        }
        yield state


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    for run, (barlow_scale, dino_weight, clip) in RUNS.items():
        states = list(train(barlow_scale, dino_weight, clip, EPOCHS, PER_EPOCH, True, 1))
        stacked = lambda part, states: {
            f"{part}.{n}": torch.stack([s[part][n] for s in states]).contiguous() for n in states[0][part]}
        tensors = {**stacked("student", states), **stacked("gradient", states[:-1])}
        if dino_weight > 0:
            tensors["center"] = torch.stack([s["center"] for s in states])
            tensors |= {f"teacher.{n}": t for n, t in states[-1]["teacher"].items()}
        save_file(tensors, OUT / f"steps-{run}.safetensors")
        scalars = [s["scalars"] for s in states[:-1]]
        clipped, count = sum(s["clipped"] for s in scalars), sum(s["tensors"] for s in scalars)
        assert 0 < clipped < count, (run, clipped, count)
        print(run, f"clipped {clipped} of {count};", "loss", scalars[0]["loss"], "to", scalars[-1]["loss"])
        (OUT / f"steps-{run}.json").write_text(json.dumps(scalars, indent=0))
    states = list(train(*RUNS["hybrid"], 10, 20, False, 2))
    save_file({f"student.{n}": t for n, t in states[0]["student"].items()}, OUT / "curve.safetensors")
    losses = [s["scalars"]["loss"] for s in states[:-1]]
    print("curve", losses[0], "to", losses[-1])
    (OUT / "curve.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main()
