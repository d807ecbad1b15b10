from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from webui.generation.stages import Key, StageCache


@dataclass(frozen=True)
class Numbered(Key[torch.Tensor]):
    number: int


def tensor(size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.uint8)


def test_a_result_is_found_by_an_equal_key():
    cache = StageCache(100)
    cache.put(Numbered(1), tensor(10))
    assert cache.get(Numbered(1)) is not None
    assert cache.get(Numbered(2)) is None


def test_the_least_recently_used_goes_first():
    cache = StageCache(30)
    for number in (1, 2, 3):
        cache.put(Numbered(number), tensor(10))
    cache.get(Numbered(1))
    cache.put(Numbered(4), tensor(10))
    assert cache.get(Numbered(2)) is None
    assert all(cache.get(Numbered(number)) is not None for number in (1, 3, 4))


def test_the_bound_holds_in_bytes():
    cache = StageCache(35)
    for number in range(20):
        cache.put(Numbered(number), tensor(number))
        assert cache.bytes_held <= 35


def test_putting_again_does_not_count_twice():
    cache = StageCache(30)
    for _ in range(5):
        cache.put(Numbered(1), tensor(20))
    assert cache.bytes_held == 20


def test_a_result_larger_than_the_bound_leaves_the_others_alone():
    cache = StageCache(30)
    cache.put(Numbered(1), tensor(30))
    cache.put(Numbered(2), tensor(31))
    assert cache.get(Numbered(1)) is not None
    assert cache.get(Numbered(2)) is None


@dataclass(frozen=True)
class Few(Key[torch.Tensor]):
    number: int
    most_kept: ClassVar[int | None] = 2


def test_of_a_kind_that_has_a_bound_of_its_own_the_least_recently_used_goes_first():
    cache = StageCache(1_000)
    cache.put(Numbered(1), tensor(10))
    for number in (1, 2):
        cache.put(Few(number), tensor(10))
    cache.get(Few(1))
    cache.put(Few(3), tensor(10))
    assert cache.get(Few(2)) is None
    assert cache.get(Few(1)) is not None
    assert cache.get(Few(3)) is not None
    assert cache.get(Numbered(1)) is not None
    assert cache.bytes_held == 30
