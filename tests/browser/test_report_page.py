# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of `report` in a real browser: small, sick and large sites, light and dark, a desk and a phone."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from .conftest import Browser

ENOUGH = 4.5  # of contrast, by WCAG 2.2 AA

# The texts that can be seen with too little contrast to what is behind them, each with its colours and the ratio, and
# how many texts there were. Behind a text of the drawing is what was painted there before it.
CONTRAST = """
const enough = arguments[0], canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const known = new Map();
const rgb = colour => {
  if (!known.has(colour)) {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
  }
  return known.get(colour);
};
const light = colour => {
  const linear = value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const [r, g, b] = rgb(colour).slice(0, 3).map(value => linear(value / 255));
  return .2126 * r + .7152 * g + .0722 * b;
};
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
const behind = element => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (rgb(colour)[3] === 255) return colour;
  }
  return "white";
};
const painted = text => {
  const box = text.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
  const shapes = [...text.ownerSVGElement.querySelectorAll("rect, circle")].filter(shape => {
    const b = shape.getBoundingClientRect();
    return shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING &&
      getComputedStyle(shape).fill !== "none" && b.x <= x && x <= b.right && b.y <= y && y <= b.bottom;
  });
  return shapes.length ? getComputedStyle(shapes.at(-1)).fill : behind(text.ownerSVGElement);
};
// Of very many rows a hundred are enough; what is folded is not seen.
const unseen = `script, title, desc, tr:nth-child(n+100), .vip:nth-of-type(n+100),
  details:not([open]) > :not(summary)`;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, node =>
  node instanceof Text ? NodeFilter.FILTER_ACCEPT :
  node.matches(unseen) || !node.checkVisibility() ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_SKIP);
const poor = [];
let count = 0;
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.data.trim()) continue;
  const style = getComputedStyle(element), drawn = element.ownerSVGElement;
  const [ink, ground] = drawn ? [style.fill, painted(element)] : [style.color, behind(element)];
  count += 1;
  if (ratio(ink, ground) < enough) poor.push([node.data.trim().slice(0, 40), ink, ground, ratio(ink, ground)]);
}
for (const input of document.querySelectorAll("input[placeholder]")) {
  const ink = getComputedStyle(input, "::placeholder").color;
  if (ratio(ink, behind(input)) < enough) poor.push(["placeholder", ink, behind(input), ratio(ink, behind(input))]);
}
return [poor.slice(0, 5), count, light(getComputedStyle(document.body).backgroundColor)];
"""

VISIBLE_ROWS = "return [...document.querySelectorAll('#overview tbody tr')].filter(row => row.checkVisibility()).length"
VISIBLE_VIPS = "return [...document.querySelectorAll('.vip')].filter(vip => !vip.hidden).length"
TYPE = """
const box = document.getElementById("filter"), started = performance.now();
box.value = arguments[0]; box.dispatchEvent(new Event("input")); document.body.getBoundingClientRect();
return performance.now() - started;
"""
OPEN_VIPS = "return document.querySelectorAll('.vip[open]').length"


CASES = [(name, theme, width) for name in ("small", "sick") for theme in ("light", "dark") for width in (360, 1280)]


@pytest.mark.parametrize(("name", "theme", "width"), [*CASES, ("large", "light", 1280), ("large", "dark", 360)])
def test_it_is_readable_and_asks_for_nothing(browser: Browser, name: str, theme: str, width: int) -> None:
    browser.look(name, theme, width)
    poor, count, ground = browser.run(CONTRAST, ENOUGH)
    assert not poor
    assert count > 60 and (ground < 0.1 if theme == "dark" else ground > 0.9)
    overflow = browser.run("return [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]")
    assert overflow == [min(overflow[0], width), min(overflow[1], width), width]
    drawn = browser.run("return [...document.querySelectorAll('figure svg')].filter(s => s.checkVisibility()).length")
    assert drawn == 1
    assert browser.said() == []
    assert browser.asked() == []


def test_nothing_that_a_stranger_wrote_becomes_part_of_it(browser: Browser) -> None:
    browser.look("sick")
    found = browser.run(
        "return [window.hacked ?? null, document.images.length, document.scripts.length, document.body.textContent]"
    )
    assert found[:3] == [None, 0, 1]
    assert "<script>window.hacked = 1</script>" in found[3] and "{{ 7 * 7 }}" in found[3] and "\u202e" not in found[3]
    # And if it did, the page's own policy would not let it run.
    browser.run(
        "const one = document.createElement('script'); one.textContent = 'hacked = 3'; document.body.append(one)"
    )
    assert browser.run("return window.hacked ?? null") is None
    assert any("Content Security Policy" in line for line in browser.said())


