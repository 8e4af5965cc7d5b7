"""The parts of the trainer by facebookresearch/dino's own modules, in f64 from weights that are exact in f32.

    pip install torch torchvision timm==1.0.31 safetensors numpy
    git clone https://github.com/facebookresearch/dino REFERENCES/dino
    OMP_NUM_THREADS=1 python tests/golden/trainer.py tests/golden/trainer REFERENCES

Writes parts.safetensors, names Lapidary's, shapes PyTorch's:
- vit.parameter.NAME; vit.block.I: tokens after block I of images of 16 px, vit.class.SIDE: class features at 16 and 8 px;
  vit.gradient.NAME: of sum(class features * cos(flat index)), summed over both sizes; vit.attention: the last block's, of the
  class token to each patch;
- drop.mask `[depth, 2, batch]`: 1 where a branch is kept, rates linear to 0.3; drop.class, drop.gradient.NAME as above at 16 px;
- position.FROM.grid `[FROM^2, 3]`, position.FROM.TO.offset and .antialiased: resized;
- head.CASE: plain, batch_norm, frozen (its norms are): .parameter.NAME, .features, .logits, .gradient.NAME and
  .gradient.features of sum(logits * cos(flat index));
- dino.LOCALS.STEP: two steps in a row with 0, 6 and 8 local views, student and teacher the head `plain` and `teacher`:
  .student and .teacher features, .loss, .center after it, .gradient.NAME and .gradient.features;
- barlow.WIDTH.CASE: 64 and 512 wide, `plain` and `constant` (the first feature of both views is): .loss `[total, on, off]`,
  .gradient.1 and .2. Embeddings are `hashed` numbers, see trainer_steps.py.
temperatures.json: the teacher's temperature by epoch.
"""

import json
from functools import partial

import timm
import torch
import torch.distributed as dist
from torch import nn
from safetensors.torch import save_file

from trainer_steps import LAMBDA, OUT, DINOLoss, barlow_twins, hashed, ours, pixels, randomise, standardised, vits

DIM, DEPTH, HEADS, PATCH, SIDE = 16, 3, 2, 4, 16
found = {}


def put(name, tensor):
    found[name] = tensor.detach().float().contiguous().clone()


def weighted(values):
    return (values * torch.cos(torch.arange(values.numel()).double()).reshape(values.shape)).sum()


def put_gradients(prefix, module, batch_norm=False):
    for name, p in module.named_parameters():
        if p.grad is not None:
            put(f"{prefix}.gradient.{ours(name, batch_norm)}", p.grad)


def vit(**more):
    return vits.VisionTransformer(
        img_size=[SIDE], patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, mlp_ratio=4, qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6), **more)


def networks():
    network = vit()
    randomise(network, 11)
    large, small = pixels(0, 0, 0, 16), pixels(0, 1, 0, 8)
    for name, p in network.named_parameters():
        put(f"vit.parameter.{name}", p)
    tokens = network.prepare_tokens(large)
    for index, block in enumerate(network.blocks):
        tokens = block(tokens)
        put(f"vit.block.{index}", tokens)
    of_large, of_small = network(large), network(small)
    put("vit.class.16", of_large)
    put("vit.class.8", of_small)
    (weighted(of_large) + weighted(of_small)).backward()
    put_gradients("vit", network)
    put("vit.attention", network.get_last_selfattention(large)[:, :, 0, 1:])
    # timm's has the same names and computes the same.
    other = timm.models.VisionTransformer(
        img_size=SIDE, patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, mlp_ratio=4, num_classes=0)
    other.load_state_dict(network.state_dict())
    assert (other.double()(large) - of_large).abs().max() < 1e-12

    masks = torch.tensor(hashed(DEPTH * 2 * 8, 5).reshape(DEPTH, 2, 8) % 3 > 0).double()
    masks[0] = 1
    dropped = vit(drop_path_rate=0.3)
    dropped.load_state_dict(network.state_dict())
    # The reference keeps a branch where keep + a draw from [0, 1) reaches 1; the first block draws nothing.
    draws = iter(masks[1:].reshape(-1, 8) * 0.999)
    original, torch.rand = torch.rand, lambda shape, **_: next(draws).reshape(shape)
    of_dropped = dropped.train()(large)
    torch.rand = original
    weighted(of_dropped).backward()
    put("drop.mask", masks)
    put("drop.class", of_dropped)
    put_gradients("drop", dropped)


