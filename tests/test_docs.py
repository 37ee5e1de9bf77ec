"""The documents: what is generated is up to date, links lead somewhere, figures are results."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def load_generator(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / "generate" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["options"])
def test_a_generated_page_is_up_to_date(name):
    page = load_generator(name)
    assert page.PAGE.read_text(encoding="utf-8") == page.write_page(), (
        f"run: python docs/generate/{name}.py"
    )
