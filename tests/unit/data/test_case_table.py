from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedvol.data.case_table import read_case_table
from fedvol.types import SiteId

HEADER = "case,subject,site,fold\n"
GOOD = "c1,S1,a,0\n"


def problems_of(tmp_path: Path, content: bytes | str, *, num_channels: int = 1) -> str:
    table = tmp_path / "sites.csv"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    _, problems = read_case_table(table, num_channels=num_channels)
    return "\n".join(str(problem) for problem in problems)


def test_rows_are_read_with_fold_split_and_paths(tmp_path: Path) -> None:
    table = tmp_path / "sites.csv"
    table.write_text(
        "case,subject,site,fold,split,image,label,image_dtype\n"
        "c1,S1,a,3,validation,x/c1.nii.gz,,uint8\n"
    )
    (row,), problems = read_case_table(table, num_channels=1)
    assert not problems
    assert (row.case, row.subject, row.site, row.fold, row.split) == (
        "c1",
        "S1",
        "a",
        3,
        "validation",
    )
    assert (row.images, row.label) == (("x/c1.nii.gz",), "")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(("\ufeff" + HEADER + GOOD).encode(), id="byte order mark"),
        pytest.param((HEADER + GOOD).replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param((HEADER + GOOD).replace(",", ", ").encode(), id="space after commas"),
        pytest.param((HEADER + '"c1","S1",a,0\n\n').encode(), id="quotes and blank line"),
        pytest.param((HEADER + "c1,S1 ,a ,0\n").encode(), id="space before commas"),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, content: bytes) -> None:
    table = tmp_path / "sites.csv"
    table.write_bytes(content)
    (row,), problems = read_case_table(table, num_channels=1)
    assert not problems
    assert (row.case, row.subject, row.site, row.fold) == ("c1", "S1", "a", 0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "sites.csv: is empty"),
        ("\n ,\n", "sites.csv: is empty"),
        (HEADER, "has a header but no case"),
        ("case;subject;site\nc1;S1;a\n", "line 1: separates columns by semicolons"),
        ("case\tsubject\tsite\nc1\tS1\ta\n", "line 1: separates columns by tabs"),
        ("Case,subject\nc1,S1\n", "line 1: lacks the columns case, site; it has 'Case'"),
        ("case,subject,site,case\nc1,S1,a,c1\n", "line 1: names twice: case"),
        ("case,subject,site,image,image_0\nc,S,a,x,x\n", "both image and image_<number>"),
        ("case,subject,site,image_0,image_2\nc,S,a,x,x\n", "has image columns [0, 2]"),
        (HEADER + "c1,,a,0\n", "line 2: column subject is empty"),
        (HEADER + "c1,S1,a,\n", "line 2: column fold is empty"),
        ("case,subject,site,image\nc1,S1,a,\n", "line 2: column image is empty"),
        (HEADER + GOOD + "c1,S1,a,0\n", "line 3: case 'c1' is already in sites.csv line 2"),
        (HEADER + GOOD + "C1,S1,a,0\n", "line 3: case 'C1' is already in sites.csv line 2"),
        (HEADER + "c1,S1,a,one\n", "line 2: fold 'one' is no whole number"),
        (HEADER + "c1,S1,a,-1\n", "line 2: fold '-1' is no whole number"),
        (HEADER + "c1,S1,a,1.0\n", "line 2: fold '1.0' is no whole number"),
        ("case,subject,site,split\nc1,S1,a,val\n", "line 2: split 'val' is unknown"),
        (HEADER + "../c1,S1,a,0\n", "line 2: case '../c1' is no safe file name"),
        (HEADER + ".hidden,S1,a,0\n", "line 2: case '.hidden' is no safe file name"),
        (HEADER + "c1,S1,a/b,0\n", "line 2: site 'a/b' is no safe name"),
        (HEADER + f"c1,{'S' * 200},a,0\n", "line 2: subject is longer than 128 characters"),
        (HEADER + "c1,S1,a\n", "line 2: has 3 cells, the header has 4"),
        (HEADER + '"c1,S1,a,0\n', "is no CSV"),
        (HEADER + GOOD + "c2,s 1,a,0\n", "subjects 'S1' and 's 1' differ in case or spaces only"),
        (HEADER + GOOD + "c2,S1 ,a,0\n", "subjects 'S1' and 'S1 ' differ in case or spaces only"),
        (HEADER.encode() + b"c1,S\xe41,a,0\n", "line 2: is not UTF-8"),
        (HEADER.encode() + b"c1,S\0,a,0\n", "holds a NUL byte at position 27"),
        ((HEADER + GOOD).encode("utf-16"), "holds a NUL byte"),
    ],
)
def test_each_fault_is_named_with_its_line(
    tmp_path: Path, content: bytes | str, expected: str
) -> None:
    found = problems_of(tmp_path, content)
    assert expected in found
    assert "sites.csv" in found
    assert found.endswith(".")


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    found = problems_of(tmp_path, HEADER + "c1,,a,x\nc2,S2,a\n/c3,S3,a,0\n")
    for expected in ("line 2: column subject", "line 2: fold 'x'", "line 3: has 3", "line 4: case"):
        assert expected in found


def test_a_folder_gives_the_site_and_contradiction_is_a_problem(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("case,subject\nc1,S1\n")
    (row,), problems = read_case_table(table, num_channels=1, site=SiteId("north"))
    assert (row.site, problems) == ("north", ())
    table.write_text("case,subject,site\nc1,S1,south\n")
    rows, problems = read_case_table(table, num_channels=1, site=SiteId("north"))
    assert not rows
    assert "names site 'south' in the folder of site 'north'" in str(problems[0])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_give_rows_or_problems_never_an_exception(tmp_path: Path, content: bytes) -> None:
    table = tmp_path / "sites.csv"
    table.write_bytes(HEADER.encode() + content)
    rows, problems = read_case_table(table, num_channels=1)
    assert rows or problems
