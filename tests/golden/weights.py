"""Tiny random networks in every layout that weights come in, with the features that each layout's own library computes.

    pip install torch timm==1.0.31 transformers==5.24.0 safetensors numpy
    git clone https://github.com/facebookresearch/{dino,dinov2,dinov3} REFERENCES/...
    OMP_NUM_THREADS=1 python tests/golden/weights.py tests/golden/weights REFERENCES

Writes a folder per case under tests/golden/weights, each with a file of weights and, where the library has one or shapes do
not tell the heads, a config.json; and cases.json: of each case
- class: the class token's feature after the final norm, for one image, `[dim]`;
- patches: the patches' features, `[patches, dim]`, computed in f64 and rounded to f32;
- sums: of each tensor in Lapidary's names, joined by hand from the library's modules, the sum of its values, each times
  (its flat index modulo 7 + 1), and its shape.
The image has 3 x 16 x 16 values; that of flat index i is sin(0.37 i).
The folders `bad-*` hold files that must be refused: one whose pickle calls os.system, one of the format from before 1.6, one
with untied norms.
"""

import argparse
import collections
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import timm
import torch
import transformers
from safetensors.torch import save_file

OUT, REFERENCES = Path(sys.argv[1]), Path(sys.argv[2])
for name in ["dinov2", "dinov3"]:
    sys.path.insert(0, str(REFERENCES / name))
os.environ["XFORMERS_DISABLED"] = "1"
DIM, HEADS, DEPTH, PATCH, SIDE = 16, 2, 2, 4, 16
IMAGE = torch.from_numpy(np.sin(0.37 * np.arange(3 * SIDE * SIDE))).reshape(1, 3, SIDE, SIDE)
shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir(parents=True)
cases = {}
seed = 0


def randomise(model):
    """Weights that differ everywhere: norms and biases too."""
    global seed
    seed += 1
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_one = name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "gamma", "lambda1")) or "gamma_" in name
        is_one |= "layernorm" in name and name.endswith("weight")
        parameter.data = (1 + 0.3 * noise if is_one else 0.25 * noise).to(parameter.dtype)
    return model.eval()


def save(case, tensors, file, config=None):
    folder = OUT / case
    folder.mkdir(exist_ok=True)
    if file.endswith(".safetensors"):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / file)
    else:
        torch.save(tensors, folder / file)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config, indent=1))


def record(case, tensors, ours, features):
    """`features(image)` gives class and patches; `ours` maps our names to tensors of the model."""
    with torch.no_grad():
        found = features(IMAGE)
    sums = {}
    for name, tensor in ours.items():
        flat = tensor.detach().double().reshape(-1)
        weight = torch.arange(len(flat)).remainder(7) + 1
        sums[name] = {"shape": list(tensor.shape), "sum": float((flat * weight).sum())}
    cases[case] = {
        "class": np.float32(found[0].reshape(-1)).tolist(),
        "patches": np.float32(found[1].reshape(-1)).tolist(),
        "sums": sums,
    }


def plain(model, blocks, register=None, positions=True):
    """Our names of a network whose blocks have timm's attributes."""
    ours = {
        "cls_token": model.cls_token,
        "patch_embed.proj.weight": model.patch_embed.proj.weight,
        "patch_embed.proj.bias": model.patch_embed.proj.bias,
        "norm.weight": model.norm.weight,
        "norm.bias": model.norm.bias,
    }
    if positions:
        ours["pos_embed"] = model.pos_embed
    if register is not None:
        ours["reg_token"] = register
    for index, block in enumerate(blocks):
        parts = {"norm1": block.norm1, "norm2": block.norm2, "attn.qkv": block.attn.qkv, "attn.proj": block.attn.proj}
        if hasattr(block.mlp, "fc1"):
            parts |= {"mlp.fc1": block.mlp.fc1, "mlp.fc2": block.mlp.fc2}
        for name, module in parts.items():
            ours[f"blocks.{index}.{name}.weight"] = module.weight
            ours[f"blocks.{index}.{name}.bias"] = module.bias
        for scale in ["ls1", "ls2"]:
            if hasattr(getattr(block, scale, None), "gamma"):
                ours[f"blocks.{index}.{scale}.gamma"] = getattr(block, scale).gamma
    return ours


