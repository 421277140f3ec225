"""Files of ratings → numbers, errors with file and line, and the gold standard by hand."""

import re

import numpy as np
import pytest

from affect.errors import InputError
from affect.pipelines.datasets.ratings import gold_standard, read_arff, read_semicolons

COLUMNS = ("name", "time", "a", "b")
ARFF = """@relation GOLDSTANDARD

@attribute Instance_name string
@attribute frameTime numeric
@attribute GoldStandard numeric


@data

dev_1,0,-0.022925
dev_1,0.04,1e-3
dev_1,0.08,0.25
"""


def written(tmp_path, text):
    path = tmp_path / "file"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_arff_as_avec_publishes_it(tmp_path):
    numbers = read_arff(written(tmp_path, ARFF))
    np.testing.assert_array_equal(numbers, [[0, -0.022925], [0.04, 0.001], [0.08, 0.25]])


def test_arff_in_another_hand(tmp_path):
    text = "% who\r\n@RELATION 'gold standard'\r\n@Attribute name STRING\r\n@ATTRIBUTE t real\r\n"
    text += "\t@attribute v Numeric\r\n@DATA\r\n% rows\r\n dev_1 , 0 , 1 \r\n\r\ndev_1,0.5,2"
    np.testing.assert_array_equal(read_arff(written(tmp_path, "\ufeff" + text)), [[0, 1], [0.5, 2]])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("@data", "", r", line 10: expected @relation, .* Received: 'dev_1,0,-0\.022925'"),
        ("string", "{dev_1}", ", line 3: expected @relation, .* Received: '@attribute Instance_name {dev_1}'"),
        ("frameTime numeric", "frameTime date", ", line 4: expected @relation"),
        ("@attribute GoldStandard numeric", "", r": expected the attributes .* Received: \['string', 'numeric'\]"),
        ("@attribute Instance_name string\n", "", r": expected the attributes .* Received: \['numeric', 'numeric'\]"),
        ("dev_1,0.04,1e-3", "dev_1,0.04", ", line 11: expected 3 fields. Received: 2"),
        ("dev_1,0.04,1e-3", "{1 0.04, 2 1}", ", line 11: expected 3 fields. Received: 2"),
        ("dev_1,0.04,1e-3", "dev_1,0.04,1e-3,5", ", line 11: expected 3 fields. Received: 4"),
        ("1e-3", "?", r", line 11: expected a rating in \[-10, 10\]. Received: '\?'"),
        ("1e-3", "nan", r", line 11: expected a rating in \[-10, 10\]. Received: 'nan'"),
        ("1e-3", "-inf", r", line 11: expected a rating in \[-10, 10\]. Received: '-inf'"),
        ("1e-3", "10.5", r", line 11: expected a rating in \[-10, 10\]. Received: '10.5'"),
        ("0.04", "soon", ", line 11: expected a time in seconds. Received: 'soon'"),
        ("0.04", "inf", ", line 11: expected a time in seconds. Received: 'inf'"),
        ("dev_1,0,", "dev_1,-0.04,", ", line 10: times must start at 0 or later and ascend. Received: -0.04"),
        ("0.04", "0", ", line 11: times must start at 0 or later and ascend. Received: 0"),
        ("0.08", "0.02", ", line 12: times must start at 0 or later and ascend. Received: 0.02"),
        (ARFF[ARFF.index("dev_1") :], "", " holds no ratings"),
    ],
)
def test_what_is_no_arff_of_ratings_is_refused_by_line(tmp_path, old, new, expected):
    assert ARFF.count(old)
    path = written(tmp_path, ARFF.replace(old, new))
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}{expected}"):
        read_arff(path)


