"""What every training part shares: bf16 model, fp32 master weights, schedule, checkpoints.

The model computes in bf16 throughout, which on processors with bf16 instructions is several times
faster than autocast (that keeps norms and SiLU in fp32); the optimisers update fp32 masters.
On the CPU two threads compute half a batch each, with one core each: they wait for each other once
a step, where threads inside every operator would wait thousands of times.
Every step seeds its own random numbers, so a resumed training equals an uninterrupted one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from webui.postcard.edges import place, read_about, read_tensors, write_tensors

_log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 180.0
_REPORT_STEPS = 50
CPU_PARTS = 2
"""Parts a batch is cut into on the CPU; fixed, so that every machine trains alike."""

_WARM_UP = 40
_CLIP = 1.0


@dataclass(frozen=True)
class Rates:
    """Learning rates at their plateau.

    `muon` is used for matrices and convolutions inside the network, `adam` for everything else;
    None trains everything with AdamW.
    """

    adam: float
    muon: float | None = None
    average: float = 0.998
    """Decay of the exponential moving average of the weights."""


@dataclass
class Budget:
    """How far a training is: by planned steps, or by minutes when `minutes` is given."""

    steps: int
    minutes: float | None = None
    step: int = 0
    seconds: float = 0.0

    @property
    def progress(self) -> float:
        """0 at the start, 1 when the budget is spent."""
        if self.minutes is None:
            return self.step / self.steps
        return self.seconds / (self.minutes * 60)


def learning_rate(budget: Budget, flat: float) -> float:
    """Return the factor on the rates: warm-up, flat up to progress `flat`, then a half cosine."""
    warm = min(1.0, (budget.step + 1) / _WARM_UP)
    if budget.progress <= flat:
        return warm
    falling = min(1.0, (budget.progress - flat) / (1 - flat))
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * falling)))


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the random numbers of one step, the same on every run."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


class Trainer:
    """Trains `model` in bf16 on `device` with fp32 master weights and their moving average."""

    def __init__(
        self, model: nn.Module, rates: Rates, device: torch.device, parts: int = CPU_PARTS
    ) -> None:
        """Move `model` to `device` and bf16, in place; `parts` of a batch at once on the CPU."""
        self.parts = parts if device.type == "cpu" else 1
        self.model = model
        self.rates = rates
        trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in trained]
        masters = [p.detach().float().to(device).contiguous() for _, p in trained]
        hidden = [p.dim() >= 2 and not _is_edge(name) for name, p in trained]
        self.masters = [
            nn.Parameter(m.flatten(1).clone() if matrix and rates.muon else m.clone())
            for m, matrix in zip(masters, hidden, strict=True)
        ]
        self.averages = [m.detach().clone() for m in self.masters]
        place(model, device, torch.bfloat16, torch.channels_last)
        self.live = [p for p in model.parameters() if p.requires_grad]
        self.optimisers = _optimisers(self.masters, hidden, rates, self.parts)
        self.updates = 0
        self._pool = one_core_each(self.parts)

    def update(self, loss_of: Callable[[int], Tensor], factor: float) -> float:
        """Take one optimiser step with the rates times `factor`; return the mean loss.

        `loss_of(part)` gives the loss of every part of the batch, 0..`parts` - 1, and may be
        called from several threads at once.
        """

        def gradients(part: int) -> tuple[float, Sequence[Tensor | None]]:
            # autograd.grad hands the gradients back instead of adding them to the shared .grad,
            # where two threads would race.
            loss = loss_of(part)
            return float(loss.detach()), torch.autograd.grad(loss, self.live, allow_unused=True)

        def step(pair: tuple[torch.optim.Optimizer, float]) -> None:
            for group in pair[0].param_groups:
                group["lr"] = pair[1] * factor
            pair[0].step()

        results = list(self._pool.map(gradients, range(self.parts)))
        for index, master in enumerate(self.masters):
            given = [g for _, parts in results if (g := parts[index]) is not None]
            master.grad = None
            if given:
                total = torch.stack([g.float() for g in given]).sum(0) / self.parts
                master.grad = total.contiguous().view(master.shape)
        nn.utils.clip_grad_norm_(self.masters, _CLIP)
        list(self._pool.map(step, self.optimisers))
        self.updates += 1
        decay = min(self.rates.average, (1 + self.updates) / (20 + self.updates))
        values = [master.detach() for master in self.masters]
        for average, value in zip(self.averages, values, strict=True):
            average.lerp_(value, 1 - decay)
        self._copy_into(self.live, values)
        return float(sum(loss for loss, _ in results) / self.parts)

    def averaged(self) -> dict[str, Tensor]:
        """Return the moving average of the trained weights in fp32, by parameter name."""
        return {
            name: average.view(live.shape).cpu().clone()
            for name, average, live in zip(self.names, self.averages, self.live, strict=True)
        }

    def use_averages(self) -> None:
        """Let the model compute with the averages, until the next update."""
        self._copy_into(self.live, self.averages)

    @staticmethod
    def _copy_into(targets: list[nn.Parameter], values: list[Tensor]) -> None:
        with torch.no_grad():
            for target, value in zip(targets, values, strict=True):
                target.copy_(value.view(target.shape))

    def save(self, path: Path, budget: Budget) -> None:
        """Write weights, averages, optimiser state and progress to a safetensors file."""
        tensors: dict[str, Tensor] = {}
        for index, name in enumerate(self.names):
            tensors[f"master.{name}"] = self.masters[index].detach()
            tensors[f"average.{name}"] = self.averages[index]
        for number, (optimiser, _) in enumerate(self.optimisers):
            for index, state in optimiser.state_dict()["state"].items():
                for key, value in state.items():
                    tensors[f"optimiser.{number}.{index}.{key}"] = torch.as_tensor(value)
        tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
        about = {"step": str(budget.step), "seconds": str(budget.seconds)}
        partial = path.with_suffix(".partial")
        write_tensors(tensors, partial, {**about, "updates": str(self.updates)})
        partial.replace(path)

    def load(self, path: Path, budget: Budget) -> None:
        """Go on from a file written by `save`; `budget` is set to where it was."""
        tensors, about = read_tensors(path), read_about(path)
        with torch.no_grad():
            for index, name in enumerate(self.names):
                self.masters[index].copy_(tensors[f"master.{name}"])
                self.averages[index].copy_(tensors[f"average.{name}"])
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.optimisers]
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, number, index, key = name.split(".")
                states[int(number)].setdefault(int(index), {})[key] = tensor
        for (optimiser, _), state in zip(self.optimisers, states, strict=True):
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        self._copy_into(self.live, [master.detach() for master in self.masters])
        budget.step, budget.seconds = int(about["step"]), float(about["seconds"])
        self.updates = int(about["updates"])


def one_core_each(threads: int) -> ThreadPoolExecutor:
    """Return a pool whose threads compute on one core each."""
    return ThreadPoolExecutor(threads, initializer=_use_one_core)


def _use_one_core() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def _is_edge(name: str) -> bool:
    """Tell the first and last layers and the embeddings, which Muon is not meant for."""
    return any(part in name for part in ("conv_in", "conv_out", "quant_conv", "embedding"))


def _optimisers(
    masters: list[nn.Parameter], hidden: list[bool], rates: Rates, parts: int
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return (optimiser, plateau rate) pairs: Muon for hidden matrices, AdamW for the rest.

    Muon is the costliest, so its matrices are dealt out to `parts` optimisers that step at once.
    Muon: Jordan et al. 2024; `match_rms_adamw` scales its step as in Liu et al., arXiv:2502.16982.
    """
    use_muon = [rates.muon is not None and matrix for matrix in hidden]
    rest = [m for m, chosen in zip(masters, use_muon, strict=True) if not chosen]
    adam = torch.optim.AdamW(rest, lr=rates.adam, betas=(0.9, 0.99), weight_decay=0.0)
    pairs: list[tuple[torch.optim.Optimizer, float]] = [(adam, rates.adam)]
    if rates.muon is not None:
        matrices = [m for m, chosen in zip(masters, use_muon, strict=True) if chosen]
        matrices.sort(key=lambda m: m.numel() * min(m.shape), reverse=True)
        for dealt in (matrices[part::parts] for part in range(parts)):
            muon = torch.optim.Muon(
                dealt, lr=rates.muon, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
            )
            pairs.append((muon, rates.muon))
    return pairs


