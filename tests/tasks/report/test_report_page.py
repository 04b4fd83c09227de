import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from tasks.drawing import draw_picture
from tasks.ingest import SetAside
from tasks.report.charts import dice_ticks
from tasks.report.delta import put_aside
from tasks.report.page import Beside, as_volume, shown_labels, write_page
from tasks.report.tables import metrics_frame
from tasks.report.trends import add_night
from tasks.scan.records import Outcome, Problem
from tests.phantoms import box, truncate
from tests.tasks.report.cases import broken, on_disk, score, segmented

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
RUN = {"cohort": "demo", "model_sha256": "0123456789abcdef", "flow_run": None, "versions": {"torch": "2.13.0"}}
CUBE = box((20, 20, 10), (5, 5, 2), (15, 15, 8))


def page(output, *outcomes, labels=None, run=RUN, set_aside=(), nights=None):
    pictures = {one.name: draw_picture(one.value, output / "pictures") for one in outcomes if one.value}
    write_page(
        outcomes, labels or {1: "left"}, run, output, Beside(set_aside=set_aside, pictures=pictures, nights=nights)
    )
    return (output / "report.html").read_text(encoding="utf-8")


def words(html):
    """The page's text, without markup, style and script."""
    markup = r"<style>.*?</style>|<script>.*?</script>|<[^>]*>"
    return unescape(" ".join(re.sub(markup, " ", html, flags=re.DOTALL).split()))


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


def test_of_one_case_there_is_no_interval(tmp_path):
    one = page(tmp_path / "one", segmented("A", score(1, 0.5)))
    two = page(tmp_path / "two", segmented("A", score(1, 0.5)), segmented("B", score(1, 0.7)))
    assert "left 1 of 1 0 0 0.500 0.500 0.500 2.00 1.00" in words(one)
    assert "left 2 of 2 0 0 0.600 0.500 to 0.700 0.600 0.550 to 0.650 0.600 2.00 1.00" in words(two)


def test_hostile_text_is_shown_and_not_run(tmp_path):
    script = "<script>alert(1)</script>"
    html = page(
        tmp_path,
        broken(script, script, script),
        segmented("A", score(1, 0.5)),
        labels={1: script},
        run={script: script},
    )
    assert html.count("<script") == 1  # our own, the only one whose checksum the page's policy lets run
    assert html.count("&lt;script&gt;") >= 6


def test_files_that_are_no_case_are_named_with_the_reason_and_beyond_fifty_counted(tmp_path):
    aside = [SetAside(path=Path(f"demo/in/<b>{number}.txt"), reason="no <i>format") for number in range(53)]
    html = page(tmp_path, broken("A"), set_aside=aside)
    assert " in/<b>0.txt no <i>format" in words(html)
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


def examples(*cases, labels=None):
    """Title and name of the cases that are shown first, from the page."""
    with TemporaryDirectory() as folder:
        html = page(Path(folder), *cases, labels=labels)
    return re.findall(r'<h3><a href="#c\d+">(\w+)</a> <span class="badge">([^<]+)</span>', html)


def test_the_examples_are_the_three_worst_cases_and_the_median():
    cases = [segmented(f"C{number}", score(1, number / 10)) for number in (9, 1, 5, 3, 2, 4, 8, 6)]
    assert examples(*cases) == [("C1", "worst"), ("C2", "second worst"), ("C3", "third worst"), ("C4", "median")]


def test_a_case_that_is_worst_and_median_is_shown_once():
    assert examples(segmented("A", score(1, 0.5))) == [("A", "worst and median")]


def test_a_case_whose_labels_are_all_undefined_is_no_example_beside_one_with_a_dice():
    cases = [segmented("A", score(1, float("nan"), "both_empty")), segmented("B", score(1, 0.5))]
    assert examples(*cases) == [("B", "worst and median")]


def test_without_references_the_examples_are_the_extremes_by_volume(tmp_path):
    cases = [segmented(name, score(1, float("nan"), "no_reference")) for name in "ABC"]
    for case, volume_ml in zip(cases, (20.0, 30.0, 10.0), strict=True):
        case.value.segmentation.volumes_ml.update({1: volume_ml, 2: 0.0})
    assert examples(*cases) == [("C", "smallest volume"), ("A", "median volume"), ("B", "largest volume")]
    assert "No case could be compared with a reference, so there is no Dice." in words(page(tmp_path, *cases))


def test_of_too_many_labels_the_worst_are_shown_case_by_case():
    cases = [segmented(f"C{number}", score(1, 0.9), score(2, 0.5)) for number in range(3000)]
    metrics = metrics_frame(cases, {1: "left", 2: "right"})
    assert shown_labels(metrics, {1: "left", 2: "right"}) == {2: "right"}
    assert shown_labels(metrics.head(20), {1: "left", 2: "right"}) == {1: "left", 2: "right"}


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
    files = {address for address, _ in addresses if not address.endswith((".csv", ".json")) and address[0] != "#"}
    assert files == {f"pictures/C{number}.png" for number in range(5)}
    assert all((tmp_path / address).is_file() for address in files)


