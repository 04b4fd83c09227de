from pathlib import Path

import pytest

from flows.settings import Settings, load_settings
from tasks.scan.errors import UnknownSetting


def test_the_tilt_setting_is_one_of_two_words(tmp_path: Path):
    file = tmp_path / "settings.toml"
    file.write_text('[ingest]\ntilt = "shear"\n')
    assert load_settings(Settings, file, {}).ingest.tilt == "shear"
    file.write_text('[ingest]\ntilt = "straighten"\n')
    with pytest.raises(UnknownSetting, match="ingest.tilt: Input should be 'refuse' or 'shear'"):
        load_settings(Settings, file, {})


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = 1\na = 2", "[pool", "\udcff"])
def test_what_is_no_toml_is_refused_by_name(tmp_path: Path, text: str):
    (tmp_path / "settings.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UnknownSetting, match="it must be TOML in UTF-8, as in docs/settings.md"):
        load_settings(Settings, tmp_path / "settings.toml", {})


@pytest.mark.parametrize("margin", [-0.01, 1.5])
def test_a_margin_that_is_no_difference_of_dice_is_refused(margin: float):
    with pytest.raises(UnknownSetting, match="worse_dice is between 0 and 1"):
        load_settings(Settings, None, {"worse_dice": margin})
