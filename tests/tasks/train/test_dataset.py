"""What a data set says of itself, in each of the ways it may say it."""

import json
import logging
import re

import pytest
from prefect.logging import disable_run_logger

from tasks.scan.errors import EmptyCohort, UnknownSetting
from tasks.scan.records import Outcome, Problem
from tasks.train import dataset as dataset_module
from tasks.train.dataset import Split, describe_dataset, involved, read_folds, refused, split_cases

CASES = [Outcome(name=name) for name in ("a1", "a2", "b1", "c1")]
FOLDS = "case,subject,fold\na1,a,0\na2,a,0\nb1,b,1\n"


def described(folder, name, content):
    (folder / name).write_text(json.dumps(content))
    return describe_dataset(folder)


def test_the_decathlon_names_labels_by_value(tmp_path):
    content = {"labels": {"0": "background", "2": "body", "1": "head"}, "modality": {"0": "MRI"}}
    dataset = described(tmp_path, "dataset.json", content)
    assert dataset.labels == {1: "head", 2: "body"}
    assert dataset.modalities == ("MRI",)


def test_nnunet_names_values_by_label(tmp_path):
    content = {"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}}
    dataset = described(tmp_path, "dataset.json", content)
    assert dataset.labels == {1: "liver"}
    assert dataset.modalities == ("CT",)


def test_labels_stand_beside_a_manifest(tmp_path):
    (tmp_path / "labels.json").write_text('{"1": "liver"}')
    assert describe_dataset(tmp_path / "cohort.csv").labels == {1: "liver"}


def test_a_data_set_without_names_is_told_how_to_name_them(tmp_path):
    with pytest.raises(UnknownSetting, match=r"names no labels: add labels.json, for example"):
        describe_dataset(tmp_path)


def test_a_data_set_of_background_alone_is_refused(tmp_path):
    with pytest.raises(UnknownSetting, match="names no label above 0"):
        described(tmp_path, "labels.json", {"0": "background"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"1": "liver"', "cannot be read as names of labels .*; write them as"),
        (b'{"1": "f\xfcr"}', "cannot be read as names of labels"),
        (b'["liver"]', "cannot be read as names of labels"),
        (b'{"labels": {"a": "x"}}', "cannot be read as names of labels"),
        (b'{"labels": ["liver"]}', "cannot be read as names of labels"),
        (b'{"labels": {"1": "liver"}, "modality": 3}', "cannot be read as names of labels"),
        (b"[" * 100_000, "cannot be read as names of labels"),
        (b'{"1": "li\\nver"}', "has a label whose name is not 1 to 200 characters that can be printed"),
        (b'{"70000": "liver"}', "names label 70000; label values go up to 65535"),
    ],
)
def test_labels_that_cannot_be_understood_are_refused_by_name(tmp_path, text, message):
    (tmp_path / "labels.json").write_bytes(text)
    with pytest.raises(UnknownSetting, match=message):
        describe_dataset(tmp_path)


@pytest.fixture(autouse=True)
def _quiet():
    with disable_run_logger():
        yield


def folds(folder, text):
    (folder / "folds.csv").write_text(text)
    return folder / "folds.csv"


def test_a_fold_is_held_out_and_unknown_cases_are_in_neither(tmp_path):
    (split,) = split_cases(CASES, folds(tmp_path, FOLDS), 0)
    assert split == Split(fold=0, training=("b1",), held_out=("a1", "a2"))
    assert [case.name for case in involved(CASES, [split])] == ["a1", "a2", "b1"]


def test_without_a_fold_each_is_held_out_once(tmp_path):
    splits = split_cases(CASES, folds(tmp_path, FOLDS), None)
    assert [(split.fold, split.held_out) for split in splits] == [(0, ("a1", "a2")), (1, ("b1",))]
    assert [split.training for split in splits] == [("b1",), ("a1", "a2")]


def test_without_folds_all_are_trained_on():
    assert split_cases(CASES, None, None) == [Split(fold=None, training=("a1", "a2", "b1", "c1"), held_out=())]


def test_a_fold_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(EmptyCohort, match=r"fold 7 holds out 0 of 4 cases.*knows the folds \[0, 1\]"):
        split_cases(CASES, folds(tmp_path, FOLDS), 7)


@pytest.mark.parametrize("text", ["name,group\na,1\n", "case,fold\na\n", "case,fold\n" + 200_000 * "a"])
def test_folds_without_the_columns_are_refused(tmp_path, text):
    with pytest.raises(UnknownSetting, match="needs the columns case and fold"):
        split_cases(CASES, folds(tmp_path, text), 0)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (FOLDS, ""),
        ("case,fold\na1,0\nb1,1\n", "'folds.csv' names no subject: .*; add a column subject"),
        ("case,subject,fold\na1,a,0\na2,a,1\nb1,b,1\n", "puts 1 of 2 subjects into several folds: .* in one fold"),
    ],
)
def test_folds_that_may_leak_are_warned_about(tmp_path, text, warning):
    assert re.fullmatch(f".*{warning}" if warning else "", read_folds(folds(tmp_path, text)).warning)


def test_the_warning_is_logged(tmp_path, caplog):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_module, "get_run_logger", lambda: logging.getLogger("train"))
        split_cases(CASES, folds(tmp_path, "case,fold\na1,0\nb1,1\n"), 0)
    assert "names no subject" in caplog.text


def test_what_could_not_be_learnt_from_and_is_held_out_nowhere_is_reported():
    problem = Problem(stage="fingerprint", status="quarantined", reason="no_reference", message="m", remedy="r")
    volumes = [Outcome(name="a1", problem=problem), Outcome(name="b1", problem=problem), Outcome(name="c1", value=1)]
    split = Split(fold=0, training=("b1", "c1"), held_out=("a1",))
    assert [one.name for one in refused(volumes, [split])] == ["b1"]
