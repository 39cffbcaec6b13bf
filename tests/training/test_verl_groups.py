"""Which rows of verl form a group, and how they are dealt out so that no update breaks one."""

import pytest

from relax_rl.errors import DataError
from relax_rl.training.verl.groups import Row, dealt, layout_of
from relax_rl.training.verl.sampled import rows_to_run, sampled_rows


def row(uid, length=20, padding=False, digest=b""):
    return Row(uid, length, 0 if padding else length - 5, may_be_padding=padding, digest=digest)


def dealt_out(num_groups, size, ranks, padding=0):
    """Rows as verl deals them: in turn, so that no group is on one rank."""
    rows = [row(f"p{group}", 10 + group) for group in range(num_groups) for _ in range(size)]
    rows += [row("p0", padding=True)] * padding
    return [rows[rank::ranks] for rank in range(ranks)]


def test_groups_are_brought_together_and_every_row_goes_to_one_place():
    rows = dealt_out(num_groups=8, size=4, ranks=2)
    layout = layout_of(rows, 4)
    assert not layout.is_whole
    plan = dealt(rows, layout, rows_of_update=16)
    assert sorted(where for own in plan for where in own) == sorted((r, p) for r in range(2) for p in range(16))
    for own in plan:
        uids = [rows[rank][place].uid for rank, place in own]
        assert all(len(set(uids[start : start + 4])) == 1 for start in range(0, 16, 4))


def test_no_update_breaks_a_group_where_groups_do_not_divide_by_the_ranks():
    rows = dealt_out(num_groups=6, size=4, ranks=4)
    plan = dealt(rows, layout_of(rows, 4), rows_of_update=8)
    for update in range(3):
        uids = [rows[rank][place].uid for own in plan for rank, place in own[2 * update : 2 * update + 2]]
        assert sorted(uids.count(uid) for uid in set(uids)) == [4, 4]


def test_padding_rows_are_left_out_and_a_rejected_completion_is_not():
    rows = dealt_out(num_groups=2, size=3, ranks=2, padding=2)
    layout = layout_of(rows, 3)
    assert len(layout.padding) == 2
    assert {uid: len(group) for uid, group in layout.groups.items()} == {"p0": 3, "p1": 3}
    rejected = [[row("a"), row("a", padding=True)]]
    assert layout_of(rejected, 2).padding == []


def test_a_group_of_another_size_is_refused():
    with pytest.raises(DataError, match=r"A prompt has 3 completions in an update of verl, and a group has 4"):
        layout_of(dealt_out(num_groups=2, size=3, ranks=1), 4)


def test_the_process_with_most_of_a_group_owns_it():
    layout = layout_of([[row("a"), row("a"), row("b")], [row("b"), row("b"), row("a")]], 3)
    assert (layout.owner("a"), layout.owner("b")) == (0, 1)


def test_a_sample_is_of_whole_groups_and_every_process_runs_as_many_rows():
    rows = dealt_out(num_groups=4, size=400, ranks=2)
    layout = layout_of(rows, 400)
    sampled = [sampled_rows(rows, layout, rank) for rank in range(2)]
    # A second group would be more than are measured.
    assert sorted(place for own in sampled for place in own.values()) == list(range(400))
    assert {rows[rank][row].uid for rank, own in enumerate(sampled) for row in own} == {"p0"}
    assert rows_to_run({5: 0, 1: 1, 3: 2}, num_rows=8, most=3, micro=4) == [5, 1, 3, 0]
    assert rows_to_run({}, num_rows=8, most=3, micro=4) == [0, 1, 2, 3]
    assert rows_to_run({2: 0}, num_rows=8, most=1, micro=1) == [2]


def test_a_sample_does_not_depend_on_names_nor_on_where_verl_put_the_rows():
    texts = [f"{group}{member}".encode() for group in "bca" for member in "120"]

    def sampled(names, ranks):
        dealt = [row(names[place // 3], digest=text) for place, text in enumerate(texts)]
        rows = [dealt[rank::ranks] for rank in range(ranks)]
        layout = layout_of(rows, 3)
        found = {}
        for rank in range(ranks):
            own = sampled_rows(rows, layout, rank)
            found |= {place: rows[rank][index].digest for index, place in own.items()}
        return [found[place] for place in range(9)]

    assert sampled("xyz", 1) == sampled("zxy", 1) == sampled("yxz", 3) == sorted(texts)
