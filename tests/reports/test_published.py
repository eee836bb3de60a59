"""Published scores: those shipped with the package, and a user's own file."""

from pathlib import Path

import pytest

from merc.errors import BadSettings
from merc.reports.published import by_features, read_published

HEAD = "corpus,label_set,system,weighted_f1,features,year,source\n"


def _file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "published.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_what_comes_with_the_package_names_source_year_and_features_of_every_row() -> None:
    rows = read_published()
    assert {(row.corpus, row.label_set) for row in rows} == {
        ("meld", "meld7"),
        ("iemocap", "iemocap6"),
        ("iemocap", "iemocap4"),
    }
    assert all(row.source and row.features and row.protocol and row.weighted_f1 for row in rows)
    assert len({(row.corpus, row.label_set, row.system, row.source) for row in rows}) == len(rows)
    found = {
        (row.label_set, row.system): (row.weighted_f1, row.accuracy) for row in rows if row.source.startswith("DCLF")
    }
    assert found["meld7", "MMGCN+DCLF"] == (67.11, 68.37)
    assert found["iemocap6", "DDIN+DCLF"] == (71.68, 72.01)


def test_rows_of_a_corpus_and_label_set_stand_together_by_their_features() -> None:
    groups = by_features(read_published(), "iemocap", "iemocap4")
    assert [group.features for group in groups] == ["sbert", "not stated"]
    assert groups[0].rows[0].system == "IDCL pre-trained on MELD"
    assert by_features(read_published(), "demo-meld", "meld7") == []


def test_rows_of_a_users_file_come_after_them(tmp_path: Path) -> None:
    path = _file(tmp_path, "\ufeff" + HEAD + 'mine,two,"a, ""b""",51.5,glove,2020,Doe\nmine,two,c,,glove,2020,Doe\n')
    rows = read_published(path)
    assert [(row.system, row.weighted_f1) for row in rows[-2:]] == [('a, "b"', 51.5), ("c", None)]
    assert len(rows) == len(read_published()) + 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks corpus, label_set, system, features, year, source; columns: corpus, "),
        (HEAD.replace("year", "yeer"), "lacks year and has the unknown 'yeer'"),
        (HEAD.replace("\n", ",year\n"), "names a column twice"),
        (HEAD + "m,two,a,151,glove,2020,Doe\n", "line 2: weighted_f1 '151': Input should be less than or equal to 100"),
        (HEAD + "m,two,a,nan,glove,2020,Doe\n", "line 2: weighted_f1 'nan'"),
        (HEAD + "m,two,a,51,glove,soon,Doe\n", "line 2: year 'soon': Input should be a valid integer"),
        (HEAD + "m,two,,51,glove,2020,Doe\n", "line 2: system '': String should have at least 1 character"),
        (HEAD + "m,two,a,51,glove,2020,Doe, 2020\n", "line 2: more cells than columns"),
        (HEAD + "m,two,a,51,glove\n", "line 2: year .*: Field required"),
        (HEAD + 'm,two,"a,51,glove,2020,Doe\n', "line 2: unexpected end of data"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=f"report.published: .*{message}"):
        read_published(_file(tmp_path, text))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"report.published: .*nowhere.csv cannot be read: No such file"):
        read_published(str(tmp_path / "nowhere.csv"))
    with pytest.raises(BadSettings, match=r"report.published: .* cannot be read: Is a directory"):
        read_published(str(tmp_path))
    path = tmp_path / "latin.csv"
    path.write_bytes(HEAD.encode() + b"m,two,\xe9,51,glove,2020,Doe\n")
    with pytest.raises(BadSettings, match="is not a text file in UTF-8"):
        read_published(str(path))
