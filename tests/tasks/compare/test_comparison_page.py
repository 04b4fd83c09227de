"""The page and the tables of a comparison."""

import pandas as pd
import pytest

from tasks.compare import compare_runs, write_comparison
from tasks.compare.page import SHOWN, as_p, signed
from tasks.report.tables import write_tables
from tests.tasks.report.cases import broken, score, segmented

LABELS = {1: "<b>left</b>", 2: "right"}


def write(folder, first, second, fallen=None, margin=None):
    for name, cases in (("first", first), ("second", second)):
        write_tables(cases, LABELS, folder / name)
    runs = (folder / "first", folder / "second")
    write_comparison(compare_runs(*runs), runs, fallen or {}, margin, folder / "out")
    return (folder / "out" / "comparison.html").read_text(encoding="utf-8")


def test_the_page_tells_who_became_worse_and_who_is_gone(tmp_path):
    first = [segmented(name, score(1, 0.8), score(2, 0.7)) for name in ("A", "B")]
    page = write(tmp_path, first, [segmented("A", score(1, 0.6), score(2, 0.7)), broken("B")])
    assert "<h2>Worse: 1</h2>" in page
    assert "<h2>Gone: 2</h2>" in page
    assert "−0.2000" in page
    assert "not_segmented" in page
    assert "gate" not in page


def test_whatever_stands_in_the_tables_is_escaped(tmp_path):
    page = write(tmp_path, [segmented("A", score(1, 0.8))], [segmented("A", score(1, 0.6))])
    assert "&lt;b&gt;" not in page  # `cases.py` names the labels itself
    (tmp_path / "out2").mkdir()
    table = pd.read_csv(tmp_path / "first" / "metrics.csv")
    table.assign(name="<script>x</script>").to_csv(tmp_path / "out2" / "metrics.csv", index=False)
    runs = (tmp_path / "out2", tmp_path / "out2")
    write_comparison(compare_runs(*runs), runs, {}, None, tmp_path / "out2")
    page = (tmp_path / "out2" / "comparison.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;x" in page


def test_a_closed_gate_comes_first(tmp_path):
    cases = [segmented("A", score(1, 0.8))]
    page = write(tmp_path, cases, cases, fallen={"left (1)": 0.05}, margin=0.01)
    assert "The gate is closed: 1 of 1 labels lost more than 0.01 Dice." in page
    assert page.index("left (1)") < page.index('id="labels"')


def test_an_open_gate_says_so(tmp_path):
    cases = [segmented("A", score(1, 0.8))]
    assert "The gate is open: no label lost more than 0.01 Dice." in write(tmp_path, cases, cases, margin=0.01)


def test_a_long_list_is_cut_and_the_table_has_all(tmp_path):
    count = SHOWN + 5
    first = [segmented(f"c{i:03d}", score(1, 0.9)) for i in range(count)]
    page = write(tmp_path, first, [segmented(f"c{i:03d}", score(1, 0.8 - i / 1000)) for i in range(count)])
    assert f"The first {SHOWN}; " in page
    assert ("<th>c054</th>" in page, "<th>c000</th>" in page) == (True, False)  # the largest loss comes first
    assert len(pd.read_csv(tmp_path / "out" / "comparison_cases.csv")) == count


def test_the_same_runs_give_the_same_bytes(tmp_path):
    first, second = [segmented(n, score(1, 0.8)) for n in "AB"], [segmented(n, score(1, 0.7)) for n in "BC"]
    names = ("comparison.csv", "comparison_cases.csv", "comparison.html")
    write(tmp_path, first, second)
    before = [(tmp_path / "out" / name).read_bytes() for name in names]
    write(tmp_path, first[::-1], second[::-1])
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == before


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.01234, "+0.012"), (-1.0, "−1.000"), (0.0, "0.000"), (float("inf"), "+∞"), (float("nan"), "–")],
)
def test_a_difference_has_its_sign(number, text):
    assert signed(number, 3) == text


@pytest.mark.parametrize(("p", "text"), [(0.0004, "< 0.001"), (0.0451, "0.045"), (1.0, "1.000"), (float("nan"), "–")])
def test_a_p_value_is_never_zero(p, text):
    assert as_p(p) == text


def test_two_runs_without_a_dice_have_a_page_too(tmp_path):
    assert "Second minus first" in write(tmp_path, [broken("A")], [broken("A")])
