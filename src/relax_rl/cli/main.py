"""``relax``: reads the words, calls the verb, turns an error that the user can fix into one sentence, exit code 2.

A verb is the module of its name here, with ``add_arguments(parser)`` and ``run(arguments, settings) -> exit code``;
``settings`` are the words of the form ``--section.key value``, for ``load_config``. None imports torch at its top.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from relax_rl.errors import ConfigError, RelaxError, notes_of_kept
from relax_rl.ranks import is_first_process
from relax_rl.redaction import redacted
from relax_rl.remote_code import trusting_remote_code
from relax_rl.stopping import Stopped, handling_signals
from relax_rl.version import __version__

__all__ = ["VERBS", "main"]

VERBS: dict[str, str] = {
    "train": "train a policy with verifiable rewards",
    "eval": "measure a policy on a task, with intervals",
    "compare": "train several methods with several seeds, and say what can be said",
    "spectrum": "the Koopman spectrum of a model's hidden states",
    "report": "write one page about one run or several",
    "doctor": "say what is wrong with a run: its training and its checkpoints",
    "demo": "train the embedded policy with GRPO and with ReLaX, and compare",
    "tasks": "list, show and validate the tasks",
    "recipes": "list the configs for larger hardware, with the number to expect",
    "methods": "list the methods of training, and the options of each",
    "model": "print what a model is, and what is wrong with it",
    "merge": "add a LoRA adapter to the weights of its model",
    "verl-config": "write what verl needs to train the same on a cluster",
    "push": "upload a trained model with its card to the Hub",
    "env": "print versions and hardware for a bug report",
}
"""Each verb with what it does. Its module is imported when it is called: not one of them may slow the others down."""

RENAMED = {"--run": "--output", "--generate": "--max-completion-length", "--num-prompts": "--num-problems"}
"""Former names of options. A verb refuses one by naming the present option, if it has that."""

EXIT_CODES = """\
exit codes:
  0    done
  1    an unexpected error, with its traceback: please report it, with the output of 'relax env'
  2    a setting, file, model or folder to fix; the sentence says how
  124  stopped by --max-hours; the sentence says what is kept and how to continue, as it does for a signal:
  129  SIGHUP
  130  SIGINT, which is Ctrl-C
  138  SIGUSR1
  143  SIGTERM
  141  the reader of the output went away
"""


class _Parser(argparse.ArgumentParser):
    """Exact options only (a prefix of an option is not the option), and errors as ``ConfigError``."""

    def __init__(self, **options: object) -> None:
        options = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter} | options
        super().__init__(**options)  # pyright: ignore[reportArgumentType]

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see '{self.prog} --help')")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The words after ``relax``; those of the process by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except RelaxError as error:
        print(f"relax: error: {redacted(str(error))}", file=sys.stderr)
        for kept in notes_of_kept(error):
            print(redacted(f"relax: {_continuation(words, kept, '--resume')}"), file=sys.stderr)
        return 2
    except Stopped as stopped:
        if is_first_process():
            print(redacted(f"relax: {stopped}; {_continuation(words, stopped.kept, stopped.flag)}"), file=sys.stderr)
        return stopped.reason.exit_code
    except KeyboardInterrupt:
        print("relax: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at exit; give it somewhere to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        for kept in notes_of_kept(error):
            error.add_note(redacted(_continuation(words, kept, "--resume")))
        raise


def _run(words: list[str]) -> int:
    plain, settings = _split_settings(words)
    parser, verbs = _parsers(plain)
    arguments, unknown = parser.parse_known_args(plain)
    if arguments.verb is None:
        parser.print_help()
        return 0
    if unknown:
        from relax_rl.config.messages import did_you_mean

        known = sorted(set(verbs[arguments.verb]._option_string_actions) - {"-h"})
        former = unknown[0].partition("=")[0]
        if RENAMED.get(former) in known:
            raise ConfigError(f"'{former}' is now '{RENAMED[former]}'")
        what = "option" if unknown[0].startswith("-") else "argument"
        raise ConfigError(f"unknown {what} '{unknown[0]}' of 'relax {arguments.verb}'{did_you_mean(unknown[0], known)}")
    arguments.given = _given(verbs[arguments.verb], arguments)
    _say_whose_code_may_run(arguments)
    signals = handling_signals(arguments.max_hours, _note if sys.stderr.isatty() else None)
    with signals, trusting_remote_code(arguments.trust_remote_code):
        return _module(arguments.verb).run(arguments, settings)


def _given(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> frozenset[str]:
    """The options that have another value than by default, by name."""
    words = vars(arguments)
    options = [each for each in parser._actions if each.option_strings]
    return frozenset(each.dest for each in options if words.get(each.dest, each.default) != each.default)


def _say_whose_code_may_run(arguments: argparse.Namespace) -> None:
    if not is_first_process():
        return
    if arguments.trust_remote_code:
        print("code      that comes with the model may run (--trust-remote-code)", file=sys.stderr)
    if arguments.allow_code:
        print(f"code      of {', '.join(arguments.allow_code)} may run (--allow-code)", file=sys.stderr)


def _note(words: str) -> None:
    # From a signal handler: what stderr buffers may be locked by the very line that was interrupted.
    os.write(2, f"\nrelax: {words}\n".encode())


def _continuation(words: list[str], kept: str, flag: str | None) -> str:
    """The kept checkpoint and the command that resumes: the given one, never one that deletes the checkpoint."""
    if flag is not None:
        words = [word for word in words if word not in ("--overwrite", "--resume")] + ([flag] if flag else [])
    command = ["relax", *words]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = ["torchrun", "--nproc_per_node", os.environ.get("LOCAL_WORLD_SIZE", "1")]
        command = [*launcher, "-m", "--", "relax_rl.cli.main", *words]
    nothing = f"nothing {'was written' if flag is None else 'is kept'}; start again"
    return f"{f'{kept}; continue' if kept else nothing} with: {shlex.join(command)}"


def _module(verb: str) -> ModuleType:
    return import_module(f"relax_rl.cli.{verb.replace('-', '_')}")


def _parsers(words: Sequence[str]) -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    """The parser of all verbs, and each verb's own; only those that the words name know their options."""
    parser = _Parser(
        prog="relax",
        description="Train and study reasoning models through the dynamics of their hidden states.",
        epilog=EXIT_CODES,
    )
    parser.set_defaults(max_hours=None, trust_remote_code=False, allow_code=[])
    parser.add_argument("--version", action="version", version=f"relax-rl {__version__}")
    choices = parser.add_subparsers(dest="verb", title="commands", metavar="COMMAND")
    verbs = {}
    for name, purpose in VERBS.items():
        verbs[name] = choices.add_parser(name, help=purpose)
        if name in words:
            module = _module(name)
            verbs[name].description = (module.__doc__ or "").strip()
            verbs[name].epilog = getattr(module, "EPILOG", None)
            module.add_arguments(verbs[name])
    return parser, verbs


def _split_settings(words: list[str]) -> tuple[list[str], list[str]]:
    """Part the dotted settings from the rest: argparse would take the value of an unknown option for CONFIG."""
    plain: list[str] = []
    settings: list[str] = []
    rest = iter(enumerate(words))
    for place, word in rest:
        name, equals, _ = word.partition("=")
        if not (name.startswith("--") and "." in name):
            plain.append(word)
            continue
        settings.append(word)
        if not equals and place + 1 < len(words) and not words[place + 1].startswith("--"):
            settings.append(next(rest)[1])
    return plain, settings


if __name__ == "__main__":
    sys.exit(main())
