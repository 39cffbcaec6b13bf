"""All studies of docs/research/evidence/plan.md, or any part of them alone; what was done before is kept.

python evidence/studies.py --size small                in miniature, under half an hour on two cores; proves nothing
python evidence/studies.py --size full                 the studies themselves, hours; the tables go to evidence/results
python evidence/studies.py --size full --only d,e      two of them

Run it again after a stop and it goes on: finished training runs are kept, others continue from their checkpoints.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
METHODS = HERE / "methods"
COMMAND = (sys.executable, "-m", "relax_rl.cli.main")
FEW_METHODS = 4
CONTROL = "relax, KL alone"
STUDY_I = Path("docs/research/evidence/study-i.md")
SECOND_FAMILY = ("grpo", "entropy_bonus", "kl_cov", "relax, paper", "relax, singular", "relax, robust")


@dataclass(frozen=True)
class Scale:
    """How much of each study is run, and where to.

    Attributes:
        size: "small" or "full".
        runs: folder of the training runs.
        results: folder of the tables.
        jobs: training runs at once.
        figures: folder of the pictures.
    """

    size: str
    runs: Path
    results: Path
    figures: Path
    jobs: int

    @property
    def is_small(self) -> bool:
        return self.size == "small"

    def python(self, module: str, *words: object) -> None:
        """Run a module of the studies; a failure ends everything, with the module's own words."""
        _run(sys.executable, "-m", module, *words)

    def compare(
        self,
        name: str,
        methods: Path,
        seeds: str,
        *settings: str,
        updates: int | None = None,
        samples: int = 64,
        base: str = "training.toml",
    ) -> Path:
        """Train and evaluate every method with every seed, and return the folder of the comparison.

        Args:
            name: of the folder.
            methods: file of methods.
            seeds: as for ``relax compare``.
            settings: for all runs.
            updates: of each run, if not those of the common setting.
            samples: a problem, in the evaluation.
            base: file of this folder that the settings of all runs begin with.
        """
        folder = self.runs / name
        words = [*settings, f"--evaluation.num_samples={samples}"]
        if updates is not None:
            words.append(f"--trainer.max_steps={updates}")
        if self.is_small:  # two rollout batches, a development seed, the first few methods
            few = list(tables_of(methods))[:FEW_METHODS]
            seeds, methods = "100,", some_methods(methods, self.runs / "methods" / f"few_{methods.name}", few)
            words += ["--trainer.max_steps=8", "--evaluation.num_problems=16", "--evaluation.num_samples=16"]
        # Settings and methods of the studies name tasks and methods of this package.
        common = ("compare", HERE / base, "--methods", methods, "--seeds", seeds, "--allow-code", "evidence")
        _run(*COMMAND, *common, "--output", folder, "--jobs", self.jobs, *words)
        return folder

    def collect(self, folder: Path, name: str, *, against: str | None = None) -> None:
        """The tables of a comparison, or, against another baseline than its own, that of the methods alone."""
        words = ("--against", against) if against is not None else ()
        self.python("evidence.tables.collect", folder, "--name", name, "--out", self.results, *words)


