"""A served page in a browser: it follows its run, and leaves its reader in peace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relax_rl.workflows.report import report_server
from support.browser import Chromium
from support.runs import synthetic_evaluation, write_run
from support.serving import add_row, serving

pytestmark = pytest.mark.slow  # starts a browser
LEAD = "document.querySelector('header .lead').textContent"
LIVE = "document.getElementById('live').textContent"
BUTTON = "document.querySelector('#live button')"
FIELD = "document.querySelector('[data-part=completions] input[type=search]')"


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    browser = Chromium(tmp_path / "profile")
    yield browser
    browser.close()


def test_a_served_page_follows_its_run_and_stays_as_its_reader_left_it(chromium: Chromium, tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", "grpo", num_steps=5, evaluations={"after": synthetic_evaluation(0.5)})
    server = report_server([run])
    with serving(server):
        chromium.visit(server.address)
        assert "5 steps" in chromium.ask(LEAD)
        # The words that a reader typed, a group that was opened, and a run that was hidden outlast the new page.
        chromium.ask(f"(() => {{ {FIELD}.value = 'length > 8'; {FIELD}.dispatchEvent(new Event('input')); }})()")
        chromium.ask("[...document.querySelectorAll('details.group')].at(-1).open = true")
        chromium.ask("document.querySelector('.toggles button').click()")
        add_row(run, 6)
        chromium.wait_for_page(f"{LEAD}.includes('6 steps')")
        chromium.wait_for_page(f"{FIELD}.value === 'length > 8'")
        assert chromium.ask("[...document.querySelectorAll('details.group')].at(-1).open")
        assert chromium.ask("document.querySelector('.toggles button').getAttribute('aria-pressed')") == "false"
        # A paused page, and one under the pointer, are left alone.
        chromium.ask(f"{BUTTON}.click()")
        add_row(run, 7)
        chromium.wait_for_page(f"{LIVE}.startsWith('Paused.')")
        assert "6 steps" in chromium.ask(LEAD)
        chromium.ask("dispatchEvent(new KeyboardEvent('keydown', { key: 'a' }))")
        chromium.ask(f"{BUTTON}.click(); dispatchEvent(new KeyboardEvent('keydown', {{ key: 'a' }}))")
        chromium.wait_for_page(f"{LIVE}.includes('something new')")
        assert "6 steps" in chromium.ask(LEAD)
        chromium.wait_for_page(f"{LEAD}.includes('7 steps')")
        assert chromium.errors == []
    chromium.wait_for_page(f"{LIVE}.startsWith('The server is gone')")
