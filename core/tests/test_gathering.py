"""Taking together what came: each key's in order, nobody's trouble is anybody else's."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.gathering import MOST, Gathering


def test_what_comes_during_a_call_is_the_next_call() -> None:
    entered, go, sizes = threading.Event(), threading.Event(), []

    def take(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        entered.set()
        go.wait()
        return [item * 2 for item in items]

    async def run() -> list[int]:
        gathering = Gathering(take)
        first = asyncio.create_task(gathering.answer("first", 0))
        await asyncio.to_thread(entered.wait)
        others = [asyncio.create_task(gathering.answer(n, n)) for n in range(1, 41)]
        await asyncio.sleep(0)
        go.set()
        return [await task for task in (first, *others)]

    assert asyncio.run(run()) == [n * 2 for n in range(41)]
    assert sizes == [1, 40]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["now", "later", "no", "break"])), max_size=40))
def test_each_keys_are_answered_in_their_order_and_one_at_a_time(came: list[tuple[int, str]]) -> None:
    order: list[tuple[int, int]] = []
    under_way: set[int] = set()

    def done(future: Future[int], key: int, place: int) -> None:
        under_way.discard(key)
        future.set_result(place)

    def take(items: Sequence[tuple[int, str, int]]) -> list[object]:
        keys = [key for key, _, _ in items]
        assert len({*keys}) == len(keys) and not under_way & {*keys}
        if len(items) > 1 and any(how == "break" for _, how, _ in items):
            raise ZeroDivisionError
        return [answer(*item) for item in items]

    def answer(key: int, how: str, place: int) -> object:
        order.append((key, place))
        match how:
            case "later":
                future: Future[int] = Future()
                under_way.add(key)
                threading.Timer(0.001, done, (future, key, place)).start()
                return future
            case "now":
                return place
            case "no":
                return LookupError(place)
        raise ZeroDivisionError

    async def run() -> list[object]:
        gathering = Gathering(take)
        asked = [gathering.answer(key, (key, how, place)) for place, (key, how) in enumerate(came)]
        return await asyncio.gather(*asked, return_exceptions=True)

    for place, (answer, (_, how)) in enumerate(zip(asyncio.run(run()), came, strict=True)):
        kind = {"no": LookupError, "break": ZeroDivisionError}.get(how, int)
        assert isinstance(answer, kind) and (kind is not int or answer == place)
    for key in range(5):
        places = [place for each, place in order if each == key]
        assert places == sorted(places)


def test_who_gives_up_keeps_nobody_waiting() -> None:
    go = threading.Event()

    def take(items: Sequence[int]) -> Sequence[int]:
        go.wait()
        return items

    async def run() -> int:
        gathering = Gathering(take)
        gone = asyncio.create_task(gathering.answer("a", 1))
        await asyncio.sleep(0)
        stays = asyncio.create_task(gathering.answer("a", 2))
        await asyncio.sleep(0)
        gone.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await gone
        found: int = await stays
        return found

    assert asyncio.run(run()) == 2


@pytest.mark.parametrize("most", [MOST, 8])
def test_a_call_takes_so_many_and_no_more(most: int) -> None:
    sizes = []

    def take(items: Sequence[int]) -> Sequence[int]:
        sizes.append(len(items))
        return items

    async def run() -> None:
        gathering = Gathering(take, most)
        await asyncio.gather(*(gathering.answer(n, n) for n in range(most + 5)))

    asyncio.run(run())
    assert sizes == [most, 5]


def test_a_gathering_serves_one_loop_after_the_other() -> None:
    gathering: Gathering[int] = Gathering(lambda items: items)
    assert [asyncio.run(gathering.answer("a", n)) for n in range(2)] == [0, 1]
