"""The two gates of the house: `admit` before anything is made, `screen` before it is shown."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from threading import Lock, Thread

import numpy as np

from webui.clearance import NO_TEXTS, Admitted, Cleared, Discarded, Region, Texts
from webui.errors import BrokenFileError, GuardError, RefusedError
from webui.generator import Session
from webui.levels import LEVELS, STRICT, Level, as_level, lowest
from webui.request import GenerationRequest, LoraChoice, pictures_of
from webui.safety import pictures, selftest
from webui.safety.audit_facts import buckets
from webui.safety.ceilings import Ceiling, effective, notice
from webui.safety.classifiers import Classifiers
from webui.safety.detector import Detector, NudeNet
from webui.safety.operator import Policy
from webui.safety.policy import (
    Cue,
    Scores,
    prompt_ceiling,
    refuses,
    withholds,
)
from webui.safety.prompts import Lexicon, has_negative_weight
from webui.standing import CeilingKind

REFUSED = "This request was refused by the safety check; change what it asks for and try again."
"""The one answer to every refusal: it names no rule, score or word."""

BROUGHT_REFUSED = "A picture that was brought in was refused by the safety check: choose another."
"""The one answer to a picture that may not be worked on."""

Look = Callable[[pictures.Picture], pictures.PictureViews]
Ceilings = Callable[[Session], Sequence[Ceiling]]
"""What holds a session's jobs down, whatever they ask for: `webui.safety.gate.Gate.ceilings`."""

_CLOTHING: frozenset[Cue] = frozenset({"clothing"})
_TIME_LIMIT = 10.0
_SELF_TEST_EVERY = 3600.0
_PASSES_REMEMBERED = 1_000
_TEXTS_REMEMBERED = 2_000

_log = logging.getLogger(__name__)


def _strict_for_all(session: Session) -> Sequence[Ceiling]:
    return (Ceiling("asked", session.level), Ceiling("operator", STRICT))


