"""Runs at s3:// addresses: s3fs as a user has it, and moto's S3 behind a loopback port."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from steer.cli.main import main
from steer.config import RunConfig
from steer.errors import SteerError
from steer.runs.generation import RunProgress, generate
from steer.runs.store import Run, open_store
from tests import stub
from tests.runs.test_cluster import CHILDREN, REAL
from tests.runs.test_generation import rounds
from tests.runs.test_store import CONFIG, ROUNDS, SOURCES

SETTINGS = RunConfig(n=40, round_size=12, rows_per_panel=4, lag=2)
CONFLICT = (
    b"<Error><Code>ConditionalRequestConflict</Code><Message>A conflicting conditional operation "
    b"is currently in progress against this resource. Please try again.</Message></Error>"
)


class S3:
    """moto, one request at a time, so that its look and its write are one step as in S3 itself;
    `conflicts` of the next PUTs are answered as S3 does when two come at once."""

    def __init__(self) -> None:
        server = pytest.importorskip("moto.moto_server.werkzeug_app")
        serving = pytest.importorskip("werkzeug.serving")
        self._app = server.DomainDispatcherApplication(server.create_backend_app)
        self.server = serving.make_server("127.0.0.1", 0, self, request_handler=_quiet(serving))
        self.conflicts = 0
        self.puts: list[tuple[str, str | None]] = []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        if environ["REQUEST_METHOD"] == "PUT":
            self.puts.append((environ["PATH_INFO"], environ.get("HTTP_IF_NONE_MATCH")))
            if self.conflicts:
                self.conflicts -= 1
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start("409 Conflict", [("Content-Type", "application/xml")])
                return [CONFLICT]
        return self._app(environ, start)


def _quiet(serving: Any) -> Any:
    class Handler(serving.WSGIRequestHandler):  # type: ignore[misc]
        def log_request(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    pytest.importorskip("s3fs")
    served = S3()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{served.server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield served
    served.server.shutdown()


@pytest.fixture
def bucket(s3: S3, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("_", "-").split("[")[0]
    fsspec.filesystem("s3").mkdir(name)
    s3.puts.clear()
    return name


def make(out: Path | str, **settings: Any) -> Run:
    return generate(SETTINGS, REAL, stub.StubExpert(), stub.StubEngine(REAL), out, **settings)


def objects(address: str) -> dict[str, bytes]:
    files = fsspec.filesystem("s3")
    files.invalidate_cache()
    return {Path(name).name: files.cat_file(name) for name in files.find(f"{address}/rounds")}


def test_a_run_is_that_of_a_folder(s3: S3, bucket: str, tmp_path: Path) -> None:
    there, here = make(f"s3://{bucket}/run"), make(tmp_path / "run")
    assert there.records == here.records
    assert objects(f"s3://{bucket}/run") == rounds(tmp_path / "run")
    # Each object is created by one conditional request.
    assert {match for _, match in s3.puts} == {"*"}
    assert len(s3.puts) == there.rounds + 1


def test_the_second_writer_of_another_round_is_refused(bucket: str) -> None:
    out = f"s3://{bucket}/run"
    with open_store(out, CONFIG, SOURCES) as one, open_store(out, CONFIG, SOURCES) as two:
        one.commit(0, ROUNDS[0])
        with pytest.raises(SteerError, match="written by another process meanwhile"):
            two.commit(0, ROUNDS[0][:1])
        two.commit(0, ROUNDS[0])
    assert Run.open(out).records == (ROUNDS[0][0],)


def test_two_drivers_at_once(bucket: str, tmp_path: Path) -> None:
    """Both make the same rounds; none is written twice, and both end well."""
    made: list[Run] = []
    drivers = [
        threading.Thread(target=lambda: made.append(make(f"s3://{bucket}/run"))) for _ in "ab"
    ]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert len(made) == 2
    assert objects(f"s3://{bucket}/run") == rounds(make(tmp_path / "run").path)


def test_a_conflict_is_tried_again(s3: S3, bucket: str, tmp_path: Path) -> None:
    """S3 answers 409 to one of two who create an object at the same instant."""
    s3.conflicts = 2
    assert make(f"s3://{bucket}/run").complete
    assert objects(f"s3://{bucket}/run") == rounds(make(tmp_path / "run").path)


def drive(out: str, settings: dict[str, str]) -> None:
    """What is killed: a driver that dies without a word after its first rounds. The process that
    it is forked from may have started before there was an S3."""
    os.environ.update(settings)

    def die(progress: RunProgress) -> None:
        if progress.accepted > 10:
            os.kill(os.getpid(), signal.SIGKILL)

    make(out, on_progress=die)


def test_a_killed_driver_s_run_continues(bucket: str, tmp_path: Path) -> None:
    settings = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    driver = CHILDREN.Process(target=drive, args=(f"s3://{bucket}/run", settings))
    driver.start()
    driver.join()
    assert driver.exitcode == -9
    assert 0 < len(Run.open(f"s3://{bucket}/run").records) < 40
    make(f"s3://{bucket}/run")
    assert objects(f"s3://{bucket}/run") == rounds(make(tmp_path / "run").path)


def test_damage_and_loss_are_found(bucket: str) -> None:
    make(f"s3://{bucket}/run")
    files, name = fsspec.filesystem("s3"), f"{bucket}/run/rounds/000001.jsonl"
    files.pipe_file(name, files.cat_file(name)[:-9])
    with pytest.raises(SteerError, match=r"run/rounds/000001\.jsonl is damaged"):
        Run.open(f"s3://{bucket}/run")
    files.rm_file(name)
    with pytest.raises(SteerError, match=r"cannot read .*000001\.jsonl"):
        Run.open(f"s3://{bucket}/run")


def test_a_bucket_that_is_not_there(s3: S3, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SteerError, match=r"cannot write s3://nowhere/run: .*bucket"):
        make("s3://nowhere/run")
    assert main(["show", "s3://nowhere/run"]) == 2
    assert "s3://nowhere/run is no run" in capsys.readouterr().err
