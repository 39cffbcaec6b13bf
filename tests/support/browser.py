"""A headless Chromium under the DevTools protocol, over pipes: no package, no port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")


def browser_path() -> str:
    """The program; skips the test where there is none."""
    place = next(filter(None, map(shutil.which, BROWSERS)), None) or os.environ.get("CHROMIUM")
    if place is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path, and CHROMIUM names none")
    return place


class Chromium:
    """One tab.

    Args:
        profile: an empty folder.

    Attributes:
        errors: exceptions of scripts, and what the console was told as an error.
    """

    def __init__(self, profile: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        words = [browser_path(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        words += ["--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]

        def hand_over() -> None:  # the browser reads from 3 and writes to 4
            first, second = os.dup(to_browser), os.dup(from_browser)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self._process = subprocess.Popen(
            words, preexec_fn=hand_over, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest = b""
        self._last = 0
        self._session: str | None = None
        self.errors: list[str] = []
        self._loaded = False
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._send(f"{domain}.enable")

    def visit(self, address: str, width: int = 1400, height: int = 900) -> None:
        """Load a page and wait until it and its scripts are done."""
        self.errors.clear()
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._loaded = False
        self._send("Page.navigate", url=address)
        while not self._loaded:
            self._take()

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        found = self._send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until the expression is true, for a minute at most."""
        script = f"""new Promise((done, fail) => {{ const begin = Date.now();
            const look = () => ({expression}) ? done(true) : Date.now() - begin > 60000 ? fail(new Error("never")) :
            setTimeout(look, 20); look(); }})"""
        self.ask(script)

    def wait_for_page(self, expression: str) -> None:
        """As `wait_for`, of a page that may load itself again meanwhile."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if self.ask(expression):
                    return
            except AssertionError:  # the page is going, or the new one has no body yet
                pass
            time.sleep(0.05)
        raise AssertionError(f"never: {expression}")

    def mouse(self, kind: str, x: float, y: float) -> None:
        """``mouseMoved``, ``mousePressed`` or ``mouseReleased`` at a point of the window."""
        self._send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def prefer(self, scheme: str, medium: str = "") -> None:
        """Prefer ``light`` or ``dark`` pages from now on, on the screen or on the medium ``print``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._send("Emulation.setEmulatedMedia", media=medium, features=features)

    def picture(self) -> bytes:
        """The window as PNG, with the pointer's effects."""
        return base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(timeout=60)
        os.close(self._write)
        os.close(self._read)

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        words = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            words["sessionId"] = self._session
        os.write(self._write, json.dumps(words).encode() + b"\0")
        while True:
            found = self._take()
            if found.get("id") == self._last:
                assert "error" not in found, found
                return found["result"]

    def _take(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 16)
            assert part, "the browser is gone"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        name, found = message.get("method"), message.get("params", {})
        if name == "Page.loadEventFired":
            self._loaded = True
        if name == "Runtime.exceptionThrown":
            self.errors.append(str(found["exceptionDetails"]))
        if name == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.errors.append(found["entry"]["text"])
        return message
