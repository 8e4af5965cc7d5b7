"""Golden data for the losses beside DINO's and Barlow Twins': values and gradients of every input, in float64.

    pip install torch==2.15 numpy safetensors
    git clone https://github.com/facebookresearch/dinov2 && git -C dinov2 checkout b8931f7bf91576930313be2c6d6af376033b35f0
    python tests/golden/losses.py tests/golden dinov2

Of dinov2 the mask generator, KoLeo and the patch loss with its Sinkhorn-Knopp are called (two of them work in float32 only:
there the float64 of this file is checked against them first). Other losses are stated here from their papers.

Writes losses.safetensors. A case has its inputs `CASE.NAME`, `CASE.loss` of shape [1] and `CASE.grad.NAME`; patches
[images, patches, dim] are stored as [images * patches, dim]:
- ntxent: z [2N, D], both views, T 0.5; crossed: q, k [N, D], rows against the other side, T 0.2
- sscd: z [2N, D], both views, T 0.05, entropy 30; sscd.said: what the reference logs; gem: x [3 * 5, D], the sum of squares
- soft: logits [N, K] against fixed targets
- koleo: x [N, D]; koleo_twins: two rows equal; koleo_pair: two rows
- vicreg: a, b [N, D], weights 25, 25, 1; parts are vicreg.parts (invariance, variance, covariance)
- gram: x, y [3 * 5, D]: the patches of student and anchor (no gradient of y)
- ibot: logits [M, K] over temperature, fixed targets, mask [6, 4] (0 or 1) of which row 2 is empty
- distil_class: student, teacher, queue, T 0.07; distil_patches: student (grid 2 x 3, resized to 4 x 4), teacher, T 0.07
- sinkhorn.logits [N, K] and sinkhorn.targets at temperature 0.07; sinkhorn.large.*: logits a thousand times as large
- center.logits [rows, K], center.before, center.after at momentum 0.9
- masks.N.{shape, draws, mask}: what dinov2's generator masks (height, width, target) given these draws in [0, 1);
  masks_ibot.N.*: the same of iBOT's law (least area (min(H, W) // 3)^2, no cap; target not whole)
"""

import importlib.util
import math
import random
import sys

import numpy
import torch
import torch.distributed
import torch.nn.functional as F
from safetensors.numpy import save_file

folder, reference = sys.argv[1:3]


