from advisor.engine.imports import imported_modules


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


def test_imports_are_followed_through_the_users_own_modules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "datasets"  # called as a package that may be installed
    package.mkdir()
    (package / "__init__.py").write_text("from .tables import Rows\n")
    (package / "tables.py").write_text("import pandas\nfrom datasets import Rows\n")
    (tmp_path / "nets.py").write_text("import lightning\nimport model\n")
    path = tmp_path / "model.py"
    path.write_text("import torch\nfrom datasets import Rows\nfrom nets import Net\n")
    assert imported_modules(path) == ("torch", "lightning", "pandas")
