# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as a document: it is whole, escapes what it shows, and asks for nothing. How it looks: tests/browser."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser.sites import AT, backend, balancer, large, sick, small, vip
from markupsafe import Markup

from ansible_collections.dsr.layer2.plugins.plugin_utils.report import drawing, page
from ansible_collections.dsr.layer2.plugins.plugin_utils.report.figures import clean, count, moment, percent, size
from ansible_collections.dsr.layer2.plugins.plugin_utils.report.model import Answer, Gathered, site_of

_VOID = {"meta", "link", "input", "br", "img"}


class Document(HTMLParser):
    """Holds every element to have its end, and knows what was in the document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def nothing() -> Gathered:
    return Gathered(AT, [Answer("lb1", problem="no route to host")])


def few() -> Gathered:
    return large(3)


SITES: list[Callable[[], Gathered]] = [nothing, small, sick, few]


@pytest.mark.parametrize("gathered", SITES)
def test_the_document_is_whole_and_asks_for_nothing(gathered: Callable[[], Gathered]) -> None:
    text = page.page_of(site_of(gathered()))
    assert not isinstance(text, Markup)  # which would escape what it is joined with
    document = Document(text)
    assert text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")
    assert document.tags.count("script") == document.tags.count("style") == document.tags.count("h1") == 1
    assert not {"img", "iframe", "object", "use", "image", "foreignobject", "base"} & set(document.tags)
    assert not [name for _unused, name, _unused in document.attributes if name.startswith("on") or name == "src"]
    targets = {value for _unused, name, value in document.attributes if name == "href"}
    assert all(value.startswith("#") for value in targets - {"data:,"})
    assert not re.search(r"https?:|//\w|@import|url\(", text)


def test_hostile_text_stays_text() -> None:
    text = page.page_of(site_of(sick()))
    assert "<script>window.hacked" not in text and "<img" not in text
    assert "&lt;script&gt;window.hacked = 1&lt;/script&gt;" in text
    assert "\x1b" not in text and "\u202e" not in text  # nor does it turn the rest around
    assert "{{ 7 * 7 }}" in text


def test_only_its_own_script_may_run() -> None:
    text = page.page_of(site_of(small()))
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert script and policy
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in policy[1]
    assert "default-src &#39;none&#39;" in policy[1]


def test_the_parts_of_the_page_are_there() -> None:
    for name in ("page.css", "page.js"):
        part = Path(page.__file__).with_name(name).read_text(encoding="utf-8")
        assert "</" not in part  # which would end the element that it is put into


def test_many_vips_are_folded_and_few_are_not() -> None:
    assert page.page_of(site_of(large(8, 4))).count('<details class="vip"') == 8
    assert page.page_of(site_of(large(8, 4))).count(" open><summary>") == 8
    assert page.page_of(site_of(large(9, 4))).count(" open><summary>") == 0
    assert '<body class="few">' in page.page_of(site_of(large(50, 4)))
    assert '<body class="many">' in page.page_of(site_of(large(51, 4)))
    assert len(page.page_of(site_of(large(1000, 8)))) < 6_000_000


@pytest.mark.parametrize(
    ("backends", "boxes", "dots"), [(1, 1, 0), (12, 12, 0), (13, 0, 13), (400, 0, 400), (401, 0, 0), (5000, 0, 0)]
)
def test_the_drawing_has_as_much_as_can_be_seen(backends: int, boxes: int, dots: int) -> None:
    rows = [backend(number % 199, address=f"10.0.{number // 250}.{number % 250}") for number in range(backends)]
    rows[0]["state"] = "drain"
    site = site_of(Gathered(AT, [balancer(vip(backends=rows))]))
    both = ElementTree.fromstring(f"<div>{drawing.drawings(site)}</div>")
    for picture in both:
        found = [element.get("class") for element in picture.iter()]
        titles = picture.findall("./title") + picture.findall("./desc")
        assert len(titles) == 2 and all(title.text for title in titles)
        assert found.count("box") == 1 + boxes  # and the load balancer's
        assert sum(element.tag == "g" for element in picture.iter()) == 1 + boxes + dots
        if not boxes:
            words = [element.text for element in picture.iter("text")]
            assert f"{backends - 1:,} up" in words and "1 draining" in words
        # Nothing is painted outside.
        width, height = map(float, str(picture.get("viewBox")).split()[2:])
        for element in picture.iter("rect"):
            x, y, across, down = (float(str(element.get(key))) for key in ("x", "y", "width", "height"))
            assert min(x, y) >= 0 and x + across <= width and y + down <= height


@pytest.mark.parametrize(("gathered", "kind"), [(small, "back"), (sick, "wrong"), (few, "untested")])
def test_the_way_back_is_drawn_as_it_was_found(gathered: Callable[[], Gathered], kind: str) -> None:
    drawn = str(drawing.drawings(site_of(gathered())))
    ways = re.findall(r'class="way (\w+)"', drawn)
    assert ways == ["there", "there", kind] * 2


def test_many_load_balancers_are_counted() -> None:
    answers = [balancer(vip(), host=f"lb{number}") for number in range(5)]
    assert "5 load balancers" in drawing.drawings(site_of(Gathered(AT, answers)))


def test_figures() -> None:
    assert [size(value) for value in (0, 999, 1000, 999_949, 999_960, 1.5e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "999.9 kB",
        "1.0 MB",
        "1.5 TB",
    ]
    assert (percent(None), percent(0.1234), count(1234567)) == ("–", "12.3 %", "1,234,567")
    assert moment(AT) == "2026-11-23 20:05:00 UTC"
    assert clean("a\nb\x1b\u202ec") == "a b  c" and len(clean("x" * 10_000)) == 600
