"""Holds exports against the libraries they are for: the same features within 1e-5.

    pip install torch timm==1.0.31 transformers==5.24.0 onnx==1.23.2 onnxruntime==1.32.0 safetensors numpy
    OMP_NUM_THREADS=1 python tests/golden/exports.py FOLDER...

A FOLDER is what `lapidary export` wrote: which library it is for, its files tell. What its features should be says
`example.safetensors` in it (`lapidary export --example`: `class`, `patches`, of images whose value of flat index i is
sin(0.37 i)); where there is none, a plain forward pass in f64 on the weights of the folder `safetensors` beside it.
DINOv2's own code is used where DINOV2 names a checkout of it, else the plain forward pass on the weights by its names.
Prints a line a folder and ends with 1 if one differs.
"""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

TOLERANCE = 1e-5


def images_of(px, count):
    return torch.from_numpy(np.sin(0.37 * np.arange(count * 3 * px * px))).reshape(count, 3, px, px)


def plain(weights, images, heads, patch, epsilon, registers):
    """The forward pass as Dosovitskiy et al. 2021 describe it, with what later papers added, on timm's names."""
    weights = {name: tensor.double() for name, tensor in weights.items()}
    dim = weights["cls_token"].shape[-1]
    count, _, px, _ = images.shape
    grid, width = px // patch, dim // heads
    linear = lambda x, name: x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    norm = lambda x, name: torch.nn.functional.layer_norm(x, (dim,), weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)
    cut = images.reshape(count, 3, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5).reshape(count, grid * grid, -1)
    x = cut @ weights["patch_embed.proj.weight"].reshape(dim, -1).T + weights["patch_embed.proj.bias"]
    token = weights["cls_token"][0]
    if "pos_embed" in weights:
        token, x = token + weights["pos_embed"][0, :1], x + weights["pos_embed"][0, 1:]
    prefix = [token] + ([weights["reg_token"][0]] if registers else [])
    x = torch.cat([torch.cat(prefix).expand(count, -1, -1), x], 1)
    angles = None
    if "pos_embed" not in weights:
        place = (torch.arange(grid).double() + 0.5) / grid * 2 - 1
        periods = 100.0 ** (2 * torch.arange(width // 4).double() / (width / 2))
        rows, columns = torch.meshgrid(place, place, indexing="ij")
        turns = torch.cat([rows.reshape(-1, 1) / periods, columns.reshape(-1, 1) / periods], 1)
        angles = torch.cat([torch.zeros(1 + registers, width), (2 * math.pi * turns).repeat(1, 2)])
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    scaled = lambda x, name: x * weights[name] if name in weights else x
    for block in range(depth):
        at = f"blocks.{block}"
        q, k, v = linear(norm(x, f"{at}.norm1"), f"{at}.attn.qkv").reshape(count, -1, 3, heads, width).permute(2, 0, 3, 1, 4)
        if angles is not None:
            turn = lambda t: t * angles.cos() + torch.cat([-t[..., width // 2 :], t[..., : width // 2]], -1) * angles.sin()
            q, k = turn(q), turn(k)
        mixed = (q @ k.transpose(-1, -2) / math.sqrt(width)).softmax(-1) @ v
        mixed = linear(mixed.transpose(1, 2).reshape(count, -1, dim), f"{at}.attn.proj")
        x = x + scaled(mixed, f"{at}.ls1.gamma")
        inner = linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1")
        hidden = weights[f"{at}.mlp.fc2.weight"].shape[1]
        if inner.shape[-1] == 2 * hidden:
            inner = torch.nn.functional.silu(inner[..., :hidden]) * inner[..., hidden:]
        else:
            inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = x + scaled(linear(inner, f"{at}.mlp.fc2"), f"{at}.ls2.gamma")
    x = norm(x, "norm")
    return x[:, 0], x[:, 1 + registers :]


def own(folder, images):
    with safe_open(folder / "model.safetensors", "pt") as file:
        model = json.loads(file.metadata()["lapidary"])["model"]
    arguments = model["heads"], model["patch_px"], model["norm_epsilon"], model["registers"]
    return plain(load_file(folder / "model.safetensors"), images, *arguments), model["image_px"]


def of_timm(folder, images):
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval().double()
    tokens = model.forward_features(images)
    pooled = model(images)
    assert torch.equal(pooled, tokens[:, 0]), "its own output is another than the class token's feature"
    prepared = timm.data.resolve_data_config({}, model=model)
    assert prepared["interpolation"] == "bicubic" and tuple(prepared["mean"]) == (0.485, 0.456, 0.406), prepared
    return tokens[:, 0], tokens[:, model.num_prefix_tokens :]


def of_transformers(folder, images):
    from transformers import AutoImageProcessor, AutoModel

    model, about = AutoModel.from_pretrained(folder, output_loading_info=True)
    missing = {name for name in about["missing_keys"] if not name.startswith("pooler.")}
    assert not missing and not about["unexpected_keys"] and not about["mismatched_keys"], about
    px = model.config.image_size
    picture = np.zeros((px + 9, px + 30, 3), dtype=np.uint8)
    prepared = AutoImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")["pixel_values"]
    assert prepared.shape == (1, 3, px, px), prepared.shape
    tokens = model.eval().double()(images).last_hidden_state
    return tokens[:, 0], tokens[:, 1 + getattr(model.config, "num_register_tokens", 0) :]


def of_dinov2(folder, images):
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    if os.environ.get("DINOV2"):
        os.environ["XFORMERS_DISABLED"] = "1"
        sys.path.insert(0, os.environ["DINOV2"])
        from dinov2.models.vision_transformer import DinoVisionTransformer

        model = DinoVisionTransformer(**config)
        model.load_state_dict(weights)
        found = model.eval().double().forward_features(images)
        return found["x_norm_clstoken"], found["x_norm_patchtokens"]
    rename = lambda name: name.replace("register_tokens", "reg_token").replace(".w12.", ".fc1.").replace(".w3.", ".fc2.")
    weights = {rename(name): tensor for name, tensor in weights.items()}
    return plain(weights, images, config["num_heads"], config["patch_size"], 1e-6, config["num_register_tokens"])


def of_onnx(folder, images):
    import onnx
    import onnxruntime

    onnx.checker.check_model(folder / "model.onnx", full_check=True)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(["class", "patches"], {"images": images.float().numpy()})
    return [torch.from_numpy(part).double() for part in found]


def kind_of(folder):
    if (folder / "model.onnx").exists():
        return "onnx"
    config = folder / "config.json"
    keys = json.loads(config.read_text()) if config.exists() else {}
    return next((kind for key, kind in {"architecture": "timm", "model_type": "transformers", "block_chunks": "dinov2"}.items() if key in keys), "safetensors")


failed = False
for folder in map(Path, sys.argv[1:]):
    kind = kind_of(folder)
    example = folder / "example.safetensors"
    with torch.no_grad():
        if example.exists():
            expected = load_file(example)
            px = int(expected["image_px"])
            images = images_of(px, len(expected["class"]))
            expected, by = [expected["class"].double(), expected["patches"].double()], "lapidary"
        else:
            beside = folder.parent / "safetensors"
            with safe_open(beside / "model.safetensors", "pt") as file:
                px = json.loads(file.metadata()["lapidary"])["model"]["image_px"]
            images = images_of(px, 2)
            (expected, _), by = own(beside, images), "plain f64"
        if kind == "safetensors":
            found, _ = own(folder, images)
        else:
            found = {"timm": of_timm, "transformers": of_transformers, "dinov2": of_dinov2, "onnx": of_onnx}[kind](folder, images)
    # Features are of the size of 1 after the final norm; larger ones are compared relative to the largest.
    differences = [float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in zip(found, expected)]
    assert all(a.shape == b.shape for a, b in zip(found, expected)), [(a.shape, b.shape) for a, b in zip(found, expected)]
    good = max(differences) < TOLERANCE
    failed |= not good
    print(f"{'same' if good else 'DIFFERS'}  {kind:<12} class {differences[0]:.1e}, patches {differences[1]:.1e} of {by}'s  {folder}", flush=True)
sys.exit(failed)
