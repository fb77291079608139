"""Whether requests of one class come alone."""

from __future__ import annotations

from serving.classes_seen import REMEMBERED_S, ClassesSeen


def test_a_class_is_the_only_one_until_another_comes_and_again_when_that_is_forgotten():
    clock = [100.0]
    seen = ClassesSeen(lambda: clock[0])
    assert seen.the_only_one() is None
    seen.note("a")
    assert seen.the_only_one() == "a"
    seen.note("b")
    assert seen.the_only_one() is None
    clock[0] += REMEMBERED_S
    seen.note("a")
    assert seen.the_only_one() is None
    clock[0] += 1
    assert seen.the_only_one() == "a"
    clock[0] += REMEMBERED_S
    assert seen.the_only_one() is None