class Guard:
    """Decides on requests and pictures. One for each engine; safe to use from several threads."""

    def __init__(
        self,
        detector: Detector,
        lexicon: Lexicon,
        classifiers: Classifiers | None = None,
        *,
        ceilings: Ceilings = _strict_for_all,
        policy: Callable[[], Policy] = Policy,
        self_test: Callable[[Detector, Lexicon], None] = selftest.check,
        clock: Callable[[], float] = time.monotonic,
        time_limit: float = _TIME_LIMIT,
    ) -> None:
        """Without `ceilings` everybody is held at the strict level.

        Args:
            ceilings: What holds a session down.
            policy: The operator's settings as they are now.
            time_limit: How many seconds the check of one picture may take.
        """
        self._detector = detector
        self._lexicon = lexicon
        self._ceilings = ceilings
        self._policy = policy
        self._classifiers = Classifiers() if classifiers is None else classifiers
        # A picture's texts are judged again before it goes out, and most are those of others.
        self._cues_of = lru_cache(_TEXTS_REMEMBERED)(
            partial(lexicon.cues, judge=self._classifiers.read)
        )
        self._self_test = self_test
        self._clock = clock
        self._time_limit = time_limit
        self._tested_at: float | None = None
        self._testing = Lock()
        self._passed: OrderedDict[tuple[str, Level, Region | None, str], None] = OrderedDict()
        self._remembering = Lock()

    @staticmethod
    def load(*, threads: int = 1) -> Guard:
        """The guard with the shipped word lists and the embedded detector, tested.

        Args:
            threads: How many threads the detector computes with.

        Raises:
            GuardError: A guard is missing or does not work; nothing can be made without it.
        """
        guard = Guard(NudeNet.load(threads=threads), Lexicon.load())
        guard.keep_healthy()
        return guard

    def keep_healthy(self) -> None:
        """Runs the self-test when the last good one is an hour old.

        Raises:
            GuardError: The self-test failed; it is run again on the next use.
        """
        with self._testing:
            now = self._clock()
            if self._tested_at is not None and 0 <= now - self._tested_at < _SELF_TEST_EVERY:
                return
            try:
                self._self_test(self._detector, self._lexicon)
                self._classifiers.check()
            except Exception as error:
                raise GuardError(
                    "The safety check does not work as it should, so nothing is made; run"
                    " `python launch.py setup` and start again."
                ) from error
            self._tested_at = now

    def admit(
        self,
        request: GenerationRequest,
        session: Session,
        *,
        tainted: bool = False,
        texts: Texts = NO_TEXTS,
    ) -> Admitted:
        """Lets a request in, at the level it may run at.

        Its own two texts are judged as they stand, with all that they may become, and so is
        everything that they do become: prompt editing, alternation, what `AND` joins and what is
        drawn, of all pictures together.

        Args:
            texts: What they become.
            tainted: Whether a picture or a model that is not known to be this installation's own
                would have a part in it.

        Raises:
            RefusedError: The request asks for what the filter does not allow; or a picture would
                be painted over at a stricter level than was asked for.
            GuardError: A guard does not work.
        """
        self.keep_healthy()
        cues = self._cues(request, _with_own(request, texts))
        level, held_by = self._level(session, cues, tainted=tainted)
        brings_picture = _brings_picture(request)
        if refuses(cues, level, brings_picture=brings_picture):
            raise RefusedError(REFUSED)
        if held_by is not None and request.mask is not None:
            raise RefusedError(notice(held_by), field="mask")
        notices = () if held_by is None else (notice(held_by),)
        return Admitted(request, session, level, notices, held_by, tainted, texts)

    def readmit(self, admitted: Admitted) -> Admitted:
        """The request at the level that it may run at by now, which is never a higher one.

        Raises:
            RefusedError: The level has fallen below what it asks for.
            GuardError: A guard does not work.
        """
        now = self.admit(
            admitted.request, admitted.session, tainted=admitted.tainted, texts=admitted.texts
        )
        return replace(now, level=lowest(now.level, admitted.level))

    def check_decoded(
        self, admitted: Admitted, decoded: Texts, *, loras: Sequence[str] = ()
    ) -> None:
        """The rules of `admit` once more on what the tokenizer made of the texts.

        Args:
            admitted: The request; its weights and its CFG count, its texts do not.
            decoded: The texts decoded from the token ids.
            loras: Names of the files of the LoRAs that have an effect, in the request's order: it
                may call them by other names.

        Raises:
            RefusedError: Decoded, the prompt asks for what the filter does not allow.
            GuardError: A guard does not work.
        """
        request = admitted.request
        cues = self._cues(request, decoded, _with_own(request, admitted.texts), loras)
        # What would have lowered the level and was not seen before is seen too late to do so.
        too_late = prompt_ceiling(cues) < admitted.level
        if too_late or refuses(cues, admitted.level, brings_picture=_brings_picture(request)):
            raise RefusedError(REFUSED)

    def check_brought(
        self, data: bytes, level: Level, *, field: str, region: Region | None = None
    ) -> None:
        """Passes a picture that a job begins from or is steered by.

        What has passed is not looked at again while the process lives and the policy is the same.

        Args:
            data: A whole PNG file, as the shelf of pictures brought in keeps it.
            level: Level of the job, which is strict with any picture from outside.
            field: The request's field that names the picture.
            region: The part that is to be painted anew, to be judged as a picture of its own.

        Raises:
            RefusedError: It did not pass, or could not be judged in time.
        """
        level = as_level(level)
        known = hashlib.sha256(data).hexdigest(), level, region, self._policy().digest
        with self._remembering:
            if known in self._passed:
                self._passed.move_to_end(known)
                return
        views = pictures.all_views if region is None else pictures.views_of(region)
        if not self._passes(views, data, level):
            raise RefusedError(BROUGHT_REFUSED, field=field)
        with self._remembering:
            self._passed[known] = None
            while len(self._passed) > _PASSES_REMEMBERED:
                self._passed.popitem(last=False)

    def screen(
        self, data: bytes, level: Level, region: Region | None = None
    ) -> Cleared | Discarded:
        """Clears a picture if nothing in the pixels of exactly these bytes is over the level.

        Whatever goes wrong, and a check that takes too long, discards it.

        Args:
            data: A whole PNG or JPEG file, as it will be saved or sent.
            level: Level of the job; one that is none is strict.
            region: The part that was painted anew, if not all was; it is also judged as its own
                picture.
        """
        level = as_level(level)
        views = pictures.all_views if region is None else pictures.views_with(region)
        scores = self._in_time(lambda: self._scores(views, data))
        if scores is None:
            return Discarded(level, "guard")
        if self._withholds(scores, level):
            return Discarded(level, "picture", buckets(scores))
        return Cleared(data, level)

    def screen_preview(self, data: bytes, level: Level, *, mosaic: bool = False) -> Cleared:
        """A small frame as it is if it passes the strict thresholds, a coarse mosaic otherwise.

        Never raises; bytes that are no picture become a grey one.

        Args:
            data: A whole PNG or JPEG file.
            level: Level of the job. Frames are judged as strict at every level.
            mosaic: Whether it becomes a mosaic in any case.
        """
        passed = not mosaic and self._passes(pictures.whole_view, data, STRICT)
        return Cleared(data if passed else _mosaic(data), as_level(level))

    def mosaics(self, session: Session) -> bool:
        """Whether the session sees pictures in the making as mosaics only."""
        return session.remote or self._policy().mosaic_previews

    def _cues(
        self,
        request: GenerationRequest,
        texts: Texts,
        weighted: Texts | None = None,
        files: Sequence[str] = (),
    ) -> frozenset[Cue]:
        """What the texts ask for: a negative prompt counts where it can act as a positive.

        `weighted` are the texts with their weights, where `texts` are without.
        """
        # A LoRA's name says what it draws as a word in the prompt does.
        rows = [lora for lora in request.loras if lora.has_effect]
        named = [*((lora, lora.name) for lora in rows), *zip(rows, files, strict=False)]
        wanted = [*texts.prompts, *(name for _, name in named)]
        unwanted = [*texts.negative_prompts, *(name for lora, name in named if _steers_away(lora))]
        written = texts if weighted is None else weighted
        # One that is still open may turn out to be 1.
        unguided = request.cfg is None or request.cfg <= 1
        if unguided or any(map(has_negative_weight, written.negative_prompts)):
            wanted += texts.negative_prompts
        if any(map(has_negative_weight, written.prompts)):
            unwanted += texts.prompts
        cues = frozenset[Cue]().union(*map(self._cues_of, wanted))
        avoided = frozenset[Cue]().union(*map(self._cues_of, unwanted))
        return (cues - _CLOTHING) | (avoided & _CLOTHING)

    def _level(
        self, session: Session, cues: frozenset[Cue], *, tainted: bool
    ) -> tuple[Level, CeilingKind | None]:
        """The level of a job, and what holds it below the one that was asked for."""
        own = (
            Ceiling("taint", STRICT if tainted else LEVELS[-1]),
            Ceiling("prompt", prompt_ceiling(cues)),
        )
        return effective((*self._ceilings(session), *own))

    def _scores(self, views: Look, data: bytes) -> Scores:
        self.keep_healthy()
        seen = views(pictures.decode(data))
        return pictures.worst_scores(self._detector, self._classifiers, seen)

    def _withholds(self, scores: Scores, level: Level) -> bool:
        return withholds(scores, level, self._policy().thresholds)

    def _passes(self, views: Look, data: bytes, level: Level) -> bool:
        scores = self._in_time(lambda: self._scores(views, data))
        return scores is not None and not self._withholds(scores, level)

    def _in_time(self, judge: Callable[[], Scores]) -> Scores | None:
        """What was seen; `None` when the time was over or something went wrong."""
        seen: list[Scores] = []
        deadline = time.monotonic() + self._time_limit

        def run() -> None:
            try:
                scores = judge()
                # Whoever waits may wake up late: what came too late is too late all the same.
                if time.monotonic() <= deadline:
                    seen.append(scores)
            except Exception:  # noqa: BLE001
                # Nothing may turn a failing check into a picture that is shown.
                _log.exception("The picture check failed, so the picture does not pass.")

        # A daemon, because a network that hangs must not keep the process from ending.
        thread = Thread(target=run, name="picture check", daemon=True)
        thread.start()
        thread.join(self._time_limit)
        return seen[0] if seen else None


def _with_own(request: GenerationRequest, texts: Texts) -> Texts:
    """The texts, behind the request's own."""
    own = Texts((request.prompt,), (request.negative_prompt,))
    return Texts(*(tuple(dict.fromkeys((*a, *b))) for a, b in zip(own, texts, strict=True)))


def _brings_picture(request: GenerationRequest) -> bool:
    return bool(pictures_of(request))


def _steers_away(lora: LoraChoice) -> bool:
    """Whether a LoRA takes away from the picture what it was trained on."""
    return lora.weight < 0 or (lora.text_encoder_weight or 0) < 0


def _mosaic(data: bytes) -> bytes:
    try:
        picture = pictures.decode(data)
    except BrokenFileError:
        picture = np.full((pictures.MOSAIC, pictures.MOSAIC, 3), 128, np.uint8)
    return pictures.encode_jpeg(pictures.mosaic(picture))
