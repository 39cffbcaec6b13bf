"""The embedded policy: small, offline, true to its record, and neither too weak nor too strong to learn from."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from policies import byte_tokenizer
from relax_rl.rewards.countdown import CountdownAnswer, committed_expression, evaluate
from relax_rl.tasks.base import Problem
from relax_rl.tasks.countdown import CountdownTask

pytestmark = pytest.mark.slow

TINY = Path(str(files("relax_rl.assets"))) / "tiny"
TASK = CountdownTask()
PROBLEMS, SAMPLES, MAX_NEW_TOKENS = 32, 8, 96


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return json.loads((TINY / "build.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(TINY, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(TINY, local_files_only=True).eval()


@pytest.fixture(scope="module")
def sampled(model: Any, tokenizer: Any) -> tuple[list[Problem], list[str], torch.Tensor]:
    """Held-out problems, their completions (problem by problem, ``SAMPLES`` each), and the completions' tokens."""
    problems = TASK.problems("test", PROBLEMS, seed=1)
    inputs = tokenizer([problem.prompt for problem in problems], return_tensors="pt", padding=True)
    torch.manual_seed(0)
    with torch.no_grad():
        output = model.generate(
            **inputs,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            num_return_sequences=SAMPLES,
            max_new_tokens=MAX_NEW_TOKENS,
        )
    tokens = output[:, inputs["input_ids"].shape[1] :]
    return problems, tokenizer.batch_decode(tokens, skip_special_tokens=True), tokens


