"""Surveys, quizzes and votes: answers that fit the questions, each member once.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import BadAnswer
from .settings import Form

KINDS = {"gamification.surveyed": "survey", "gamification.quizzed": "quiz", "gamification.voted": "vote"}


def form_row(name: str) -> str:
    """The own row that says that a member has answered."""
    return f"form:{name}"


def check_answers(form: Form, answers: Mapping[str, str]) -> None:
    """Raise BadAnswer unless every question is answered by one of its choices, and nothing else."""
    if set(answers) != set(form.questions):
        missing = sorted(set(form.questions) ^ set(answers))
        raise BadAnswer(
            f"expected answers to {', '.join(form.questions)}; {', '.join(missing)[:200]} differs",
            pointer="/data/answers",
        )
    for question, answer in answers.items():
        choices = form.questions[question]
        if choices and answer not in choices:
            raise BadAnswer(f"{question}: expected one of {', '.join(choices)}", pointer=f"/data/answers/{question}")


def right(form: Form, answers: Mapping[str, str]) -> int:
    """How many answers of a quiz are right."""
    return sum(answers.get(question) == answer for question, answer in form.solution.items())


def passed(form: Form, answers: Mapping[str, str]) -> bool:
    """Whether the answers give the reward: always, except of a quiz that was not passed."""
    return form.kind != "quiz" or right(form, answers) >= (form.passing or len(form.solution))
