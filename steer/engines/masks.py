"""Masks: which next tokens a record's shape allows, by llguidance."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steer.errors import SteerError
from steer.models.base import Tokenizer
from steer.models.tokenizer import full_tokenizer
from steer.shapes import Shape, library, matcher, reason

SHAPES = 32
"""Shapes whose matchers are kept: a server's clients send their own."""


@dataclass(frozen=True)
class Written:
    """What a row has written so far of a record with a shape."""

    shape: Shape
    matcher: Any

    def add(self, token: int) -> None:
        """Reads the row's next token, which must be one that is allowed."""
        self.matcher.consume_token(token)

    def copy(self) -> "Written":
        """Copies it for a row that goes on otherwise."""
        return Written(self.shape, self.matcher.deep_copy())


class Masks:
    """Masks for one tokenizer: which of the ids below `size` may come next. Where a record may end,
    that is any of the ids in `ends`.

    A record's matcher is used again by later ones of its shape, as it remembers what it computed.
    May be used by several threads. Raises `SteerError` without llguidance, and for a tokenizer that
    it cannot read.
    """

    def __init__(self, tokenizer: Tokenizer, size: int, ends: Sequence[int]) -> None:
        self._size, self._width = size, max(size, len(tokenizer))
        self._executor = library().LLExecutor(num_threads=torch.get_num_threads())
        import llguidance.hf

        try:
            self._tokenizer = llguidance.hf.from_tokenizer(
                full_tokenizer(tokenizer),  # type: ignore[arg-type]
                n_vocab=self._width,
                eos_token=list(ends),
            )
        except Exception as error:  # the library names no kind
            raise SteerError(
                f"llguidance cannot read the tokenizer: {reason(str(error))}"
            ) from None
        self._lock = Lock()
        self._spare: OrderedDict[Shape, list[Any]] = OrderedDict()  # used last comes last

    def start(self, shape: Shape) -> Written:
        """Begins a record. Raises `SteerError` when no record can have the shape."""
        with self._lock:
            spare = self._spare.get(shape, [])
            if len(spare) > 1:
                return Written(shape, spare.pop())
        found = spare[0] if spare else matcher(shape, self._tokenizer)
        self._keep(shape, found)
        return Written(shape, found.deep_copy())  # to read a schema takes longer

    def free(self, written: Written) -> None:
        """Takes back the matcher of a record that is done."""
        if written.matcher.is_error():  # which no reset mends
            return
        written.matcher.reset()
        self._keep(written.shape, written.matcher)

    def _keep(self, shape: Shape, found: Any) -> None:
        with self._lock:
            spare = self._spare.setdefault(shape, [])
            if not any(each is found for each in spare):
                spare.append(found)
            self._spare.move_to_end(shape)
            while len(self._spare) > SHAPES:
                self._spare.popitem(last=False)

    def check(self, shape: Shape, begun: Sequence[int] = ()) -> None:
        """Raises `SteerError` when no record can have the shape, or none that begins with the token
        ids `begun`."""
        written = self.start(shape)
        fits = written.matcher.validate_tokens(list(begun)) == len(begun)
        self.free(written)
        if not fits:
            raise SteerError(f"no record of that {shape.kind} begins so; begin it otherwise")

    def allowed(self, rows: Sequence[Written | None], *, strict: bool = True) -> Tensor:
        """Computes which tokens may come next, bool (rows, size); all of them where a row is None.

        A row that cannot go on, or whose shape has become too complex, raises `SteerError`; unless
        `strict`, it may have no token at all.
        """
        bits = np.full((len(rows), (self._width + 31) // 32), -1, dtype=np.int32)
        held = [(row.matcher, number) for number, row in enumerate(rows) if row is not None]
        self._executor.unsafe_compute_mask_ptr(held, bits.ctypes.data, bits[0].nbytes, len(bits))
        for number, row in enumerate(rows):
            if row is None or not row.matcher.is_error():
                continue
            if strict:
                raise SteerError(
                    f"a record cannot go on in the task's {row.shape.kind}: "
                    f"{reason(row.matcher.get_error())}"
                )
            bits[number] = 0
        flat = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little", count=self._size)
        return torch.from_numpy(flat.view(np.bool_))
