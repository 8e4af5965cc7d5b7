"""Golden numbers of LoRA on the queries and values of attention, by Hugging Face's peft itself, in float64.

    pip install torch==2.15 peft
    python tests/golden/lora.py tests/golden

Writes lora.json. Inputs are not stored: entry i of a tensor is 0.5 sin(rate i + phase), row-major in PyTorch's shapes.
- tokens [2, 3, 8]: rate .37, phase 0; the loss is the sum of the output times weights [2, 3, 24]: rate .21, phase .5
- q's A [2, 8] .7 .1 and B [8, 2] 1.1 .2; v's A .9 .3 and B 1.3 .4; rank 2, alpha 3
- `added`: what peft's queries, keys and values side by side have more than without adapters [2, 3, 24]
- `gradients` of the loss of A and B; `delta`: peft's merged weights less the weights it began with, q, k, v stacked [24, 8]
"""

import json
import pathlib
import sys

import torch
from peft import LoraConfig, get_peft_model

torch.set_default_dtype(torch.float64)
DIM, RANK, ALPHA = 8, 2, 3.0


def wave(*shape, rate, phase):
    count = int(torch.tensor(shape).prod())
    # As f32, which is what the test has.
    return (0.5 * torch.sin(rate * torch.arange(count) + phase)).float().double().reshape(shape)


class Projections(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (torch.nn.Linear(DIM, DIM) for _ in range(3))

    def forward(self, tokens):
        return torch.cat([self.q(tokens), self.k(tokens), self.v(tokens)], -1)


torch.manual_seed(0)
plain = Projections()
tokens = wave(2, 3, DIM, rate=0.37, phase=0.0)
before = plain(tokens).detach()
weights_before = torch.cat([m.weight.detach().clone() for m in (plain.q, plain.k, plain.v)])
config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q", "v"], lora_dropout=0.0, bias="none")
model = get_peft_model(plain, config, autocast_adapter_dtype=False)
inner = model.base_model.model
given = {
    "q.lora_a.weight": (inner.q.lora_A["default"].weight, wave(RANK, DIM, rate=0.7, phase=0.1)),
    "q.lora_b.weight": (inner.q.lora_B["default"].weight, wave(DIM, RANK, rate=1.1, phase=0.2)),
    "v.lora_a.weight": (inner.v.lora_A["default"].weight, wave(RANK, DIM, rate=0.9, phase=0.3)),
    "v.lora_b.weight": (inner.v.lora_B["default"].weight, wave(DIM, RANK, rate=1.3, phase=0.4)),
}
assert torch.equal(model(tokens), before), "B is zero at first"
for parameter, value in given.values():
    parameter.data = value.clone()
output = model(tokens)
(output * wave(2, 3, 3 * DIM, rate=0.21, phase=0.5)).sum().backward()
gradients = {name: parameter.grad for name, (parameter, _) in given.items()}
merged = model.merge_and_unload()
weights_after = torch.cat([m.weight.detach() for m in (merged.q, merged.k, merged.v)])
flat = lambda tensor: [round(value, 9) for value in tensor.detach().flatten().tolist()]
golden = {
    "alpha": ALPHA,
    "added": flat(output - before),
    "gradients": {name: flat(gradient) for name, gradient in gradients.items()},
    "delta": flat(weights_after - weights_before),
}
path = pathlib.Path(sys.argv[1]) / "lora.json"
path.write_text(json.dumps(golden) + "\n")
