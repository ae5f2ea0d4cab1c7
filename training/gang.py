"""Two or more training processes of one thread each that share their gradients.

On a CPU this is about half as fast again as one process of as many threads, and keeps its pace
when other programs want a core. Each process has the same weights and its own data; gradients
meet in shared memory once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn


@dataclass(slots=True)
class Gang:
    """One process's view: its rank, and what it shares with the others.

    `gradients` is (2, ranks, parameters) in shared memory, one half for odd and one for even
    steps, so that one barrier a step is enough; `board` (numbers) is written by rank 0 only.
    """

    rank: int
    barrier: Barrier
    gradients: Tensor
    board: Tensor
    turn: int = 0

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each parameter's gradient by the mean over all ranks."""
        leaves = list(parameters)
        grads = [p.grad for p in leaves if p.grad is not None]
        half = self.gradients[self.turn]
        self.turn = 1 - self.turn
        torch.cat([g.reshape(-1) for g in grads], out=half[self.rank])
        self.barrier.wait()
        mean = half.mean(dim=0)
        start = 0
        for grad in grads:
            grad.copy_(mean[start : start + grad.numel()].view_as(grad))
            start += grad.numel()


def _enter(rank: int, work: Callable[..., None], gang: Gang, *details: object) -> None:
    torch.set_num_threads(1)
    gang.rank = rank
    work(gang, *details)


def launch(work: Callable[..., None], ranks: int, parameters: int, *details: object) -> None:
    """Run `work(gang, *details)` in `ranks` processes and wait for their end."""
    gradients = torch.zeros(2, ranks, parameters).share_memory_()  # type: ignore[no-untyped-call]
    board = torch.zeros(2, dtype=torch.float64).share_memory_()  # type: ignore[no-untyped-call]
    barrier = get_context("spawn").Barrier(ranks)
    gang = Gang(0, barrier, gradients, board)
    spawn(_enter, args=(work, gang, *details), nprocs=ranks)  # type: ignore[no-untyped-call]
