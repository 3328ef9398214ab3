"""The look of our mail: readable in every colour and language, and nothing in it is taken for HTML."""

from __future__ import annotations

from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick_notify.gallery import all_mails
from tallystick_notify.letter import Brand, letter
from tallystick_notify.messages import Message
from tallystick_notify.settings import Settings
from tallystick_notify.wording import Wording

BRAND = Brand(name="Corner Shop", footer="1 Main Street\nSpringfield")


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@given(st.integers(0, 0xFFFFFF))
def test_the_name_can_be_read_on_every_colour(colour: int) -> None:
    """WCAG AA asks for 4.5 : 1."""
    brand = Brand(colour=f"#{colour:06x}")
    light, dark = sorted((luminance(brand.colour), luminance(brand.ink)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def read(document: str) -> Reader:
    found = Reader()
    found.feed(document)
    return found


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_whatever_the_words_are_the_document_has_the_same_parts(subject: str, text: str, name: str) -> None:
    plain = read(letter(Wording("a", "b"), "en", Brand(name="c")))
    hostile = read(
        letter(Wording(f"<b>{subject}", f"</p><script>{text}".replace("\n", " ")), "en", Brand(name=f"<i>{name}"))
    )
    assert [tag for tag in hostile.tags if tag != "p"] == [tag for tag in plain.tags if tag != "p"]


@pytest.mark.parametrize(
    "language, why, stop",
    [("en", "as a member of Corner Shop", "Unsubscribe"), ("zh-CN", "您是Corner Shop的会员", "退订")],
)
def test_the_reader_is_told_why_it_came_and_how_to_stop_it(language: str, why: str, stop: str) -> None:
    document = letter(Wording("Hi", "One.\n\nTwo."), language, BRAND, unsubscribe="https://club.example/u?a=1&b=2")
    assert why in read(document).words and stop in read(document).words and "Springfield" in document
    assert 'href="https://club.example/u?a=1&amp;b=2"' in document
    assert read(document).tags.count("p") == 2
    assert stop not in letter(Wording("Hi", "One."), language, BRAND)


def test_the_gallery_shows_every_message_in_each_language_light_and_dark() -> None:
    words = {"en": Wording("Hello {{ name }}", "Dear {{ name }}"), "zh": Wording("{{ name }}您好", "{{ wrong }}")}
    message = Message(facts=("name",), words=words, example={"name": "<Ann>"})
    page = all_mails(Settings(messages={"acme.hello": message}, brand=BRAND), ZoneInfo("UTC"))
    assert read(page).tags.count("iframe") == 2, "what cannot be said is said to be so"
    assert "is no fact of this message" in page
    assert "Hello &lt;Ann&gt;" in page and "<Ann>" not in page
