from monai.bundle import ConfigParser

from medssl.__main__ import main
from medssl.resources import resource


def test_a_demo_that_fails_says_why(tmp_path, capsys):
    (tmp_path / "runs").write_text("a file where the runs should go")
    assert main(["demo", "--output", str(tmp_path)]) == 1
    last = capsys.readouterr().err[-2000:]
    assert "medssl: 5 runs are missing" in last
    assert "Not a directory" in last


def test_the_demo_compares_pre_trained_with_random_weights_on_two_subjects(tmp_path):
    configs = resource("bundles/benchmark/configs")
    parser = ConfigParser()
    parser.read_config([str(configs / "benchmark.yaml"), str(configs / "phantoms.yaml")])
    parser.config["manifest"]["check_files"] = False
    runs = parser.get_parsed_content("grid").finetunings()
    assert {(run.folder.parent.name, run.overrides["num_labelled"]) for run in runs} == {("random", 2), ("sal", 2)}
