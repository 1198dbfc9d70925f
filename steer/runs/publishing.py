"""Publishing on the Hugging Face Hub: a run as a dataset, an expert as a PEFT adapter."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer.config import Config
from steer.errors import SteerError
from steer.files import write_json
from steer.models.expert import CARD, Expert
from steer.models.fingerprints import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from steer.models.packaged import EMBEDDED
from steer.runs.card import CardSettings
from steer.runs.expert_card import expert_card
from steer.runs.exporting import ExportSettings, export
from steer.runs.store import Stream

_PACKAGED = {EMBEDDED: "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""What the Hub calls models that come as packages."""

_OWN_FILES = {".gitattributes"}


class PublishSettings(Config):
    """Settings of a publication: only its owner sees it while `private`; `card` is what only the
    user knows; `base` is what others call the expert's base model, where that is a folder here."""

    private: bool = True
    card: CardSettings = CardSettings()
    split: tuple[float, float, float] | None = None
    base: str | None = None


@dataclass(frozen=True)
class Published:
    """Where something was published: the address of its page, and whether only its owner sees
    it."""

    url: str
    private: bool


def publish(
    source: Path | str,
    repo: str,
    settings: PublishSettings | None = None,
    *,
    may_overwrite: Callable[[str], bool] = lambda _: False,
    endpoint: str | None = None,
) -> Published:
    """Publishes the run or the expert at `source` as `repo`, "organisation/name".

    Where there are files already, `may_overwrite` is asked, with what there is, and new files
    replace those of the same names. All come in one commit; large files that an attempt before had
    sent are not sent again. Raises `SteerError` when the Hub cannot be reached or refuses, and
    where nothing may be overwritten.
    """
    settings = settings or PublishSettings()
    expert = Expert.load(source) if (Path(source) / CARD).is_file() else None
    base = expert.base if expert else Stream.open(source).sources.base
    kind = "model" if expert else "dataset"
    with tempfile.TemporaryDirectory(prefix="steer-") as parent, _hub_errors(repo):
        hub = _hub(endpoint)
        _ask(hub, repo, kind, may_overwrite)
        folder = Path(parent) / "content"
        if expert:
            _lay_out(expert, folder, settings, hub)
        else:
            card = _with_licence(settings.card, base, hub)
            export(source, folder, ExportSettings(split=settings.split, hub=True, card=card))
        made = hub.create_repo(repo, private=settings.private, repo_type=kind, exist_ok=True)
        hub.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            repo_type=kind,
            commit_message=f"{'An expert' if expert else 'Synthetic texts'} made with steer",
        )
        info = hub.repo_info(made.repo_id, repo_type=kind)
    return Published(str(made), bool(info.private))


def _hub(endpoint: str | None) -> Any:
    import huggingface_hub

    return huggingface_hub.HfApi(endpoint=endpoint, library_name="steer")


def _ask(hub: Any, repo: str, kind: str, may_overwrite: Callable[[str], bool]) -> None:
    """Raises `SteerError` where there are files that may not be overwritten."""
    if not hub.repo_exists(repo, repo_type=kind):
        return
    files = set(hub.list_repo_files(repo, repo_type=kind)) - _OWN_FILES
    there = f"the {kind} {repo} is there already, with {len(files)} files"
    if files and not may_overwrite(there):
        raise SteerError(f"{there}; choose another name, or replace them with --overwrite")


def _lay_out(expert: Expert, folder: Path, settings: PublishSettings, hub: Any) -> None:
    """Lays out a repository that plain PEFT loads: the adapter, its config and a card."""
    base = settings.base or _PACKAGED.get(expert.base, expert.base)
    if Path(base).is_absolute():
        raise SteerError(
            f"the expert's base model is the folder {base}, where others cannot find it; say what "
            "the Hub calls it with --base"
        )
    folder.mkdir()
    shutil.copy(expert.path / ADAPTER_WEIGHTS, folder)
    config = json.loads((expert.path / ADAPTER_CONFIG).read_text())
    for name, values in (
        (ADAPTER_CONFIG, config | {"base_model_name_or_path": base}),
        (CARD, expert.model_dump(mode="json") | {"base": base}),
    ):
        write_json(folder / name, values)
    card = _with_licence(settings.card, base, hub)
    (folder / "README.md").write_text(expert_card(expert, base, card), "utf-8", errors="replace")


def _with_licence(card: CardSettings, base: str, hub: Any) -> CardSettings:
    """Completes the card with the licence of the base model, as its own page on the Hub has it."""
    if card.base_license or Path(base).is_absolute():
        return card
    try:
        found = hub.model_info(_PACKAGED.get(base, base), timeout=10).card_data
    # Whatever hinders it, the card then says that the licence is not known.
    except Exception:
        return card
    licence = getattr(found, "license", None)
    return card.model_copy(update={"base_license": str(licence)}) if licence else card


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Turns what the Hub's client raises into one line that says what to do."""
    from huggingface_hub import errors
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    # The HTTP library below the client differs by its version; its errors have one base.
    transport: type[Exception] = getattr(errors, "HTTPError", OSError)
    try:
        yield
    except HFValidationError as error:
        raise SteerError(f"{repo!r} is no name for a repository: {_line(error)}") from None
    except OfflineModeIsEnabled:
        raise SteerError("the Hub cannot be reached: HF_HUB_OFFLINE is set; unset it") from None
    except HfHubHTTPError as error:
        advice = {401: "sign in with `hf auth login`, or set HF_TOKEN", 403: "your token may not"}
        said = advice.get(error.response.status_code, "see its page")
        raise SteerError(f"the Hub refused {repo}: {_line(error)}; {said}") from None
    except transport as error:
        raise SteerError(f"the Hub cannot be reached for {repo}: {_line(error)}") from None
    # The library below it that sends large files raises these, and RuntimeError for all else.
    except (ConnectionError, TimeoutError, PermissionError, RuntimeError) as error:
        raise SteerError(
            f"the Hub did not take the files of {repo}: {_line(error)}; the same command goes on, "
            "with HF_HUB_DISABLE_XET=1 in the older way of sending"
        ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
