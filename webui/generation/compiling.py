"""The repeated blocks of a denoiser through torch's compiler, for the runs that ask for it.

Only the blocks are compiled (regional compilation): one graph serves all of a kind, whatever the
weights in it, so that LoRAs go on being merged in place. The graphs stay in torch's own cache from
run to run; the modules are as before after each.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from webui.generation.devices import is_out_of_memory

_MOST_GRAPHS = 64
"""Of one kind of block: each width, number format and model takes a few; torch stops at 8."""


class CompileError(Exception):
    """Blocks cannot be compiled here; why is the compiler's `trouble` from now on."""


class BlockCompiler:
    """Compiles the blocks of one denoiser.

    Attributes:
        is_warm: Whether a run with them has come to its end, so that the next need not wait.
        trouble: Why they cannot be compiled here, once that has shown.
    """

    def __init__(self, denoiser: Any, *, backend: str = "inductor") -> None:
        self._denoiser = denoiser
        self._backend = backend
        self.is_warm = False
        self.trouble: str | None = None

    @contextmanager
    def on(self) -> Generator[None]:
        """Lets the blocks run compiled.

        Raises:
            CompileError: Torch has no compiler here, or cannot make one graph of a block.
        """
        kinds = self._denoiser._repeated_blocks
        blocks = [one for one in self._denoiser.modules() if type(one).__name__ in kinds]
        untyped: Any = torch
        try:
            # Importing it takes a second, which torch puts off until it is asked for.
            with untyped._dynamo.config.patch(recompile_limit=_MOST_GRAPHS):
                for block in blocks:
                    block.compile(fullgraph=True, dynamic=True, backend=self._backend)
                yield
            self.is_warm = True
        except Exception as error:
            if not _is_of_the_compiler(error):
                raise
            self.trouble = reason_of(error)
            raise CompileError(self.trouble) from error
        finally:
            for block in blocks:
                block._compiled_call_impl = None


def _is_of_the_compiler(error: Exception) -> bool:
    """Whether it was raised by compiling, and not by what is run between the blocks."""
    untyped: Any = torch
    raised = untyped._dynamo.exc
    kinds = (
        raised.TorchDynamoException,
        raised.FailOnRecompileLimitHit,
        raised.TritonUnavailableError,
        ImportError,
    )
    return isinstance(error, kinds) and not is_out_of_memory(error)


def reason_of(error: BaseException) -> str:
    """The first line of what was raised that says more than where."""
    lines = (line.strip() for line in str(error).splitlines())
    said = [line for line in lines if line and not line.endswith(":")]
    return said[0][:200] if said else type(error).__name__
