"""Messages that are due: a task is done, a badge was reached, a prize was won.  Words are in plugin.toml."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tallystick.effects import Effect, Notify, Put
from tallystick.values import Text

from .settings import Draw, Prize, Settings, Task

_BADGE = "badge:"


class Teller:
    """Says what members hear, by the titles that the merchant gave."""

    def __init__(self, settings: Settings, language: str) -> None:
        self._badges, self._language = settings.badges, language

    def title(self, title: Text | None, name: str) -> str:
        """What something is called in the programme's language."""
        return (title.in_language(self._language) if title is not None else "") or name

    def of_task(self, task: Task, level: int, period: str) -> Notify:
        """A level of a task (or a round) was reached, or a quest is done."""
        facts = {"task": self.title(task.title, task.name), "level": level, "levels": task.levels}
        key = f"{task.name}/{period}/{level}"
        return Notify(rule=f"gamification.{task.name}", template="gamification.task_done", key=key, facts=facts)

    def of_badges(self, effects: Sequence[Effect]) -> Iterator[Notify]:
        """Badges among *effects* that were reached just now."""
        for effect in effects:
            if type(effect) is Put and effect.name.startswith(_BADGE) and effect.value and effect.value["on"]:
                name, level = effect.name.removeprefix(_BADGE), effect.value["level"]
                badge = self._badges.get(name)
                facts = {"badge": self.title(badge.title if badge is not None else None, name), "level": level}
                key = f"{name}/{level}"
                yield Notify(rule=effect.rule, template="gamification.badge", key=key, facts=facts)

    def of_prize(self, draw: Draw, prize: Prize, entry: str) -> Iterator[Notify]:
        """Something was won, and not nothing."""
        if prize.stock or prize.gives or prize.reward is not None:
            facts = {"draw": self.title(draw.title, draw.name), "prize": self.title(prize.title, prize.name)}
            yield Notify(rule=f"gamification.{draw.name}", template="gamification.prize", key=entry, facts=facts)
