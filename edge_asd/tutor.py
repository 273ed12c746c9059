"""Lessons that a running daemon holds, out of what it hears anyway: a microphone may be open for one program only.

An order lies beside what was heard, in the machine's notebook: whatever becomes of the process, the next one goes on.
A clip counts when the ear was well from its first sample to its last, nothing of it was at full scale, and it is no
alarm of a head that was learned and committed before (:mod:`edge_asd.lesson`). What came of the lesson waits as the
candidate, and hears along (:mod:`edge_asd.school`). Bundles are opened and heads are fitted beside the loop.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from edge_asd.capture.source import SourceState
from edge_asd.deliver.command import Teaching
from edge_asd.deliver.payload import LessonStage, LessonState
from edge_asd.errand import Errand, Errands
from edge_asd.errors import UpdateRefused
from edge_asd.learn.notebook import Notebook, Order, Slots
from edge_asd.lesson import begin, coverage, propose

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from edge_asd.bundle import Opens
    from edge_asd.config import Config
    from edge_asd.deliver.command import Calibrate
    from edge_asd.deliver.payload import Proposal
    from edge_asd.deliver.publisher import Publisher
    from edge_asd.deliver.topic import Topics
    from edge_asd.lesson import Pupil
    from edge_asd.observe.clock import Clock
    from edge_asd.score.clip import ClipScore
    from edge_asd.score.part import Evidence
    from edge_asd.ward import Ward

log = logging.getLogger(__name__)

LOOK_S = 10.0
"""between two looks for orders: of a daemon before this one, or taken back meanwhile by a command that found none"""
GOING_ON = frozenset({LessonStage.BEGINNING, LessonStage.LISTENING, LessonStage.FITTING})
"""stages in which an order stands"""


class Speaker(Protocol):
    """The daemon, as far as lessons go."""

    clock: Clock
    publisher: Publisher

    def note(self, event: str, said: dict[str, Any]) -> None:
        """Write into the node's journal."""
        ...


@dataclass(slots=True)
class Course:
    """The lesson of one machine."""

    order: Order
    stage: LessonStage = LessonStage.BEGINNING
    pupil: Pupil | None = None
    reason: str = ""
    """why it was refused, or why the last clip does not count"""
    unfit: int = 0
    """clips of an ear that was not well"""
    astray: bool = False
    """another bundle's clips came than those it is for"""
    proposal: Proposal | None = None

    @property
    def minutes(self) -> float:
        """Of normal sound that counts."""
        return self.pupil.minutes if self.pupil else 0.0

    def hear(self, ward: Ward, evidence: Evidence, clip: ClipScore, day: int) -> None:
        """One clip, if it counts."""
        pupil = self.pupil
        if pupil is None or self.stage is not LessonStage.LISTENING:
            return
        if ward.digest != pupil.bundle.digest:
            self.astray = True
            self.reason = (
                "another model speaks than the one on the disk, which is to be taught; the lesson waits for it"
            )
        elif not ward.ear.fit(clip.start):
            self.unfit += 1
            self.reason = f"the source is {ward.ear.state}: {ward.ear.reason}"
        else:
            pupil.hear(evidence, day)
            self.reason = pupil.reason