def positions():
    for side, targets in [(14, [6, 30]), (37, [16])]:
        network = vits.VisionTransformer(img_size=[side * 2], patch_size=2, embed_dim=3, depth=1, num_heads=1)
        randomise(network, side)
        grid = network.pos_embed[:, 1:].detach()
        put(f"position.{side}.grid", grid[0])
        for to in targets:
            resized = network.interpolate_pos_encoding(torch.zeros(1, to * to + 1, 3), to * 2, to * 2)
            put(f"position.{side}.{to}.offset", resized[0, 1:])
            square = grid.reshape(1, side, side, 3).permute(0, 3, 1, 2)
            resized = nn.functional.interpolate(square, size=(to, to), mode="bicubic", antialias=True)
            put(f"position.{side}.{to}.antialiased", resized.permute(0, 2, 3, 1).reshape(-1, 3))


def numbers(rows, columns, seed):
    return torch.from_numpy(hashed(rows * columns, seed).astype(float) / 128 - 1).reshape(rows, columns)


def make_head(seed, batch_norm=False, frozen=False):
    head = vits.DINOHead(DIM, 32, use_bn=batch_norm, norm_last_layer=frozen, hidden_dim=12, bottleneck_dim=8)
    randomise(head, seed)
    if frozen:
        head.last_layer.weight_g.data.fill_(1)
    return head


def heads():
    for case, batch_norm, frozen in [("plain", False, False), ("batch_norm", True, False), ("frozen", False, True),
                                     ("teacher", False, False)]:
        head = make_head(len(case), batch_norm, frozen)
        for name, p in head.named_parameters():
            if p.requires_grad:
                put(f"head.{case}.parameter.{ours(name, batch_norm)}", p)
        features = numbers(10, DIM, 3).requires_grad_()
        logits = head(features)
        weighted(logits).backward()
        put(f"head.{case}.features", features)
        put(f"head.{case}.logits", logits)
        put(f"head.{case}.gradient.features", features.grad)
        put_gradients(f"head.{case}", head, batch_norm)


def dino():
    for locals_ in [0, 6, 8]:
        loss_of_dino = DINOLoss(32, 2 + locals_, 0.04, 0.07, 3, 6)
        for step in range(2):
            head, teacher = make_head(len("plain")), make_head(len("teacher"))
            student = numbers((2 + locals_) * 4, DIM, 100 * locals_ + step).requires_grad_()
            of_teacher = numbers(2 * 4, DIM, 5000 + step)
            # An epoch a step.
            loss = loss_of_dino(head(student), teacher(of_teacher).detach(), step)
            loss.backward()
            name = f"dino.{locals_}.{step}"
            put(f"{name}.student", student)
            put(f"{name}.teacher", of_teacher)
            put(f"{name}.loss", loss.reshape(1))
            put(f"{name}.center", loss_of_dino.center)
            put(f"{name}.gradient.features", student.grad)
            put_gradients(name, head)
    loss = DINOLoss(32, 4, 0.04, 0.07, 3, 6)(torch.ones(16, 32), torch.ones(8, 32), 0)
    assert abs(loss - torch.log(torch.tensor(32.0))) < 1e-12
    (OUT / "temperatures.json").write_text(json.dumps(list(loss_of_dino.teacher_temp_schedule)))


def barlow():
    for width in [64, 512]:
        for case in ["plain", "constant"]:
            z1, z2 = numbers(16, width, 1), numbers(16, width, 2)
            z2 = z1 * 0.5 + z2 * 0.5
            if case == "constant":
                z1[:, 0], z2[:, 0] = 0.5, 0.25
            z1.requires_grad_(), z2.requires_grad_()
            total = barlow_twins(z1, z2)
            total.backward()
            on = ((standardised(z1) * standardised(z2)).mean(0) - 1).square().sum()
            put(f"barlow.{width}.{case}.loss", torch.stack([total, on, (total - on) / LAMBDA]))
            put(f"barlow.{width}.{case}.gradient.1", z1.grad)
            put(f"barlow.{width}.{case}.gradient.2", z2.grad)


if __name__ == "__main__":
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    networks(), positions(), heads(), dino(), barlow()
    save_file(found, OUT / "parts.safetensors")
