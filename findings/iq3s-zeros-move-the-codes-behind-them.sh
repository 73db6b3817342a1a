#!/usr/bin/env bash
# ggml 0.13.1: quantising a block to IQ3_S in which an aligned group of 32 values is zero (a pruned part, a padded column) ruins
# the values behind them: their codes lie in the places of others. The same block with one tiny number among the zeros is
# quantised well, and so is the same row in IQ3_XXS.
# Seen on 2026-11-30 (relative error of the 224 values behind the first 32, read back by the gguf package; a row of random
# numbers):
#
#     IQ3_S   without zeros 0.14, with 32 zeros in front 1.56, with 31 zeros and 1e-4 in front 0.14
#     IQ3_XXS 0.18 in all three cases
#
# Needs Python 3 with venv, PyPI, and Linux on x86-64 (the wheel of pywhispercpp has ggml as a library). Prints what it saw;
# fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check gguf==0.19.0 pywhispercpp==1.5.1
"$dir/venv/bin/python" - "$dir" <<'PYTHON'
import ctypes
import glob
import sys

import gguf
import numpy as np

ggml = ctypes.CDLL(glob.glob(sys.argv[1] + "/venv/lib/python3*/site-packages/libggml-base.so.0")[0])
ggml.ggml_version.restype = ctypes.c_char_p
assert ggml.ggml_version() == b"0.13.1", ggml.ggml_version()
chunk = ggml.ggml_quantize_chunk
chunk.restype = ctypes.c_size_t
chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
TYPES = gguf.GGMLQuantizationType


def error(kind, front):
    row = np.random.default_rng(1).standard_normal((1, 256)).astype(np.float32)
    if front is not None:
        row[0, :32] = front
    weights = np.ones(256, np.float32)
    out = np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
    assert chunk(int(kind), row.ctypes.data, out.ctypes.data, 0, 1, 256, weights.ctypes.data) == out.size
    behind, back = row[0, 32:], gguf.quants.dequantize(out, kind)[0, 32:]
    return float(np.linalg.norm(back - behind) / np.linalg.norm(behind))


zeros = np.zeros(32, np.float32)
nearly = zeros.copy()
nearly[5] = 1e-4
for kind in [TYPES.IQ3_S, TYPES.IQ3_XXS]:
    print(kind.name, *(f"{error(kind, front):.2f}" for front in [None, zeros, nearly]))
assert error(TYPES.IQ3_S, None) < 0.2 and error(TYPES.IQ3_S, nearly) < 0.2
assert error(TYPES.IQ3_S, zeros) > 0.5
assert error(TYPES.IQ3_XXS, zeros) < 0.2
PYTHON