# timm


def timm_features(model, prefix):
    def features(image):
        tokens = model.double().forward_features(image)
        model.float()
        return tokens[:, 0], tokens[:, prefix:]

    return features


def timm_model(architecture="vit_small_patch16_224", **kwargs):
    arguments = dict(embed_dim=DIM, depth=DEPTH, num_heads=HEADS, img_size=SIDE, patch_size=PATCH, mlp_ratio=2.0)
    arguments |= kwargs
    config = {
        "architecture": architecture,
        "num_features": DIM,
        "model_args": {k: v for k, v in arguments.items() if not callable(v)},
        "pretrained_cfg": {"tag": "dino", "input_size": [3, SIDE, SIDE], "mean": [0.485, 0.456, 0.406]},
    }
    return randomise(timm.create_model(architecture, **arguments)), config


model, config = timm_model(num_classes=3)
first = model
save("timm", model.state_dict(), "model.safetensors", config)
record("timm", None, plain(model, model.blocks), timm_features(model, 1))
for name, dtype in [("f16", torch.float16), ("bf16", torch.bfloat16), ("f64", torch.float64)]:
    narrow, _ = timm_model(num_classes=0)
    narrow = narrow.to(dtype)
    save(f"timm-{name}", narrow.state_dict(), "model.safetensors" if name != "bf16" else "pytorch_model.bin", config)
    narrow.float()
    record(f"timm-{name}", None, plain(narrow, narrow.blocks), timm_features(narrow, 1))

model, config = timm_model("vit_small_patch14_reg4_dinov2", reg_tokens=3, num_classes=0, init_values=0.1)
save("timm-registers", model.state_dict(), "model.safetensors", config)
ours = plain(model, model.blocks, model.reg_token)
ours["pos_embed"] = torch.cat([torch.zeros(1, 1, DIM), model.pos_embed], dim=1)
record("timm-registers", None, ours, timm_features(model, 4))

model, config = timm_model(reg_tokens=2, num_classes=0)
save("timm-placed-registers", model.state_dict(), "model.safetensors", config)
ours = plain(model, model.blocks, model.reg_token + model.pos_embed[:, 1:3])
ours["pos_embed"] = torch.cat([model.pos_embed[:, :1], model.pos_embed[:, 3:]], dim=1)
record("timm-placed-registers", None, ours, timm_features(model, 3))

model, config = timm_model("vit_giant_patch14_dinov2", num_classes=0, mlp_ratio=6.0, init_values=0.1)
save("timm-swiglu", model.state_dict(), "model.safetensors", config)
record("timm-swiglu", None, plain(model, model.blocks), timm_features(model, 1))

for case, architecture, kwargs in [
    ("timm-eva", "vit_small_patch16_dinov3_qkvb", {}),
    ("timm-eva-swiglu", "vit_huge_plus_patch16_dinov3_qkvb", dict(mlp_ratio=3.0)),
]:
    model, config = timm_model(architecture, num_reg_tokens=2, num_classes=0, use_fc_norm=False, global_pool="token", **kwargs)
    save(case, model.state_dict(), "model.safetensors", config)
    ours = plain(model, [], model.reg_token, positions=False)
    for index, block in enumerate(model.blocks):
        at = f"blocks.{index}"
        for name, module in [("norm1", block.norm1), ("norm2", block.norm2), ("attn.proj", block.attn.proj), ("mlp.fc2", block.mlp.fc2)]:
            ours |= {f"{at}.{name}.weight": module.weight, f"{at}.{name}.bias": module.bias}
        ours[f"{at}.attn.qkv.weight"] = block.attn.qkv.weight
        ours[f"{at}.attn.qkv.bias"] = torch.cat([block.attn.q_bias, torch.zeros(DIM), block.attn.v_bias])
        ours |= {f"{at}.ls1.gamma": block.gamma_1, f"{at}.ls2.gamma": block.gamma_2}
        halves = [block.mlp.fc1] if hasattr(block.mlp, "fc1") else [block.mlp.fc1_g, block.mlp.fc1_x]
        ours[f"{at}.mlp.fc1.weight"] = torch.cat([half.weight for half in halves])
        ours[f"{at}.mlp.fc1.bias"] = torch.cat([half.bias for half in halves])
    record(case, None, ours, timm_features(model, 3))

