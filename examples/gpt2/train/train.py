"""Trains the tokenizer and the model. One command, from nothing:

    python train.py
    python train.py --out /tmp/teff-gpt2-names --after /tmp/teff-gpt2 --invented 0.5 --steps 7500
    python train.py --size small --out /tmp/teff-small --invented 0 --batch 16 --lr 3e-3 --steps 9000 --cool-down 3000
    python train.py --size per-layer --out /tmp/teff-per-layer --invented 0 --stories 60000 --lr 4e-3 --warmup 100 \
        --steps STEPS --cool-down COOL --threads 1

The second run goes on with stories whose heroes have names that the model has to copy. The others make the models of
the example bare_metal, with vocabularies of their own: a small GPT-2, and a Gemma 4 most of whose parameters are
inputs of each layer's own. Everything goes to --out
(stories, tokenizer.json, tokens, checkpoint.pt); a run that was stopped goes on from its last checkpoint. export.py
turns the result into model.gguf.
"""

import argparse
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from model import EOT, SIZES, build
from stories import INVENTED, stories

SEED = 20261121
TRAIN_STORIES, VAL_STORIES = 180_000, 2_000


def train_tokenizer(texts, path, vocab):
    """Byte-level BPE as GPT-2's: its regex, all 256 bytes, no space in front."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[EOT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator(texts, trainer)
    assert tok.get_vocab_size() == vocab
    tok.save(str(path))


def encode(tok, texts, most=None):
    """All stories (of at most `most` tokens) in one array, <|endoftext|> before each, and where each begins."""
    eot = tok.token_to_id(EOT)
    parts, starts, at = [], [], 0
    for i in range(0, len(texts), 10_000):
        for e in tok.encode_batch(texts[i : i + 10_000]):
            if most and len(e.ids) > most:
                continue
            starts.append(at)
            parts.append(np.array([eot] + e.ids, dtype=np.uint16))
            at += len(parts[-1])
    return np.concatenate(parts + [np.array([eot], np.uint16)]), np.array(starts)


def rows(tokens, starts, ctx):
    """Where the training rows begin. A row opens with a story, so that position 0 is what it is at inference, and
    the story that the end of a row cuts off opens the next one. Every second row leaves out the leading
    <|endoftext|>: a prompt may come with or without it."""
    out, at = [], 0
    while at + ctx + 2 <= len(tokens):
        out.append(at + len(out) % 2)
        cut = starts[np.searchsorted(starts, at + ctx, side="right") - 1]
        at = cut if cut > at else at + ctx
    return np.array(out)


def batch(tokens, row, ctx):
    x = torch.from_numpy(np.stack([tokens[r : r + ctx + 1] for r in row]).astype(np.int64))
    return x[:, :-1], x[:, 1:]


def prepare(out, after, invented, config, count=TRAIN_STORIES):
    """The tokenizer and the encoded training and validation stories, made once. Where training goes on `after` an
    earlier run, its tokenizer and checkpoint are taken over, and the stories are new ones."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "data.npz").exists():
        train = list(stories(SEED + 2 * (after is not None), count, invented=invented))
        val = list(stories(SEED + 1, VAL_STORIES, want_held_out=True))
        if after is None:
            train_tokenizer(train[:50_000], out / "tokenizer.json", config.vocab)
        else:
            for name in ("tokenizer.json", "checkpoint.pt"):
                shutil.copy(after / name, out / name)
        tok = Tokenizer.from_file(str(out / "tokenizer.json"))
        most = config.ctx - 1 if config.whole else None
        (t, ts), (v, vs) = encode(tok, train, most), encode(tok, val, most)
        np.savez(out / "data.npz", train=t, train_starts=ts, val=v, val_starts=vs)
        print(f"{len(ts)} stories, {len(t)} tokens; validation {len(vs)} stories, {len(v)} tokens", flush=True)
    d = np.load(out / "data.npz")
    return [(d[n], rows(d[n], d[n + "_starts"], config.ctx)) for n in ("train", "val")]


@torch.no_grad()
def evaluate(model, tokens, row, most=128):
    """Mean loss per token in nats over the first `most` rows."""
    total = n = 0
    for i in range(0, min(len(row), most), 32):
        x, y = batch(tokens, row[i : min(i + 32, most)], model.config.ctx)
        total += F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").item()
        n += y.numel()
    return total / n


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--size", choices=SIZES, default="story")
    p.add_argument("--out", type=Path, default=Path("/tmp/teff-gpt2"))
    p.add_argument("--after", type=Path, help="the --out of an earlier run, to go on from its end with new stories")
    p.add_argument("--invented", type=float, default=INVENTED, help="share of heroes with an invented name")
    p.add_argument("--stories", type=int, default=TRAIN_STORIES)
    p.add_argument("--steps", type=int, default=6000)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--lr", type=float, default=1.5e-3)
    p.add_argument("--warmup", type=int, default=200)
    p.add_argument("--cool-down", type=int, default=1500)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--stop-after", type=int, help="stop at this step, to be resumed later")
    a = p.parse_args()

    torch.manual_seed(SEED)
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    (train, train_rows), (val, val_rows) = prepare(a.out, a.after, a.invented, SIZES[a.size], a.stories)
    model = build(SIZES[a.size])
    ctx = model.config.ctx
    decay = [p for p in model.parameters() if p.dim() == 2]
    other = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}]
    opt = torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.98), fused=True)
    step, spent = 0, 0.0
    ckpt = a.out / "checkpoint.pt"
    if ckpt.exists():
        c = torch.load(ckpt)
        model.load_state_dict(c["model"])
        opt.load_state_dict(c["opt"])
        step, spent = c["step"], c["spent"]
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(train_rows)} rows, from step {step}", flush=True)

    # The order depends on the seed alone, so a resumed run sees the batches it has not seen yet.
    order = np.random.default_rng(SEED)
    perm = np.concatenate([order.permutation(train_rows) for _ in range(-(-a.steps * a.batch // len(train_rows)))])
    # Warm up, stay, and cool down along a cosine: how long to train can be settled on the way.
    began, losses = time.time() - spent, []
    end = min(a.steps, a.stop_after or a.steps)
    while step < end:
        warm = min(1.0, (step + 1) / a.warmup)
        cool = max(0.0, (step - (a.steps - a.cool_down)) / a.cool_down)
        lr = a.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * cool)))
        for g in opt.param_groups:
            g["lr"] = lr
        x, y = batch(train, perm[step * a.batch : (step + 1) * a.batch], ctx)
        # bfloat16 products: twice as fast on this machine; weights, norms and the loss stay in float32.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), y.flatten())
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        losses.append(loss.item())
        step += 1
        if step % 100 == 0 or step == end:
            seen, secs = step * a.batch * ctx, time.time() - began
            line = f"step {step} tokens {seen / 1e6:.2f}M train {np.mean(losses):.4f} lr {lr:.5f} {secs:.0f}s {seen / secs:.0f} tokens/s"
            losses = []
            if step % 500 == 0 or step == end:
                line += f" val {evaluate(model, val, val_rows):.4f}"
            spent = time.time() - began
            tmp = ckpt.with_suffix(".tmp")
            torch.save({"model": model.state_dict(), "opt": opt.state_dict(), "step": step, "spent": spent}, tmp)
            tmp.rename(ckpt)  # never half a checkpoint
            print(line, flush=True)


if __name__ == "__main__":
    main()
