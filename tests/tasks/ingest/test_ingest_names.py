from pathlib import Path

import pytest

from tasks.ingest.found import Found
from tasks.ingest.names import make_unique, name_of_file, name_of_folder, safe_name, with_suffix
from tasks.scan.records import Source


def found(file: str, name: str) -> Found:
    return Found(name=name, image=Source(format="nifti", files=(Path("/cohort") / file,)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("person-10", "person-10"),
        ("ward 3/Müller.v2", "ward-3-Muller.v2"),
        ("../../etc/passwd", "etc-passwd"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a\nb;c$(d)", "a-b-c-d"),
        ("患者", "case"),
        ("", "case"),
    ],
)
def test_a_name_is_safe_as_a_file_name(text: str, name: str):
    assert safe_name(text) == name


def test_a_long_name_is_cut_to_80_characters_and_stays_its_own():
    first, second = safe_name("a" * 90), safe_name("a" * 91)
    assert (len(first), len(second)) == (80, 80)
    assert first != second


def test_a_suffix_is_the_start_of_a_sha_256():
    assert with_suffix("person", "abc") == "person-ba7816bf"


@pytest.mark.parametrize("name", ["p.nii.gz", "p.nii", "p.NII.GZ", "p.hdr", "p.nrrd", "p.mha"])
def test_a_file_gives_its_case_the_path_without_extension(name: str):
    assert name_of_file(Path("/cohort/a") / name, Path("/cohort")) == "a-p"


def test_a_folder_gives_its_case_the_path():
    assert name_of_folder(Path("/cohort/a/b"), Path("/cohort")) == "a-b"
    assert name_of_folder(Path("/cohort"), Path("/cohort")) == "cohort"


def test_cases_of_one_name_get_suffixes_that_do_not_depend_on_their_order():
    cases = [found("p.nii", "p"), found("P.nrrd", "P"), found("q.nii", "q")]
    names = [case.name for case in make_unique(cases, Path("/cohort"))]
    assert names[2] == "q"
    assert len({name.casefold() for name in names}) == 3
    assert [case.name for case in make_unique(cases[::-1], Path("/cohort"))] == names[::-1]


def test_a_case_that_lost_its_name_to_another_says_so():
    cases = [found("p.nii", "p"), found("P.nrrd", "P"), found("q.nii", "q")]
    assert [case.warnings for case in make_unique(cases, Path("/cohort"))] == [
        ("another scan is called 'p', too; a reference of that name is taken for neither",),
        ("another scan is called 'P', too; a reference of that name is taken for neither",),
        (),
    ]


def test_one_scan_twice_under_one_name_is_two_cases():
    cases = [found("p.nii", "p"), found("p.nii", "p"), found("p.nii", "P")]
    names = [case.name for case in make_unique(cases, Path("/cohort"))]
    assert len({name.casefold() for name in names}) == 3


def test_a_suffix_that_another_case_has_already_is_not_given_again():
    (taken, _) = make_unique([found("p.nii", "p"), found("q.nii", "p")], Path("/cohort"))
    cases = [found("p.nii", "p"), found("q.nii", "p"), found("r.nii", taken.name)]
    assert len({case.name for case in make_unique(cases, Path("/cohort"))}) == 3
