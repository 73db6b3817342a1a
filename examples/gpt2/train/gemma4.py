"""Gemma 4 in plain PyTorch, as its small models have it: inputs of each layer's own, windows in every second layer, and
layers that share keys and values.

The table of the layers' inputs is trained as Q4_0 stores it, since it is most of the model and its rows are short.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    vocab: int = 2048
    ctx: int = 256
    embd: int = 64
    layers: int = 4
    heads: int = 4
    kv_heads: int = 1
    head_dim: int = 32
    ffn: int = 160
    inputs: int = 96  # of each layer's own
    shared: int = 2  # layers without keys and values: they use those of the last layer of their kind that has its own
    window: int = 64
    base: float = 10_000.0
    rotated: float = 0.25  # the part of a head that layers without a window rotate
    eps: float = 1e-6
    whole: bool = True  # stories longer than the context are left out of training

    def windowed(self, layer):
        """True if the layer has a window: every second one, and not the last."""
        return layer % 2 == 0

    def source(self, layer):
        """The layer whose keys and values this one uses."""
        own = self.layers - self.shared
        return max(i for i in range(own) if self.windowed(i) == self.windowed(layer)) if layer >= own else layer

    def factors(self):
        """What divides the angles of each pair in layers without a window: pairs of a factor beyond all bounds stay."""
        pairs = self.head_dim // 2
        return [1.0 if i < int(self.rotated * pairs) else 1e30 for i in range(pairs)]


class Norm(nn.Module):
    def __init__(self, width, eps, scale=1.0):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((width,), scale))

    def forward(self, x):
        return F.rms_norm(x.float(), x.shape[-1:], self.weight, self.eps)


def q4_0(x):
    """The numbers as Q4_0 stores them; gradients go through."""
    blocks = x.detach().reshape(-1, 32)
    d = blocks.gather(1, blocks.abs().argmax(1, keepdim=True)) / -8
    q = torch.where(d == 0, 8, (blocks / d + 8.5).trunc().clamp(0, 15))
    return x + (((q - 8) * d.half().float()).view_as(x) - x).detach()


class Block(nn.Module):
    def __init__(self, c: Config, layer):
        super().__init__()
        self.c, self.own = c, c.source(layer) == layer
        self.windowed = c.windowed(layer)
        linear = lambda n, m: nn.Linear(n, m, bias=False)
        norm = lambda width, scale=1.0: Norm(width, c.eps, scale)
        # Heads of norm 1 need no other scale than these; what enters the residual stream begins small.
        heads, stream = c.head_dim**-0.25, (2 * c.layers) ** -0.5
        self.attn_norm = norm(c.embd)
        self.attn_q = linear(c.embd, c.heads * c.head_dim)
        self.attn_q_norm = norm(c.head_dim, heads)
        if self.own:
            self.attn_k = linear(c.embd, c.kv_heads * c.head_dim)
            self.attn_v = linear(c.embd, c.kv_heads * c.head_dim)
            self.attn_k_norm = norm(c.head_dim, heads)
        self.attn_output = linear(c.heads * c.head_dim, c.embd)
        self.post_attention_norm = norm(c.embd, stream)
        self.ffn_norm = norm(c.embd)
        self.ffn_gate, self.ffn_up = linear(c.embd, c.ffn), linear(c.embd, c.ffn)
        self.ffn_down = linear(c.ffn, c.embd)
        self.post_ffw_norm = norm(c.embd, stream)
        self.inp_gate, self.proj = linear(c.embd, c.inputs), linear(c.inputs, c.embd)
        self.post_norm = norm(c.embd, stream)
        self.layer_output_scale = Scale()

    def attend(self, x, ropes, mask, shared):
        c, (b, t, _) = self.c, x.shape
        heads = lambda y: y.view(b, t, -1, c.head_dim).transpose(1, 2)
        rope = ropes[self.windowed]
        q = rope(self.attn_q_norm(heads(self.attn_q(x))))
        if self.own:
            k = rope(self.attn_k_norm(heads(self.attn_k(x))))
            v = F.rms_norm(heads(self.attn_v(x)).float(), (c.head_dim,), eps=c.eps)
        else:
            k, v = shared
        mask = mask if self.windowed and t > c.window else None
        # The one head of keys for all queries.
        wide = lambda y: y.repeat_interleave(c.heads // c.kv_heads, 1)
        y = F.scaled_dot_product_attention(q, wide(k), wide(v), mask, is_causal=mask is None, scale=1.0)
        return self.attn_output(y.transpose(1, 2).reshape(b, t, -1)), (k, v)

    def forward(self, x, inputs, ropes, mask, shared):
        gated = lambda gate, y: F.gelu(gate, approximate="tanh") * y
        y, kv = self.attend(self.attn_norm(x), ropes, mask, shared)
        x = x + self.post_attention_norm(y)
        y = self.ffn_norm(x)
        x = x + self.post_ffw_norm(self.ffn_down(gated(self.ffn_gate(y), self.ffn_up(y))))
        x = x + self.post_norm(self.proj(gated(self.inp_gate(x), inputs)))
        return x * self.layer_output_scale.weight, kv


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


class Gemma4(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.config = c
        self.token_embd = nn.Embedding(c.vocab, c.embd)
        self.per_layer_token_embd = nn.Embedding(c.vocab, c.layers * c.inputs)
        self.per_layer_model_proj = nn.Linear(c.embd, c.layers * c.inputs, bias=False)
        self.per_layer_proj_norm = Norm(c.inputs, c.eps)
        self.blk = nn.ModuleList(Block(c, i) for i in range(c.layers))
        self.output_norm = Norm(c.embd, c.eps)
        # Inputs of all products have a norm before them: 1 / sqrt(width) gives outputs of about 1.
        for name, p in self.named_parameters():
            if p.dim() == 2:
                width = c.inputs if name == "per_layer_token_embd.weight" else p.shape[1]
                nn.init.normal_(p, std=width**-0.5)
        places = torch.arange(c.ctx)
        angles = c.base ** (-torch.arange(0, c.head_dim, 2) / c.head_dim)
        for name, angles in (("windowed", angles), ("full", angles / torch.tensor(c.factors()))):
            turns = torch.outer(places, angles)
            self.register_buffer(name, torch.stack((turns.cos(), turns.sin())), persistent=False)
        back = places[:, None] - places
        self.register_buffer("mask", (back >= 0) & (back < c.window), persistent=False)

    def rope(self, table):
        def rotate(x):
            cos, sin = table[:, : x.shape[-2]]
            a, b = x.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        return rotate

    def forward(self, tokens):
        c, (b, t) = self.config, tokens.shape
        x = self.token_embd(tokens) * c.embd**0.5
        share = lambda y: y.view(b, t, c.layers, c.inputs)
        rows = q4_0(self.per_layer_token_embd(tokens)) * c.inputs**0.5
        made = self.per_layer_proj_norm(share(self.per_layer_model_proj(x) * c.embd**-0.5))
        inputs = (share(rows) + made) * 2**-0.5
        ropes, mask = (self.rope(self.full), self.rope(self.windowed)), self.mask[:t, :t]
        kv = {}
        for i, block in enumerate(self.blk):
            x, kv[i] = block(x, inputs[:, :, i], ropes, mask, kv.get(c.source(i)))
        return F.linear(self.output_norm(x), self.token_embd.weight)


def describe(w, c):
    """Writes the hyper-parameters to a GGUF file."""
    w.add_block_count(c.layers)
    w.add_context_length(c.ctx)
    w.add_embedding_length(c.embd)
    w.add_feed_forward_length(c.ffn)
    w.add_head_count(c.heads)
    w.add_head_count_kv(c.kv_heads)
    w.add_layer_norm_rms_eps(c.eps)
    w.add_sliding_window(c.window)
    w.add_sliding_window_pattern([c.windowed(i) for i in range(c.layers)])
    w.add_shared_kv_layers(c.shared)
    w.add_embedding_length_per_layer_input(c.inputs)
    w.add_final_logit_softcapping(0.0)  # llama.cpp takes 30 where it is missing
    for suffix in ("", "_swa"):
        for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
            w.add_uint32(f"gemma4.{key}{suffix}", c.head_dim)
        w.add_float32(f"gemma4.rope.freq_base{suffix}", c.base)
