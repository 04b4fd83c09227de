import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tasks.ingest import SetAside
from tasks.report.page import as_volume, choose_examples, dice_ticks, write_page
from tasks.scan.records import Outcome, Problem
from tests.phantoms import box, truncate
from tests.tasks.report.cases import broken, on_disk, score, segmented

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
RUN = {"cohort": "demo", "model_sha256": "0123456789abcdef", "flow_run": None, "versions": {"torch": "2.13.0"}}
CUBE = box((20, 20, 10), (5, 5, 2), (15, 15, 8))


def page(output, *outcomes, labels=None, run=RUN, set_aside=()):
    write_page(outcomes, labels or {1: "left"}, run, output, set_aside)
    return (output / "report.html").read_text(encoding="utf-8")


def words(html):
    """The page's text, without markup and style."""
    return unescape(" ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL).split()))


def five_cases(folder):
    """Predictions that are the reference without its last 0, 1, 2, 3 or 4 slices of 6."""
    return [on_disk(folder, f"C{less}", CUBE, CUBE * (np.arange(10) < 8 - less), (1, 1, 2)) for less in range(5)]


def test_a_failed_case_is_told_with_stage_reason_message_and_remedy_before_anything_else(tmp_path):
    text = words(page(tmp_path, broken("C07")))
    said = "C07 quarantined stage ingest reason missing_slice slice 3 is missing What to do send it again"
    assert text.index("1 of 1 cases need attention") < text.index(said) < text.index("What ran")


def test_a_case_that_nobody_accounted_for_is_told_as_failed(tmp_path):
    assert "lost failed stage ingest reason unaccounted" in words(page(tmp_path, Outcome(name="lost")))


def test_without_trouble_the_page_says_so(tmp_path):
    assert "All 5 cases were segmented." in words(page(tmp_path, *five_cases(tmp_path)))


def test_what_ran_is_shown_without_what_is_not_known(tmp_path):
    text = words(page(tmp_path, broken("A")))
    assert "cohort demo model sha256 0123456789ab versions torch 2.13.0" in text
    assert "flow run" not in text


def test_hostile_text_is_shown_and_not_run(tmp_path):
    script = "<script>alert(1)</script>"
    html = page(
        tmp_path,
        broken(script, script, script),
        segmented("A", score(1, 0.5)),
        labels={1: script},
        run={script: script},
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 6


def test_files_that_are_no_case_are_named_with_the_reason_and_beyond_fifty_counted(tmp_path):
    aside = [SetAside(path=Path(f"in/<b>{number}.txt"), reason="no <i>format") for number in range(53)]
    html = page(tmp_path, broken("A"), set_aside=aside)
    assert "in/<b>0.txt no <i>format" in words(html)
    assert html.count("no &lt;i&gt;format") == 50
    assert "and 3 more: run.json lists them all" in words(html)
    assert "more: run.json" not in words(page(tmp_path, broken("A"), set_aside=aside[:50]))


@pytest.mark.parametrize(
    ("volume_ml", "text"),
    [(0.0, "0"), (0.00123456, "0.00123"), (0.9996, "1.00"), (12.345, "12.3"), (999.6, "1000"), (123456.7, "123457")],
)
def test_a_volume_has_three_digits_that_count(volume_ml, text):
    assert as_volume(volume_ml) == text
    assert as_volume(float("nan")) == "–"


def test_the_examples_are_the_three_worst_cases_and_the_median():
    cases = [segmented(f"C{number}", score(1, number / 10)) for number in (9, 1, 5, 3, 2, 4, 8, 6)]
    chosen = [(title, scores.segmentation.case.name) for title, scores in choose_examples(cases)]
    assert chosen == [("worst", "C1"), ("second worst", "C2"), ("third worst", "C3"), ("median", "C4")]


def test_a_case_that_is_worst_and_median_is_shown_once():
    chosen = [
        (title, scores.segmentation.case.name) for title, scores in choose_examples([segmented("A", score(1, 0.5))])
    ]
    assert chosen == [("worst and median", "A")]


def test_a_case_whose_labels_are_all_undefined_is_no_example_beside_one_with_a_dice():
    cases = [segmented("A", score(1, float("nan"), "both_empty")), segmented("B", score(1, 0.5))]
    assert [scores.segmentation.case.name for _, scores in choose_examples(cases)] == ["B"]


def test_without_references_the_examples_are_the_extremes_by_volume(tmp_path):
    cases = [segmented(name, score(1, float("nan"), "no_reference")) for name in "ABC"]
    for case, volume_ml in zip(cases, (20.0, 30.0, 10.0), strict=True):
        case.value.segmentation.volumes_ml.update({1: volume_ml, 2: 0.0})
    chosen = [(title, scores.segmentation.case.name) for title, scores in choose_examples(cases)]
    assert chosen == [("smallest volume", "C"), ("median volume", "A"), ("largest volume", "B")]
    assert "No case could be compared with a reference, so there is no Dice." in words(page(tmp_path, *cases))


def test_a_picture_that_cannot_be_made_is_told_and_the_page_stands(tmp_path):
    case = on_disk(tmp_path, "A", CUBE, CUBE, (1, 1, 1))
    truncate(case.value.segmentation.mask, 0.5)
    assert "No picture could be made. case 'A': 'A.nii.gz' cannot be read" in words(page(tmp_path, case))


def test_a_refused_reference_is_told_with_the_mask_that_was_kept(tmp_path):
    problem = Problem(
        stage="evaluate", status="quarantined", reason="grid_mismatch", message="grids", remedy="resample"
    )
    refused = replace(segmented("A", score(1, float("nan"), "reference_refused")), problem=problem)
    assert "What to do resample The segmentation was written and is kept." in words(page(tmp_path, refused))


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path):
    html = page(tmp_path, *five_cases(tmp_path), broken("X"))
    addresses = set(re.findall(r"""(?:src|href)=["']?([^"' >]+)|url\(([^)]+)\)""", html))
    assert "//" not in html
    assert all((tmp_path / address).is_file() for address, _ in addresses if not address.endswith((".csv", ".json")))


def test_pictures_of_an_earlier_page_go_away(tmp_path):
    cases = five_cases(tmp_path)
    page(tmp_path, *cases)
    page(tmp_path, cases[0])
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["C0-axial.png", "C0-coronal.png", "C0-sagittal.png"]


def test_the_page_of_no_case_says_that_none_was_found(tmp_path):
    assert "No case was found." in words(page(tmp_path))


@pytest.mark.parametrize(
    ("lowest", "ticks"),
    [
        (0.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.61, [0.6, 0.7, 0.8, 0.9, 1.0]),
        (0.93, [0.92, 0.94, 0.96, 0.98, 1.0]),
        (1.0, [0.98, 1.0]),
    ],
)
def test_the_dice_axis_begins_at_a_round_number_below_the_lowest(lowest, ticks):
    assert dice_ticks(pd.Series([lowest, 1.0])) == ticks


@pytest.fixture(scope="module")
def browser():
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    yield driver
    driver.quit()


def test_the_page_in_a_browser(tmp_path, browser):
    hostile = broken("C9", message="=cmd() <script>document.title = 'run'</script>")
    lost = replace(five_cases(tmp_path)[0], name="C8", value=None, problem=hostile.problem)
    page(tmp_path, *five_cases(tmp_path), hostile, replace(lost, problem=replace(hostile.problem, status="failed")))
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    browser.get((tmp_path / "report.html").as_uri())
    tiles = browser.execute_script("return [...document.querySelectorAll('.tile')].map(tile => tile.innerText)")
    sections = browser.execute_script("return [...document.querySelectorAll('section[id]')].map(each => each.id)")
    widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    across = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert [tile.split() for tile in tiles] == [
        ["7", "found"],
        ["5", "segmented"],
        ["1", "quarantined"],
        ["1", "failed"],
    ]
    assert sections == ["failures", "run", "dice", "examples", "cases"]
    assert widths == [520] * 9  # the third worst of five cases is their median
    assert across == [390, 390]
    assert browser.title == "Segmentation report: 7 cases"
    assert "=cmd() <script>" in browser.find_element("id", "failures").text
    assert browser.get_log("browser") == []


def test_a_long_name_leaves_the_numbers_in_view(tmp_path, browser):
    page(tmp_path, *(replace(case, name="n" * 80) for case in five_cases(tmp_path)))
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get((tmp_path / "report.html").as_uri())
    widths = browser.execute_script(
        "const table = document.querySelector('.cases');"
        "return [table.querySelector('tbody th').offsetWidth, table.offsetWidth, table.parentElement.clientWidth]"
    )
    assert widths[0] <= 280
    assert widths[1] <= widths[2]
