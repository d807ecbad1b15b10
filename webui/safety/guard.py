"""The two gates of the house: `admit` before anything is made, `screen` before it is shown."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock, Thread

import numpy as np

from webui.clearance import Admitted, Cleared, Discarded, Region
from webui.errors import BrokenFileError, GuardError, RefusedError
from webui.generator import Session
from webui.levels import LEVELS, STRICT, Level, as_level, lowest
from webui.request import GenerationRequest, pictures_of
from webui.safety import pictures, selftest
from webui.safety.classifiers import Classifiers
from webui.safety.detector import Detector, NudeNet
from webui.safety.policy import (
    Cue,
    GuardName,
    highest_level,
    prompt_ceiling,
    refuses,
    withholds,
)
from webui.safety.prompts import Lexicon, has_negative_weight

REFUSED = "This request was refused by the safety check; change what it asks for and try again."
"""The one answer to every refusal: it names no rule, score or word."""

BROUGHT_REFUSED = "A picture that was brought in was refused by the safety check: choose another."
"""The one answer to a picture that may not be worked on."""

_LOADED: frozenset[GuardName] = frozenset({"detector", "words"})
_CLOTHING: frozenset[Cue] = frozenset({"clothing"})
_TIME_LIMIT = 10.0
_SELF_TEST_EVERY = 3600.0
_PASSES_REMEMBERED = 1_000

_log = logging.getLogger(__name__)


class Guard:
    """Decides on requests and pictures. One for each engine; safe to use from several threads."""

    def __init__(
        self,
        detector: Detector,
        lexicon: Lexicon,
        classifiers: Classifiers | None = None,
        *,
        self_test: Callable[[Detector, Lexicon], None] = selftest.check,
        clock: Callable[[], float] = time.monotonic,
        time_limit: float = _TIME_LIMIT,
    ) -> None:
        """`time_limit` is how many seconds the check of one picture may take."""
        self._detector = detector
        self._lexicon = lexicon
        self._classifiers = Classifiers() if classifiers is None else classifiers
        self._self_test = self_test
        self._clock = clock
        self._time_limit = time_limit
        self._tested_at: float | None = None
        self._testing = Lock()
        self._passed: OrderedDict[tuple[str, Region | None], None] = OrderedDict()
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

    def admit(self, request: GenerationRequest, session: Session) -> Admitted:
        """Lets a request in, at the level it may run at.

        Raises:
            RefusedError: The request asks for what the filter does not allow.
            GuardError: A guard does not work.
        """
        self.keep_healthy()
        cues = self._cues(request, request.prompt, request.negative_prompt)
        brings_picture = _brings_picture(request)
        level = _level(cues, brings_picture=brings_picture)
        if refuses(cues, level, brings_picture=brings_picture):
            raise RefusedError(REFUSED)
        return Admitted(request, session, level)

    def check_decoded(self, admitted: Admitted, prompt: str, negative_prompt: str = "") -> None:
        """The rules of `admit` once more on what the tokenizer made of the two prompts.

        Args:
            admitted: The request; its weights and its CFG count, its texts do not.
            prompt: The text decoded from the token ids.
            negative_prompt: The same of the negative prompt.

        Raises:
            RefusedError: Decoded, the prompt asks for what the filter does not allow.
            GuardError: A guard does not work.
        """
        request = admitted.request
        cues = self._cues(request, prompt, negative_prompt)
        if refuses(cues, admitted.level, brings_picture=_brings_picture(request)):
            raise RefusedError(REFUSED)

    def check_brought(self, data: bytes, *, field: str, region: Region | None = None) -> None:
        """Passes a picture that was brought in, judged as strict whatever the job's level is.

        What has passed is not looked at again while the process lives.

        Args:
            data: A whole PNG file, as the shelf of pictures brought in keeps it.
            field: The request's field that names the picture.
            region: The part that is to be painted anew, to be judged as a picture of its own.

        Raises:
            RefusedError: It did not pass, or could not be judged in time.
        """
        known = hashlib.sha256(data).hexdigest(), region
        with self._remembering:
            if known in self._passed:
                self._passed.move_to_end(known)
                return
        views = pictures.all_views if region is None else pictures.views_of(region)
        if not self._in_time(lambda: self._passes(views, data, STRICT)):
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
        passed = self._in_time(lambda: self._passes(views, data, level))
        return Cleared(data, level) if passed else Discarded(level)

    def screen_preview(self, data: bytes, level: Level) -> Cleared:
        """A small frame as it is if it passes the strict thresholds, a coarse mosaic otherwise.

        Never raises; bytes that are no picture become a grey one.

        Args:
            data: A whole PNG or JPEG file.
            level: Level of the job. Frames are judged as strict at every level.
        """
        passed = self._in_time(lambda: self._passes(pictures.whole_view, data, STRICT))
        return Cleared(data if passed else _mosaic(data), as_level(level))

    def _cues(self, request: GenerationRequest, prompt: str, negative: str) -> frozenset[Cue]:
        """What the prompts ask for: a negative prompt counts where it can act as a positive."""
        # A LoRA's name says what it draws as a word in the prompt does.
        names = [lora.name for lora in request.loras if lora.has_effect]
        wanted, unwanted = [prompt, *names], [negative]
        if request.cfg <= 1 or has_negative_weight(request.negative_prompt):
            wanted.append(negative)
        if has_negative_weight(request.prompt):
            unwanted.append(prompt)
        cues = frozenset[Cue]().union(*map(self._lexicon.cues, wanted))
        avoided = frozenset[Cue]().union(*map(self._lexicon.cues, unwanted))
        return (cues - _CLOTHING) | (avoided & _CLOTHING)

    def _passes(
        self,
        views: Callable[[pictures.Picture], pictures.PictureViews],
        data: bytes,
        level: Level,
    ) -> bool:
        self.keep_healthy()
        scores = pictures.worst_scores(
            self._detector, self._classifiers, views(pictures.decode(data))
        )
        return not withholds(scores, level)

    def _in_time(self, judge: Callable[[], bool]) -> bool:
        """Whether `judge` says yes before the time is over; an exception is a no."""
        verdict: list[bool] = []

        def run() -> None:
            try:
                verdict.append(judge())
            except Exception:  # noqa: BLE001
                # Nothing may turn a failing check into a picture that is shown.
                _log.exception("The picture check failed, so the picture does not pass.")

        # A daemon, because a network that hangs must not keep the process from ending.
        thread = Thread(target=run, name="picture check", daemon=True)
        thread.start()
        thread.join(self._time_limit)
        return verdict == [True]


def _level(cues: frozenset[Cue], *, brings_picture: bool) -> Level:
    """The level of a new job. Everybody is strict until a session can hold an adult grant."""
    taint_ceiling = STRICT if brings_picture else LEVELS[-1]
    return lowest(STRICT, highest_level(_LOADED), prompt_ceiling(cues), taint_ceiling)


def _brings_picture(request: GenerationRequest) -> bool:
    return bool(pictures_of(request))


def _mosaic(data: bytes) -> bytes:
    try:
        picture = pictures.decode(data)
    except BrokenFileError:
        picture = np.full((pictures.MOSAIC, pictures.MOSAIC, 3), 128, np.uint8)
    return pictures.encode_jpeg(pictures.mosaic(picture))
