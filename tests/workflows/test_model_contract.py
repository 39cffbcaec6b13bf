"""One contract for training and evaluation: the same prompts, stop tokens, policy and refusals."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import trl
from jinja2.exceptions import TemplateError

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, ModelError
from relax_rl.evaluation.prompts import PromptForm, encode_prompt, render_prompt
from relax_rl.rewards.turns import opened_thought
from relax_rl.tasks.base import BaseTask, Problem
from relax_rl.training.models import load_tokenizer
from relax_rl.workflows.evaluate import evaluate
from relax_rl.workflows.train import prepare
from support.architectures import build
from support.broken_models import FAULTS, copy_of_tiny, edit_json

pytestmark = pytest.mark.slow

SMALL = {
    "trainer.max_steps": 2,
    "trainer.num_generations": 4,
    "trainer.per_device_train_batch_size": 8,
    "trainer.gradient_accumulation_steps": 1,
    "trainer.max_completion_length": 16,
    "evaluation.enabled": False,
    "monitor": False,
    "objective": "grpo",
    "objective.beta": 0.1,
}
CHATML = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}</answer>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% if quick %}<done>{% endif %}{% endif %}"
)
REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


class Words(BaseTask):
    """Two digits and a system message; any completion that holds the answer is right."""

    name = "words"

    def __init__(self, system: str | None = "Be brief.", length: int = 8, count: int = 8) -> None:
        self.system, self.length, self.count = system, length, count
        self.seen: list[str] = []
        self.verifier = SimpleNamespace(name="seen", score=self._score)

    def _score(self, completions, answers):
        self.seen += completions
        return [float(index % 2) for index, _ in enumerate(completions)]

    def problems(self, split, count=None, seed=0):
        words = [f"{index} " + "7" * self.length for index in range(count or self.count)]
        return [Problem(f"{split}/{index}", text, "7", system=self.system) for index, text in enumerate(words)]


def with_template(folder, template, **config):
    """The embedded policy with a chat template whose turns end in a token that generation_config does not list."""
    copy_of_tiny(folder, **config)
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def prepared(model, tmp_path, task, **settings):
    return prepare(overrides=SMALL | settings | {"output": str(tmp_path / "run")}, model=str(model), task=task)


def prompts_of(run):
    """Token ids that TRL gives the policy, of every training prompt."""
    return [list(ids) for ids in run.trainer._tokenize_prompts(list(run.trainer.train_dataset["prompt"]))[0]]


# The same prompt ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "settings", "form"),
    [
        (CHATML, {}, PromptForm()),
        (CHATML, {"trainer.chat_template_kwargs": {"quick": True}}, PromptForm(switches={"quick": True})),
        (CHATML, {"prompts.plain": True}, PromptForm(plain=True)),
        (REFUSES + CHATML, {}, PromptForm()),
    ],
    ids=["template", "switch", "plain", "refused system role"],
)
def test_training_and_evaluation_read_the_same_prompt(template, settings, form, tmp_path):
    folder = with_template(tmp_path / "model", template)
    task = Words()
    run = prepared(folder, tmp_path, task, **settings, **{"evaluation.enabled": True})
    problem = task.problems("train")[0]
    assert prompts_of(run)[0] == list(encode_prompt(run.tokenizer, problem, form))
    assert run.evaluation._form == form
    text = render_prompt(run.tokenizer, problem, form)
    assert ("<done>" in text) == ("trainer.chat_template_kwargs" in settings)
    assert ("<|start|>" in text) == ("prompts.plain" not in settings)
    assert ("Be brief." in text) == ("prompts.plain" not in settings)
    told = [note for note in run.notices if "no system message" in note]
    assert len(told) == template.startswith(REFUSES)


def test_the_system_text_goes_to_the_top_of_the_question(tmp_path):
    tokenizer = load_tokenizer(str(with_template(tmp_path / "model", REFUSES + CHATML)))
    (problem,) = Words().problems("test", 1)
    assert render_prompt(tokenizer, problem).startswith("<|start|>user\nBe brief.\n\n0 7777")


def test_an_evaluation_takes_the_switches_of_its_run_and_of_the_command_line(tmp_path, capsys):
    folder = with_template(tmp_path / "model", CHATML)
    words = ["eval", str(folder), "--task", "countdown", "-k", "2", "-n", "2", "--max-completion-length", "8"]
    digests = {}
    for number, more in enumerate(([], ["--plain"], ["--chat-template-kwargs", '{"quick": true}'])):
        output = tmp_path / f"e{number}"
        assert main([*words, *more, "-o", str(output)]) == 0
        digests[number] = json.loads((output / "result.json").read_text())["prompt_digest"]
    assert len(set(digests.values())) == 3
    assert main([*words, "--chat-template-kwargs", "[1]", "-o", str(tmp_path / "bad")]) == 2
    assert main([*words, "--chat-template-kwargs", '{"slow": 1}', "-o", str(tmp_path / "bad")]) == 2
    assert "'slow', which is no switch of the chat template" in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


# The same stop tokens -------------------------------------------------------------------------------------------------


def test_the_turn_end_stops_training_and_evaluation(tmp_path, monkeypatch):
    folder = with_template(tmp_path / "model", CHATML)
    run = prepared(folder, tmp_path, Words())
    assert sorted(run.trainer.eos_token_ids) == [257, 259]
    assert sorted(run.trainer.generation_config.eos_token_id) == [257, 259]
    found = []
    monkeypatch.setattr(
        "relax_rl.evaluation.samplers.transformers._Decoder",
        lambda *given: found.append(next(part for part in given if isinstance(part, list))) or pytest.skip("seen"),
    )
    with pytest.raises(pytest.skip.Exception):
        evaluate(str(folder), Words(), num_samples=2, num_problems=2, max_completion_length=8)
    assert found == [[257, 259]]


def test_an_end_token_that_only_the_generation_config_knows(tmp_path):
    folder = copy_of_tiny(tmp_path / "model")
    edit_json(folder / "tokenizer_config.json", eos_token=None, pad_token=None)
    run = prepared(folder, tmp_path, Words(system=None))
    assert run.tokenizer.eos_token_id == run.tokenizer.pad_token_id == 257
    run.train()


# The same policy ------------------------------------------------------------------------------------------------------


def test_the_generation_config_does_not_steer_rollouts(tmp_path, capsys):
    rows = {}
    for name, steers in {
        "plain": {},
        "steered": {"no_repeat_ngram_size": 1, "suppress_tokens": [13, 14, 15, 16]},
    }.items():
        folder = copy_of_tiny(tmp_path / name)
        edit_json(folder / "generation_config.json", **steers, min_new_tokens=3 if steers else None)
        run = prepare(
            overrides=SMALL | {"output": str(tmp_path / f"{name}-run")}, model=str(folder), task=Words(system=None)
        )
        assert bool(run.notices) == bool(steers)
        assert all(entry in "".join(run.notices) for entry in steers)
        run.train()
        files = sorted((tmp_path / f"{name}-run" / "completions").glob("*.jsonl"))
        rows[name] = [json.loads(line)["completion"] for file in files for line in file.read_text().splitlines()]
        kept = json.loads((folder / "generation_config.json").read_text())
        assert kept.items() >= steers.items()
    assert rows["plain"]
    assert rows["plain"] == rows["steered"]


@pytest.mark.parametrize(
    ("family", "rates"),
    [
        ("GPT-2", {"attn_pdrop": 0.1, "resid_pdrop": 0.1}),
        ("OPT", {"dropout": 0.1, "layerdrop": 0.2}),
    ],
)
def test_the_kl_before_the_first_step_is_zero(family, rates, tmp_path):
    folder = build(family, tmp_path / "model", **rates)
    found = {}
    for is_off in (True, False):
        run = prepare(
            overrides=SMALL | {"output": str(tmp_path / f"{is_off}"), "trainer.disable_dropout": is_off},
            model=str(folder),
            task=Words(system=None),
        )
        run.train()
        found[is_off] = json.loads((tmp_path / f"{is_off}" / "metrics.jsonl").read_text().splitlines()[0])["kl"]
        saved = json.loads((tmp_path / f"{is_off}" / "checkpoints" / "checkpoint-2" / "config.json").read_text())
        assert all(saved[name] == rate for name, rate in rates.items())
    assert found[True] == 0.0
    assert found[False] > 0.0


# An opened thought ----------------------------------------------------------------------------------------------------


def test_graders_read_the_thought_that_the_prompt_opened(tmp_path):
    folder = with_template(tmp_path / "model", CHATML.replace("assistant\n", "assistant\n<think>\n"))
    task = Words()
    run = prepared(folder, tmp_path, task)
    task.seen.clear()
    run.train()
    assert task.seen
    assert all(text.startswith("<think>\n") for text in task.seen)
    task = Words()
    evaluate(str(folder), task, num_samples=2, num_problems=2, max_completion_length=8, output=tmp_path / "e")
    assert all(text.startswith("<think>\n") for text in task.seen[-4:])
    kept = (tmp_path / "e" / "samples.jsonl").read_text().splitlines()
    assert not any(json.loads(line)["completion"].startswith("<think>") for line in kept)


BUNDLED = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))


def test_the_thoughts_that_the_templates_bundled_with_trl_open_are_found_in_what_they_render():
    tokenizer = load_tokenizer("tiny")
    opened = set()
    for path in BUNDLED:
        tokenizer.chat_template = path.read_text()
        try:
            prompt = render_prompt(tokenizer, Problem("0", "7 + 7", "14"))
        except (TemplateError, TypeError, ModelError):  # needs images, or parts in place of words
            continue
        if opened_thought(prompt):
            assert prompt.endswith("<think>\n")
            opened.add(path.stem.removesuffix("_training"))
        else:
            assert not prompt.rstrip().endswith("<think>")
    assert len(opened) == 9


def test_a_verifier_that_takes_the_thought_for_opened_is_not_told_again():
    from relax_rl.rewards.base import grade
    from relax_rl.rewards.callables import WeightedVerifiers
    from relax_rl.rewards.format import FormatVerifier
    from relax_rl.rewards.mathematics.verifier import MathVerifier

    told = FormatVerifier(require=("think",), prompt_opens_think=True)
    for verifier in (FormatVerifier(require=("think",)), told, WeightedVerifiers([(told, 1.0)])):
        verdicts = grade(verifier, ["so</think>5", "so, still thinking"], ["5", "5"], opened="<think>\n")
        assert [verdict.score for verdict in verdicts] == [1.0, 0.0]
    verdicts = grade(MathVerifier(), ["\\boxed{5} or not", "hm</think>\\boxed{5}"], ["5", "5"], opened="<think>\n")
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0]


# Context --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_prompt_that_leaves_no_room_is_refused_or_cut(tmp_path):
    task = Words(system=None, length=600)
    with pytest.raises(ConfigError, match=r"has a context of 512 for both \(8 of 8 prompts are too long\)"):
        prepared("tiny", tmp_path, task)
    assert not (tmp_path / "run").exists()
    run = prepared("tiny", tmp_path, task, **{"prompts.overlong": "cut"})
    assert any("8 of 8 prompts of the training split are cut" in note for note in run.notices)
    assert {len(ids) for ids in prompts_of(run)} == {512 - 16}
    run.train()
    with pytest.raises(ConfigError, match="context of 512"):
        evaluate("tiny", task, num_samples=2, num_problems=2, max_completion_length=8)
    said: list[str] = []
    evaluate(
        "tiny",
        task,
        num_samples=2,
        num_problems=2,
        max_completion_length=8,
        overlong="cut",
        on_progress=lambda progress: said.append(progress.message),
    )
    assert any("2 of 2 prompts of the evaluation are cut" in words for words in said)


def test_a_completion_longer_than_the_context_is_refused(tmp_path, capsys):
    output = str(tmp_path / "e")
    words = ["eval", "tiny", "--task", "countdown", "-n", "2", "-k", "2", "-o", output]
    assert main([*words, "--max-completion-length", "600"]) == 2
    assert "context of 512" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_a_default_length_gives_way_to_the_context():
    result = evaluate("tiny", Words(system=None, length=460, count=2), num_samples=1, num_problems=2)
    assert result.max_completion_length == 512 - max(
        len(load_tokenizer("tiny")(problem.prompt)["input_ids"]) for problem in Words(None, 460, 2).problems("test")
    )


# What is refused before anything is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_model_is_refused_before_anything_is_written(fault, tmp_path, capsys):
    folder = copy_of_tiny(tmp_path / "model")
    damage, words = FAULTS[fault]
    damage(folder)
    run = str(tmp_path / "run")
    for command in (
        ["train", "countdown", "--model", str(folder), "--dry-run", "--output", run],
        ["eval", str(folder), "--task", "countdown", "-n", "2", "-k", "2", "-o", run],
        ["spectrum", str(folder), "-o", run],
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trainer.lr_scheduler_type": "cosin"}, "cosin"),
        ({"trainer.optim": "adamw_tocrh"}, "adamw_tocrh"),
        ({"trainer.lr_scheduler_type": "cosine_with_min_lr"}, "min_lr"),
        ({"trainer.optim": "adamw_8bit"}, "bitsandbytes"),
        ({"trainer.chat_template_kwargs": {"quick": True}}, "has no chat template"),
    ],
)
def test_the_rehearsal_finds_what_trl_refuses_while_training(settings, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        prepared("tiny", tmp_path, Words(system=None), **settings)


def test_a_model_object_passes_the_same_checks(tmp_path):
    from relax_rl.training.models import load_model

    model, tokenizer = load_model("tiny")
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    overrides = SMALL | {"output": str(tmp_path / "run")}
    with pytest.raises(ModelError, match=r"model\.norm\.weight hold NaN"):
        prepare(overrides=overrides, model=model, tokenizer=tokenizer, task=Words())


# Adapters -------------------------------------------------------------------------------------------------------------


def test_an_adapter_trains_beside_its_base_and_is_measured(tmp_path):
    peft = pytest.importorskip("peft")
    from relax_rl.training.models import load_model

    base = copy_of_tiny(tmp_path / "base")
    model, _ = load_model(str(base))
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    run = prepared(tmp_path / "adapter", tmp_path, Words(system=None))
    run.train()
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["kl"] == 0.0
    for subject in (tmp_path / "adapter", tmp_path / "run"):
        result = evaluate(str(subject), "countdown", num_samples=2, num_problems=2, max_completion_length=8)
        assert result.num_problems == 2


def test_no_word_on_a_tied_head_when_a_run_is_resumed(tmp_path, caplog):
    run = prepared("tiny", tmp_path, Words(system=None))
    run.train()
    with caplog.at_level("WARNING", logger="transformers"):
        run.trainer.load_checkpoint(tmp_path / "run" / "checkpoints" / "checkpoint-2")
    assert "missing keys" not in caplog.text


# Spectra --------------------------------------------------------------------------------------------------------------


def test_a_spectrum_reads_the_prompt_of_training_and_refuses_what_is_too_long(tmp_path):
    from relax_rl.workflows.spectrum import spectrum

    with pytest.raises(ConfigError, match=r"The text 'prompt-1' has 6\d\d tokens, but tiny has a context of 512"):
        spectrum("tiny", prompts=["7" * 600], text=True)
    with pytest.raises(ConfigError, match="context of 512 for both"):
        spectrum("tiny", prompts=["7" * 500], max_completion_length=64)
    asked = {"max_completion_length": 40, "fit_steps": 0, "num_samples": 2, "sites": ("final_norm_out",)}
    found = spectrum("tiny", prompts=["7" * 500], overlong="cut", **asked)
    assert found.excerpts[0][0] == "7" * 500
    folder = str(with_template(tmp_path / "model", REFUSES + CHATML))
    found = spectrum(folder, task=Words(), num_problems=2, chat_template_kwargs={"quick": True}, **asked)
    assert found.source.startswith("2 prompts")