def test_every_case_has_an_entry_that_its_points_and_its_row_lead_to(tmp_path):
    html = page(tmp_path, *five_cases(tmp_path), broken("X"))
    anchors = re.findall(r'id="(c\d)"', html)
    assert anchors == ["c0", "c1", "c2", "c3", "c4", "c5"]
    assert [html.count(f'href="#{anchor}" tabindex') for anchor in anchors] == [2, 2, 2, 2, 2, 0]  # Dice and volume
    assert all(f'<th><a href="#{anchor}">' in html for anchor in anchors)


def test_the_page_of_five_hundred_cases_is_below_three_megabytes(tmp_path):
    labels = {value: f"structure number {value}" for value in range(1, 5)}
    scores = [replace(score(1, 0.1 + value / 10), label=value, name=name) for value, name in labels.items()]
    cases = [segmented(f"sub-{number:04d}_ses-01_acq-highres", *scores) for number in range(500)]
    write_page(cases, labels, RUN, tmp_path)
    assert 1e6 < (tmp_path / "report.html").stat().st_size < 3e6


def contrast(first, second):
    """Contrast ratio of two colours, #rrggbb, by the Web Content Accessibility Guidelines 2.2."""
    light = []
    for colour in (first, second):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_every_text_stands_out_from_its_ground_by_day_and_in_the_dark(tmp_path):
    grounds = {"text": ("page", "card", "line"), "quiet": ("page", "card"), "accent": ("page", "card")}
    grounds |= {name: ("page", "card", f"{name}-tint") for name in ("good", "warn", "bad")}
    day, dark, _ = re.findall(r":root \{(.*?)\}", page(tmp_path, broken("A")), flags=re.DOTALL)
    for colours in (dict(re.findall(r"--([\w-]+): (#\w{6})", theme)) for theme in (day, dark)):
        poor = [
            (name, on) for name, all_ in grounds.items() for on in all_ if contrast(colours[name], colours[on]) < 4.5
        ]
        assert poor == []


def test_the_page_says_that_the_scans_differ_from_those_of_the_nights_before(tmp_path):
    case = segmented("A", score(1, 0.9))
    for day in range(6):
        put_aside(tmp_path)
        run = {"finished": f"2026-11-0{day + 1}T01:00:00+00:00"}
        nights = add_night([case, broken("B"), broken("C")], {1: "left"}, run, tmp_path)
        (tmp_path / "run.json").touch()
    assert "The scans differ" not in words(page(tmp_path, case, nights=nights))
    nights.loc[5, "spacing_z_mm"] = 6.5
    said = (
        "The scans differ from those of the nights before. spacing along the third axis in mm: 6.5 tonight, 4 in the 5"
    )
    assert said in words(page(tmp_path, case, nights=nights))


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


def look_at(browser, folder, width=1280, *, mobile=False):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": mobile},
    )
    browser.get("about:blank")
    browser.get((folder / "report.html").as_uri())


def test_the_page_in_a_browser(tmp_path, browser):
    hostile = broken("C9", message="=cmd() <script>document.title = 'run'</script>")
    lost = replace(five_cases(tmp_path)[0], name="C8", value=None, problem=hostile.problem)
    page(tmp_path, *five_cases(tmp_path), hostile, replace(lost, problem=replace(hostile.problem, status="failed")))
    look_at(browser, tmp_path, 390, mobile=True)
    tiles = browser.execute_script("return [...document.querySelectorAll('.tile')].map(tile => tile.innerText)")
    sections = browser.execute_script("return [...document.querySelectorAll('section[id]')].map(each => each.id)")
    widths = browser.execute_script("return [...document.querySelectorAll('#examples img')].map(i => i.naturalWidth)")
    across = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert [tile.split() for tile in tiles] == [
        ["7", "found"],
        ["5", "segmented"],
        ["1", "quarantined"],
        ["1", "failed"],
    ]
    assert sections == ["failures", "run", "dice", "volumes", "examples", "cases", "each"]
    assert widths == [1080] * 9  # the third worst of five cases is their median
    assert across == [390, 390]
    assert browser.title == "Segmentation report: 7 cases"
    assert "=cmd() <script>" in browser.find_element("id", "failures").text
    assert browser.get_log("browser") == []


def test_a_script_that_is_not_the_pages_own_does_not_run(tmp_path, browser):
    page(tmp_path, *five_cases(tmp_path))
    report = tmp_path / "report.html"
    report.write_text(report.read_text().replace("</body>", "<script>document.title = 'run'</script></body>"))
    look_at(browser, tmp_path)
    assert browser.title == "Segmentation report: 5 cases"
    assert "Content Security Policy" in browser.get_log("browser")[0]["message"]


def names(browser):
    """The cases of the table, as they stand there; those that are filtered away are not among them."""
    rows = browser.find_elements("css selector", ".cases tbody tr")
    return "".join(row.find_element("tag name", "th").text for row in rows if row.is_displayed()).replace("C", "")


def heading(browser, title):
    buttons = browser.find_elements("css selector", ".cases thead button")
    return next(button for button in buttons if button.text.startswith(title))


