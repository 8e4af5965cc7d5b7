"""The networks of DINOv2 and DINOv3 by timm's VisionTransformer and transformers' DINOv3ViTModel, in f64 from weights that are
exact in f32.

    pip install torch timm==1.0.31 transformers==5.* safetensors numpy
    OMP_NUM_THREADS=1 python tests/golden/trainer_modern.py tests/golden/trainer

Writes modern.safetensors, names Lapidary's, shapes PyTorch's. Under `registers` (DINOv2 with registers: two of them, LayerScale,
SwiGLU, positions resized antialiased) and `rope` (DINOv3: rotary positions, two registers, LayerScale, a mask):
- CASE.parameter.NAME;
- CASE.images.SIDE `[2, 3, SIDE, SIDE]`: the network is made for 16 px;
- CASE.block.I: tokens after block I of images of 16 px, before the final norm;
- CASE.class.SIDE, CASE.patches.SIDE: tokens after the final norm;
- CASE.gradient.SIDE.NAME: of sum(class * cos(flat index)) + sum(patches * cos(flat index));
- rope.mask `[2, patches]`: 1 where a patch is masked, at 16 px alone; rope.attention: the last block's, of the class token to
  each patch, with that mask left out.
"""

import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

OUT = Path(sys.argv[1])
DIM, DEPTH, HEADS, PATCH, SIDE, REGISTERS, BATCH = 16, 2, 2, 4, 16, 2, 2
SIDES = [16, 8, 24]
torch.set_default_dtype(torch.float64)
found = {}


def put(name, tensor):
    found[name] = tensor.detach().float().contiguous().clone()


def weighted(values):
    return (values * torch.cos(torch.arange(values.numel()).double()).reshape(values.shape)).sum()


def exact(tensor):
    return tensor.float().double()


def randomise(module, seed):
    """Weights wider than at the start of a run, so that every part of the network matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            values = torch.randn(p.shape, generator=generator)
            if p.ndim == 1 and "bias" not in name:
                values = 1 + 0.2 * values
            elif p.ndim == 1:
                values = 0.2 * values
            elif p.ndim == 3:
                values = 0.5 * values
            else:
                values = 1.5 * values / p[0].numel() ** 0.5
            p.copy_(exact(values))


def images(side, seed):
    generator = torch.Generator().manual_seed(1000 + side + seed)
    return torch.randint(-512, 512, (BATCH, 3, side, side), generator=generator).double() / 256


def blocks_of(modules, run):
    """Runs and returns what each module gives."""
    outputs = []
    first = lambda output: output[0] if isinstance(output, tuple) else output
    hooks = [m.register_forward_hook(lambda _m, _i, output: outputs.append(first(output))) for m in modules]
    run()
    for hook in hooks:
        hook.remove()
    return outputs


def registers():
    """timm adds the class token's position to the token itself: what Lapidary keeps apart is summed here."""
    model = VisionTransformer(
        img_size=SIDE, patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, mlp_ratio=4.0, init_values=1.0,
        mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, reg_tokens=REGISTERS, no_embed_class=True, num_classes=0,
        dynamic_img_size=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)).eval()
    randomise(model, 1)
    position = exact(0.5 * torch.randn(1, 1, DIM, generator=torch.Generator().manual_seed(2)))
    for name, p in model.named_parameters():
        values = torch.cat([position, p], 1) if name == "pos_embed" else p
        put(f"registers.parameter.{name}", values)
    with torch.no_grad():
        model.cls_token.add_(position)
    for side in SIDES:
        pixels = images(side, 0)
        put(f"registers.images.{side}", pixels)
        if side == SIDE:
            for index, tokens in enumerate(blocks_of(model.blocks, lambda: model.forward_features(pixels))):
                put(f"registers.block.{index}", tokens)
        model.zero_grad()
        tokens = model.forward_features(pixels)
        of_class, patches = tokens[:, 0], tokens[:, 1 + REGISTERS :]
        put(f"registers.class.{side}", of_class)
        put(f"registers.patches.{side}", patches)
        (weighted(of_class) + weighted(patches)).backward()
        for name, p in model.named_parameters():
            gradient = torch.cat([model.cls_token.grad, p.grad], 1) if name == "pos_embed" else p.grad
            put(f"registers.gradient.{side}.{name}", gradient)


