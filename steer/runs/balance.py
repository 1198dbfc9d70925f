"""How many records of each label make the labels of real texts equally frequent."""

from collections import Counter

from steer.data.corpus import Corpus
from steer.errors import SteerError


def balancing(real: Corpus) -> dict[str, int]:
    """Counts for each label the records that it has less than the largest one; those that have as
    many are left out. Raises `SteerError` without labels, and where they are balanced already."""
    if not real.labels:
        raise SteerError(
            f"--balance fills labels up, but {real.source} was read without any; "
            "name their column with --label-column"
        )
    counts = Counter(real.labels)
    most = max(counts.values())
    missing = {label: most - count for label, count in sorted(counts.items()) if count < most}
    if not missing:
        raise SteerError(
            f"--balance has nothing to fill up: each label of {real.source} has {most} texts; "
            "ask for records with --label LABEL=N"
        )
    return missing