def test_everything_together_is_smaller_than_5_mb():
    assert sum(path.stat().st_size for path in TINY.rglob("*")) < 5e6
    assert not [path.name for path in TINY.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_the_record_belongs_to_these_weights(record: dict[str, Any], model: Any):
    assert hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest() == record["sha256"]
    assert model.num_parameters() == record["parameters"]
    assert record["task"] == {
        "name": TASK.name,
        "num_numbers": TASK.num_numbers,
        "max_number": TASK.max_number,
        "max_target": TASK.max_target,
    }


def test_the_recorded_policy_has_room_to_explore(record: dict[str, Any]):
    held_out = record["held_out"]
    assert (held_out["problems"], held_out["samples"], held_out["temperature"]) == (128, 16, 1.0)
    assert 0.15 <= held_out["mean_at_1"] <= 0.35
    assert held_out["pass_at_16"] > 0.8
    assert held_out["truncated_share"] < 0.02


@pytest.mark.slow
def test_it_loads_in_a_process_without_network_or_home(tmp_path: Path):
    code = (
        "import sys; from transformers import AutoModelForCausalLM as M, AutoTokenizer as T;"
        "print(type(M.from_pretrained(sys.argv[1])).__name__, T.from_pretrained(sys.argv[1]).padding_side)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(TINY)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["LlamaForCausalLM", "left"]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_special_tokens(tokenizer: Any, model: Any):
    assert tokenizer.chat_template is None
    assert tokenizer.eos_token_id is not None
    assert tokenizer.bos_token_id is not None
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    for settings in (model.config, model.generation_config):
        assert settings.eos_token_id == tokenizer.eos_token_id
        assert settings.pad_token_id == tokenizer.pad_token_id
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.max_position_embeddings >= 256


@given(st.lists(st.sampled_from(["<answer>", "</answer>", " yes", " no", "12", "+", "=", "é", "\n", " ", "日"])))
def test_words_and_bytes_survive_the_round_trip(tokenizer: Any, pieces: list[str]):
    text = "".join(pieces)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    # Grading reads the completion without special tokens; the answer must still be there.
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


def test_words_are_one_token_and_a_prompt_gets_nothing_added(tokenizer: Any):
    pieces = ["1", "1", " ", "3", ">", "8", ":", " no", " yes", "<answer>", "1", "</answer>"]
    ids = tokenizer.encode("".join(pieces))
    assert [tokenizer.decode([token]) for token in ids] == pieces


def test_padding_is_on_the_left_and_changes_no_logits(tokenizer: Any, model: Any):
    prompts = ["2 3 4>9:", "12 13 14>39:"]
    padded = tokenizer(prompts, return_tensors="pt", padding=True)
    assert padded["attention_mask"][0].tolist() == [0] * 4 + [1] * 8
    alone = tokenizer(prompts[:1], return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(model(**padded).logits[0, -1], model(**alone).logits[0, -1], atol=1e-4, rtol=1e-4)


def test_it_solves_some_held_out_problems_some_of_the_time(sampled: Any, record: dict[str, Any]):
    problems, completions, _ = sampled
    scores = TASK.verifier.score(completions, [problem.answer for problem in problems for _ in range(SAMPLES)])
    table = torch.tensor(scores).view(PROBLEMS, SAMPLES)
    # 32 problems: the mean of another list of problems differs from the recorded one by about 0.04.
    assert table.mean().item() == pytest.approx(record["held_out"]["mean_at_1"], abs=0.1)
    # Both outcomes in most groups: that is what a group-relative advantage learns from.
    mixed = (table.mean(1) > 0) & (table.mean(1) < 1)
    assert mixed.float().mean().item() > 0.6


def test_it_commits_to_an_expression_and_stops(sampled: Any, tokenizer: Any):
    _, completions, tokens = sampled
    stopped = (tokens == tokenizer.eos_token_id).any(1).float().mean().item()
    assert stopped > 0.97
    committed = [committed_expression(completion) for completion in completions]
    assert sum(text is not None for text in committed) > 0.97 * len(committed)
    readable = [text is not None and evaluate(text) is not None for text in committed]
    assert sum(readable) > 0.95 * len(readable)


def test_its_searches_differ_from_sample_to_sample(sampled: Any):
    _, completions, _ = sampled
    distinct = [len(set(completions[row : row + SAMPLES])) for row in range(0, len(completions), SAMPLES)]
    assert sum(distinct) / len(distinct) > 0.9 * SAMPLES


@pytest.fixture(scope="module")
def builder() -> Any:
    """The script that built the policy, as a module."""
    path = Path(__file__).parents[1] / "scripts" / "build_tiny_policy.py"
    spec = importlib.util.spec_from_file_location("build_tiny_policy", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_traces_it_learned_from_tell_the_truth(builder: Any):
    """Right arithmetic, an honest yes or no, up to five different attempts, and a commitment to the last of them."""
    rng = random.Random(0)
    successes = 0
    for problem in TASK.problems("train", 1000, seed=2):
        prompt, trace = builder.write_trace(problem, rng)
        gold = CountdownAnswer.parse(prompt.removesuffix(":"))
        assert gold is not None
        search, expression = trace.removesuffix("</answer>").split("<answer>")
        attempts = re.findall(r"(\S+?) (yes|no)", search)
        assert "".join(f"{steps} {verdict}" for steps, verdict in attempts) == search
        assert len({steps for steps, _ in attempts}) == len(attempts) <= 5
        for steps, verdict in attempts:
            left, middle, value = re.split("=", steps)
            second = middle.split(",")[-1]
            first_result = re.match(r"[0-9]+", middle)
            assert first_result is not None
            assert evaluate(left) == (int(first_result[0]), [int(n) for n in re.findall("[0-9]+", left)])
            outcome = evaluate(second)
            assert outcome is not None
            assert outcome[0] == int(value)
            assert (int(value) == gold.target) == (verdict == "yes")
        outcome = evaluate(expression)
        assert outcome is not None
        assert outcome[0] == int(attempts[-1][0].split("=")[-1])
        assert sorted(outcome[1]) == sorted(gold.numbers)
        successes += outcome[0] == gold.target
    assert 250 < successes < 450


def test_the_shipped_tokenizer_is_the_one_the_script_builds(builder: Any, tokenizer: Any):
    assert byte_tokenizer(builder.WORDS).get_vocab() == tokenizer.get_vocab()