def test_semicolons_with_and_without_a_header(tmp_path):
    path = written(tmp_path, 'time;FM1;"FF2"\n0;0.5;-0.5\n0.04;0.25;-1\n')
    header, numbers = read_semicolons(path)
    assert header == ("time", "fm1", "ff2")
    np.testing.assert_array_equal(numbers, [[0, 0.5, -0.5], [0.04, 0.25, -1]])
    header, numbers = read_semicolons(written(tmp_path, "'Train_01';0.1;1;2\n'Train_01';0.2;3;4\n"), columns=COLUMNS)
    assert header is None
    np.testing.assert_array_equal(numbers, [[0.1, 1, 2], [0.2, 3, 4]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", " holds no ratings"),
        ("name;time;a;b\n", " holds no ratings"),
        ("name\nn\n", ": there is no column time, a, b. Expected the columns name;time;a;b. Received: name"),
        ("name;time;a;A;b\nn;0;1;1;1\n", ": there are two columns A. Received: name;time;a;A;b"),
        ("name;time;a;timestamp;b\nn;0;1;1;1\n", ": expected one column of times. Received: "),
        ("name;time_ms;a;b\nn;0;1;1\n", ": expected times in seconds. Received: the column 'time_ms', in ms."),
        ("m;0;1;2\nn;1;1;2\n", ", line 2: expected a row of m. Received: 'n'"),
        ("n;0;1;2\nn;1\n", ", line 2: expected 4 fields. Received: 2"),
        ("n;0;1;2\n\nn;1;2;x\n", r", line 3: expected a rating in \[-10, 10\]. Received: 'x'"),
        ("n;0;1;2\nn;0;1;2\n", ", line 2: times must start at 0 or later and ascend. Received: 0"),
        ("n,0,1\nn,1,1\n", ", line 1: expected 4 fields. Received: 3"),
        ("n 0 1\nn 1 1\n", ": there is no column name, time, a, b. Expected"),
        ("name;time [frames];a;b\nn;0;1;1\n", ": expected times in seconds. Received: .* in frames."),
    ],
)
def test_what_is_no_table_of_ratings_is_refused_by_line(tmp_path, text, expected):
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}{expected}"):
        read_semicolons(path, columns=COLUMNS)


def test_gold_standard_by_hand():
    # Means 1, 2, 2; CCC of the pairs 4/9, 4/9, 8/15; agreement 20/45, 22/45, 22/45; centre (20 + 44 + 44) / 64.
    raters = np.array([[0.0, 1, 2], [1, 2, 3], [0, 2, 4]])
    np.testing.assert_allclose(gold_standard("x", raters), np.array([-4 / 3, 0, 4 / 3]) + 108 / 64)


def test_a_rater_who_never_moves_does_not_draw_the_centre():
    # CCC with the third is 0, so the centre is the mean of 1 and 2.
    raters = np.array([[0.0, 1, 2], [1, 2, 3], [0, 0, 0]])
    np.testing.assert_allclose(gold_standard("x", raters), [1.5 - 2 / 3, 1.5, 1.5 + 2 / 3])


@pytest.mark.parametrize("raters", [[[0.0, 1, 2], [0, 1, 2], [2, 1, 0]], [[1.0, 1], [1, 1]]])
def test_raters_who_do_not_agree_have_no_gold_standard(raters):
    with pytest.raises(InputError, match=r"^x: the raters do not agree \(mean CCC -?0\.\d+\)"):
        gold_standard("x", np.array(raters))


