import json

import pytest

from fedvol.errors import ResultFileError
from fedvol.report import Result, StatResult, read_result, write_result


def test_a_result_survives_writing_and_reading(tmp_path, result):
    path = tmp_path / "result.json"
    write_result(path, result=result)
    assert read_result(path) == result
    assert [item.name for item in tmp_path.iterdir()] == ["result.json"]


def test_the_file_is_sorted_indented_and_names_its_schema(tmp_path, result):
    path = tmp_path / "result.json"
    write_result(path, result=result)
    text = path.read_text()
    document = json.loads(text)
    assert text == json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert document["schema"] == "fedvol.result/1"
    assert "schema_" not in document


def test_a_missing_value_is_null_and_nan_is_impossible(tmp_path, document):
    document["evaluation"]["federated"]["overall"]["dice"] = {
        "value": None,
        "n": 0,
        "low": None,
        "high": None,
        "undefined": 3,
        "withheld": "undefined",
    }
    path = tmp_path / "result.json"
    write_result(path, result=Result.model_validate_json(json.dumps(document)))
    assert '"value": null' in path.read_text()
    assert "NaN" not in path.read_text()
    with pytest.raises(ValueError, match="finite"):
        StatResult(value=float("nan"), n=1, low=None, high=None, undefined=0)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"schema": "fedvol.result/2"}, "schema"),
        ({"surprise": 1}, "surprise"),
        ({"seed": "7"}, "seed"),
        ({"seconds": None}, "seconds"),
    ],
)
def test_reading_is_strict_and_names_the_key(tmp_path, document, change, where):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document | change))
    with pytest.raises(ResultFileError, match=where):
        read_result(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seed": NaN}', "\x00\x01"])
def test_what_is_no_result_is_refused(tmp_path, content):
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(ResultFileError):
        read_result(path)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(ResultFileError, match="No such file"):
        read_result(tmp_path / "result.json")
