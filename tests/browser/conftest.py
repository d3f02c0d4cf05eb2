# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Chromium for all tests, which looks at pages from files."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import sites
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from ansible_collections.dsr.layer2.plugins.plugin_utils.report.model import site_of
from ansible_collections.dsr.layer2.plugins.plugin_utils.report.page import page_of


@dataclass(frozen=True)
class Browser:
    """Chromium, and what it is asked beyond WebDriver."""

    driver: webdriver.Chrome
    folder: Path

    def look(self, name: str, theme: str = "light", width: int = 1280, media: str = "", script: bool = True) -> None:
        """Load a page, as somebody with this window and these preferences has it."""
        self.tell(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": theme}],
        )
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.tell("Emulation.setScriptExecutionDisabled", value=not script)
        self.driver.get("about:blank")  # so that an anchor of the last page is none of this one
        self.said()
        self.asked()
        self.driver.get((self.folder / f"{name}.html").as_uri())

    def tell(self, command: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def said(self) -> list[str]:
        """What the console has said since."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> list[str]:
        """The addresses that were asked for since, pages from files themselves left out."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [
            params["request"]["url"]
            for params in sent
            if params.get("type") != "Document" and not params["request"]["url"].startswith("data:")
        ]

    def printed(self) -> bytes:
        return base64.b64decode(self.tell("Page.printToPDF", printBackground=True)["data"])


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium, program = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not program:
        # Ubuntu has both as snaps only, which do not run everywhere.
        pytest.skip("this distribution has no packages chromium and chromium-driver")
    folder = tmp_path_factory.mktemp("pages")
    for name, gathered in (("small", sites.small()), ("sick", sites.sick()), ("large", sites.large())):
        (folder / f"{name}.html").write_text(page_of(site_of(gathered)), encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which root can't have
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(program))
    try:
        driver.set_page_load_timeout(60)
        driver.set_script_timeout(60)
        yield Browser(driver, folder)
    finally:
        driver.quit()