# facebookresearch/dino: a checkpoint of its training, whose names are timm's.

sys.path.insert(0, str(REFERENCES / "dino"))
import vision_transformer as dino_vits  # noqa: E402

HINT = {"num_attention_heads": HEADS}
dino = randomise(
    dino_vits.VisionTransformer(
        img_size=[SIDE], patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, mlp_ratio=2, qkv_bias=True,
        norm_layer=lambda dim: torch.nn.LayerNorm(dim, eps=1e-6),
    )
)  # fmt: skip
student = {f"module.backbone.{name}": tensor + 1 for name, tensor in dino.state_dict().items()}
teacher = {f"backbone.{name}": tensor for name, tensor in dino.state_dict().items()}
teacher |= {"head.mlp.0.weight": torch.ones(4, DIM), "head.last_layer.weight_g": torch.ones(3, 1)}
moments = {index: {"step": 3, "exp_avg": torch.zeros(4)} for index in range(2)}
save(
    "dino",
    {
        "student": collections.OrderedDict(student),
        "teacher": collections.OrderedDict(teacher),
        "optimizer": {"state": moments, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1]}]},
        "epoch": 7,
        "args": argparse.Namespace(arch="vit_small", patch_size=PATCH, lr=0.0005, local_crops_scale=(0.05, 0.4), use_fp16=True),
        "dino_loss": collections.OrderedDict(center=torch.zeros(1, 3)),
        "best": np.float64(0.5),
    },
    "checkpoint.pth",
    HINT,
)
dino_features = lambda image: dino.double().get_intermediate_layers(image, 1)[0].split([1, SIDE // PATCH * SIDE // PATCH], 1)
record("dino", None, plain(dino, dino.blocks), dino_features)

# facebookresearch/dinov2: released weights, with registers, with SwiGLU, and a checkpoint of its training in chunks.

from dinov2.models.vision_transformer import DinoVisionTransformer as Dinov2  # noqa: E402


def dinov2(**kwargs):
    arguments = dict(img_size=SIDE, patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, mlp_ratio=2, init_values=0.1)
    return randomise(Dinov2(**(arguments | kwargs)))


def dinov2_features(model):
    def features(image):
        found = model.double().forward_features(image)
        model.float()
        return found["x_norm_clstoken"], found["x_norm_patchtokens"]

    return features


for case, kwargs in [
    ("dinov2", {}),
    ("dinov2-registers", dict(num_register_tokens=4, interpolate_antialias=True, interpolate_offset=0.0)),
    ("dinov2-swiglu", dict(mlp_ratio=4, ffn_layer="swiglu")),
    ("dinov2-chunks", dict(block_chunks=2)),
]:
    model = dinov2(**({"block_chunks": 0} | kwargs))
    state = model.state_dict()
    if case == "dinov2-chunks":
        state = {"teacher": {f"backbone.{name}": tensor for name, tensor in state.items()} | {"dino_head.mlp.0.bias": torch.ones(4)}}
    save(case, state, "weights.pth", HINT)
    blocks = [block for chunk in model.blocks for block in chunk if hasattr(block, "norm1")] if model.chunked_blocks else model.blocks
    ours = plain(model, blocks, model.register_tokens) | {"mask_token": model.mask_token}
    if "swiglu" in case:
        for index, block in enumerate(blocks):
            for kind in ["weight", "bias"]:
                ours[f"blocks.{index}.mlp.fc1.{kind}"] = getattr(block.mlp.w12, kind)
                ours[f"blocks.{index}.mlp.fc2.{kind}"] = getattr(block.mlp.w3, kind)
    record(case, None, ours, dinov2_features(model))

# facebookresearch/dinov3, with masked key biases.

from dinov3.models.vision_transformer import DinoVisionTransformer as Dinov3  # noqa: E402

for case, kwargs in [
    ("dinov3", {}),
    ("dinov3-swiglu", dict(ffn_layer="swiglu", ffn_ratio=3)),
    ("bad-untied", dict(untie_cls_and_patch_norms=True)),
]:
    arguments = dict(
        img_size=SIDE, patch_size=PATCH, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, ffn_ratio=2, qkv_bias=True, norm_layer="layernormbf16",
        layerscale_init=0.1, n_storage_tokens=2, mask_k_bias=True, pos_embed_rope_dtype="fp32", pos_embed_rope_rescale_coords=2,
    )  # fmt: skip
    model = Dinov3(**(arguments | kwargs))
    model.init_weights()
    model = randomise(model)
    save(case, model.state_dict(), "weights.pth")
    if case.startswith("bad"):
        continue
    ours = plain(model, model.blocks, model.storage_tokens, positions=False) | {"mask_token": model.mask_token}
    for index, block in enumerate(model.blocks):
        at = f"blocks.{index}"
        ours[f"{at}.attn.qkv.bias"] = block.attn.qkv.bias * block.attn.qkv.bias_mask
        if "swiglu" in case:
            for kind in ["weight", "bias"]:
                ours[f"{at}.mlp.fc1.{kind}"] = torch.cat([getattr(block.mlp.w1, kind), getattr(block.mlp.w2, kind)])
                ours[f"{at}.mlp.fc2.{kind}"] = getattr(block.mlp.w3, kind)
    model.rope_embed.dtype = torch.float64
    record(case, None, ours, dinov2_features(model))

# transformers, with the names of version 5 and, as on the hub, those of before.

SIZES = dict(hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=SIDE, patch_size=PATCH)
OLD = {
    "vit": [
        ("layers.", "encoder.layer."), ("attention.q_proj", "attention.attention.query"), ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"), ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
    ],
    "dinov2": [
        ("attention.q_proj", "attention.attention.query"), ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"), ("attention.o_proj", "attention.output.dense"),
        ("mlp.down_proj", "mlp.weights_out"),
    ],
    "dinov3": [("model.layer.", "layer.")],
}  # fmt: skip


def old_names(state, rules):
    renamed = {}
    for name, tensor in state.items():
        if "mlp.gate_proj" in name and rules is OLD["dinov2"]:
            tensor = torch.cat([tensor, state[name.replace("gate_proj", "up_proj")]])
            name = name.replace("gate_proj", "weights_in")
        elif "mlp.up_proj" in name and rules is OLD["dinov2"]:
            continue
        for new, old in rules:
            name = name.replace(new, old)
        renamed[name] = tensor
    return renamed


def joined(model, kind):
    """Our names of a network of transformers."""
    embeddings = model.embeddings
    projection = embeddings.patch_embeddings if kind == "dinov3" else embeddings.patch_embeddings.projection
    norm = model.norm if kind == "dinov3" else model.layernorm
    ours = {
        "cls_token": embeddings.cls_token,
        "patch_embed.proj.weight": projection.weight,
        "patch_embed.proj.bias": projection.bias,
        "norm.weight": norm.weight,
        "norm.bias": norm.bias,
    }
    if kind != "dinov3":
        ours["pos_embed"] = embeddings.position_embeddings
    if hasattr(embeddings, "register_tokens"):
        ours["reg_token"] = embeddings.register_tokens
    if kind != "vit":
        ours["mask_token"] = embeddings.mask_token.reshape(1, DIM)
    layers = {"vit": lambda: model.layers, "dinov2": lambda: model.encoder.layer, "dinov3": lambda: model.model.layer}[kind]()
    for index, layer in enumerate(layers):
        at, attention, mlp = f"blocks.{index}", layer.attention, layer.mlp
        norms = (layer.layernorm_before, layer.layernorm_after) if kind == "vit" else (layer.norm1, layer.norm2)
        key_bias = attention.k_proj.bias if attention.k_proj.bias is not None else torch.zeros(DIM)
        ours[f"{at}.attn.qkv.bias"] = torch.cat([attention.q_proj.bias, key_bias, attention.v_proj.bias])
        ours[f"{at}.attn.qkv.weight"] = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
        gated = hasattr(mlp, "gate_proj")
        halves = [mlp.gate_proj, mlp.up_proj] if gated else [mlp.up_proj if kind == "dinov3" else mlp.fc1]
        out = mlp.down_proj if gated or kind == "dinov3" else mlp.fc2
        for parameter in ["weight", "bias"]:
            ours[f"{at}.norm1.{parameter}"], ours[f"{at}.norm2.{parameter}"] = (getattr(norm, parameter) for norm in norms)
            ours[f"{at}.attn.proj.{parameter}"] = getattr(attention.o_proj, parameter)
            ours[f"{at}.mlp.fc1.{parameter}"] = torch.cat([getattr(half, parameter) for half in halves])
            ours[f"{at}.mlp.fc2.{parameter}"] = getattr(out, parameter)
        if kind != "vit":
            ours[f"{at}.ls1.gamma"], ours[f"{at}.ls2.gamma"] = layer.layer_scale1.lambda1, layer.layer_scale2.lambda1
    return ours


def transformers_features(model, prefix):
    def features(image):
        tokens = model.double()(image).last_hidden_state
        model.float()
        return tokens[:, 0], tokens[:, prefix:]

    return features


for case, kind, make, prefix, is_old in [
    ("transformers-vit", "vit", lambda: transformers.ViTModel(transformers.ViTConfig(intermediate_size=2 * DIM, **SIZES)), 1, False),
    ("transformers-vit-old", "vit", lambda: transformers.ViTModel(transformers.ViTConfig(intermediate_size=2 * DIM, **SIZES)), 1, True),
    ("transformers-dinov2", "dinov2", lambda: transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=2, **SIZES)), 1, False),
    ("transformers-dinov2-swiglu-old", "dinov2", lambda: transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=4, use_swiglu_ffn=True, **SIZES)), 1, True),
    ("transformers-dinov2-swiglu", "dinov2", lambda: transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=4, use_swiglu_ffn=True, **SIZES)), 1, False),
    ("transformers-registers-old", "dinov2", lambda: transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(mlp_ratio=2, num_register_tokens=3, **SIZES)), 4, True),
    ("transformers-dinov3", "dinov3", lambda: transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(intermediate_size=2 * DIM, num_register_tokens=2, **SIZES)), 3, False),
    ("transformers-dinov3-old", "dinov3", lambda: transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(intermediate_size=2 * DIM, num_register_tokens=2, use_gated_mlp=True, hidden_act="silu", **SIZES)), 3, True),
]:  # fmt: skip
    model = randomise(make())
    state = old_names(model.state_dict(), OLD[kind]) if is_old else model.state_dict()
    config = {k: v for k, v in model.config.to_dict().items() if k in SIZES or k in ("model_type", "layer_norm_eps", "hidden_act", "rope_theta", "layerscale_value")}
    if case.endswith("vit-old"):
        state = {f"vit.{name}": tensor for name, tensor in state.items()} | {"classifier.weight": torch.ones(2, DIM)}
    save(case, state, "model.safetensors", config)
    record(case, None, joined(model, kind), transformers_features(model, prefix))

