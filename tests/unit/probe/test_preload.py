from advisor.engine.forkserver import imported_modules


def test_top_level_imports_are_read_in_order_without_running_the_file(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(
        "import torch.nn as nn, sklearn.datasets\nfrom timm.models import create\n"
        "from . import sibling\nraise SystemExit('must not run')\n"
        "def f():\n    import inside\n"
    )
    assert imported_modules(path) == ("torch.nn", "sklearn.datasets", "timm.models")


def test_a_file_that_does_not_parse_names_nothing(tmp_path):
    path = tmp_path / "model.py"
    path.write_text("def broken(:\n")
    assert imported_modules(path) == ()
    assert imported_modules(tmp_path / "missing.py") == ()
