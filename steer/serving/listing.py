"""What a server says of its experts: their prompts, labels, methods and real texts."""

from typing import Any

from steer.data.catalog import may_insult
from steer.guidance import Shown
from steer.methods import METHODS, Method
from steer.serving.experts import Served
from steer.serving.ordering import Ordered

MOST = 5000
"""Real texts that are listed."""


def describe(served: Served, mask: bool | None) -> dict[str, Any]:
    """Describes an expert as OpenAI's clients read models, with ours under "steer". The page masks
    its texts where `mask` says so; None: where they may insult."""
    expert = served.expert
    insults = may_insult(expert.task_name, [expert.prompt])
    return {
        "id": served.name,
        "object": "model",
        "created": 0,
        "owned_by": "steer",
        "steer": {
            "prompt": expert.prompt,
            "labels": list(expert.labels),
            "chats": expert.task.chats,
            "shape": expert.shape.kind if expert.shape else None,
            "masked": insults if mask is None else mask,
            "max_tokens": expert.max_completion_tokens,
            "real_texts": len(served.real.texts),
            "methods": [_method(each) for each in METHODS if _draws(each)],
        },
    }


def real_texts(served: Served) -> dict[str, Any]:
    """Lists the first `MOST` real texts, with what was said before those that are answers, and says
    how many there are."""
    none = (None,) * len(served.real.texts)
    turns = served.real.turns if served.expert.task.chats else None
    rows = zip(served.real.texts[:MOST], served.real.labels or none, turns or none, strict=False)
    return {
        "texts": [
            {"id": f"real:{row}", "text": text, "label": label, "turns": before}
            for row, (text, label, before) in enumerate(rows)
        ],
        "of": len(served.real.texts),
    }


def read_by_streams(ordered: Ordered) -> dict[str, Any]:
    """Says of each stream what it reads before the text: texts, and the prompt behind them."""
    streams = []
    for each in ordered.orders[0].request.streams:
        context = each.context
        shown = context if isinstance(context, Shown) else Shown((), context)
        about = {"name": each.name, "weight": round(each.weight, 4), "adapter": each.adapter}
        streams.append(about | {"texts": shown.texts, "prompt": shown.prompt or ""})
    return {"streams": streams}


def _draws(method: Method) -> bool:
    return method.sampling.beams == 1 and not method.sampling.penalty


def _method(method: Method) -> dict[str, Any]:
    strengths = {name: getattr(method.guidance, name) for name in ("gamma", "eta", "rho", "alpha")}
    named = {"name": method.name, "about": method.about, "weights": method.guidance.weights}
    drawn = {"adaptive": method.guidance.adaptive, "temperature": method.sampling.temperature}
    return {**named, **strengths, **drawn}
