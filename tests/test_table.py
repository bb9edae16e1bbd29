"""runs/table.py: the table of several seeds."""

import sys

import pytest

from runs import table
from utils.metrics import COLUMNS


def table_of(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["table.py", str(folder)])
    table.main()


def write(path, *rows):
    lines = [",".join(["protocol", *COLUMNS])]
    lines += [",".join([protocol, *map(str, values)]) for protocol, values in rows]
    path.write_text("\n".join(lines))


def test_mean_and_spread_of_two_seeds(tmp_path, monkeypatch, capsys):
    write(tmp_path / "student_seed0.csv", ("paper", range(15)), ("all_voxels", [1] * 15))
    write(tmp_path / "student_seed1.csv", ("paper", range(2, 17)), ("all_voxels", [1] * 15))
    write(tmp_path / "kd_t_seed0.csv", ("paper", [7.25] * 15), ("all_voxels", [3] * 15))
    table_of(tmp_path, monkeypatch)
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    found = {tuple(line[:3]): line[3:] for line in lines[2:]}
    # Means of i and i + 2; the deviation of two values 2 apart is the root of 2.
    assert found["paper", "student", "2"] == [f"{i + 1}.0 ± 1.4" for i in range(15)]
    assert found["all_voxels", "student", "2"] == ["1.0 ± 0.0"] * 15
    assert found["paper", "kd_t", "1"] == ["7.2"] * 15


def test_what_is_no_result_is_named(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        table_of(tmp_path, monkeypatch)
    assert "no results in it" in capsys.readouterr().err
    path = tmp_path / "student_seed0.csv"
    write(path, ("paper", [1] * 15))  # cut off before the other protocol
    for text in ("", path.read_text(), "protocol,IoU\npaper,high\nall_voxels,high\n"):
        path.write_text(text)
        with pytest.raises(SystemExit):
            table_of(tmp_path, monkeypatch)
        assert "student_seed0.csv is not the result" in capsys.readouterr().err
