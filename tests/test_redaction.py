"""Secrets: which keys hold one, that no file, page or message gets one, and that no other key is taken for one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main
from relax_rl.config import TaskConfig, TrainConfig, load_config
from relax_rl.errors import ConfigError
from relax_rl.redaction import REDACTED, is_secret_key, redacted, refuse_secrets, without_secrets
from relax_rl.runs import RunDirectory
from relax_rl.workflows.evaluate import evaluate
from support.runs import make_run  # noqa: F401

SECRET = "hf_SECRETsecretSECRETsecret"
KEYS = [
    *("hub_token", "push_to_hub_token", "api_key", "OPENAI_API_KEY", "HF_TOKEN", "token", "access_token", "apikey"),
    *(
        "password",
        "db_password",
        "secret",
        "client_secret",
        "AWS_SECRET_ACCESS_KEY",
        "aws_access_key_id",
        "credentials",
    ),
    *("WANDB_API_KEY", "authorization", "Authorization", "private_key", "auth_token", "session_token", "api-key"),
]


@pytest.mark.parametrize("key", KEYS)
def test_these_keys_hold_secrets(key: str) -> None:
    assert is_secret_key(key)


def test_no_setting_of_ours_or_of_trl_s_but_one_is_taken_for_a_secret() -> None:
    from trl import GRPOConfig

    names = {field.name for field in dataclasses.fields(GRPOConfig)} | set(TrainConfig.model_fields)
    assert {name for name in names if is_secret_key(name)} == {"hub_token"}
    harmless = ["pad_token", "eos_token", "max_tokens", "num_tokens", "tokenizer", "image_token", "key", "branch_top"]
    assert not any(is_secret_key(name) for name in harmless)


WAYS: dict[str, list[str]] = {
    "of TRL": [f"--trainer.hub_token={SECRET}"],
    "in a table of TRL": [f'--trainer.model_init_kwargs={{"token": "{SECRET}"}}'],
    "of the task": [f"--task.api_key={SECRET}"],
    "of the method": [f"--objective.password={SECRET}"],
    "beside another fault": [f"--trainer.hub_token={SECRET}", "--trainer.max_steps=no"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_among_the_settings_is_refused_and_shown_nowhere(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["train", "countdown", "--dry-run"], ["train", "countdown"]):
        assert main([*words, *WAYS[way]]) == 2
        captured = capsys.readouterr()
        assert "is a secret" in captured.err
        assert "'hf auth login'" in captured.err
        assert SECRET not in captured.err + captured.out
    assert list(tmp_path.iterdir()) == []


def test_a_secret_from_a_file_and_from_python_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"trainer": {"hub_token": SECRET}}))
    assert main(["train", str(path), "--dry-run"]) == 2
    assert main(["eval", "tiny", "--task", "countdown", f"--task.api_key={SECRET}"]) == 2
    assert main(["tasks", "show", "countdown", f"--task.api_key={SECRET}"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("is a secret") == 3
    assert SECRET not in captured.err + captured.out
    ways: list[Callable[[], Any]] = [
        lambda: TrainConfig(task=TaskConfig(name="countdown", options={"api_key": SECRET})),
        lambda: load_config({"verifier": [{"name": "math", "api_key": SECRET}]}),
        lambda: evaluate("tiny", "countdown", task_options={"api_key": SECRET}),
    ]
    for way in ways:
        with pytest.raises(ConfigError, match="is a secret") as caught:
            way()
        assert SECRET not in str(caught.value)


def test_a_switch_or_nothing_is_no_secret() -> None:
    refuse_secrets({"trainer": {"hub_token": None, "token": True}, "api_key": ""})
    with pytest.raises(ConfigError, match=r"'trainer\.hub_token' is a secret"):
        refuse_secrets({"trainer": {"hub_token": SECRET, "token": True}, "api_key": ""})


def test_what_a_former_version_wrote_is_read_without_its_secret(make_run: Callable[..., Path], tmp_path: Path) -> None:  # noqa: F811
    run = RunDirectory(make_run("old", "relax"))
    settings = json.loads(load_config("countdown").to_json())
    settings["trainer"]["hub_token"] = SECRET
    run.config_path.write_text(json.dumps(settings))
    assert (run.read_config().trainer.model_extra or {}).get("hub_token") is None
    assert main(["report", str(run.path), "--output", str(tmp_path / "page.html")]) == 0
    assert SECRET not in (tmp_path / "page.html").read_text()
    assert without_secrets([{"a": {"token": "x", "b": 1}}]) == [{"a": {"b": 1}}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"refused {SECRET}.", f"refused {REDACTED}."),
        ("key sk-proj-abc_DEF-123456", f"key {REDACTED}"),
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {REDACTED}"),
        ("https://me:word@host/x and http://host/y@z", f"https://{REDACTED}@host/x and http://host/y@z"),
        ("ghp_abcdefgh1234 AKIAABCDEFGH1234", f"{REDACTED} {REDACTED}"),
        ("hf_hub and sk-1 and basic math stay", "hf_hub and sk-1 and basic math stay"),
        ("the bearer of news", "the bearer of news"),
    ],
)
def test_secrets_in_text(text: str, expected: str) -> None:
    assert redacted(text) == expected


def test_values_of_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SOME_API_KEY", "plain-looking-value")
    monkeypatch.setenv("OTHER_API_KEY", "ab")
    assert redacted("has plain-looking-value, ab") == f"has {REDACTED}, ab"
    assert main(["train", "plain-looking-value.toml"]) == 2
    assert "plain-looking-value" not in capsys.readouterr().err
