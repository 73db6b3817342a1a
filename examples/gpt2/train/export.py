"""Writes ../model.gguf (Q8_0) from train.py's checkpoint, and ../golden/golden.safetensors to check an engine by.

    python export.py
    python export.py --size small --out /tmp/teff-small --to /tmp/teff-small
    python export.py --size small --out /tmp/teff-small --check MODEL.gguf

The small model is written unquantised, as model-f32.gguf, for `teff quantize`; `--check` gives the validation loss of
what came of it.

Keys, tensor names and layouts are those of llama.cpp's converter for GPT-2.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer

import gemma4
from model import EOT, GPT2, SIZES, Config, build
from stories import INVENTED
from train import evaluate, prepare

HERE = Path(__file__).resolve().parent
Q8_0, Q4_0, F32 = (gguf.GGMLQuantizationType[name] for name in ("Q8_0", "Q4_0", "F32"))
PROMPTS = [
    "Once upon a time there was a small fox named Pip. He lived in a deep forest",
    "One rainy morning, Anna wanted to bake a cake. But when she opened the cupboard",
    "In a quiet village lived an old owl. \"I want to see the sea,\" said the owl.",
]


def tensor_names(layers):
    """(GGUF name, PyTorch name)"""
    yield "token_embd.weight", "wte.weight"
    yield "position_embd.weight", "wpe.weight"
    parts = {"attn_norm": "ln_1", "attn_qkv": "qkv", "attn_output": "attn_out", "ffn_norm": "ln_2", "ffn_up": "up", "ffn_down": "down"}
    for i in range(layers):
        for g, t in parts.items():
            for kind in ("weight", "bias"):
                yield f"blk.{i}.{g}.{kind}", f"blocks.{i}.{t}.{kind}"
    for kind in ("weight", "bias"):
        yield f"output_norm.{kind}", f"ln_f.{kind}"


def begin_gguf(arch, path, label, description):
    w = gguf.GGUFWriter(path, arch)
    w.add_type(gguf.GGUFType.MODEL)
    w.add_name("Teff Stories")
    w.add_description(description)
    w.add_license("Apache-2.0")
    w.add_size_label(label)
    return w


def end_gguf(w, tok, tensors, file_type):
    """Writes the tokenizer and the tensors: (name, array, type)."""
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    eot, vocab = tok.token_to_id(EOT), tok.get_vocab_size()
    w.add_token_list([tok.id_to_token(i) for i in range(vocab)])
    w.add_token_types([gguf.TokenType.CONTROL if i == eot else gguf.TokenType.NORMAL for i in range(vocab)])
    merges = json.loads(tok.to_str())["model"]["merges"]
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    w.add_bos_token_id(eot)
    w.add_eos_token_id(eot)
    w.add_unk_token_id(eot)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_file_type(file_type)
    for name, x, kind in tensors:
        w.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_gguf(model, tok, path, label, matrices, positions):
    c = model.config
    w = begin_gguf("gpt2", path, label, "A small GPT-2 that tells short, simple stories")
    w.add_block_count(c.layers)
    w.add_context_length(c.ctx)
    w.add_embedding_length(c.embd)
    w.add_feed_forward_length(4 * c.embd)
    w.add_head_count(c.heads)
    w.add_layer_norm_eps(c.eps)
    weights, tensors = model.state_dict(), []
    for name, torch_name in tensor_names(c.layers):
        x = weights[torch_name].float().numpy()
        # As llama.cpp: matrices are quantised, position embeddings and everything with one dimension are not.
        kind = F32 if x.ndim == 1 else positions if name == "position_embd.weight" else matrices
        tensors.append((name, x, kind))
    end_gguf(w, tok, tensors, gguf.LlamaFileType.MOSTLY_Q8_0 if matrices == Q8_0 else gguf.LlamaFileType.ALL_F32)


def write_gemma4(model, tok, path):
    """The names are the model's own; the table of the layers' inputs is Q4_0, all other matrices are Q8_0."""
    c = model.config
    w = begin_gguf("gemma4", path, "1.2M", "A small Gemma 4 that tells short, simple stories")
    gemma4.describe(w, c)
    kind = lambda name, x: F32 if x.ndim == 1 else Q4_0 if name.startswith("per_layer_token_embd") else Q8_0
    tensors = [(name, x.float().numpy(), kind(name, x)) for name, x in model.state_dict().items()]
    tensors.append((FACTORS, np.array(c.factors(), np.float32), F32))
    end_gguf(w, tok, tensors, gguf.LlamaFileType.MOSTLY_Q8_0)


FACTORS = "rope_freqs.weight"


def load_gguf(path):
    """The model of a GGUF file with its weights dequantised to float32."""
    reader = gguf.GGUFReader(path)
    value = lambda key: reader.fields[key].contents()
    if value("general.architecture") == "gemma4":
        model, names = build(SIZES["per-layer"]), {}
    else:
        model = GPT2(Config(
            vocab=len(value("tokenizer.ggml.tokens")),
            ctx=value("gpt2.context_length"),
            embd=value("gpt2.embedding_length"),
            layers=value("gpt2.block_count"),
            heads=value("gpt2.attention.head_count"),
        ))
        names = dict(tensor_names(model.config.layers))
    weights = {}
    for t in reader.tensors:
        if t.name != FACTORS:
            x = np.array(gguf.quants.dequantize(t.data, t.tensor_type), np.float32)
            weights[names.get(t.name, t.name)] = torch.from_numpy(x.reshape([int(n) for n in reversed(t.shape)]))
    model.load_state_dict(weights)
    return model.eval()


@torch.no_grad()
def write_golden(model, tok, path):
    out = {}
    for i, prompt in enumerate(PROMPTS):
        ids = tok.encode(prompt).ids
        out[f"tokens.{i}"] = np.array(ids, np.int32)
        out[f"logits.{i}"] = model(torch.tensor([ids]))[0].numpy()
    save_file(out, path, metadata={f"prompt.{i}": p for i, p in enumerate(PROMPTS)})


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--size", choices=SIZES, default="story")
    p.add_argument("--out", type=Path, default=Path("/tmp/teff-gpt2"), help="train.py's --out")
    p.add_argument("--to", type=Path, default=HERE.parent)
    p.add_argument("--check", type=Path, nargs="*", help="the validation loss of these files, nothing else")
    a = p.parse_args()
    torch.set_num_threads(2)
    config = SIZES[a.size]
    model = build(config)
    model.load_state_dict(torch.load(a.out / "checkpoint.pt")["model"])
    model.eval()
    tok = Tokenizer.from_file(str(a.out / "tokenizer.json"))
    if a.check is not None:
        _, (val, rows) = prepare(a.out, None, INVENTED, config)
        print(f"{evaluate(model, val, rows):.4f} checkpoint")
        for path in a.check:
            print(f"{evaluate(load_gguf(path), val, rows):.4f} {path.name}")
        return
    if a.size == "per-layer":
        path = a.to / "model-gemma4.gguf"
        write_gemma4(model, tok, path)
        print(path.name, path.stat().st_size, "bytes")
        return
    if a.size != "story":
        # Positions are not what `teff quantize` touches, and would be the largest tensor.
        write_gguf(model, tok, a.to / "model-f32.gguf", "250K", F32, Q8_0)
        return
    path = a.to / "model.gguf"
    write_gguf(model, tok, path, "3M", Q8_0, F32)
    print(path.name, path.stat().st_size, "bytes")
    assert path.stat().st_size <= 4_000_000

    quantised = load_gguf(path)
    golden = a.to / "golden" / "golden.safetensors"
    golden.parent.mkdir(exist_ok=True)
    write_golden(quantised, tok, golden)
    print(golden.name, golden.stat().st_size, "bytes", [len(tok.encode(x).ids) for x in PROMPTS], "tokens")

    _, (val, rows) = prepare(a.out, None, INVENTED, config)
    before, after = evaluate(model, val, rows), evaluate(quantised, val, rows)
    print(f"validation loss {before:.4f}, Q8_0 {after:.4f} ({100 * (after / before - 1):+.3f} %)")
    assert abs(after / before - 1) < 0.01


if __name__ == "__main__":
    main()
