import numpy as np
import pandas as pd
import pytest

from tasks.report.delta import put_aside
from tasks.report.trends import KEPT, add_night, drifts, night_counts, trend_lines
from tests.tasks.report.cases import LABELS, broken, score, segmented


def night(output, day, *dice, killed=False):
    """The nights up to this one: a case for each of `dice`, that of its label 1; `killed` before its record."""
    put_aside(output)
    cases = [segmented(f"C{number}", score(1, one), score(2, 0.5)) for number, one in enumerate(dice)]
    run = {"finished": f"2026-11-{day:02d}T01:00:00+00:00", "model_sha256": "m"}
    nights = add_night([*cases, broken("X")], LABELS, run, output)
    if not killed:
        (output / "run.json").touch()
    return nights


def test_every_night_adds_a_row_a_label_to_those_before(tmp_path):
    night(tmp_path, 1, 0.8, 0.6)
    night(tmp_path, 2, 0.9)
    lines = (tmp_path / "trends.csv").read_text().splitlines()
    assert lines[1] == "2026-11-01T01:00:00+00:00,m,3,2,0,1,0,0,1,1,4,,1,left,2,0.7,1234.57"
    assert [line.split(",")[12] for line in lines[1:]] == ["1", "2", "1", "2"]


def test_the_former_nights_keep_their_bytes(tmp_path):
    night(tmp_path, 1, 0.8123456789)
    before = (tmp_path / "trends.csv").read_bytes()
    night(tmp_path, 2, 0.9)
    assert (tmp_path / "trends.csv").read_bytes().startswith(before)


@pytest.mark.parametrize("nights_before", [0, 1, 2])
def test_a_night_that_was_killed_before_its_record_is_in_no_trend(tmp_path, nights_before):
    for day in range(nights_before):
        night(tmp_path, day + 1, 0.8)
    for day in (10, 11):
        night(tmp_path, day, 0.1, killed=True)
    days = [finished[8:10] for finished in night(tmp_path, 12, 0.9)["finished"].unique()]
    assert days == [*["01", "02"][:nights_before], "12"]
    assert (tmp_path / "trends.csv").read_text().count("2026-11-12") == 2


@pytest.mark.parametrize("damaged", [b"", b"a,b\n1,2\n", b"\xff\xfe", b"finished\n"])
def test_a_table_that_cannot_be_read_is_begun_anew(tmp_path, damaged):
    night(tmp_path, 1, 0.8)
    (tmp_path / "trends.csv").write_bytes(damaged)
    assert len(night(tmp_path, 1, 0.8)) == 2
    assert (tmp_path / "trends.csv.old").read_bytes() == damaged


def test_the_nights_of_an_older_version_stay_and_lack_only_what_it_did_not_write(tmp_path):
    (tmp_path / "trends.csv").write_text(
        "finished,model_sha256,n_cases,n_segmented,n_quarantined,n_failed,label,name,dice_n_valid,dice_mean,volume_median_ml\n"
        "2026-11-01T01:00:00+00:00,m,3,2,1,0,1,left,2,0.7,1234.57\n"
    )
    (tmp_path / "run.json").touch()
    lines = night(tmp_path, 2, 0.9).to_csv(index=False).splitlines()
    assert lines[1] == "2026-11-01T01:00:00+00:00,m,3,2,,1,0,,,,,,1,left,2,0.7,1234.57"
    assert not (tmp_path / "trends.csv.old").exists()


def test_a_table_of_a_newer_version_is_put_aside_whole(tmp_path):
    night(tmp_path, 1, 0.8)
    newer = (
        (tmp_path / "trends.csv").read_text().replace("finished,", "scanner,finished,").replace("\n2026", "\nX,2026")
    )
    (tmp_path / "trends.csv").write_text(newer)
    assert list(night(tmp_path, 2, 0.9)["finished"].str[:10].unique()) == ["2026-11-02"]
    assert (tmp_path / "trends.csv.old").read_text() == newer


def test_the_oldest_nights_go(tmp_path):
    table = night(tmp_path, 1, 0.8)
    many = [table.assign(finished=f"2020-{number:05d}") for number in range(KEPT + 5)]
    (tmp_path / "trends.csv").write_text("".join(part.to_csv(index=False, header=not n) for n, part in enumerate(many)))
    assert night(tmp_path, 2, 0.9)["finished"].nunique() == KEPT


def test_the_line_of_a_label_goes_from_the_oldest_night_to_the_newest(tmp_path):
    assert trend_lines(night(tmp_path, 1, 0.8), LABELS) == []
    night(tmp_path, 2, 0.9)
    left, _ = trend_lines(night(tmp_path, 3, 0.8), LABELS)
    assert [(point.x, point.text) for point in left.points] == [(0.0, "0.8"), (50.0, "0.9"), (100.0, "0.8")]
    assert [round(point.y) for point in left.points] == [100, 0, 100]
    assert left.note == "mean Dice"


def test_the_nights_are_counted_newest_first(tmp_path):
    night(tmp_path, 1, 0.8)
    counts = night_counts(night(tmp_path, 2, 0.8, 0.9))
    assert [(row["finished"][:10], row["n_segmented"], row["n_quarantined"]) for row in counts] == [
        ("2026-11-02", 2, 1),
        ("2026-11-01", 1, 1),
    ]


def nights_of(*spacings_mm, n_cases=3):
    """Nights with that spacing along the third axis."""
    table = pd.DataFrame(
        {"finished": [f"night {number}" for number in range(len(spacings_mm))], "spacing_z_mm": spacings_mm}
    )
    return table.assign(n_cases=n_cases, spacing_x_mm=1.0, spacing_y_mm=1.0, intensity_median=np.nan)


@pytest.mark.parametrize(
    ("spacings_mm", "drifted"),
    [
        ((4, 4, 4, 4, 4, 5), True),
        ((4, 4, 4, 4, 4, 4.3), False),  # less than 10 %
        ((3, 4, 5, 4, 3, 5), False),  # no more than the nights before differ among themselves
        ((4, 4, 4, 4, 5), False),  # four nights before are too few
        ((4, 4, 4, 4, 4, np.nan), False),
    ],
)
def test_a_night_drifts_when_its_scans_are_unlike_those_of_the_nights_before(spacings_mm, drifted):
    found = ["spacing along the third axis in mm: 5 tonight, 4 in the 5 nights before"] if drifted else []
    assert drifts(nights_of(*spacings_mm)) == found


def test_a_drift_is_said_beside_the_range_of_the_nights_before():
    assert drifts(nights_of(3.9, 4, 4, 4, 4.1, 6)) == [
        "spacing along the third axis in mm: 6 tonight, 3.9 to 4.1 in the 5 nights before"
    ]


def test_two_cases_are_no_drift():
    assert drifts(nights_of(4, 4, 4, 4, 4, 5, n_cases=2)) == []
