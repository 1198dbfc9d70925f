"""Tokens of rows that have a sampling, a beginning and wishes of their own."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from steer.engines.live import Order, Told
from steer.engines.sampling import Sampler
from steer.engines.scoring import Part, Rows
from steer.engines.trace import Setting, candidates, guided


class Drawing:
    """Draws for `rows` as their `orders` (by the requests' ids) say. A row that has no token left
    is `failed`, and no other; `told` is what the orders ask of the last draws."""

    def __init__(self, rows: Rows, orders: Mapping[int, Order]) -> None:
        self.rows, self.orders = rows, orders
        self.failed: set[int] = set()
        self.told: dict[int, Told] = {}
        rows.strict = False

    def choose(self, some: slice, part: Part) -> tuple[Tensor, Tensor]:
        """Chooses tokens (rows,) for `some` of the rows from their part of the logits, and computes
        each stream's log-probability of them, (streams, rows)."""
        rows = self.rows
        scores, log_probs, tokens = rows.score(some, part)
        orders = [self.orders[request.id] for request in rows.requests[some]]
        counts = rows.counts[some].tolist()
        forced = {
            row: order.begun[count]
            for row, (order, count) in enumerate(zip(orders, counts, strict=True))
            if count < len(order.begun)
        }
        place = self._places(some, orders, self._possible(orders, forced, scores)).unsqueeze(-1)
        drawn = log_probs.gather(-1, place.expand(rows.streams, -1, 1)).squeeze(-1)
        chosen = (place if tokens is None else tokens.gather(1, place)).squeeze(-1)
        for row, token in forced.items():
            chosen[row] = token
            own = part.logits[part.table[:, row]]
            drawn[:, row] = own.log_softmax(dim=-1, dtype=torch.float32)[:, token]
        self._tell(some, orders, part, chosen)
        return chosen, drawn

    def _possible(
        self, orders: Sequence[Order], forced: Mapping[int, int], scores: Tensor
    ) -> Tensor:
        """Scores in which a row without any token left has some: it fails, and no other row."""
        lost = ~torch.isfinite(scores.amax(dim=-1))
        if not lost.any():
            return scores
        for row in lost.nonzero().flatten().tolist():
            if row not in forced:
                self.failed.add(orders[row].request.id)
        return torch.where(lost.unsqueeze(-1), 0.0, scores)

    def _places(self, some: slice, orders: Sequence[Order], scores: Tensor) -> Tensor:
        """Places (rows,) that each row's own sampler draws from its scores."""
        groups: defaultdict[Sampler, list[int]] = defaultdict(list)
        for row, order in enumerate(orders):
            groups[order.sampler].append(row)
        draws, counts = self.rows.next_draws(some), self.rows.counts[some]
        if len(groups) == 1:
            return next(iter(groups))(scores, draws, counts)
        places = torch.empty_like(counts)
        for sampler, members in groups.items():
            places[members] = sampler(scores[members], draws[members], counts[members])
        return places

    def _tell(self, some: slice, orders: Sequence[Order], part: Part, chosen: Tensor) -> None:
        allowed = self.rows.allowed_of(some)
        for row, order in enumerate(orders):
            if not order.told:
                continue
            own = part.logits[part.table[: len(order.request.streams), row]]
            place = some.start + row
            setting = Setting(
                self.rows.weights[: len(own), place],
                self.rows.pooled[: len(own), place],
                order.request.alpha,
                order.request.adaptive,
                None if allowed is None else allowed[row],
            )
            log_probs, final = guided(own, setting)
            token = int(chosen[row])
            best = final.topk(order.top or 0)
            top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            found = candidates(log_probs, final, token) if order.trace else ()
            self.told[order.request.id] = Told(float(final[token]), tuple(top), found)
