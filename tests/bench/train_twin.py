"""The steps of tests/bench/train.rs in PyTorch: timm's ViT, DINO's and Barlow Twins' heads and losses, AdamW, clipping by
tensor, the moving average; multi-crop, one forward pass a resolution. `train_twin.py CASE STEPS` prints the same JSON object;
`train_twin.py features BATCHES` the images a second that become features, from normalised pixels on. `--device cuda` times whole
steps on a GPU, on pixels that lie there, with `--precision bf16` under autocast and with `--compile` compiled; `--batch` images."""

import argparse
import contextlib
import json
import math
import resource
import sys
import time

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

CASES = {
    "cifar-vitti4": dict(image=32, patch=4, dim=96, depth=4, heads=3, prototypes=1024, hidden=512, bottleneck=128,
                         barlow=1024, batch=64, local=(16, 4)),
    "vitti16": dict(image=224, patch=16, dim=192, depth=12, heads=3, prototypes=16384, hidden=2048, bottleneck=256,
                    barlow=8192, batch=4, local=(96, 6)),
    "vits16": dict(image=224, patch=16, dim=384, depth=12, heads=6, prototypes=16384, hidden=2048, bottleneck=256,
                   barlow=8192, batch=4, local=(96, 6)),
}
parser = argparse.ArgumentParser()
parser.add_argument("case", choices=["features", *CASES])
parser.add_argument("steps", type=int)
parser.add_argument("--device", default="cpu")
parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
parser.add_argument("--compile", action="store_true")
parser.add_argument("--batch", type=int)
asked = parser.parse_args()
features, steps, device = asked.case == "features", asked.steps, asked.device
case = CASES["vits16" if features else asked.case]
case["batch"] = asked.batch or case["batch"]
if device == "cpu":
    torch.set_num_threads(2)
torch.manual_seed(0)
# burn multiplies f32 as TF32 on such a GPU; so does PyTorch here.
torch.backends.cuda.matmul.allow_tf32 = True


def autocast():
    return torch.autocast(device, torch.bfloat16) if asked.precision == "bf16" else contextlib.nullcontext()


def backbone():
    return VisionTransformer(img_size=case["image"], patch_size=case["patch"], embed_dim=case["dim"], depth=case["depth"],
                             num_heads=case["heads"], num_classes=0, dynamic_img_size=True, global_pool="token")


if features:
    network, images, best = backbone().eval(), torch.randn(32, 3, 224, 224), math.inf
    with torch.inference_mode():
        for _ in range(steps):
            began = time.perf_counter()
            network(images)
            best = min(best, time.perf_counter() - began)
    print(json.dumps({"images_per_sec": len(images) / best}))
    sys.exit()


class Head(nn.Module):
    """DINO's: three layers, L2 normalisation, prototypes with weight normalisation."""

    def __init__(self):
        super().__init__()
        hidden, bottleneck = case["hidden"], case["bottleneck"]
        self.mlp = nn.Sequential(nn.Linear(case["dim"], hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
                                 nn.Linear(hidden, bottleneck))
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(bottleneck, case["prototypes"], bias=False))

    def forward(self, x):
        return self.last(F.normalize(self.mlp(x), dim=-1))


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        width = case["barlow"]
        self.backbone, self.head = backbone(), Head()
        self.projector = nn.Sequential(
            nn.Linear(case["dim"], width, bias=False), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width, bias=False))


class Teacher(nn.Module):
    def __init__(self, student):
        super().__init__()
        self.backbone, self.head = backbone(), Head()
        self.backbone.load_state_dict(student.backbone.state_dict())
        self.head.load_state_dict(student.head.state_dict())
        for parameter in self.parameters():
            parameter.requires_grad = False


student = Student().to(device)
teacher = Teacher(student).to(device)
batch, views = case["batch"], 2 + case["local"][1]
decayed = [p for p in student.parameters() if p.ndim > 1]
others = [p for p in student.parameters() if p.ndim <= 1]
optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.04}, {"params": others, "weight_decay": 0.0}], lr=1e-5)
center = torch.zeros(1, case["prototypes"], device=device)
standardise = nn.BatchNorm1d(case["barlow"], affine=False).to(device)


