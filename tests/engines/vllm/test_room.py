"""Which groups may start, against a plain count of what the running ones may come to need."""

from hypothesis import given
from hypothesis import strategies as st

from steer.engines.vllm.room import Capacity, Room, SequencePlan

LENGTHS = {"prompt": 5, "panel": 70, "other panel": 64, "long": 200}
plans = st.builds(
    lambda adapter, context, new: SequencePlan(adapter, context, LENGTHS[context], new),
    st.integers(0, 2),
    st.sampled_from(sorted(LENGTHS)),
    st.integers(1, 40),
)
groups = st.lists(plans, min_size=1, max_size=4).map(tuple)
capacities = st.builds(
    Capacity,
    sequences=st.integers(1, 12),
    blocks=st.integers(1, 60),
    block=st.sampled_from([8, 32]),
    step_tokens=st.integers(1, 400),
    shares=st.booleans(),
)


def most_blocks(running: list[tuple[SequencePlan, ...]], capacity: Capacity) -> int:
    """Blocks in use when every running record is at its longest: shared ones once."""
    shared, own = set(), 0
    for plan in (plan for group in running for plan in group):
        whole = -(-(plan.length + plan.new_tokens) // capacity.block)
        common = (plan.length - 1) // capacity.block if capacity.shares else 0
        shared |= {(plan.adapter, plan.context, block) for block in range(common)}
        own += whole - common
    return len(shared) + own


def first_tokens(
    running: list[tuple[SequencePlan, ...]], new: list[tuple[SequencePlan, ...]], capacity: Capacity
) -> int:
    """Tokens of the step in which the groups `new` join the `running` ones."""
    read = {(plan.adapter, plan.context) for group in running for plan in group}
    tokens = sum(len(group) for group in running)
    for plan in (plan for group in new for plan in group):
        known = capacity.shares and (plan.adapter, plan.context) in read
        cached = (plan.length - 1) // capacity.block * capacity.block if known else 0
        tokens += plan.length - cached
        read.add((plan.adapter, plan.context))
    return tokens


@given(capacities, st.lists(groups, max_size=12), st.data())
def test_a_group_starts_if_and_only_if_all_of_it_fits(capacity, waiting, data):
    room, running = Room(capacity), []
    while waiting:
        room.begin_step()
        new: list[tuple[SequencePlan, ...]] = []
        for _ in range(data.draw(st.integers(1, len(waiting)))):
            group = waiting.pop(0)
            together = [*running, *new, group]
            fits = (
                sum(map(len, together)) <= capacity.sequences
                and most_blocks(together, capacity) <= capacity.blocks
                and first_tokens(running, [*new, group], capacity) <= capacity.step_tokens
            )
            assert room.take(group) == fits
            if fits:
                new.append(group)
        running += new
        for _ in range(data.draw(st.integers(0, len(running)))):
            room.release(running.pop(data.draw(st.integers(0, len(running) - 1))))
        assert room.blocks == most_blocks(running, capacity)
        assert room.sequences == sum(map(len, running))


def test_caches_of_several_layouts_share_nothing_and_cost_each():
    room = Room(Capacity(9, 100, 16, 1000, shares=False, layouts=2))
    plan = SequencePlan(1, "panel", 70, 10)
    room.begin_step()
    assert room.take((plan, plan))
    assert (room.blocks, room.step_tokens) == (2 * 2 * 5, 140)
