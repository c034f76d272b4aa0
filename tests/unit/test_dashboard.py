"""The dashboard's files as they are served: to anybody, typed, checked again each time, and fenced in."""

import re
from pathlib import PurePosixPath

import httpx2
import pytest
from fastapi import FastAPI

from hub.api.dashboard import GREETING, POLICY, TYPES, WEB, dashboard_router
from hub.api.errors import install_error_handlers

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FILES = sorted(file.relative_to(WEB).as_posix() for file in WEB.rglob("*") if file.is_file())
MODULES = {name for name in FILES if name.endswith(".js") and name not in ("main.js", "theme.js")}
MOST_BYTES = 200_000
"""All files together: what a phone on a bad line can bear."""


async def ask(path: str, method: str = "GET", **headers: str) -> httpx2.Response:
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(dashboard_router())
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://hub") as client:
        return await client.request(method, path, headers=named)


@pytest.mark.parametrize("name", FILES)
async def test_each_file_has_its_type_and_the_fence(name: str) -> None:
    answer = await ask(f"/dashboard/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TYPES[PurePosixPath(name).suffix]
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_a_file_that_is_the_same_is_not_sent_again() -> None:
    first = await ask("/dashboard/main.js")
    again = await ask("/dashboard/main.js", if_none_match=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"


async def test_browsers_get_the_page_and_programs_the_greeting() -> None:
    page, greeting = await ask("/", **BROWSER), await ask("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY
    assert greeting.text == GREETING
    assert page.headers["vary"] == greeting.headers["vary"] == "accept"


async def test_whether_anybody_is_there_can_be_asked_without_a_body() -> None:
    for headers in ({}, BROWSER):
        head = await ask("/", "HEAD", **headers)
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "name", ["", "nothing.js", "../app.py", "..%2fapp.py", "%2e%2e/app.py", "views", "style/", "a\0.js"]
)
async def test_nothing_else_is_served(name: str) -> None:
    answer = await ask(f"/dashboard/{name.replace(chr(0), '%00')}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"]


async def test_nothing_is_put_there() -> None:
    assert (await ask("/dashboard/main.js", "PUT")).status_code == 405


def test_the_page_fetches_every_module_at_once() -> None:
    page = (WEB / "index.html").read_text()
    assert set(re.findall(r'rel="modulepreload" href="/dashboard/([^"]+)"', page)) == MODULES


def test_nothing_comes_from_elsewhere_and_no_markup_is_made_of_text() -> None:
    for name in FILES:
        text = (WEB / name).read_text()
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            name
        )
        assert not re.findall(r"(?:src|href)=\"(?:https?:)?//|url\(|@import", text), name


def test_it_is_small() -> None:
    assert sum((WEB / name).stat().st_size for name in FILES) < MOST_BYTES