def module(path):
    """A file of the reference alone, without what its package imports."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "."), f"{reference}/{path}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


masking = module("dinov2/data/masking")
iBOTPatchLoss = module("dinov2/loss/ibot_patch_loss").iBOTPatchLoss
KoLeoLoss = module("dinov2/loss/koleo_loss").KoLeoLoss

torch.manual_seed(5)
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
out = {}


def keep(name, value):
    array = value.detach().numpy() if torch.is_tensor(value) else numpy.asarray(value)
    out[name] = numpy.ascontiguousarray(array.reshape(-1, array.shape[-1]) if array.ndim > 2 else array)


def case(name, loss, fixed=(), **inputs):
    leaves = {key: value.clone().requires_grad_(key not in fixed) for key, value in inputs.items()}
    value = loss(**leaves)
    value.backward()
    keep(f"{name}.loss", value.reshape(1))
    for key, leaf in leaves.items():
        keep(f"{name}.{key}", leaf)
        if leaf.requires_grad:
            keep(f"{name}.grad.{key}", leaf.grad)
    return value


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def ntxent(z, temperature=0.5):
    """Mean over all 2N anchors of the cross-entropy of the other view among the 2N - 1 others (SimCLR, eq. 1)."""
    hat = F.normalize(z, dim=1)
    logits = hat @ hat.T / temperature
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z) // 2))


def crossed(q, k):
    return F.cross_entropy(F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / 0.2, torch.arange(len(q)))


def sscd_parts(z, temperature=0.05):
    """Pizzi et al. 2022, eq. 3 and 4, of two copies an image: as train.py of the reference, without the 1e-6 that it adds to
    the sum over negatives, and what it logs: similarities of copies, of others, of the nearest others; the mean's length."""
    hat = F.normalize(z, dim=1)
    rows = len(z)
    image = torch.arange(rows) % (rows // 2)
    similarity, match = hat @ hat.T, image[:, None] == image[None]
    copy = match & ~torch.eye(rows, dtype=torch.bool)
    nearest = similarity.masked_fill(match, -100).max(1).values
    scores = (similarity / temperature).exp()
    chance = scores / (scores + (~match * scores).sum(1, keepdim=True))
    contrast = -(chance.log() * copy).sum() / rows
    entropy = -(2 - 2 * nearest).clamp(min=1e-6).sqrt().log().mean()
    said = [similarity[copy].mean(), similarity[~match].mean(), nearest.mean(), hat.mean(0).pow(2).sum().sqrt()]
    return contrast + 30 * entropy, torch.stack(said)


def gem(x, power=3):
    """GeM of SSCD's models/gem_pooling.py, over patches instead of pixels."""
    return x.clamp(min=1e-6).pow(power).mean(1).pow(1 / power)


case("ntxent", ntxent, z=normal(8, 16))
case("crossed", crossed, q=normal(5, 12), k=normal(5, 12))
case("soft", lambda logits, targets: F.cross_entropy(logits, targets), fixed=["targets"],
     logits=3 * normal(6, 9), targets=torch.softmax(2 * normal(6, 9), 1))

# KoLeo: the reference itself, which keeps float64.
reference_koleo = KoLeoLoss()


def koleo(x):
    return reference_koleo(x)


case("koleo", koleo, x=normal(7, 10))
# No third row is nearest to the twins: to which of them its gradient goes would be chance.
while True:
    twins = normal(6, 8)
    twins[4] = twins[1]
    hat = F.normalize(twins, dim=1)
    nearest = (hat @ hat.T - 2 * torch.eye(6)).argmax(1).tolist()
    if {nearest[row] for row in (0, 2, 3, 5)}.isdisjoint({1, 4}):
        break
case("koleo_twins", koleo, x=twins)
case("koleo_pair", koleo, x=normal(2, 6))


def vicreg_parts(a, b):
    """Bardes et al. 2022, eq. 1 to 6, with the reference's halved variance term."""
    count, width = a.shape
    spread = sum(F.relu(1 - torch.sqrt(z.var(0) + 1e-4)).mean() for z in (a, b)) / 2
    covariance = 0
    for z in (a, b):
        matrix = torch.cov(z.T)
        covariance = covariance + (matrix[~torch.eye(width, dtype=torch.bool)] ** 2).sum() / width
    return F.mse_loss(a, b), spread, covariance


def vicreg(a, b):
    parts = vicreg_parts(a, b)
    return 25 * parts[0] + 25 * parts[1] + parts[2]


a, b = 0.8 * normal(6, 11), 0.8 * normal(6, 11)
case("vicreg", vicreg, a=a, b=b)
keep("vicreg.parts", torch.stack(vicreg_parts(a, b)))


def gram(x, y):
    """Simeoni et al. 2025, eq. 2, as a mean over the entries of all images' Gram matrices."""
    x, y = (F.normalize(z.reshape(3, 5, -1), dim=2) for z in (x, y))
    return F.mse_loss(x @ x.mT, y @ y.mT)


case("gram", gram, fixed=["y"], x=normal(3, 5, 8), y=normal(3, 5, 8))


def sinkhorn(logits, temperature, rounds=3):
    """In units of the greatest logit, so that nothing overflows."""
    scores = logits.double() / temperature
    q = torch.exp(scores - scores.max())
    for _ in range(rounds):
        q = q / q.sum(0, keepdim=True) / q.shape[1]
        q = q / q.sum(1, keepdim=True) / q.shape[0]
    return q * q.shape[0]


patch_loss = iBOTPatchLoss(9, student_temp=0.1)
logits = normal(13, 9) * 0.5
targets = sinkhorn(logits, 0.07)
theirs = patch_loss.sinkhorn_knopp_teacher(logits.float(), 0.07, torch.tensor(len(logits)))
assert (theirs - targets).abs().max() < 1e-5, "Sinkhorn-Knopp is not the reference's"
keep("sinkhorn.logits", logits)
keep("sinkhorn.targets", targets)
large = torch.full((4, 4), -2000.0, dtype=torch.float64) + 3000 * torch.eye(4, dtype=torch.float64) + normal(4, 4) * 0.03
keep("sinkhorn.large.logits", large)
# Here exponentials underflow, so that the rounds are done on logarithms.
scores = large / 0.07
for _ in range(3):
    scores = scores - scores.logsumexp(0, keepdim=True)
    scores = scores - scores.logsumexp(1, keepdim=True)
keep("sinkhorn.large.targets", scores.exp())

# The patch loss: student logits over temperature, so that the reference's own temperature is one.
mask = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 1, 0]]).bool()
patch_loss.student_temp = 1.0
# Its default weights are float32, so they are given.
weights = (1 / mask.double().sum(1).clamp(min=1))[:, None].expand_as(mask)[mask]
case("ibot", lambda logits, targets: patch_loss.forward_masked(logits, targets, mask, masks_weight=weights), fixed=["targets"],
     logits=2 * normal(int(mask.sum()), 9), targets=torch.softmax(3 * normal(int(mask.sum()), 9), 1))