def barlow(a, b):
    correlation = standardise(a).T @ standardise(b) / batch
    on = (torch.diagonal(correlation) - 1).pow(2).sum()
    off = correlation.flatten()[:-1].view(case["barlow"] - 1, case["barlow"] + 1)[:, 1:].pow(2).sum()
    return (on + 0.0051 * off) / case["barlow"]


def dino(student_logits, teacher_logits):
    students = F.log_softmax(student_logits / 0.1, dim=-1).chunk(views)
    teachers = F.softmax((teacher_logits - center) / 0.04, dim=-1).chunk(2)
    pairs = [(t, s) for t in range(2) for s in range(views) if s != t]
    return sum((-teachers[t] * students[s]).sum(-1).mean() for t, s in pairs) / len(pairs)


def step(globals_, locals_):
    parts, began = {}, time.perf_counter()

    def done(name):
        nonlocal began
        now = time.perf_counter()
        parts[name], began = now - began, now

    with autocast():
        with torch.no_grad():
            teacher_logits = teacher.head(teacher.backbone(globals_)).float()
        of_globals = student.backbone(globals_)
        features = torch.cat([of_globals, student.backbone(locals_)])
        done("forward")
        embeddings, logits = student.projector(of_globals).float(), student.head(features).float()
    loss = dino(logits, teacher_logits) + barlow(*embeddings.chunk(2))
    done("losses")
    optimiser.zero_grad()
    loss.backward()
    done("backward")
    with torch.no_grad():
        for parameter in student.parameters():
            norm = parameter.grad.norm()
            clip = 3.0 / (norm + 1e-6)
            if clip < 1:
                parameter.grad.mul_(clip)
    optimiser.step()
    done("optimiser")
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), [*student.backbone.parameters(), *student.head.parameters()]):
            old.mul_(0.996).add_(new, alpha=0.004)
        center.mul_(0.9).add_(teacher_logits.mean(0, keepdim=True), alpha=0.1)
    done("teacher")
    return loss.detach(), parts


def noise(count, size, seed):
    values = torch.arange(count * 3 * size * size, dtype=torch.float32) + 7919 * seed
    return torch.sin(values * 0.731).view(count, 3, size, size)


if device != "cpu":
    if asked.compile:
        student.backbone, teacher.backbone = torch.compile(student.backbone), torch.compile(teacher.backbone)
        student.head, student.projector = torch.compile(student.head), torch.compile(student.projector)
    globals_ = noise(2 * batch, case["image"], 0).to(device)
    locals_ = noise(case["local"][1] * batch, case["local"][0], 0).to(device)
    warmup = max(3, steps // 4)
    for index in range(warmup + steps):
        if index == warmup:
            torch.cuda.synchronize()
            began = time.perf_counter()
        loss, _ = step(globals_, locals_)
    torch.cuda.synchronize()
    secs = time.perf_counter() - began
    assert math.isfinite(float(loss))
    print(json.dumps({"images_per_sec": steps * batch / secs, "step_secs": secs / steps, "batch": batch,
                      "precision": asked.precision, "compiled": asked.compile,
                      "peak_mib": torch.cuda.max_memory_allocated() / 2**20}))
    sys.exit()

secs, processor, parts, losses = [], [], [], []
for index in range(steps):
    globals_ = noise(2 * batch, case["image"], index)
    locals_ = noise(case["local"][1] * batch, case["local"][0], index)
    began, used = time.perf_counter(), time.process_time()
    loss, of_step = step(globals_, locals_)
    loss = float(loss)
    secs.append(time.perf_counter() - began)
    processor.append(time.process_time() - used)
    parts.append(of_step)
    losses.append(loss)
assert all(math.isfinite(loss) for loss in losses)
print(json.dumps({"secs": secs, "processor_secs": processor, "parts": parts, "loss": losses,
                  "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
