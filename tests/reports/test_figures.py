"""What the figures draw, read back from their axes."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from relax_rl import reports
from relax_rl.comparison.records import read_runs
from relax_rl.evaluation.result import PooledSpectrum
from relax_rl.koopman import koopman_eigenvalues
from relax_rl.reports.breadth import breadth_rows, fates_of, mode_changes_of, plot_fates, plot_mode_changes
from relax_rl.reports.cost import plot_cost
from relax_rl.reports.curves import PANELS, Panel, draw_curves, plot_curve, smooth, smoothing_window
from relax_rl.reports.entropy import plot_covariance, plot_forecast, plot_law
from relax_rl.reports.interactive.curves import group_of
from relax_rl.reports.passes import plot_pass_differences
from relax_rl.reports.spectra.planes import SPURIOUS_RESIDUAL, draw_spectra, plot_spectrum
from relax_rl.reports.trajectories import plot_trajectories, trajectories_of
from relax_rl.statistics.intervals import Estimate
from support.runs import synthetic_snapshot


def test_half_written_last_row_and_missing_values_are_left_out(make_run: Callable[..., Path]) -> None:
    path = make_run("a", num_steps=3)
    rows = [
        {"step": 1, "reward": 0.5, "entropy": None},
        {"step": 2, "entropy": 0.4},
        {"step": 3, "reward": 1, "entropy": 0.3},
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "rew')
    (run,) = read_runs([path])
    steps, values = run.curve("reward")
    assert (steps.tolist(), values.tolist()) == ([1, 3], [0.5, 1])
    assert run.curve("entropy")[0].tolist() == [2, 3]
    assert run.curve("absent")[0].size == 0


@pytest.mark.parametrize(
    ("specification", "labels"),
    [
        ([("grpo", 0), ("relax", 0)], ["GRPO", "ReLaX"]),
        ([("grpo", 0), ("grpo", 1)], ["GRPO, seed 0", "GRPO, seed 1"]),
        ([("grpo", 0), ("grpo", 0)], ["run0", "run1"]),
        ([("my_method", 0)], ["my_method"]),
    ],
)
def test_labels_tell_runs_apart(make_run: Callable[..., Path], specification: list, labels: list[str]) -> None:
    paths = [make_run(f"run{i}", objective, seed=seed) for i, (objective, seed) in enumerate(specification)]
    assert [run.label for run in read_runs(paths)] == labels


def test_curve_draws_raw_and_smoothed_in_the_colour_of_the_run(make_run: Callable[..., Path]) -> None:
    runs = read_runs([make_run("a", "grpo"), make_run("b", "relax")])
    figure = Figure()
    ax = figure.add_subplot()
    assert plot_curve(runs, PANELS[0], ax) is ax
    raw, smoothed, other, _ = ax.lines
    assert raw.get_ydata() == pytest.approx(runs[0].curve("reward")[1])
    assert np.std(np.diff(smoothed.get_ydata())) < 0.5 * np.std(np.diff(raw.get_ydata()))
    assert raw.get_color() == smoothed.get_color() != other.get_color()


def test_log_panel_shows_positive_values_only_and_an_absent_metric_says_so(make_run: Callable[..., Path]) -> None:
    path = make_run("a", num_steps=2)
    (path / "metrics.jsonl").write_text('{"step": 1, "latent/dsd": 0.0}\n{"step": 2, "latent/dsd": 3.5}\n')
    runs = read_runs([path])
    ax = plot_curve(runs, Panel(("latent/dsd",), "DSD", is_log=True))
    assert ax.get_yscale() == "log"
    assert ax.lines[0].get_ydata().tolist() == [3.5]
    empty = plot_curve(runs, Panel(("nothing",), "Nothing"))
    assert [text.get_text() for text in empty.texts] == ["not logged"]
    assert len(draw_curves(runs).axes) == 6


@pytest.mark.parametrize(("low", "high"), [(0.0479, 0.0495), (0.3, 0.4), (7.0, 34.0), (1e-3, 1e3)])
def test_log_axis_has_at_least_two_labels_whatever_it_spans(
    make_run: Callable[..., Path], low: float, high: float
) -> None:
    path = make_run("a")
    rows = [{"step": step, "latent/dsd": value} for step, value in enumerate(np.geomspace(low, high, 9))]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ax = plot_curve(read_runs([path]), Panel(("latent/dsd",), "DSD", is_log=True))
    ax.figure.draw_without_rendering()
    bottom, top = ax.get_ylim()
    ticks = [*ax.yaxis.get_major_ticks(), *ax.yaxis.get_minor_ticks()]
    labels = [tick.label1.get_text() for tick in ticks if bottom <= tick.get_loc() <= top and tick.label1.get_text()]
    assert 2 <= len(labels) <= 8
    assert len(set(labels)) == len(labels)


def test_smoothing_keeps_lines_and_means() -> None:
    line = 3.0 + 0.5 * np.arange(100)
    assert smooth(line) == pytest.approx(line)
    values = np.random.default_rng(0).normal(size=100)
    half = smoothing_window(100) // 2
    assert smooth(values)[50] == pytest.approx(values[50 - half : 51 + half].mean())
    assert smooth(values[:5]).tolist() == values[:5].tolist()


def test_spectrum_greys_the_spurious_and_colours_the_rest() -> None:
    spectrum = PooledSpectrum(((0.5, 0.0), (0.0, 0.9), (0.0, -0.9)), (0.1, SPURIOUS_RESIDUAL, float("nan")), 3, "d")
    ax = plot_spectrum(spectrum, extent=1.2)
    spurious, sound = ax.collections
    assert np.asarray(spurious.get_offsets()).tolist() == [[0.0, 0.9], [0.0, -0.9]]
    assert np.asarray(sound.get_offsets()).tolist() == [[0.5, 0.0]]
    assert np.asarray(sound.get_array()).tolist() == [0.1]
    assert ax.get_aspect() == 1.0
    assert ax.patches[0].get_radius() == 1  # the unit circle


def test_a_spectrum_of_the_toolkit_is_drawn_as_it_is() -> None:
    rotation = torch.tensor([[0.0, -0.9], [0.9, 0.0]], dtype=torch.float64)
    states = [torch.tensor([1.0, 0.0], dtype=torch.float64)]
    for _ in range(11):
        states.append(rotation @ states[-1])
    (sound,) = [
        dots
        for dots in plot_spectrum(koopman_eigenvalues([torch.stack(states)])).collections
        if len(np.asarray(dots.get_offsets()))
    ]
    assert sorted(np.asarray(sound.get_offsets()).tolist()) == [pytest.approx([0, -0.9]), pytest.approx([0, 0.9])]


def test_every_run_and_stage_has_its_plane_at_one_scale(
    make_run: Callable[..., Path], make_evaluation: Callable
) -> None:
    wide = make_evaluation(0.5)
    wide = replace(wide, spectrum=PooledSpectrum(((1.6, 0.0),), (0.1,), 1, "d"))
    paths = [
        make_run("a", "grpo", evaluations={"before": make_evaluation(0.2), "after": wide}),
        make_run("b", "relax", evaluations={"after": make_evaluation(0.5)}),
    ]
    figure = draw_spectra(read_runs(paths))
    assert figure is not None
    planes = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in planes] == ["GRPO, before", "GRPO, after", "ReLaX, before", "ReLaX, after"]
    assert {ax.get_xlim() for ax in planes} == {(-1.1 * 1.6, 1.1 * 1.6)}
    assert [text.get_text() for text in planes[2].texts] == ["not measured"]
    assert draw_spectra(read_runs([make_run("c")])) is None


def plot_functions() -> list[Callable[..., Axes]]:
    """Every public function of the reports whose name begins with ``plot_``."""
    found = []
    for module in pkgutil.walk_packages(reports.__path__, "relax_rl.reports."):
        loaded = importlib.import_module(module.name)
        found += [vars(loaded)[name] for name in getattr(loaded, "__all__", ()) if name.startswith("plot_")]
    return found


def test_every_plot_function_takes_axes_and_returns_them() -> None:
    functions = plot_functions()
    assert len(functions) > 15
    for function in functions:
        signature = inspect.signature(function)
        assert signature.parameters["ax"].default is None, function
        assert signature.return_annotation == "Axes", function


def test_a_plot_is_drawn_into_the_axes_given_or_into_a_figure_of_its_own() -> None:
    entropy = np.linspace(0.6, 0.1, 80)
    reward = 0.9 - 0.3 * np.exp(entropy)
    given: list[Callable[..., Axes]] = [
        lambda ax: plot_law(entropy, reward, ax, label="$a$"),
        lambda ax: plot_forecast(np.arange(80.0), entropy, reward, ax),
        lambda ax: plot_covariance(np.linspace(0, 1, 9), -np.linspace(0, 1, 9), ax),
        lambda ax: plot_cost({"a": {"rollout": 3.0, "update": 1.0}, "b": {}}, ax),
        lambda ax: plot_fates({"a": {"won": 3, "lost": 1}}, ax),
        lambda ax: plot_mode_changes({"a": [1, 1, -2], "b": []}, ax),
        lambda ax: plot_pass_differences({"a": {1: Estimate(0.1, 0.0, 0.2, 9), 2: Estimate(0.2, 0.1, 0.3, 9)}}, ax),
        lambda ax: plot_trajectories(trajectories_of(synthetic_snapshot(5), "PCA"), ax, by="time"),
    ]
    for plot in given:
        ax = Figure().add_subplot()
        assert plot(ax) is ax
        assert ax.has_data()
        assert plot(None).get_figure() is not ax.get_figure()


def test_the_line_of_the_covariance_has_the_slope_of_least_squares() -> None:
    ax = plot_covariance(np.array([1.0, 2.0, -1.0]), np.array([-3.0, -6.0, 3.0]))
    (x, y) = ax.lines[-1].get_data()
    assert np.asarray(y) / np.asarray(x) == pytest.approx([-3.0, -3.0])


def test_fates_and_solutions_are_counted_by_problem(make_run: Callable[..., Path], make_evaluation: Callable) -> None:
    after = make_evaluation(0.4, seed=1)
    problems = [(0, ()), (4, (4,)), (4, (3, 1)), (0, ())]
    others = [(2, (2,)), (0, ()), (4, (2, 1, 1)), (0, ())]

    def evaluation(counts: list) -> object:
        rows = tuple(
            replace(row, num_correct=right, modes=modes)
            for row, (right, modes) in zip(after.per_problem, counts, strict=False)
        )
        return replace(after, per_problem=rows)

    run = make_run("a", evaluations={"before": evaluation(problems), "after": evaluation(others)})
    (record,) = read_runs([run])
    assert fates_of(record) == {"won": 1, "kept": 1, "never solved": 1, "lost": 1}
    assert mode_changes_of(record) == [1, -1, 1, 0]
    assert [row[3:] for row in breadth_rows([record])] == [(0, 1), (1, 0), (2, 3), (0, 0)]


def test_what_is_logged_of_images_is_a_group_of_its_own() -> None:
    assert [group_of(key) for key in ("sight/kl/other", "reward", "sighted")] == [
        "Images", "Training dynamics", "Cost and the rest"
    ]  # fmt: skip
