"""NeMo Data Designer with our column; where it is installed, and so is steer with its entry
points."""

import pytest

pytest.importorskip("data_designer", reason="data-designer is not installed")

import pandas as pd
from data_designer.config.config_builder import DataDesignerConfigBuilder
from data_designer.config.models import ModelProvider
from data_designer.config.seed_source_dataframe import DataFrameSeedSource
from data_designer.interface import DataDesigner

from steer.plugins.datadesigner import SteerColumnConfig
from steer.runs.store import Run
from tests.plugins.shaped import shaped


@pytest.fixture(scope="module")
def settings(tiny_expert, tmp_path_factory) -> dict[str, str]:
    return shaped(tiny_expert, tmp_path_factory.mktemp("designer"))


@pytest.fixture
def designer(tmp_path) -> DataDesigner:
    nobody = ModelProvider(name="nobody", endpoint="http://127.0.0.1:9/v1")  # one must be named
    return DataDesigner(artifact_path=tmp_path, model_providers=[nobody])


def test_a_column_from_nothing(designer, settings):
    builder = DataDesignerConfigBuilder(model_configs=[])
    builder.add_column(SteerColumnConfig(name="record", **settings))
    rows = designer.preview(builder, num_records=4).dataset
    records = Run.open(settings["run"]).records
    assert len(rows) == 4
    assert rows["record__id"].tolist() == [record.id for record in records]
    assert all(set(row) == {"why", "of"} for row in rows["record"])
    assert (rows["record__log_prob"] < 0).all()


def test_a_column_beside_a_seed_dataset(designer, settings, tmp_path):
    builder = DataDesignerConfigBuilder(model_configs=[])
    builder.with_seed_dataset(DataFrameSeedSource(df=pd.DataFrame({"topic": list("abc")})))
    own = settings | {"run": str(tmp_path / "run")}
    builder.add_column(SteerColumnConfig(name="record", **own))
    rows = designer.preview(builder, num_records=3).dataset
    assert rows["topic"].tolist() == list("abc") and rows["record__id"].nunique() == 3