class Stopwatch:
    """Adds the seconds of every step to a budget and tells when a checkpoint is due."""

    def __init__(self, budget: Budget, every: float) -> None:
        """Start now; a checkpoint is due every `every` seconds."""
        self._budget = budget
        self._every = every
        self._last = self._saved = time.monotonic()

    def lap(self) -> bool:
        """Count one step as done; return whether a checkpoint is due."""
        now = time.monotonic()
        self._budget.step += 1
        self._budget.seconds += now - self._last
        self._last = now
        if now - self._saved < self._every:
            return False
        self._saved = now
        return True


def fit(
    trainer: Trainer,
    budget: Budget,
    checkpoint: Path,
    loss_of: Callable[[int], Tensor],
    *,
    name: str,
    flat: float,
) -> dict[str, Tensor]:
    """Train until the budget is spent, from the checkpoint when there is one.

    `loss_of(part)` is the loss of one part of the batch of `budget.step`; `flat` the progress up
    to which the rate stays at its plateau. Returns the averaged weights in fp32, by name, and
    leaves them in the model.
    """
    if checkpoint.exists():
        trainer.load(checkpoint, budget)
    watch = Stopwatch(budget, every=CHECKPOINT_SECONDS)
    recent: list[float] = []
    while budget.progress < 1:
        recent.append(trainer.update(loss_of, learning_rate(budget, flat)))
        if watch.lap():
            trainer.save(checkpoint, budget)
        if budget.step % _REPORT_STEPS == 0:
            mean = sum(recent) / len(recent)
            _log.info("%s: step %d, %.0f s, loss %.4f", name, budget.step, budget.seconds, mean)
            recent.clear()
    trainer.save(checkpoint, budget)
    trainer.use_averages()
    return trainer.averaged()
