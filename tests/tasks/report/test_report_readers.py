"""The tables in the programs that analysts open them with, read as `docs/metrics.md` says."""

import math
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from tasks.report.tables import CASES_COLUMNS, METRICS_COLUMNS, write_tables
from tests.tasks.report.cases import broken, score, segmented

DICTIONARY = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
LABELS = {1: "left", 2: "right"}
CALC = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"


@pytest.fixture
def tables(tmp_path):
    """A case whose name looks like a number, one called NA, one like a formula; a text with every separator."""
    cases = [
        segmented("007", score(1, 0.5), score(2, 0.0, "missed")),
        segmented("NA", score(1, math.nan, "both_empty"), score(2, 1e-7)),
        broken("=1+1", message='a "quoted", text; with\té'),
    ]
    write_tables(cases, LABELS, tmp_path)
    return tmp_path


def test_pandas_reads_names_as_text_and_numbers_as_numbers(tables):
    call = re.search(r"pandas\.(read_csv\(.*\))", DICTIONARY)[1].replace("metrics.csv", str(tables / "metrics.csv"))
    table = eval(call, {"read_csv": pd.read_csv, "str": str})
    assert list(table.columns) == list(METRICS_COLUMNS)
    assert list(table["case"]) == ["007", "007", "'=1+1", "'=1+1", "NA", "NA"]
    assert table["hd95_mm"].to_list()[:3] == pytest.approx([2.0, math.inf, math.nan], nan_ok=True)
    assert table["dice"].to_list()[5] == 1e-7


@pytest.mark.skipif(not shutil.which("Rscript"), reason="R is not installed (apt-get install r-base-core)")
def test_r_reads_names_as_text_and_numbers_as_numbers(tables):
    call = re.search(r"read\.csv\(.*\)", DICTIONARY)[0]
    code = f't <- {call}; cat(class(t$case), class(t$dice), t$case[1], t$hd95_mm[1:3], ncol(t), sep = "|")'
    done = subprocess.run(["Rscript", "-e", code], cwd=tables, capture_output=True, text=True, check=True)
    assert done.stdout == f"character|numeric|007|2|Inf|NA|{len(METRICS_COLUMNS)}"


def calc_rows(table: Path) -> list[list[tuple[str, str]]]:
    """Type and text of every cell that LibreOffice makes of a CSV; a formula's type is `formula`."""
    call = re.search(r"(soffice .*)metrics\.csv", DICTIONARY)[1].replace('"', "").split()
    profile = f"-env:UserInstallation=file://{table.parent}/profile"
    arguments = [*call, "--headless", profile, "--convert-to", "fods", "--outdir", table.parent, table]
    subprocess.run(arguments, capture_output=True, check=True, timeout=240)
    rows = []
    for row in ElementTree.parse(table.with_suffix(".fods")).iter(f"{CALC}table-row"):
        cells = []
        for cell in row.iter(f"{CALC}table-cell"):
            kind = "formula" if f"{CALC}formula" in cell.attrib else cell.get(f"{OFFICE}value-type", "")
            cells += [(kind, "".join(cell.itertext()).strip())] * int(cell.get(f"{CALC}number-columns-repeated", 1))
        rows.append(cells)
    return rows


@pytest.mark.skipif(
    not shutil.which("soffice"), reason="LibreOffice is not installed (apt-get install libreoffice-calc)"
)
def test_libreoffice_runs_no_formula_and_finds_every_column(tables):
    metrics, cases = calc_rows(tables / "metrics.csv"), calc_rows(tables / "cases.csv")
    assert [text for _, text in metrics[0]][: len(METRICS_COLUMNS)] == list(METRICS_COLUMNS)
    assert [text for _, text in cases[0]][: len(CASES_COLUMNS)] == list(CASES_COLUMNS)
    assert not [cell for row in (*metrics, *cases) for cell in row if cell[0] == "formula"]
    assert dict(zip(METRICS_COLUMNS, metrics[1], strict=False))["dice"] == ("float", "0.5")
    assert dict(zip(METRICS_COLUMNS, metrics[2], strict=False))["hd95_mm"] == ("string", "inf")
    assert dict(zip(METRICS_COLUMNS, metrics[3], strict=False))["dice"] == ("", "")
    assert dict(zip(CASES_COLUMNS, cases[2], strict=False))["message"] == ("string", 'a "quoted", text; with é')


@pytest.mark.skipif(not find_spec("pyarrow"), reason="pyarrow is not installed (the extra `parquet`)")
def test_parquet_holds_the_same_rows_with_all_digits(tables):
    table = pd.read_parquet(tables / "metrics.parquet")
    assert list(table.columns) == list(METRICS_COLUMNS)
    assert list(table["case"]) == ["007", "007", "=1+1", "=1+1", "NA", "NA"]
    assert table["volume_prediction_ml"].to_list()[0] == 1234.56789


def test_texts_are_held_as_python_has_them_whether_pyarrow_is_installed_or_not():
    assert pd.get_option("mode.string_storage") == "python"


@pytest.mark.skipif(bool(find_spec("pyarrow")), reason="pyarrow is installed")
def test_without_pyarrow_no_parquet_of_an_earlier_run_stays(tables):
    (tables / "metrics.parquet").write_bytes(b"old")
    write_tables([broken("A")], LABELS, tables)
    assert not (tables / "metrics.parquet").exists()