# Strides, offsets, shared storages; and what must be refused.

state = first.state_dict()
del state["head.weight"], state["head.bias"]
state["blocks.0.attn.proj.weight"] = state["blocks.0.attn.proj.weight"].T.contiguous().T
together = torch.cat([state["blocks.1.norm1.weight"], state["blocks.1.norm1.bias"]])
state["blocks.1.norm1.weight"], state["blocks.1.norm1.bias"] = together[:DIM], together[DIM:]
every_other = torch.zeros(3 * DIM, 2)
every_other[:, 1] = state["blocks.1.attn.qkv.bias"]
state["blocks.1.attn.qkv.bias"] = every_other[:, 1]
state["cls_token"] = torch.nn.Parameter(state["cls_token"])
save("strided", {"state_dict": {f"encoder.{name}": tensor for name, tensor in state.items()}}, "weights.pth", HINT)
record("strided", None, plain(first, first.blocks), timm_features(first, 1))


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/lapidary-was-here",)


save("bad-malicious", {"cls_token": torch.zeros(1, 1, DIM), "extra": Malicious()}, "weights.pth")
(OUT / "bad-legacy").mkdir()
torch.save({"cls_token": torch.zeros(1, 1, DIM)}, OUT / "bad-legacy" / "weights.pt", _use_new_zipfile_serialization=False)
torch.save(first, OUT / "bad-malicious" / "whole-module.pth")
(OUT / "cases.json").write_text(json.dumps(cases, separators=(",", ":")))
print(f"{len(cases)} cases, {sum(f.stat().st_size for f in OUT.rglob('*') if f.is_file()) >> 10} KiB")
