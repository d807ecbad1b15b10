"""The only place where objects are built and joined."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import getproxies_environment

from huggingface_hub import constants

from webui.generation.annotator_files import FOLDER as ANNOTATORS
from webui.generator import Session
from webui.library.checkpoints import CheckpointShelf
from webui.library.controlnets import ControlNetShelf
from webui.library.embeddings import EmbeddingShelf
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.library.origins import Origin
from webui.library.shelves import Shelves
from webui.library.uploads import Uploads
from webui.library.wildcards import WildcardShelf
from webui.request import GenerationRequest, pictures_of
from webui.settings import ROOT, Settings
from webui.standing import Answer, Question

CONFIGS = ROOT / "webui" / "generation" / "configs"
"""The configurations of models that come as a single file."""

if TYPE_CHECKING:
    from webui.engine import Engine
    from webui.jobs import Jobs
    from webui.process import EngineStatus, Report
    from webui.provenance.certificate import Trust
    from webui.safety.gate import Gate
    from webui.safety.guard import Guard
    from webui.ui.server import Backend


def build_engine(settings: Settings, report: Report, *, by_date: bool = True) -> Engine:
    """The engine with everything it works with, reporting how far it is.

    Raises:
        GuardError: A guard that must be loaded is missing.
        StartError: The settings name a device that does not exist.
    """
    report("loading", "Loading torch")
    from webui.generation.devices import choose_device

    device = choose_device(settings.device, settings.dtype)
    report("loading", "Loading diffusers")
    from webui.admission import Admission
    from webui.engine import Engine
    from webui.generation.attention import with_attention
    from webui.generation.painting import Painter
    from webui.generation.planning import Planner
    from webui.generation.quiet import quiet_libraries
    from webui.library.files import remove_leftovers
    from webui.library.gallery import Drafts, Gallery
    from webui.minutes import Minutes
    from webui.provenance.c2pa import Signer
    from webui.provenance.certificate import identity_in
    from webui.recipes import RecipeWriter
    from webui.release import Release

    quiet_libraries()
    device = with_attention(device, settings.attention)
    report("loading", "Loading the content filter")
    guard, gate = build_safety(settings)
    minutes, shelves = Minutes(gate), shelves_in(settings)
    remove_leftovers(settings.outputs)
    remove_leftovers(settings.state / "drafts")
    drafts = Drafts(settings.state / "drafts")
    drafts.tidy()
    return Engine(
        painter=Painter(
            device,
            cache_bytes=settings.cache_bytes,
            annotators=_annotators(settings),
            memory=settings.memory,
            keep_models_bytes=settings.keep_models_bytes,
        ),
        planner=Planner(shelves),
        guard=guard,
        admission=Admission(guard=guard, gate=gate, minutes=minutes, uploads=shelves.uploads),
        gate=gate,
        minutes=minutes,
        release=Release(
            guard=guard,
            signer=Signer(identity_in(settings.state)),
            minutes=minutes,
            uploads=shelves.uploads,
            gallery=Gallery(settings.outputs, by_date=by_date),
            drafts=drafts,
        ),
        recipes=RecipeWriter(device),
    )


def build_safety(settings: Settings) -> tuple[Guard, Gate]:
    """The guard, and the gate that tells it what each session may reach.

    Raises:
        GuardError: A guard that must be loaded is missing or does not work.
        BadRequestError: The operator's login provider cannot be used.
    """
    from webui.safety.audit import FOLDER, Audit
    from webui.safety.classifiers import Classifiers
    from webui.safety.detector import NudeNet
    from webui.safety.gate import Gate
    from webui.safety.grants import EPOCH_FILE, Epoch, Grants
    from webui.safety.guard import Guard
    from webui.safety.invitations import Invitations, OwnerLinks
    from webui.safety.issuer import Issuer
    from webui.safety.operator import FILE, PolicyWatcher, highest_bound
    from webui.safety.prompts import Lexicon
    from webui.safety.slots import FOLDERS

    bound = highest_bound(os.environ, settings.max_level)
    watcher = PolicyWatcher(settings.state / FILE, bound=bound)
    policy = watcher.policy()
    detector = NudeNet.load(threads=min(4, os.cpu_count() or 1))
    guards = settings.models / "guards"
    classifiers = Classifiers.load(guards, policy.guards, find_faces=detector.faces)
    epoch = Epoch(settings.state / EPOCH_FILE)
    epoch.begin()
    gate = Gate(
        watcher=watcher,
        grants=Grants(epoch),
        invitations=Invitations(settings.state, epoch),
        links=OwnerLinks(),
        issuer=None if policy.issuer is None else Issuer(policy.issuer),
        health=lambda: {
            "detector": None,
            "words": None,
            **{slot: classifiers.troubles.get(slot) for slot in FOLDERS},
        },
        audit=Audit(settings.state / FOLDER),
        exposed=settings.exposed,
        announce=lambda link: print(f"For the owner, once: {link}", flush=True),
    )
    guard = Guard(detector, Lexicon.load(), classifiers, ceilings=gate.ceilings, policy=gate.policy)
    guard.keep_healthy()
    return guard, gate


def build_warm_engine(settings: Settings, report: Report) -> Engine:
    """An engine for a server: the default model is loaded before the first job comes."""
    engine = build_engine(settings, report)
    model = GenerationRequest().model
    report("loading", f"Loading the model {model}")
    engine.warm(model)
    report("ready", engine.description)
    return engine


def build_backend(
    settings: Settings,
    jobs: Jobs,
    status: Callable[[], EngineStatus],
    ask: Callable[[Question, Session], Answer],
) -> Backend:
    """What the page works with, over an engine of any kind.

    Args:
        ask: Carries a session's question to the engine's gate.
    """
    from webui.library.catalogue import Catalogue
    from webui.library.downloads import Downloads
    from webui.library.graphics import graphics_memory
    from webui.library.hashing import BackgroundHasher
    from webui.library.history import History
    from webui.library.kinds import Places
    from webui.library.offers import Offers
    from webui.library.outward import Outward
    from webui.library.presets import PresetShelf
    from webui.library.thumbnails import Thumbnails
    from webui.library.wordlists import WordLists
    from webui.provenance.indexing import read_for_history
    from webui.ui.fetched import SERVED, keep_origin, kind_and_family
    from webui.ui.first import FirstModels
    from webui.ui.library import Library
    from webui.ui.server import Backend

    shipped, own = settings.presets, settings.own_presets
    history = History(settings.outputs, read_for_history)

    def in_use() -> set[str]:
        return {name for request in jobs.requests() for _, name in pictures_of(request)}

    def trust() -> Trust | None:
        from webui.provenance.certificate import trust_in

        return trust_in(settings.state)

    history.start()
    presets = PresetShelf(shipped, own)
    models, loras = _model_folders(settings), _lora_folders(settings)
    hashes = HashBook(settings.state / "hashes.json")
    catalogue = Catalogue(models, loras, hashes, _hub_cache(settings))
    cards = catalogue.cards
    hasher = BackgroundHasher(catalogue, hashes, busy=lambda: bool(jobs.requests()))
    outward = Outward(tokens=_tokens(), proxies=getproxies_environment())
    memory = graphics_memory if settings.device != "cpu" else lambda: None
    return Backend(
        jobs=jobs,
        status=status,
        shelves=shelves_in(settings, in_use),
        annotators=_annotators(settings),
        history=history,
        presets=presets,
        words=WordLists(shipped / "words", own / "words"),
        trust=trust,
        ask=ask,
        library=Library(cards, history, presets, Thumbnails(settings.state / "library"), hasher),
        offers=Offers(outward, kind_and_family, SERVED),
        downloads=Downloads(
            outward, Places(settings.models, settings.loras), settings.state, finished=keep_origin
        ),
        first=FirstModels(cards, GenerationRequest().model, memory, outward),
    )


def _tokens() -> dict[str, str]:
    """Access tokens of the environment, by the host that each is for."""
    named = {"huggingface.co": "HF_TOKEN", "civitai.com": "CIVITAI_TOKEN"}
    found = {host: os.environ.get(name, "").strip() for host, name in named.items()}
    return {host: token for host, token in found.items() if token}


def shelves_in(settings: Settings, in_use: Callable[[], Collection[str]] = tuple) -> Shelves:
    """The shelves over the user's folders, and over those of what comes with Easel behind them.

    Args:
        in_use: Gives names of pictures brought in that must not be tidied away.
    """
    hashes = HashBook(settings.state / "hashes.json")
    models = _model_folders(settings)

    def judge(data: bytes) -> Origin:
        from webui.provenance.certificate import trust_in
        from webui.provenance.origins import origin_of

        return origin_of(data, trust_in(settings.state))

    return Shelves(
        models=CheckpointShelf(models, hashes, CONFIGS, _hub_cache(settings)),
        loras=LoraShelf(_lora_folders(settings), hashes),
        controlnets=ControlNetShelf(models, hashes),
        embeddings=EmbeddingShelf(models, hashes),
        wildcards=WildcardShelf((settings.wildcards, settings.own_presets / "wildcards")),
        uploads=Uploads(settings.state / "uploads", in_use=in_use, judge=judge),
    )


def _hub_cache(settings: Settings) -> Path | None:
    """The hub's own cache, unless it is to be left out or lies in the user's folder."""
    cache = Path(constants.HF_HUB_CACHE).resolve()
    is_among = any(cache.is_relative_to(folder.resolve()) for folder in _model_folders(settings))
    return cache if settings.hub_cache and not is_among else None


def _model_folders(settings: Settings) -> tuple[Path, ...]:
    """The user's folder first, then the one with the embedded model."""
    return tuple(dict.fromkeys((settings.models, ROOT / "models")))


def _annotators(settings: Settings) -> tuple[Path, ...]:
    """Folders with the weights of networks that draw hints."""
    return tuple(folder / ANNOTATORS for folder in _model_folders(settings))


def _lora_folders(settings: Settings) -> tuple[Path, ...]:
    return tuple(dict.fromkeys((settings.loras, ROOT / "loras")))
