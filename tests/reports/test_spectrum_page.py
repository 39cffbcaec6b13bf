"""Latent spectra as rows, figures and a page, from results made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from relax_rl.koopman import gram_from_trajectories
from relax_rl.reports.spectra import figures
from relax_rl.reports.spectra.page import SpectrumPage, summary_cells, write_spectrum_page
from relax_rl.reports.spectra.tables import eigenvalue_rows, half_life, remarks, site_summaries, trajectory_rows
from relax_rl.spectra.difference import spectra_differences
from relax_rl.spectra.measure import LatentSpectra, Path2D, SiteSpectrum
from relax_rl.spectra.rulers import SpectrumSettings, TrajectorySpectrum

SITES = ("embed", "final_norm_out")


def row(prompt: int, site: str, dsd: float, **changes: object) -> TrajectorySpectrum:
    curve = [(25, dsd / 2), (33, dsd)] if prompt % 2 else [(25, 3 * dsd)]
    plain = TrajectorySpectrum(
        id=f"prompt-{prompt}",
        site=site,
        num_tokens=40 if prompt % 2 else 30,
        dsd={"paper": dsd, "robust": None},
        max_modulus=1.0,
        residual_kind="primal",
        residual_median=0.5 + prompt / 100,
        spurious_share=0.25,
        condition=100.0,
        effective_rank=10.0,
        curvature=1.5,
        by_length={"paper": curve, "robust": []},
    )
    return replace(plain, **changes)


def site_spectrum(site: str, kind: str = "primal") -> SiteSpectrum:
    states = torch.randn((200, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return SiteSpectrum(
        site=site,
        eigenvalues=((1.0, 0.0), (0.3, 0.4), (0.3, -0.4), (0.0, 0.0)),
        residuals=(0.05, 0.7, 0.7, 0.95),
        residual_kind=kind,
        condition=50.0,
        num_pairs=200,
        num_observables=4,
        dictionary_digest="0123456789abcdef",
        statistics=gram_from_trajectories([states], lambda given: given),
    )


def spectra(name: str = "tiny", shift: float = 0.0, **changes: object) -> LatentSpectra:
    rows = [row(prompt, site, 0.1 * (1 + prompt) + shift) for prompt in range(8) for site in SITES]
    points = tuple((math.cos(t / 5), math.sin(t / 5)) for t in range(40))
    plain = LatentSpectra(
        model=name,
        settings=SpectrumSettings(sites=SITES, num_observables=4),
        sites=tuple(site_spectrum(site) for site in SITES),
        trajectories=tuple(rows),
        paths=tuple(Path2D(f"prompt-{index}", site, points) for index in range(2) for site in SITES),
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(("modulus", "tokens"), [(0.5, 1.0), (2**-0.1, 10.0), (0.25, 0.5), (1.0, math.inf), (0.0, 0.0)])
def test_half_life(modulus: float, tokens: float) -> None:
    assert half_life(modulus) == pytest.approx(tokens)


def test_a_site_in_one_row() -> None:
    summary = site_summaries(spectra())[1]
    assert summary.site == "final_norm_out"
    assert summary.dsd["robust"] is None
    assert summary.dsd["paper"] is not None
    assert summary.dsd["paper"].value == pytest.approx(0.45)
    assert summary.defined == {"paper": 1.0, "robust": 0.0}
    assert summary.residual_median == pytest.approx(0.535)
    cells = summary_cells(summary, ("paper", "robust"))
    assert cells[0] == "final_norm_out"
    assert cells[2:] == ["–", "100/0 %", "1.000", "0.54 primal", "1.0e+02", "200 / 4", "01234567"]


def test_samples_of_a_prompt_count_once() -> None:
    rows = (row(0, "embed", 1.0), row(0, "embed", 3.0), row(1, "embed", 8.0))
    (summary,) = site_summaries(spectra(trajectories=rows, sites=(site_spectrum("embed"),)))
    assert summary.dsd["paper"] is not None
    assert summary.dsd["paper"].value == pytest.approx(5.0)
    assert summary.dsd["paper"].num_problems == 2


def test_remarks_say_what_is_wrong_and_nothing_else() -> None:
    sound = spectra(settings=SpectrumSettings(sites=SITES, estimators=("paper",), num_observables=4))
    assert remarks(sound) == []
    rows = list(sound.trajectories)
    rows[0] = row(0, "embed", 9.0, max_modulus=1.6)
    rows[1] = replace(rows[1], residual_kind="vacuous", residual_median=None, dsd={"paper": None})
    rows[2] = TrajectorySpectrum("prompt-1", "embed", 40, is_finite=False)
    told = remarks(replace(sound, trajectories=tuple(rows)))
    assert [sentence.split(":")[0] for sentence in told] == [
        "embed",
        "embed",
        "final_norm_out",
        "DSD 'paper' is not defined for 1 of 8 texts, which are too short for 4 observables; give longer texts, or "
        "fewer --observables.",
        "1 trajectories hold NaN or Inf and were left out.",
    ]
    assert "1 of 8 texts have an eigenvalue beyond 1.5" in told[0]
    assert "vacuous" in told[2]
    assert remarks(spectra(sites=()))[0].startswith("No site has a spectrum")


def test_csv_rows() -> None:
    header, rows = trajectory_rows(spectra())
    assert len(rows) == 16
    first = dict(zip(header, rows[0], strict=True))
    assert (first["prompt"], first["site"], first["dsd_paper"], first["dsd_robust"]) == ("prompt-0", "embed", 0.1, None)
    assert first["dictionary"] == "0123456789abcdef"
    assert [line[4] for line in eigenvalue_rows(spectra())[:4]] == [1.0, 0.5, 0.5, 0.0]


def test_the_length_curve_has_the_same_texts_at_every_length() -> None:
    """Only odd prompts reach 33 tokens; at 25 the even ones, three times as high, take no part."""
    lengths, means = figures.length_curve(spectra(), "embed", "paper")
    odd = np.mean([0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(lengths, [25, 33])
    np.testing.assert_allclose(means, [odd / 2, odd])
    assert len(figures.length_curve(spectra(), "embed", "robust")[0]) == 0


def test_planes_tell_sound_from_spurious_and_vacuous() -> None:
    def counts(kind: str) -> list[int]:
        figure = figures.draw_planes([spectra(sites=(site_spectrum("embed", kind),))])
        return [len(np.asarray(c.get_offsets())) for c in figure.axes[0].collections]

    assert counts("primal") == [1, 3]  # hollow, coloured
    assert counts("vacuous") == [4, 0]


def test_half_lives_are_drawn_against_residuals() -> None:
    ax = figures.draw_half_lives([spectra()]).axes[0]
    points = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(points, [[1e4, 0.05], [1.0, 0.7], [1.0, 0.7]], rtol=1e-12)  # |lambda| = 0 has no life
    lives, residuals = ax.lines[0].get_data()
    np.testing.assert_allclose(np.asarray(residuals), np.sqrt(1 - (0.5 ** (1 / np.asarray(lives))) ** 2))


def test_depth_draws_each_prompt_and_the_mean() -> None:
    ax = figures.draw_depth([spectra()]).axes[0]
    offsets = np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections[:1]])
    np.testing.assert_allclose(np.sort(offsets[:, 1]), 0.1 * np.arange(1, 9))
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_ydata()), [0.45, 0.45])


def test_pseudospectrum_is_mirrored() -> None:
    figure = figures.draw_pseudospectra([spectra()])
    assert figure is not None
    assert figure.axes[0].get_ylim() == (-1.6, 1.6)
    assert figures.draw_pseudospectra([spectra(sites=(site_spectrum("embed", "vacuous"),))]) is None


def test_a_path_that_is_not_finite_is_not_drawn() -> None:
    broken = spectra(paths=(Path2D("a", "embed", ((math.nan, 0.0), (1.0, 1.0))), Path2D("b", "embed", ((0.0, 0.0),))))
    axes = figures.draw_paths(broken).axes
    assert len(axes[0].lines) == 1


@pytest.mark.slow
def test_a_page_of_two_models(tmp_path: Path, hostile: str) -> None:
    first, second = spectra(), spectra("other", 0.05)
    second = replace(second, sites=tuple(replace(site, dictionary_digest="f" * 16) for site in second.sites))
    page = SpectrumPage(
        (first, second),
        spectra_differences(first, second),
        source=f"20 prompts of {hostile}",
        command=["relax", "spectrum", hostile],
        excerpts=[(hostile, hostile)],
    )
    text = write_spectrum_page(page, tmp_path / "spectrum.html").read_text()
    assert text.count("<script") == 2  # the data and our own
    assert text.count("<img") == 7
    assert "dsd/paper *" in text
    assert "+0.05" in text
    assert "effective_rank *" not in text
    assert f"{2 / 2**8:.3g}" in text
    assert all(name in text for name in ("trajectories.csv", "eigenvalues.csv", "differences.csv"))


def test_a_page_where_nothing_could_be_measured(tmp_path: Path) -> None:
    rows = tuple(TrajectorySpectrum(f"prompt-{i}", site, 1) for i in range(2) for site in SITES)
    nothing = spectra(sites=(), trajectories=rows, paths=())
    text = write_spectrum_page(SpectrumPage((nothing,)), tmp_path / "spectrum.html").read_text()
    assert "No site has a spectrum" in text


def test_texts_go_by_their_prompts(tmp_path: Path) -> None:
    measured = spectra()
    names = {row.id: f"prompt of {row.id} <b>" for row in measured.trajectories}
    page = write_spectrum_page(SpectrumPage((measured,), names=names), tmp_path / "spectrum.html").read_text()
    first = measured.trajectories[0].id
    assert f">prompt of {first} &lt;b&gt;</td>" in page
    assert f'"label":"prompt of {first} \\u003cb\\u003e"' in page