@dataclass(slots=True)
class Tutor:
    """Runs in the daemon's loop."""

    config: Config
    opens: Opens
    wards: Collection[Ward]
    speaker: Speaker
    topics: Topics
    _courses: dict[str, Course] = field(default_factory=dict)
    _told: dict[str, tuple[object, ...]] = field(default_factory=dict)
    """what of each lesson was published last"""
    _slots: dict[str, Slots] = field(default_factory=dict)
    """of each machine, as they were seen last"""
    _look_at: float = float("-inf")
    _errands: Errands = field(default_factory=Errands)

    def close(self) -> None:
        """What was heard is kept for the next daemon."""
        for course in self._courses.values():
            if course.pupil and course.stage is LessonStage.LISTENING:
                with suppress(UpdateRefused):
                    course.pupil.save()
        self._errands.close()

    # What sound does

    @contextmanager
    def overhearing(self, ward: Ward) -> Iterator[list[Evidence]]:
        """What the clips that end meanwhile are judged by; nothing where nobody learns."""
        told: list[Evidence] = []
        course = self._courses.get(ward.name)
        if course is None or course.stage is not LessonStage.LISTENING:
            yield told
            return
        listener = ward.listener
        listener.overhear = told.append
        try:
            yield told
        finally:
            listener.overhear = None  # it may hear along with another model after this

    def hear(self, ward: Ward, told: Iterable[Evidence], clips: Iterable[ClipScore]) -> None:
        """Each clip with what it was judged by; nothing where nobody learns."""
        course = self._courses.get(ward.name)
        for evidence, clip in zip(told, clips, strict=False):
            if course:
                try:
                    course.hear(ward, evidence, clip, self.speaker.clock.wall().toordinal())
                except UpdateRefused as error:  # it is learned all the same, and kept when the disk works again
                    course.reason = str(error)
                except Exception as error:  # noqa: BLE001 - whatever a lesson does, the machine is heard
                    self._refusal(ward, course)(error)

    # What time does

    def attend(self) -> None:
        """Go on: errands that are back, orders that came or went, lessons that are over."""
        self._errands.attend()
        now = self.speaker.clock.monotonic()
        looks = now >= self._look_at
        self._look_at = now + LOOK_S if looks else self._look_at
        for ward in self.wards:
            if looks and self.config.state_dir:
                self._look(ward)
            course = self._courses.get(ward.name)
            if course and course.pupil and course.stage is LessonStage.LISTENING:
                self._go_on(ward, course, course.pupil)
            if course:
                self._tell_news(ward, course)

    def _look(self, ward: Ward) -> None:
        """Whether the order that stands is the one that is carried out."""
        course, order = self._courses.get(ward.name), None
        with suppress(UpdateRefused):  # what cannot be read is told to whoever asks
            order = self._notebook(ward).order()
            self._tell_slots(ward)
        if course and course.stage is LessonStage.FITTING:
            return
        if order and not (course and course.stage in GOING_ON):
            self._begin(ward, order)
        elif order is None and course and course.stage in GOING_ON:
            self._courses[ward.name] = Course(course.order, LessonStage.IDLE)

    def _go_on(self, ward: Ward, course: Course, pupil: Pupil) -> None:
        over = ward.ear.ended and not ward.queue.samples
        if course.minutes >= course.order.minutes or over:
            self._fit(ward, course, pupil)
        elif course.astray and not self._errands.busy:
            self._begin(ward, course.order, course.reason)

    def _begin(self, ward: Ward, order: Order, reason: str = "") -> None:
        """``reason``: why it must begin again."""
        course = self._courses[ward.name] = Course(order, reason=reason)

        def work() -> Pupil:
            return begin(self.config, ward.name, self.opens, order.add, alarms=order.alarms, every=order.every)

        def then(pupil: Pupil) -> None:
            if pupil.guard:
                pupil.guard.alarm = ward.alarm  # one that is active is none to be learned
            course.pupil = pupil
            if course.stage is LessonStage.BEGINNING:
                course.stage = LessonStage.LISTENING
                said = {"minutes": order.minutes, "add": order.add, "ordered_by": order.by}
                if not reason:
                    self._note("lesson_begins", ward, said)

        self._errands.send(Errand(f"begin to learn {ward.name}", work, then, self._refusal(ward, course)))

    def _fit(self, ward: Ward, course: Course, pupil: Pupil) -> None:
        course.stage, course.reason = LessonStage.FITTING, ""

        def work() -> Proposal:
            pupil.save()
            return propose(pupil, course.order.minutes)

        def then(proposal: Proposal) -> None:
            course.stage, course.proposal = LessonStage.DONE, proposal
            said = {"candidate": proposal.number, "clips": proposal.clips, "over": proposal.over}
            self._note("lesson_done", ward, said)

        self._errands.send(Errand(f"learn {ward.name}", work, then, self._refusal(ward, course)))

    def _refusal(self, ward: Ward, course: Course) -> Callable[[Exception], None]:
        def refuse(error: Exception) -> None:
            if self._courses.get(ward.name) is not course:  # it was given up meanwhile
                return
            course.stage, course.reason = LessonStage.REFUSED, str(error) or type(error).__name__
            with suppress(UpdateRefused):
                self._notebook(ward).drop_order()
            self._note("lesson_refused", ward, {"reason": str(error)})

        return refuse

    # What operators want

    def order(self, ward: Ward, request: Calibrate) -> LessonState:
        """Do what is wanted, or begin to; how it stands then.

        Raises:
            UpdateRefused: not now, or not like that.
        """
        match request.action:
            case Teaching.START:
                self._start(ward, request)
            case Teaching.PAUSE:
                self._stop(ward, LessonStage.PAUSED)
            case Teaching.ABORT:
                self._stop(ward, LessonStage.IDLE)
                self._notebook(ward).discard()
                self._courses.pop(ward.name, None)
            case Teaching.COMMIT:
                self._notebook(ward).commit()
            case Teaching.UNDO:
                self._notebook(ward).undo()
        stands = self._stands(ward)
        if request.action is not Teaching.STATUS:
            self._publish(ward, stands)
        return stands

    def _start(self, ward: Ward, request: Calibrate) -> None:
        notebook, course = self._notebook(ward), self._courses.get(ward.name)
        number = notebook.slots().last + 1
        order = Order(
            number=number,
            minutes=request.minutes,
            add=request.add,
            alarms=request.alarms,
            every=max(1, round(60 * request.over_hours / request.minutes)),
            by=request.by,
        )
        if course is None or course.stage not in GOING_ON:
            notebook.keep_order(order)
            self._begin(ward, order)
            return
        if course.order.what != order.what:
            what = f"operating point {course.order.add}" if course.order.add else "all anew"
            msg = f"add: a lesson goes on ({what}); let it end, or pause or abort it first"
            raise UpdateRefused(msg)
        if course.stage is not LessonStage.FITTING:
            notebook.keep_order(order)
            course.order = order
            if course.pupil:
                course.pupil.every = order.every

    def _stop(self, ward: Ward, stage: LessonStage) -> None:
        course = self._courses.get(ward.name)
        if course is None or course.stage not in GOING_ON:
            return
        if course.stage is LessonStage.FITTING:
            msg = "a head is being fitted to what was heard; wait until that is done"
            raise UpdateRefused(msg)
        if course.pupil:
            course.pupil.save()
        self._notebook(ward).drop_order()
        course.stage, course.reason = stage, ""

    # What is told

    def introduce(self) -> None:
        """Say again how it stands with each machine that was ever taught."""
        for ward in self.wards:
            if ward.name in self._courses or (self.config.state_dir and self._notebook(ward).folder.exists()):
                with suppress(UpdateRefused):
                    self._publish(ward, self._stands(ward))

    def _tell_news(self, ward: Ward, course: Course) -> None:
        if self._told.get(ward.name) != _news(ward, course):
            with suppress(UpdateRefused):
                self._publish(ward, self._stands(ward))

    def _tell_slots(self, ward: Ward) -> None:
        """What was committed or undone by a command beside the daemon."""
        slots = self._notebook(ward).slots()
        if slots != self._slots.setdefault(ward.name, slots):
            self._publish(ward, self._stands(ward))

    def _publish(self, ward: Ward, lesson: LessonState) -> None:
        if course := self._courses.get(ward.name):
            self._told[ward.name] = _news(ward, course)
        self._slots[ward.name] = self._notebook(ward).slots()
        self.speaker.publisher.publish(self.topics.lesson(lesson))

    def _stands(self, ward: Ward) -> LessonState:
        slots, course = self._notebook(ward).slots(), self._courses.get(ward.name)
        pupil = course.pupil if course else None
        return LessonState(
            node=self.topics.node,
            machine=ward.name,
            ts=self.speaker.clock.wall(),
            stage=course.stage if course else LessonStage.IDLE,
            said=_said(course),
            reason=_reason(course, ward) if course else None,
            minutes=course.minutes if course else 0.0,
            wanted_minutes=course.order.minutes if course else None,
            add=course.order.add if course else None,
            points_found=pupil.heard.found_points() if pupil else 0,
            unfit=(course.unfit if course else 0) + (pupil.clipped if pupil else 0),
            repeated=pupil.repeated if pupil else 0,
            strange=pupil.strange if pupil else 0,
            active=slots.active,
            previous=slots.previous,
            candidate=slots.candidate,
            proposal=course.proposal if course else None,
        )

    def _note(self, event: str, ward: Ward, said: dict[str, Any]) -> None:
        log.info(event.replace("_", "."), extra={"machine": ward.name} | said)
        self.speaker.note(event, {"machine": ward.name} | said)

    def _notebook(self, ward: Ward) -> Notebook:
        if self.config.state_dir is None:
            msg = "state_dir is off, so nothing that is learned can be kept; set it, and restart the node"
            raise UpdateRefused(msg)
        return Notebook.of(self.config.state_dir, ward.name)


def _news(ward: Ward, course: Course) -> tuple[object, ...]:
    """What is worth a word when it changes."""
    return course.stage, int(course.minutes), bool(course.reason), ward.ear.state, course.order.minutes


def _said(course: Course | None) -> str:
    if course is None:
        return "nobody teaches it"
    if course.pupil is None:
        return coverage(0, course.order.minutes, 0)
    return course.pupil.said(course.order.minutes)


def _reason(course: Course, ward: Ward) -> str | None:
    """A source that is silent or gone brings no clip that could say so."""
    if course.stage is LessonStage.LISTENING and ward.ear.state is not SourceState.OK:
        return f"the source is {ward.ear.state}: {ward.ear.reason}"
    return course.reason or None