def test_structure(browser: Browser) -> None:
    """What a screen reader goes by."""
    browser.look("sick")
    assert browser.run("return document.querySelectorAll('h1').length") == 1
    assert browser.run("return [...document.querySelectorAll('th')].every(th => ['col', 'row'].includes(th.scope))")
    assert browser.run(
        "return [...document.querySelectorAll('svg')].every(s => s.querySelector('title') && s.querySelector('desc'))"
    )
    named = (
        "[...document.querySelectorAll('.scroll')].every(s => s.tabIndex === 0 && s.ariaLabel && s.role === 'region')"
    )
    assert browser.run(f"return {named}")
    ids = browser.run("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
    links = browser.run("return [...document.querySelectorAll('a')].map(a => a.getAttribute('href').slice(1))")
    assert links and set(links) <= set(ids)
    # A state is never a colour alone.
    assert browser.run("return [...document.querySelectorAll('.state')].every(s => s.textContent.trim().length > 1)")
    assert browser.run("return document.querySelectorAll('.state').length") > 15


def test_the_keyboard(browser: Browser) -> None:
    browser.look("large")
    body = browser.driver.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    skip = browser.driver.switch_to.active_element
    assert skip.text == "To the VIPs" and skip.location["x"] >= 0
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_filter_and_sort(browser: Browser) -> None:
    browser.look("large")
    said = browser.driver.find_element(By.ID, "found")
    for words, count in (
        ("service-0042", 1),
        ("SERVICE-00 round_robin", 25),
        ("203.0.1.7", 11),  # .7 and .70 to .79
        ("02:00:00:00:00:01", 36),  # of a backend
        ("nothing of the kind", 0),
    ):
        browser.run(TYPE, words)
        shown = browser.run(VISIBLE_ROWS)
        assert shown == browser.run(VISIBLE_VIPS)
        assert said.text == f"{shown:,} of 1,000 VIPs"
        assert shown == count
    browser.run(TYPE, " ")
    assert browser.run(VISIBLE_ROWS) == 1000 and said.text == ""

    browser.driver.find_element(By.ID, "trouble").click()
    assert browser.run(VISIBLE_ROWS) == browser.run(VISIBLE_VIPS) == 22  # 10 and 10, one without a backend, one differs
    browser.driver.find_element(By.ID, "trouble").click()

    column = "return [...document.querySelectorAll('#overview tbody tr')].map(row => Number(row.cells[8].dataset.n))"
    head = browser.driver.find_elements(By.CSS_SELECTOR, "#overview thead button")[8]
    head.click()
    packets = browser.run(column)
    assert packets == sorted(packets, reverse=True) and len(set(packets)) > 500
    assert browser.run("return document.querySelector('th[aria-sort]').ariaSort") == "descending"
    head.click()
    assert browser.run(column) == sorted(packets)


def test_how_long_it_takes(browser: Browser) -> None:
    """Generous limits: a page of a thousand VIPs has to be usable."""
    for name, seconds in (("small", 5), ("large", 20)):
        browser.look(name)
        times = browser.run("const n = performance.getEntriesByType('navigation')[0]; return n.loadEventEnd")
        size = (browser.folder / f"{name}.html").stat().st_size
        print(f"{name}: {size:,} bytes, {times:.0f} ms to load")
        assert times < seconds * 1000
        assert size < 8_000_000
    first, then = browser.run(TYPE, "service-0042"), browser.run(TYPE, "service-07")
    print(f"filter: {first:.0f} ms, then {then:.0f} ms")
    assert first < 5000 and then < 5000


def test_details_and_links(browser: Browser) -> None:
    browser.look("large")
    assert browser.run(OPEN_VIPS) == 0
    browser.driver.find_element(By.LINK_TEXT, "service-0600").click()  # the one of the news
    WebDriverWait(browser.driver, 20).until(lambda _unused: browser.run(OPEN_VIPS) == 1)
    row = browser.run("return document.querySelector('.vip[open] tbody tr').innerText")
    assert "unhealthy" in row and "timed out" in row
    summary = browser.driver.find_element(By.CSS_SELECTOR, ".vip[open] > summary")
    summary.send_keys(Keys.ENTER)
    assert browser.run(OPEN_VIPS) == 0
    browser.driver.find_element(By.ID, "filter").send_keys("service-000")
    browser.driver.find_element(By.ID, "open").click()
    assert browser.run(OPEN_VIPS) == 10  # those that are shown
    browser.driver.find_element(By.ID, "close").click()
    assert browser.run(OPEN_VIPS) == 0


@pytest.mark.parametrize("name", ["sick", "large"])
def test_it_needs_no_script(browser: Browser, name: str) -> None:
    browser.look(name, script=False)
    try:
        assert not browser.driver.find_element(By.CSS_SELECTOR, ".tools").is_displayed()
        assert browser.driver.find_element(By.ID, "overview").is_displayed()
        if name == "sick":
            assert "draining" in browser.driver.find_element(By.ID, "v1").text
            return
        body = browser.driver.find_element(By.ID, "v601")
        assert not body.is_displayed()
        browser.driver.find_element(By.LINK_TEXT, "service-0600").click()
        WebDriverWait(browser.driver, 20).until(lambda _unused: body.is_displayed())
        assert "timed out" in body.text
    finally:
        browser.tell("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("name", ["small", "sick", "large"])
def test_print(browser: Browser, name: str) -> None:
    """On white, without what only a screen has; whatever was folded is there, unless there are very many."""
    browser.look(name, "dark", media="print")
    browser.run("document.querySelectorAll('.vip').forEach(vip => { vip.open = false })")
    poor, _unused, ground = browser.run(CONTRAST, ENOUGH)
    assert not poor and ground > 0.99
    assert not browser.run("return document.querySelector('.tools')?.checkVisibility() ?? false")
    assert browser.run("return document.querySelector('.vip tbody td').checkVisibility()") is (name != "large")
    if name != "large":  # which takes its time
        document = browser.printed()
        assert document.startswith(b"%PDF-") and len(document) > 20_000