def tables_of(path: Path) -> dict[str, str]:
    """The text of each method of a file, by its label; each begins a line with its title in brackets."""
    parts = re.split(r"^(?=\[)", path.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return {next(iter(tomllib.loads(part))): part for part in parts}


def some_methods(path: Path, copy: Path, labels: Sequence[str]) -> Path:
    """A copy of a file of methods with these of them only."""
    tables = tables_of(path)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text("".join(tables[label] for label in labels), "utf-8")
    return copy


def what_dsd_is(scale: Scale) -> None:
    """A."""
    scale.python("evidence.measure.what_dsd_is", "--out", scale.results, "--size", scale.size)


def head_to_head(scale: Scale) -> None:
    """B: learning rate and strengths on development seeds, then the comparison."""
    methods = METHODS / "head_to_head.toml"
    if not scale.is_small:  # in miniature, at the strengths that were chosen
        folder = scale.compare("learning_rate", METHODS / "learning_rate.toml", "100,101", samples=16)
        scale.collect(folder, "b_learning_rate")
        folder = scale.compare("search", METHODS / "search.toml", "100,", samples=16)
        scale.python("evidence.tables.choose", folder, "--out", methods, "--table", scale.results / "b_search.csv")
    scale.collect(scale.compare("head_to_head", methods, "21,22,23,24,25"), "b")


def subset_sum_settings(scale: Scale) -> tuple[str, str]:
    """The second family's starting policy, built if it is missing, and its task."""
    policy = scale.runs / "subset_sum_policy"
    if not (policy / "build.json").is_file():
        scale.python(
            "evidence.policies.subset_sum_policy", "--out", policy, *(("--steps", 60) if scale.is_small else ())
        )
    return f"--model={policy}", "--task=evidence.tasks.subset_sum:SubsetSumTask"


def second_family(scale: Scale) -> None:
    """B once more, on subset sums."""
    shared = subset_sum_settings(scale)
    # At the strengths that countdown chose.
    methods = some_methods(METHODS / "head_to_head.toml", scale.runs / "methods/second_family.toml", SECOND_FAMILY)
    folder = scale.compare("second_family", methods, "21,22,23", *shared)
    scale.collect(folder, "b2")


def confirmation(scale: Scale) -> None:
    """H: what B's second family and E suggested, on seeds of its own."""
    shared = subset_sum_settings(scale)
    folder = scale.compare("confirmation", METHODS / "confirmation.toml", "31,32,33,34,35,36", *shared)
    scale.collect(folder, "h")
    scale.collect(folder, "h_control", against=CONTROL)
    folder = scale.compare("confirmation", METHODS / "confirmation_gate.toml", "31,32,33,34,35,36", *shared)
    scale.collect(folder, "h_gate")
    methods = METHODS / "confirmation_long.toml"
    folder = scale.compare("confirmation_long", methods, "31,32,33,34", updates=512, samples=16)
    scale.collect(folder, "h_long")
    scale.collect(folder, "h_long_control", against=CONTROL)
    curves = scale.results / "h_long_curves.csv"
    scale.python("evidence.measure.laws", "--curves", curves, "--name", "h_long", "--out", scale.results)


def ablations(scale: Scale) -> None:
    """C, in the folder of B: first what the two terms do alone, then one change at a time."""
    scale.collect(scale.compare("head_to_head", METHODS / "controls.toml", "21,22,23,24,25"), "c_terms")
    scale.collect(scale.compare("head_to_head", METHODS / "ablations.toml", "21,22,23"), "c")


def reward_hacking(scale: Scale) -> None:
    """D."""
    folder = scale.compare("hacking", METHODS / "hacking.toml", "28,", samples=16)
    scale.collect(folder, "d")
    problems = ("--problems", 8) if scale.is_small else ()
    scale.python("evidence.measure.hacking", folder, "--out", scale.results, *problems)


def entropy_law(scale: Scale) -> None:
    """E."""
    folder = scale.compare("entropy_law", METHODS / "entropy_law.toml", "26,27", updates=512, samples=16)
    scale.collect(folder, "e")
    scale.python("evidence.measure.laws", "--curves", scale.results / "e_curves.csv", "--out", scale.results)


def pretrained(scale: Scale) -> None:
    """F: SmolLM2, after `make smollm2`; in miniature the embedded policy takes its place."""
    policy = scale.runs / "smollm2_policy"
    if not (policy / "build.json").is_file():
        size = ("--steps", 60, "--batch-size", 32, "--problems", 48)
        model = ("tiny", "--learning-rate", 1e-3) if scale.is_small else ("smollm2", "--learning-rate", 2e-4)
        scale.python("evidence.policies.subset_sum_policy", "--out", policy, "--model", *model, *size)
    methods = METHODS / "pretrained.toml"
    folder = scale.compare("pretrained", methods, "21,22", f"--model={policy}", samples=16, base="pretrained.toml")
    scale.collect(folder, "f")


def vision(scale: Scale) -> None:
    """F, vision: countdown whose numbers are in an image, average and worst case over variants."""
    policy = scale.runs / "vision_policy"
    if not (policy / "build.json").is_file():
        steps = ("--eyes-steps", 150, "--steps", 60) if scale.is_small else ()
        scale.python("evidence.policies.vision_policy", "--out", policy, *steps)
    shared = (f"--model={policy}", "--task=evidence.tasks.vision:ShownCountdownTask", "--evaluation.num_problems=128")
    folder = scale.compare("vision", METHODS / "vision.toml", "21,22,23", *shared, samples=32)
    scale.collect(folder, "f_vision")
    scale.python("evidence.tasks.variants", folder, "--policy", policy, "--out", scale.results)


def latent_signals(scale: Scale) -> None:
    """G: the screen, then the signals that passed it, in the folder of B, which has the others' runs."""
    scale.python("evidence.measure.signals", "--out", scale.results)
    methods = METHODS / "signals.toml"
    if not scale.is_small:
        folder = scale.compare("signals_search", METHODS / "signals_search.toml", "100,", samples=16)
        beside = ("--beside", METHODS / "head_to_head.toml", "--keep", "grpo,entropy_bonus")
        scale.python(
            "evidence.tables.choose", folder, "--out", methods, "--table", scale.results / "g_search.csv", *beside
        )
    scale.collect(scale.compare("head_to_head", methods, "21,22,23,24,25"), "g")


def exploration(scale: Scale) -> None:
    """I: all runs in one process, the confirmation on new seeds, then tables, picture and page."""
    small = ("--small",) if scale.is_small else ()
    where = ("--runs", scale.runs / "exploration", "--results", scale.results)
    scale.python("evidence.exploration.runs", *where, *small)
    scale.python("evidence.exploration.runs", "--design", HERE / "exploration/confirmation.toml", *where, *small)
    page = () if scale.is_small else ("--page", STUDY_I)
    scale.python("evidence.exploration.report", "--results", scale.results, "--images", scale.figures, *page)


def figures(scale: Scale) -> None:
    """J: figures by the embedded image-text policy, on average and at worst over variants; all runs in one process."""
    small = ("--small",) if scale.is_small else ()
    design = ("--design", HERE / "exploration/figures.toml", "--runs", scale.runs / "figures")
    scale.python("evidence.exploration.runs", *design, "--results", scale.results, *small)
    scale.python("evidence.exploration.paired", "--results", scale.results)


def page(scale: Scale) -> None:
    """The pictures and tables of docs/research/evidence."""
    scale.python("evidence.tables.figures", "--results", scale.results, "--out", scale.figures)
    if not scale.is_small:
        scale.python("evidence.tables.page")


STUDIES: dict[str, Callable[[Scale], None]] = {
    "a": what_dsd_is,
    "b": head_to_head,
    "b2": second_family,
    "c": ablations,
    "d": reward_hacking,
    "e": entropy_law,
    "f": pretrained,
    "f_vision": vision,
    "g": latent_signals,
    "h": confirmation,
    "i": exploration,
    "j": figures,
    "page": page,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), required=True)
    parser.add_argument("--only", metavar="LIST", help=f"studies, with commas between: {', '.join(STUDIES)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="training runs at once (%(default)s)")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else list(STUDIES)
    if unknown := [name for name in chosen if name not in STUDIES]:
        parser.error(f"--only: there is no study {unknown[0]!r}; choose from {', '.join(STUDIES)}")
    if arguments.size == "small":
        runs = Path("runs/evidence-small")
        scale = Scale("small", runs, runs / "results", runs / "figures", arguments.jobs)
    else:
        scale = Scale("full", Path("runs/evidence"), HERE / "results", Path("docs/images"), arguments.jobs)
    for name in chosen:
        print(f"-- study {name}: {STUDIES[name].__doc__}", flush=True)
        STUDIES[name](scale)


def _run(*words: object) -> None:
    done = subprocess.run([str(word) for word in words])
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
