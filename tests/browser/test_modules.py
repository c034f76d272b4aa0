"""The page's own small libraries, run where they live: its patches, its parser of events, its charts' reckoning."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.doubles.hub import HubDouble
from tests.doubles.hub_state import grid

APPENDIX_A = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ({"a": 1}, {"__proto__": {"x": 1}, "constructor": 2}, {"a": 1, "__proto__": {"x": 1}, "constructor": 2}),
]
"""RFC 7396, appendix A, and a name that is none of a person's."""
STREAM = (
    '\ufeff: hello\n\nevent: one\ndata: a\ndata:b\ndata\n\r\ndata: {"x": "é€🙂"}\r\rid: 7\n\nevent: none\n\n'
    "retry: 5\ndata:  two blanks\n\ndata: cut off"
)
EVENTS = [["one", "a\nb\n"], ["message", '{"x": "é€🙂"}'], ["message", " two blanks"]]
PARSE = """async (pieces) => {
  const { readEvents } = await import('/dashboard/data/sse.js');
  const heard = [], comments = [];
  const body = new ReadableStream({
    start(to) { pieces.forEach((one) => to.enqueue(new Uint8Array(one))); to.close(); },
  });
  await readEvents(body, { onEvent: (...event) => heard.push(event), onComment: (text) => comments.push(text) });
  return [heard, comments];
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with HubDouble(grid(1, 0)).served() as hub:
        page = browser.new_page()
        page.goto(hub.url)
        yield page
        page.close()


@pytest.mark.parametrize(("target", "patch", "after"), APPENDIX_A)
def test_a_patch_does_what_its_standard_says_and_leaves_the_former_state(
    page: Page, target: Any, patch: Any, after: Any
) -> None:
    told = page.evaluate(
        """async ([target, patch]) => {
          const { merged } = await import('/dashboard/data/patch.js');
          const before = JSON.parse(target);
          return [JSON.stringify(merged(before, JSON.parse(patch))), JSON.stringify(before)];
        }""",
        [json.dumps(target), json.dumps(patch)],
    )
    assert [json.loads(one) for one in told] == [after, target]


def test_what_a_patch_does_not_touch_stays_the_same_object(page: Page) -> None:
    told = page.evaluate(
        """async () => {
          const { merged } = await import('/dashboard/data/patch.js');
          const before = merged(undefined, { nodes: { a: { state: 'idle', gpus: [] }, b: {} }, models: { m: {} } });
          const after = merged(before, { nodes: { a: { state: 'busy' } } });
          return [after === before, after.models === before.models, after.nodes.b === before.nodes.b,
                  after.nodes.a === before.nodes.a, after.nodes.a.gpus === before.nodes.a.gpus,
                  merged(before, { nodes: { a: { state: 'idle' } } }) === before];
        }"""
    )
    assert told == [False, True, True, False, True, True]


def test_events_are_the_same_wherever_the_stream_is_cut(page: Page) -> None:
    raw = list(STREAM.encode())
    cuts = [[raw], [[byte] for byte in raw], *([raw[:at], raw[at:]] for at in range(1, len(raw)))]
    told = page.evaluate(f"cuts => Promise.all(cuts.map({PARSE}))", cuts)
    assert all(heard == EVENTS and comments == ["hello"] for heard, comments in told)


def test_an_axis_ends_at_a_round_number_and_lines_have_gaps(page: Page) -> None:
    told = page.evaluate(
        """async () => {
          const { niceTop, runsOf } = await import('/dashboard/parts/scales.js');
          const runs = runsOf([null, 1, 2, null, 0, undefined]).map((run) => run.map(({ place }) => place));
          return [[0, 1, 3, 7, 10, 735, 1001].map(niceTop), runs];
        }"""
    )
    assert told == [[1, 1, 4, 8, 10, 800, 2000], [[1, 2], [4]]]


def test_elements_take_no_markup_no_scripts_and_no_links_elsewhere(page: Page) -> None:
    told = page.evaluate(
        """async () => {
          const { h } = await import('/dashboard/parts/dom.js');
          const refused = [
            { onclick: 'x' }, { href: 'javascript:x' }, { href: '//evil' }, { srcdoc: 'x' }, { style: 'x' },
          ];
          const made = h('p', { title: '<b>' }, '<img src=x>');
          const isRefused = (one) => { try { h('a', one); return false; } catch { return true; } };
          return [[made.childNodes.length, made.firstChild.data, made.title], refused.map(isRefused)];
        }"""
    )
    assert told == [[1, "<img src=x>", "<b>"], [True] * 5]