@pytest.fixture
def shown(tmp_path, browser):
    """A page of five segmented cases, C0 the best and C4 the worst, and of C9, quarantined, in the browser."""
    page(tmp_path, *five_cases(tmp_path), broken("C9"))
    look_at(browser, tmp_path)
    return browser


def test_a_table_is_sorted_by_mouse_and_by_keyboard_and_what_is_undefined_stays_last(shown):
    assert names(shown) == "012349"
    heading(shown, "Dice").click()
    assert names(shown) == "432109"
    heading(shown, "Dice").send_keys(Keys.ENTER)
    assert names(shown) == "012349"
    assert heading(shown, "Dice").find_element("xpath", "..").get_attribute("aria-sort") == "descending"


def test_cases_are_filtered_by_status_and_by_words(shown):
    Select(shown.find_element("name", "status")).select_by_visible_text("quarantined")
    assert (names(shown), shown.find_element("name", "left").text) == ("9", "1 of 6 cases")
    shown.find_element("css selector", "#filters [type=reset]").click()
    shown.find_element("name", "text").send_keys("slice MISSING")
    assert names(shown) == "9"
    off = shown.find_elements("css selector", "svg a.off")
    assert len(off) == 10  # the points of the others, of Dice and of volume, are gone


def test_a_label_fills_the_columns_and_is_shown_alone(tmp_path, browser):
    two = [segmented("C0", score(1, 0.9), score(2, 0.3)), segmented("C1", score(1, 0.6), score(2, 0.7))]
    page(tmp_path, *two, labels={1: "left", 2: "right"})
    look_at(browser, tmp_path)
    cells = "return [...document.querySelectorAll('.cases tbody td:nth-child(3)')].map(cell => cell.textContent)"
    assert browser.execute_script(cells) == ["0.600", "0.650"]
    Select(browser.find_element("name", "label")).select_by_visible_text("right")
    assert browser.execute_script(cells) == ["0.300", "0.700"]
    strips = [name.text.split()[0] for name in browser.find_elements("css selector", ".strips .name") if name.text]
    assert strips == ["right"]


def test_a_point_opens_its_case_with_its_picture(shown):
    anchor = shown.execute_script(
        "return [...document.querySelectorAll('.strips a')]"
        ".find(a => a.textContent.trim().startsWith('C4:')).getAttribute('href')"
    )
    shown.execute_script(
        "document.querySelector(`.strips a[href='${arguments[0]}'] circle`).dispatchEvent("
        "new MouseEvent('click', {bubbles: true, cancelable: true}))",
        anchor,
    )
    WebDriverWait(shown, 5).until(lambda _: shown.find_element("css selector", f"{anchor} img").is_displayed())
    assert shown.find_element("css selector", f"{anchor} img").get_attribute("src").endswith("/pictures/C4.png")
    assert not shown.find_element("css selector", "#c0 img").is_displayed()


def test_without_a_script_a_link_opens_its_case_and_every_text_is_there(tmp_path, browser):
    page(tmp_path, *five_cases(tmp_path))
    report = tmp_path / "report.html"
    report.write_text(re.sub(r"<script>.*?</script>", "", report.read_text(), flags=re.DOTALL))
    look_at(browser, tmp_path)
    assert names(browser) == "01234"
    assert not browser.find_element("id", "filters").is_displayed()
    browser.find_element("css selector", ".cases tbody a[href='#c3']").click()
    assert browser.find_element("css selector", "#c3 img").is_displayed()


def test_on_paper_nothing_is_left_that_only_a_click_opens(shown):
    kept = "return [...document.querySelectorAll('section')].filter(each => each.offsetHeight).map(each => each.id)"
    shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    closed = shown.execute_script(kept)
    summaries = [each.text for each in shown.find_elements("tag name", "summary") if each.is_displayed()]
    shown.execute_script("document.querySelector('#c3').closest('details').open = true")
    opened = shown.execute_script(kept)
    shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert closed == ["", "failures", "run", "dice", "volumes", "examples", "cases"]
    assert (opened, summaries) == ([*closed, "each"], [])


def test_on_a_phone_a_long_label_leaves_its_points_and_its_numbers_room(tmp_path, browser):
    page(tmp_path, *five_cases(tmp_path), labels={1: "the anterior part of the left hippocampus"})
    look_at(browser, tmp_path, 390, mobile=True)
    widths = browser.execute_script(
        "return ['.strips svg', '#dice tbody th']"
        ".map(each => document.querySelector(each).getBoundingClientRect().width)"
    )
    assert widths[0] > 250
    assert widths[1] < 160


def test_a_long_name_leaves_the_numbers_in_view(tmp_path, browser):
    page(tmp_path, *(replace(case, name="n" * 79 + case.name[-1]) for case in five_cases(tmp_path)))
    look_at(browser, tmp_path)
    widths = browser.execute_script(
        "const table = document.querySelector('.cases');"
        "return [table.querySelector('tbody th').offsetWidth, table.offsetWidth, table.parentElement.clientWidth]"
    )
    assert widths[0] <= 280
    assert widths[1] <= widths[2]
