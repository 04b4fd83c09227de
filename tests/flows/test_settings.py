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