keep("ibot.mask", mask.double())

teacher = normal(3, 4, 9)
patch_loss.center = normal(1, 1, 9)
keep("center.logits", teacher)
keep("center.before", patch_loss.center.reshape(1, 9))
patch_loss.update_center(teacher)
patch_loss.apply_center_update()
keep("center.after", patch_loss.center.reshape(1, 9))


def divergence(student, teacher):
    return F.kl_div(F.log_softmax(student / 0.07, -1), F.softmax(teacher / 0.07, -1), reduction="batchmean")


def distil_class(student, teacher, queue):
    student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    return divergence(student @ queue.T, teacher @ queue.T)


def distil_patches(student, teacher):
    student = student.reshape(2, 2, 3, 8).permute(0, 3, 1, 2)
    student = F.interpolate(student, size=(4, 4), mode="bilinear", align_corners=False)
    student = F.normalize(student.flatten(2).mT, dim=2)
    teacher = F.normalize(teacher.reshape(2, 16, 8), dim=2)
    return divergence((student @ student.mT).flatten(0, 1), (teacher @ teacher.mT).flatten(0, 1))


case("distil_class", distil_class, fixed=["teacher", "queue"],
     student=normal(5, 8), teacher=normal(5, 8), queue=F.normalize(normal(12, 8), dim=1))
case("distil_patches", distil_patches, fixed=["teacher"], student=normal(2 * 6, 8), teacher=normal(2 * 16, 8))


class Recorded:
    """Stands for the module `random` in the generator and records each draw as a value in [0, 1)."""

    def __init__(self, seed):
        self.source, self.draws = random.Random(seed), []

    def unit(self):
        self.draws.append(self.source.random())
        return self.draws[-1]

    def uniform(self, low, high):
        return low + (high - low) * self.unit()

    def randint(self, low, high):
        return low + int(self.unit() * (high - low + 1))


def masked(name, height, width, target, least, most, seed):
    masking.random = Recorded(seed)
    generator = masking.MaskingGenerator((height, width), min_num_patches=least, max_num_patches=most)
    found = generator(target)
    keep(f"{name}.shape", numpy.array([height, width, target], dtype=numpy.float64))
    keep(f"{name}.draws", numpy.array(masking.random.draws + [0.0], dtype=numpy.float64))
    keep(f"{name}.mask", found.astype(numpy.float64).reshape(-1))


for seed, (height, width, target) in enumerate([(14, 14, 98), (14, 14, 30), (16, 16, 60), (4, 4, 8), (7, 9, 20), (6, 6, 1), (14, 14, 0)]):
    masked(f"masks.{seed}", height, width, target, 4, 0.5 * height * width, seed)
# iBOT's loop is the same but for its least area and its lack of a cap.
for seed, (height, width, ratio) in enumerate([(14, 14, 0.31), (14, 14, 0.5), (8, 8, 0.17)]):
    masked(f"masks_ibot.{seed}", height, width, ratio * height * width, (min(height, width) // 3) ** 2, math.inf, 50 + seed)

# Last, so that what was drawn before it stays as it was.
case("sscd", lambda z: sscd_parts(z)[0], z=normal(10, 16))
keep("sscd.said", sscd_parts(torch.from_numpy(out["sscd.z"]))[1])
case("gem", lambda x: gem(x).pow(2).sum(), x=normal(3, 5, 4))

save_file(out, f"{folder}/losses.safetensors")
print(len(out), sum(array.nbytes for array in out.values()))
