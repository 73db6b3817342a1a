"""GPT-2 in plain PyTorch: pre-LN, learned positions, biases, tanh GELU, tied output head, no dropout."""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

import gemma4

EOT = "<|endoftext|>"


@dataclass
class Config:
    vocab: int = 2048
    ctx: int = 384
    embd: int = 192
    layers: int = 6
    heads: int = 6
    eps: float = 1e-5
    whole: bool = False  # stories longer than the context are left out of training


# `story` is the model of the example gpt2, `small` and `per-layer` are those of the example bare_metal.
SIZES = {
    "story": Config(),
    "small": Config(vocab=512, ctx=256, embd=64, layers=4, heads=2, whole=True),
    "per-layer": gemma4.Config(),
}


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.heads = c.heads
        self.ln_1 = nn.LayerNorm(c.embd, eps=c.eps)
        self.qkv = nn.Linear(c.embd, 3 * c.embd)
        self.attn_out = nn.Linear(c.embd, c.embd)
        self.ln_2 = nn.LayerNorm(c.embd, eps=c.eps)
        self.up = nn.Linear(c.embd, 4 * c.embd)
        self.down = nn.Linear(4 * c.embd, c.embd)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_out(y.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self, c: Config = Config()):
        super().__init__()
        self.config = c
        self.wte = nn.Embedding(c.vocab, c.embd)
        self.wpe = nn.Embedding(c.ctx, c.embd)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.ln_f = nn.LayerNorm(c.embd, eps=c.eps)
        # GPT-2's initialisation: N(0, 0.02), the two projections into the residual stream scaled down with depth.
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("attn_out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / (2 * c.layers) ** 0.5 if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)


def build(config):
    return (gemma4.Gemma4 if isinstance(config, gemma4.Config) else GPT2)(config)


@torch.no_grad()
def generate(model, tokens, n, eot, temperature, top_k, generator):
    """Continues `tokens` by at most `n` tokens, stopping at `eot`."""
    tokens = list(tokens)
    for _ in range(n):
        logits = model(torch.tensor([tokens[-model.config.ctx :]]))[0, -1].float() / temperature
        top, ids = logits.topk(top_k)
        nxt = ids[torch.multinomial(top.softmax(-1), 1, generator=generator)].item()
        if nxt == eot:
            break
        tokens.append(nxt)
    return tokens
