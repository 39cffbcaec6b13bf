"""What an image does to a model: conditions, what is compared, and the numbers from independent computations."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from relax_rl.cli.main import main
from relax_rl.errors import ConfigError, DataError
from relax_rl.evaluation.prompts import encode_prompt
from relax_rl.evaluation.sight.measures import ProblemSight, SiteReading, chance_angle, condition_sight
from relax_rl.evaluation.sight.reading import divergence, read
from relax_rl.evaluation.sight.shown import shown_under
from relax_rl.evaluation.sight.sums import Sums, dispersions, leading_modes, mean_angle, sums_of, unexplained
from relax_rl.latent.images.conditions import Condition, masked, parse_conditions
from relax_rl.tasks.base import Problem
from relax_rl.workflows.spectrum_images import spectrum_images
from relax_rl.workflows.spectrum_texts import Reading
from support.images import SIDE, SquareTask, image_text_model, llava_folder, read_together, square

SITES = ("layer_0_out", "final_norm_out")


# Conditions ----------------------------------------------------------------------------------------------------------


def test_conditions_are_named_once_and_the_true_image_comes_first() -> None:
    found = parse_conditions("other, masked:0.5,none")
    assert [one.name for one in found] == ["true", "other", "masked:0.5", "none"]
    assert parse_conditions(["true", "grey"]) == [Condition("true"), Condition("grey")]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "Name at least one condition"),
        ("true", "Name at least one condition"),
        ("blurred", "There is no condition 'blurred'"),
        ("grey:0.5", "There is no condition 'grey:0.5'"),
        ("masked", "'masked' needs the share"),
        ("masked:1.5", "'masked:1.5' needs the share"),
        ("masked:nan", "needs the share"),
        ("none,none", "'none' is named twice"),
    ],
)
def test_other_words_are_refused(words: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_conditions(words)


def black(image: Image.Image) -> np.ndarray:
    return np.asarray(image).sum(-1) == 0


def test_a_mask_has_its_share_and_a_smaller_one_lies_inside() -> None:
    image = Image.new("L", (50, 30), 200)
    third, most, whole = (black(masked(image, share, "seed", 10)) for share in (1 / 3, 0.8, 1.0))
    assert (third.mean(), most.mean(), whole.mean()) == (5 / 15, 12 / 15, 1.0)
    assert not (third & ~most).any()
    assert np.array_equal(third, black(masked(image, 1 / 3, "seed", 10)))
    assert not np.array_equal(third, black(masked(image, 1 / 3, "another", 10)))
    assert image.getpixel((0, 0)) == 200
    # Independent draws: 0 of 4 squares are black in one of 16 images.
    counts = [black(masked(Image.new("RGB", (20, 20), "white"), 0.5, str(place), 10, independent=True)).mean()
              for place in range(400)]  # fmt: skip
    assert 0.45 < np.mean(counts) < 0.55
    assert {0.0, 1.0} <= set(counts)


def test_altered_images_keep_their_size() -> None:
    image = Image.new("RGB", (33, 21), "red")
    for condition in parse_conditions("masked:0.4,grey"):
        assert condition.altered(image, "seed").size == image.size
    assert Condition("true").altered(image, "seed") is image
    assert Condition("grey").altered(image, "seed").getcolors() == [(33 * 21, (128, 128, 128))]


def problem(name: str, place: int, **more: Any) -> Problem:
    return Problem(name, "where:", "", images=(square(place),), **more)


def test_another_image_is_of_another_question_and_differs() -> None:
    variants = [problem("a", 0, group="q"), problem("b", 1, group="q"), problem("c", 0), problem("d", 0)]
    shown = shown_under(variants, Condition("other"))
    # Of a's group is b, and c and d show the same square as a.
    assert shown[0] is None
    assert [one and one.pictures[0].identity for one in shown[1:]] == [
        variants[2].pictures[0].identity, variants[1].pictures[0].identity, variants[1].pictures[0].identity
    ]  # fmt: skip
    two = Problem("two", "where:", "", images=(square(0), square(1)))
    assert shown_under([two, problem("a", 2)], Condition("other")) == [None, None]


def test_without_an_image_its_marks_go_and_words_may_take_their_place() -> None:
    marked = Problem("a", "p", "", instruction="Is <image 1> red? <image 2>", images=(square(0), square(1)),
                     interleaved=True, system="Think.", columns={"image_words": ["red", "a blue one"]})  # fmt: skip
    (none,) = shown_under([marked], Condition("none"))
    assert none is not None
    assert (none.images, none.question, none.prompt) == ((), "Is  red?", "Think.\n\nIs  red?")
    (words,) = shown_under([marked], Condition("words"))
    assert words is not None
    assert words.question == "red\na blue one\nIs  red?"
    with pytest.raises(
        DataError, match="'b' does not say in words what its images show; give it a column 'image_words'"
    ):
        shown_under([problem("b", 0)], Condition("words"))


def test_a_masked_image_is_another_one_of_its_own_seed() -> None:
    problems = [problem("a", 0), problem("b", 0)]
    shown = shown_under(problems, Condition("masked", 0.5), patch=4)
    first, second = (np.asarray(one.pictures[0].open()) for one in shown if one is not None)
    assert first.shape == (SIDE, SIDE, 3)
    assert not np.array_equal(first, second)
    identities = {one.pictures[0].identity for one in (*problems, *shown) if one is not None}
    assert len(identities) == 3


# Sums ----------------------------------------------------------------------------------------------------------------


def trajectory(operator: torch.Tensor, steps: int, seed: int, noise: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    states = [torch.randn(len(operator), generator=generator, dtype=torch.float64)]
    for _ in range(steps - 1):
        kick = noise * torch.randn(len(operator), generator=generator, dtype=torch.float64)
        states.append(states[-1] @ operator + kick)
    return torch.stack(states)


def test_a_known_operator_leaves_nothing_unexplained_and_another_what_numpy_says() -> None:
    operator = torch.tensor([[0.9, 0.2], [-0.1, 0.7]], dtype=torch.float64)
    states = trajectory(operator, 12, 0)
    sums, mean = sums_of(states), states[1:].mean(0)
    error, spread = unexplained(sums, operator, mean)
    assert error.item() == pytest.approx(0.0, abs=1e-12)
    other = torch.tensor([[0.5, 0.0], [0.3, 0.4]], dtype=torch.float64)
    error, spread = unexplained(sums, other, mean)
    x, y = states[:-1].numpy(), states[1:].numpy()
    assert error.item() == pytest.approx(((y - x @ other.numpy()) ** 2).sum())
    assert spread.item() == pytest.approx(((y - y.mean(0)) ** 2).sum())
    both = Sums.stacked([sums, sums_of(trajectory(operator, 5, 1))]).weighted(
        torch.tensor([[2.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    )
    assert both.statistics.num_pairs.tolist() == [22, 15]
    torch.testing.assert_close(both.statistics.gram[0], 2 * sums.statistics.gram)


def test_leading_modes_are_those_of_the_largest_moduli_and_angles_are_theirs() -> None:
    """A system that turns in one plane and decays elsewhere; a rotation of the states turns its modes along."""
    decay = torch.diag(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.3, 0.2], dtype=torch.float64))
    for place, angle in ((0, 0.5), (2, 1.1)):
        turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        decay[place : place + 2, place : place + 2] = 0.95 * turn

    def modes(operator: torch.Tensor) -> torch.Tensor:
        held = Sums.stacked([sums_of(trajectory(operator, 40, seed)) for seed in range(3)])
        return leading_modes(held.weighted(torch.ones(1, 3, dtype=torch.float64)))[0]

    first = modes(decay)
    assert first.shape == (6, 4)
    expected = torch.eye(6, dtype=torch.complex128)[:, :4]
    assert mean_angle(first, expected) == pytest.approx(0.0, abs=1e-4)
    tilt = 0.4
    rotation = torch.eye(6, dtype=torch.float64)
    rotation[3, 3] = rotation[4, 4] = math.cos(tilt)
    rotation[3, 4], rotation[4, 3] = math.sin(tilt), -math.sin(tilt)
    tilted = modes(rotation.T @ decay @ rotation)
    # One of four principal angles is the tilt.
    assert mean_angle(first, tilted) == pytest.approx(math.degrees(tilt) / 4, abs=1e-3)


def test_a_short_trajectory_has_no_dispersion() -> None:
    states = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert math.isnan(dispersions(states, ["paper"])["paper"])


def test_divergence_is_that_of_the_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(2, 3, 7, generator=generator).log_softmax(-1) for _ in range(2))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=first), torch.distributions.Categorical(logits=second)
    )
    torch.testing.assert_close(divergence(first, second), expected)
    # A token that is never drawn adds nothing.
    barred = [torch.cat([one, torch.full((2, 3, 1), -torch.inf)], -1) for one in (first, second)]
    torch.testing.assert_close(divergence(*barred), expected)


# Estimates -----------------------------------------------------------------------------------------------------------


def sights(kl: Sequence[Sequence[float]], shift: float, *, unit: str = "") -> dict[int, ProblemSight]:
    operator = torch.tensor([[0.9, 0.2, 0.0], [-0.1, 0.7, 0.1], [0.0, 0.1, 0.5]], dtype=torch.float64)
    operator = torch.block_diag(operator, 0.5 * operator)
    found = {}
    for place, values in enumerate(kl):
        states = trajectory(operator, 30, place, noise=0.05) + shift
        site = SiteReading(2.0 * shift, 4.0 * shift or 1.0, sums_of(states), {"paper": 0.01 * place + shift})
        found[place] = ProblemSight(unit or str(place), np.array(values), np.ones(len(values)), {"s": site})
    return found


def test_estimates_weigh_tokens_and_compare_the_same_problems() -> None:
    true = sights([[0.0] * 3, [0.0], [0.0] * 2, [0.0]], 0.0)
    found = sights([[1.0, 2.0, 3.0], [4.0], [0.0, 2.0], [6.0]], 0.5)
    seen = condition_sight(Condition("other"), found, true)
    assert seen.kl is not None
    assert seen.kl.value == pytest.approx(18 / 7)
    assert seen.kl.low < seen.kl.value < seen.kl.high
    assert seen.same_choice is not None
    assert seen.same_choice.value == 1.0
    (site,) = seen.sites
    assert site.distance is not None
    assert site.distance.value == pytest.approx(0.5)
    change = site.dsd_change["paper"]
    assert change is not None
    assert (change.value, change.low, change.high) == pytest.approx((0.5, 0.5, 0.5))
    assert site.error_change is not None
    assert site.error_change.value > 0
    assert site.angle is not None
    assert site.angle.low <= site.angle.high
    itself = condition_sight(Condition("true"), true, true)
    assert (itself.kl, itself.sites[0].distance, itself.sites[0].angle) == (None, None, None)
    # The operator of the same dynamics explains most of them.
    error = itself.sites[0].error
    assert error is not None
    assert 0.0 < error.value < 0.3
    chance = chance_angle(true, "s")
    assert chance is not None
    assert 0 <= chance < 45


def test_variants_of_one_question_are_one_unit() -> None:
    found = sights([[1.0], [3.0]], 0.5, unit="q")
    true = sights([[0.0], [0.0]], 0.0, unit="q")
    seen = condition_sight(Condition("grey"), found, true)
    assert seen.kl is not None
    # A single unit has no spread, and no operator of another one.
    assert (seen.kl.low, seen.kl.high, seen.kl.num_problems) == (2.0, 2.0, 1)
    assert (seen.sites[0].error, seen.sites[0].angle) == (None, None)
    assert chance_angle(true, "s") is None


# Models --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llava", "qwen2_vl"])
def test_distributions_and_states_are_those_of_the_model_alone(kind: str) -> None:
    model, processor = image_text_model(kind)
    problems = SquareTask().problems("test")
    completions = [[70, 71, 72, 73], [80, 81], [90, 91, 92], [75, 76, 77]]
    prompts = [encode_prompt(processor, one) for one in problems]
    found = read(model, prompts, completions, SITES, temperature=0.7)
    assert found.log_probs is not None
    for row, (one, ids) in enumerate(zip(problems, completions, strict=True)):
        own = read_together(processor, [one])
        after = torch.tensor([ids])
        own["input_ids"] = torch.cat([own["input_ids"], after], dim=1)
        own["attention_mask"] = torch.ones_like(own["input_ids"])
        for name in own:
            if name.endswith("token_type_ids"):
                own[name] = torch.cat([own[name], torch.zeros_like(after)], dim=1)
        with torch.no_grad():
            output = model(**own, output_hidden_states=True)
        logits = output.logits[0, -len(ids) - 1 : -1] / 0.7
        logits[:, model.config.image_token_id] = -torch.inf
        torch.testing.assert_close(found.log_probs[row, : len(ids)], logits.log_softmax(-1), atol=1e-4, rtol=1e-4)
        states = found.states["final_norm_out"][row][found.mask[row]]
        torch.testing.assert_close(states, output.hidden_states[-1][0, -len(ids) :], atol=1e-4, rtol=1e-4)
        images = own["input_ids"][0] == model.config.image_token_id
        torch.testing.assert_close(
            found.images["layer_0_out"][row], output.hidden_states[1][0][images], atol=1e-4, rtol=1e-4
        )
        assert images.sum() == 4


@pytest.mark.parametrize("words", [{"text": True}, {"prompts": ["7"]}, {"num_samples": 2}, {"temperature": -1.0}])
def test_a_reading_that_does_not_fit_images_is_refused(words: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        spectrum_images("figures", SquareTask(), Reading(**words))


@pytest.mark.slow
def test_an_image_that_a_model_does_not_see_changes_nothing() -> None:
    model, processor = image_text_model()
    reading = Reading(num_problems=4, max_completion_length=20, tokenizer=processor)
    settings: dict[str, Any] = {"conditions": "other,grey,masked:0.5", "patch": 4, "num_observables": 4, "fit_steps": 2,
                                "sites": SITES, "estimators": ("paper",)}  # fmt: skip
    seeing = spectrum_images(model, SquareTask(), reading, **settings).sight
    for parameter in model.model.multi_modal_projector.parameters():
        parameter.data.zero_()
    blind = spectrum_images(model, SquareTask(), reading, **settings).sight
    for sight, sees in ((seeing, True), (blind, False)):
        assert [one.name for one in sight.conditions] == ["true", "other", "grey", "masked:0.5"]
        for condition in sight.conditions[1:]:
            assert condition.kl is not None
            assert (condition.kl.value > 1e-3) == sees
            for site in condition.sites:
                assert site.distance is not None
                assert (site.distance.value > 1e-3) == sees
                assert site.error_change is not None
                assert (abs(site.error_change.value) > 1e-9) == sees


@pytest.mark.slow
def test_the_command_writes_tables_a_page_and_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in range(4):
        square(place).save(tmp_path / f"{place}.png")
    rows = [
        {"id": f"row {place}", "prompt": "where is <image> now?", "image": f"{place}.png", "image_words": f"at {place}"}
        for place in range(4)
    ]
    (tmp_path / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["spectrum", llava_folder(), "--images", "shown.jsonl", "--conditions", "other,none,words", "-o", "out"]
    words += ["--max-completion-length", "20", "--observables", "4", "--fit-steps", "2", "--sites", "final_norm_out"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "next tokens under other images" in printed
    assert printed.splitlines()[-1] == "out/images.html"
    found = json.loads((tmp_path / "out/images.json").read_text())
    assert [one["name"] for one in found["conditions"]] == ["true", "other", "none", "words"]
    assert [one["num_problems"] for one in found["conditions"]] == [4, 4, 4, 4]
    assert len(found["spectra"]) == 2
    page = (tmp_path / "out/images.html").read_text()
    assert page.count("data:image/png;base64,") >= 4
    assert page.count("<script") == 2
    assert (tmp_path / "out/tokens.csv").read_text().startswith("problem,condition,position,token,kl")
    assert main(words) == 2
    assert "there is out/images.html already" in capsys.readouterr().err


REFUSED: dict[str, tuple[list[str], str]] = {
    "no images": (["--images", "countdown"], "No problem of the task 'countdown' in 'test' shows an image"),
    "other conditions": (["--images", "x:Y", "--conditions", "blurred"], "There is no condition 'blurred'"),
    "conditions alone": (["--conditions", "none"], "does not read --conditions"),
    "with a landscape": (["--images", "x:Y", "--landscape"], "'relax spectrum --landscape' does not read --images"),
    "with prompts": (["--images", "x:Y", "--prompts", "f.txt"], "'relax spectrum --images' does not read --prompts"),
    "several": (["--images", "x:Y", "--num-samples", "2"], "does not read --num-samples"),
    "a file without": (["--images", "none.jsonl"], "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_sentence(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words, sentence = REFUSED[case]
    assert main(["spectrum", "tiny", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "spectra").exists()


@pytest.mark.slow
def test_a_text_model_is_refused_before_its_weights(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["spectrum", "tiny", "--images", "support.images:SquareTask"]) == 2
    assert "the model reads text only" in capsys.readouterr().err
