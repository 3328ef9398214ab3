"""Takes together what came while the last was taken, as the writer does with events, for any function that takes many."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

#: What one call takes at most.
MOST: Final = 256


class Gathering(Generic[T]):
    """Hands what comes to one function, in a thread and one call at a time; no timer, no fixed size.

    A call gets at most *most* of them, one of each key, and none of a key whose last one is not answered yet: each key's are answered in
    their order.  The function returns for each its answer, an exception, or a future of either for what takes longer.  A
    call that fails as a whole is made again for each alone, so that the culprit stands alone.
    """

    def __init__(self, take: Callable[[Sequence[T]], Sequence[Any]], most: int = MOST) -> None:
        self._take, self._most = take, most
        self._lines: dict[Hashable, deque[tuple[T, asyncio.Future[Any]]]] = {}
        self._ready: deque[Hashable] = deque()  # keys of which one may be taken
        self._running: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def answer(self, key: Hashable, item: T) -> Any:
        """What comes of *item*.  Raises what was its answer, if that was an exception."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # what another loop left behind is waited for by nobody
            self._lines, self._ready, self._running, self._loop = {}, deque(), None, loop
        future: asyncio.Future[Any] = loop.create_future()
        line = self._lines.setdefault(key, deque())
        line.append((item, future))
        if len(line) == 1:
            self._wake(key)
        return await future

    def _wake(self, key: Hashable) -> None:
        assert self._loop is not None
        self._ready.append(key)
        if self._running is None:
            self._running = self._loop.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._ready:
            keys = [self._ready.popleft() for _ in range(min(len(self._ready), self._most))]
            items = [self._lines[key][0][0] for key in keys]
            answers = await loop.run_in_executor(None, self._patiently, items)
            for key, answer in zip(keys, answers, strict=True):
                if isinstance(answer, concurrent.futures.Future):
                    asyncio.wrap_future(answer, loop=loop).add_done_callback(partial(self._later, key))
                else:
                    self._answered(key, answer)
        self._running = None

    def _patiently(self, items: Sequence[T]) -> Sequence[Any]:
        try:
            return self._take(items)
        except Exception as error:  # noqa: BLE001  whoever asked hears of it
            return [error] if len(items) == 1 else [each for item in items for each in self._patiently([item])]

    def _later(self, key: Hashable, done: asyncio.Future[Any]) -> None:
        error = Unanswered() if done.cancelled() else done.exception()
        self._answered(key, done.result() if error is None else error)

    def _answered(self, key: Hashable, answer: Any) -> None:
        line = self._lines[key]
        _, future = line.popleft()
        if not future.done():  # whoever asked may have gone
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if line:
            self._wake(key)
        else:
            del self._lines[key]


class Unanswered(Exception):
    """What was to be answered later was given up."""