@pytest.mark.parametrize("shape", [(1, 5), (6, 1)])
def test_a_gold_standard_needs_raters_and_rows(shape):
    with pytest.raises(InputError, match=re.escape(f"two raters and two rows or more. Received: {shape}")):
        gold_standard("x", np.zeros(shape))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (
            "@attribute 'Instance name' string\n@attribute \"frame time\" real\n@attribute 'gold standard' numeric",
            "{n},{t},{v}",
        ),
        ("@attribute GoldStandard numeric\n@attribute name string\n@attribute frameTime numeric", "{v},{n},{t}"),
        (
            "@attribute frameTime numeric\n@attribute frame integer\n@attribute value real\n@attribute id string",
            "{t},7,{v},'{n}'",
        ),
        (
            "@attribute valence numeric\n@attribute arousal numeric\n@attribute time_s real\n@attribute name string",
            '9,{v},{t},"{n}"',
        ),
    ],
)
def test_arff_names_decide_in_any_order_and_quoting(tmp_path, header, row):
    rows = [row.format(n="dev_1", t=time, v=value) for time, value in ((0, 0.5), (0.04, 0.25))]
    path = written(tmp_path, f"@relation g\n{header}\n@data\n" + "\n".join(rows))
    np.testing.assert_array_equal(read_arff(path, name="dev_1", dimension="arousal"), [[0, 0.5], [0.04, 0.25]])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("dev_1,0.04", "dev_2,0.04", ", line 11: expected a row of dev_1. Received: 'dev_2'"),
        ("frameTime", "frame", ": expected one column of times"),
        ("frameTime", "frameTimeMs", ": expected times in seconds. Received: the column 'frameTimeMs', in ms"),
        ("GoldStandard", "time", ": expected one column of times"),
        ("GoldStandard", "valence", ": expected ratings of arousal. Received: 'valence'"),
        ("GoldStandard", "mean_valence", ": expected ratings of arousal. Received: 'mean_valence'"),
        (
            "@relation GOLDSTANDARD",
            "@relation 'valence_gold'",
            ": expected ratings of arousal. Received: .*valence_gold",
        ),
    ],
)
def test_arff_that_contradicts_itself_or_its_place_is_refused(tmp_path, old, new, expected):
    path = written(tmp_path, ARFF.replace(old, new))
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}{expected}"):
        read_arff(path, name="dev_1", dimension="arousal")


@pytest.mark.parametrize(
    "text",
    [
        "time;FM1;FM2\n0;1;2\n0.04;3;4\n",
        "FM1;FM2;time\n1;2;0\n3;4;0.04\n",
        ";time;FM1;FM2\n0;0;1;2\n1;0.04;3;4\n",
        "Unnamed: 0;FM1;Time [s];FM2\n0;1;0;2\n1;3;0.04;4\n",
        "time;FM1;FM2;mean;std;Gold Standard\n0;1;2;9;9;9\n0.04;3;4;9;9;9\n",
        "name;frame;FM1;time;FM2\na;700;1;0;2\na;701;3;0.04;4\n",
        "'FM1';\"FM2\";'time'\n'1';2;0\n3;4;'0.04'\n",
        "time;1;2\n0;1;2\n;;\n0.04;3;4\n",
        ",time,FM1,FM2\n0,0,1,2\n1,0.04,3,4\n",
        "FM1\tFM2\tt [s]\n1\t2\t0\n3\t4\t0.04\n",
        "\ttime\tA\tB\n0\t0\t1\t2\n1\t0.04\t3\t4\n",
        "time_ms;time_s;R1;R2;rater mean;Max\n0;0;1;2;9;9\n40;0.04;3;4;9;9\n",
        "time;FM1;confidence;FM2;n\n0;1;9;2;9\n0.04;3;9;4;9\n",
        "-0.0000001;1;2\n0.04;3;4\n",
        "0;1;2\n0.04;3;4\n",
    ],
)
def test_raters_are_known_by_the_header(tmp_path, text):
    np.testing.assert_array_equal(read_semicolons(written(tmp_path, text))[1], [[0, 1, 2], [0.04, 3, 4]])


def test_needed_columns_in_any_order(tmp_path):
    path = written(tmp_path, "b;liking;Name;a;Timestamp\n2;9;n;1;0\n4;9;n;3;0.04\n")
    header, numbers = read_semicolons(path, name="N", columns=COLUMNS)
    assert header == ("time", "a", "b")
    np.testing.assert_array_equal(numbers, [[0, 1, 2], [0.04, 3, 4]])
