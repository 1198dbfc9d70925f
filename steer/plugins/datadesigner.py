"""NeMo Data Designer: a column of records, by its entry points (data_designer.plugins)."""

from typing import TYPE_CHECKING, Any, Literal

from data_designer.config.base import SingleColumnConfig
from data_designer.engine.column_generators.generators.base import (
    ColumnGeneratorFullColumn,
    FromScratchColumnGenerator,
)
from data_designer.plugins.plugin import Plugin, PluginType

from steer.plugins.supply import Supply, content, likelihood

if TYPE_CHECKING:
    import pandas


class SteerColumnConfig(SingleColumnConfig):
    """A column of a supply's records: each row gets another one, as its text or as the object that
    it is. Its settings are those of `steer.plugins.supply.Supply`.

    NAME__id and NAME__log_prob beside it are the record's id in the run, and its mean
    log-probability under the expert. With `label_column`, a record has the label of its row.
    """

    column_type: Literal["steer"] = "steer"
    expert: str
    real: str
    run: str
    method: str | None = None
    gamma: float | None = None
    eta: float | None = None
    alpha: float | None = None
    seed: int = 0
    candidates: int = 1
    max_attempts: int | None = None
    engine: str = "hf"
    dtype: str = "auto"
    device: str = "auto"
    label_column: str | None = None

    @property
    def required_columns(self) -> list[str]:
        return [self.label_column] if self.label_column else []

    @property
    def side_effect_columns(self) -> list[str]:
        return [f"{self.name}__id", f"{self.name}__log_prob"]

    def supply(self) -> Supply:
        """Makes the supply."""
        return Supply(**{name: getattr(self, name) for name in Supply.model_fields})


class SteerColumnGenerator(
    FromScratchColumnGenerator[SteerColumnConfig], ColumnGeneratorFullColumn[SteerColumnConfig]
):
    """Fills the column, a batch at a time."""

    _supply: Supply | None = None

    @property
    def can_generate_from_scratch(self) -> bool:
        """Whether no other column is needed."""
        return self.config.label_column is None

    @property
    def is_order_dependent(self) -> bool:
        """Whether batches must come in their order: which records are left depends on it."""
        return True

    def generate_from_scratch(self, num_records: int) -> "pandas.DataFrame":
        """Makes `num_records` rows of this column alone."""
        import pandas

        return self.generate(pandas.DataFrame(index=range(num_records)))

    def generate(self, data: "pandas.DataFrame") -> "pandas.DataFrame":
        """Adds the column, and those beside it, to a batch of rows."""
        config = self.config
        if self._supply is None:
            self._supply = config.supply()
        labels: list[Any] = [None] * len(data)
        if config.label_column:
            labels = [str(label) for label in data[config.label_column]]
        records = self._supply.take(labels)
        data = data.copy()
        data[config.name] = [content(record) for record in records]
        data[f"{config.name}__id"] = [record.id for record in records]
        data[f"{config.name}__log_prob"] = [likelihood(record) for record in records]
        return data


plugin = Plugin(
    impl_qualified_name="steer.plugins.datadesigner.SteerColumnGenerator",
    config_qualified_name="steer.plugins.datadesigner.SteerColumnConfig",
    plugin_type=PluginType.COLUMN_GENERATOR,
)
