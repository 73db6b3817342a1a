"""Tells stories with ../model.gguf.

    python sample.py "Once upon a time there was a small fox named Pip."
"""

import argparse
from pathlib import Path

import gguf
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from export import HERE, load_gguf
from model import EOT, generate


def load_tokenizer(path):
    """The tokenizer, from the GGUF file alone."""
    f = gguf.GGUFReader(path).fields
    vocab = {t: i for i, t in enumerate(f["tokenizer.ggml.tokens"].contents())}
    merges = [tuple(m.split(" ")) for m in f["tokenizer.ggml.merges"].contents()]
    tok = Tokenizer(models.BPE(vocab, merges))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([EOT])
    return tok


def main():
    p = argparse.ArgumentParser()
    p.add_argument("prompt", nargs="+")
    p.add_argument("--model", type=Path, default=HERE.parent / "model.gguf")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--temperature", type=float, default=0.7)
    p.add_argument("--top-k", type=int, default=40)
    p.add_argument("--tokens", type=int, default=300)
    a = p.parse_args()
    model, tok = load_gguf(a.model), load_tokenizer(a.model)
    for prompt in a.prompt:
        ids = tok.encode(prompt).ids
        rng = torch.Generator().manual_seed(a.seed)
        out = generate(model, ids, a.tokens, tok.token_to_id(EOT), a.temperature, a.top_k, rng)
        print(f"**{prompt}**{tok.decode(out[len(ids):])}\n")


if __name__ == "__main__":
    main()