def rope_tensors(model, of):
    """Lapidary's names of transformers' parameters; `of` gives a parameter's values or its gradient."""
    by_name = dict(model.named_parameters())

    def get(suffix):
        names = [name for name in by_name if name.endswith(suffix)]
        assert len(names) == 1, (suffix, names)
        return of(by_name[names[0]])

    tensors = {
        "cls_token": get("embeddings.cls_token"),
        "mask_token": get("embeddings.mask_token"),
        "reg_token": get("embeddings.register_tokens"),
        "patch_embed.proj.weight": get("patch_embeddings.weight"),
        "patch_embed.proj.bias": get("patch_embeddings.bias"),
    }
    for i in range(DEPTH):
        layer = f"layer.{i}."
        for ours, theirs in [
            ("norm1", "norm1"), ("norm2", "norm2"), ("attn.proj", "attention.o_proj"), ("mlp.fc1", "mlp.up_proj"),
            ("mlp.fc2", "mlp.down_proj"),
        ]:
            for kind in ["weight", "bias"]:
                tensors[f"blocks.{i}.{ours}.{kind}"] = get(f"{layer}{theirs}.{kind}")
        projection = lambda which, kind: get(f"{layer}attention.{which}_proj.{kind}")
        tensors[f"blocks.{i}.attn.qkv.weight"] = torch.cat([projection(w, "weight") for w in "qkv"])
        q, v = projection("q", "bias"), projection("v", "bias")
        # It has no bias of keys, which would change nothing.
        tensors[f"blocks.{i}.attn.qkv.bias"] = torch.cat([q, torch.zeros(DIM), v])
        for scale in [1, 2]:
            tensors[f"blocks.{i}.ls{scale}.gamma"] = get(f"{layer}layer_scale{scale}.lambda1")
    of_norm = lambda kind: of(dict(model.norm.named_parameters())[kind])
    return tensors | {"norm.weight": of_norm("weight"), "norm.bias": of_norm("bias")}


def rope():
    config = DINOv3ViTConfig(
        patch_size=PATCH, hidden_size=DIM, intermediate_size=2 * DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
        layer_norm_eps=1e-6, image_size=SIDE, num_register_tokens=REGISTERS)
    config._attn_implementation = "eager"
    model = DINOv3ViTModel(config).double().eval()
    randomise(model, 3)
    for name, values in rope_tensors(model, lambda p: p).items():
        put(f"rope.parameter.{name}", values)
    mask = torch.rand(BATCH, (SIDE // PATCH) ** 2, generator=torch.Generator().manual_seed(4)) < 0.4
    put("rope.mask", mask.double())
    layers = [m for n, m in model.named_modules() if n.split(".")[-2:-1] == ["layer"]]
    assert len(layers) == DEPTH, [n for n, _ in model.named_modules()]
    for side in SIDES:
        pixels = images(side, 5)
        put(f"rope.images.{side}", pixels)
        if side == SIDE:
            for index, tokens in enumerate(blocks_of(layers, lambda: model(pixels))):
                put(f"rope.block.{index}", tokens)
            attention = model(pixels, output_attentions=True).attentions[-1]
            put("rope.attention", attention[:, :, 0, 1 + REGISTERS :])
        model.zero_grad()
        tokens = model(pixels, bool_masked_pos=mask if side == SIDE else None).last_hidden_state
        of_class, patches = tokens[:, 0], tokens[:, 1 + REGISTERS :]
        put(f"rope.class.{side}", of_class)
        put(f"rope.patches.{side}", patches)
        (weighted(of_class) + weighted(patches)).backward()
        gradient = lambda p: torch.zeros_like(p) if p.grad is None else p.grad
        for name, values in rope_tensors(model, gradient).items():
            put(f"rope.gradient.{side}.{name}", values)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    registers()
    rope()
    save_file(found, OUT / "modern.safetensors")
