"""What a data set says of itself, in each of the ways it may say it."""

import json

import pytest

from tasks.scan.errors import EmptyCohort, UnknownSetting
from tasks.scan.records import Outcome
from tasks.train import describe_dataset, hold_out

CASES = [Outcome(name=name) for name in ("a1", "a2", "b1", "c1")]
FOLDS = "case,subject,fold\na1,a,0\na2,a,0\nb1,b,1\n"


def described(folder, name, content):
    (folder / name).write_text(json.dumps(content))
    return describe_dataset(folder)


def test_the_decathlon_names_labels_by_value(tmp_path):
    content = {"labels": {"0": "background", "2": "body", "1": "head"}, "modality": {"0": "MRI"}}
    dataset = described(tmp_path, "dataset.json", content)
    assert dataset.labels == {1: "head", 2: "body"}
    assert not dataset.quantitative


def test_nnunet_names_values_by_label(tmp_path):
    content = {"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}}
    dataset = described(tmp_path, "dataset.json", content)
    assert dataset.labels == {1: "liver"}
    assert dataset.quantitative


def test_labels_stand_beside_a_manifest(tmp_path):
    (tmp_path / "labels.json").write_text('{"1": "liver"}')
    assert describe_dataset(tmp_path / "cohort.csv").labels == {1: "liver"}


def test_a_data_set_without_names_is_told_how_to_name_them(tmp_path):
    with pytest.raises(UnknownSetting, match=r"names no labels: add labels.json, for example"):
        describe_dataset(tmp_path)


def test_a_data_set_of_background_alone_is_refused(tmp_path):
    with pytest.raises(UnknownSetting, match="names no label above 0"):
        described(tmp_path, "labels.json", {"0": "background"})


def test_a_fold_is_held_out_and_unknown_cases_are_in_neither(tmp_path):
    (tmp_path / "folds.csv").write_text(FOLDS)
    training, held_out = hold_out(CASES, tmp_path / "folds.csv", 0)
    assert [case.name for case in training] == ["b1"]
    assert [case.name for case in held_out] == ["a1", "a2"]


def test_without_folds_all_are_trained_on():
    assert hold_out(CASES, None, None) == (CASES, [])


def test_a_fold_that_does_not_exist_is_refused(tmp_path):
    (tmp_path / "folds.csv").write_text(FOLDS)
    with pytest.raises(EmptyCohort, match=r"fold 7 holds out 0 of 4 cases.*knows the folds \[0, 1\]"):
        hold_out(CASES, tmp_path / "folds.csv", 7)


def test_folds_without_the_columns_are_refused(tmp_path):
    (tmp_path / "folds.csv").write_text("name,group\na,1\n")
    with pytest.raises(UnknownSetting, match="needs the columns case and fold"):
        hold_out(CASES, tmp_path / "folds.csv", 0)
