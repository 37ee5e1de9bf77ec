"""The documents: what is generated is up to date, links lead somewhere, figures are results."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest

from advisor import errors
from advisor.cli.failures import EXIT_INTERRUPTED
from advisor.engine.document import json_schema
from advisor.questions import KINDS

ROOT = Path(__file__).parent.parent
DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
PAGES = [README, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"))]
PAGES += sorted(DOCS.glob("*.md"))
FIGURE = re.compile(
    r"\d+ of \d+|\d[\d,]*\.\d+|\d[\d,.]* ?(?:%|×|times|[µm]?s\b|h\b|min\b|[KMG]i?B\b)"
)
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(rf"{BLOCK.pattern}|`[^`\n]+`", BLOCK.flags)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def without_code(text):
    return CODE.sub("", text)


def load_generator(name, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "generate"))
    spec = importlib.util.spec_from_file_location(name, DOCS / "generate" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["benchmarks", "options"])
def test_a_generated_page_is_up_to_date(name, monkeypatch):
    page = load_generator(name, monkeypatch)
    assert page.PAGE.read_text(encoding="utf-8") == page.write_page(), (
        f"run: python docs/generate/{name}.py"
    )


def list_typed_figures(source):
    """Return what a generator would print with a digit that it did not read from a result.

    Code in backticks, docstrings, formats and the keys of results do not count.
    """
    tree = ast.parse(source)
    silent = {id(node.slice) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            silent |= {id(part) for part in ast.walk(node.format_spec)}
        if isinstance(node, ast.Expr):
            silent.add(id(node.value))
    texts = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent
    )
    return [text for text in texts if re.search(r"\d", without_code(text))]


def test_no_figure_of_the_results_page_is_typed():
    for path in sorted((DOCS / "generate").glob("figures_of_*.py")):
        assert list_typed_figures(path.read_text(encoding="utf-8")) == [], path.name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('f"held in {share} of 24 cells"', [" of 24 cells"]),
        ('"94 % of cases"', ["94 % of cases"]),
        ("f\"{row['a_2']:.2f} of `x_3`\"", []),
    ],
)
def test_a_typed_figure_is_found(source, found):
    assert list_typed_figures(f"text = {source}") == found


def test_every_result_has_its_place_on_the_results_page():
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    names = [path.name for path in sorted(RESULTS.glob("*.json"))]
    assert names
    assert [name for name in names if f"`benchmarks/results/{name}`" not in text] == []


def test_every_figure_of_the_readme_is_on_the_results_page():
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    summary = page.partition("## In short\n\n")[2].partition("\n")[0]
    readme = README.read_text(encoding="utf-8")
    assert FIGURE.findall(summary)
    assert summary in readme
    others = FIGURE.findall(without_code(readme.replace(summary, "")))
    assert [figure for figure in others if figure not in FIGURE.findall(page)] == []


def list_numbers(result):
    """Yield every number of a result, without its sign."""
    if isinstance(result, int | float) and not isinstance(result, bool):
        yield abs(float(result))
    elif isinstance(result, dict | list):
        for each in result.values() if isinstance(result, dict) else result:
            yield from list_numbers(each)


def is_of_result(figure, numbers):
    """Return whether each number of a figure is one of the result's, rounded as it stands there."""
    for text in re.findall(r"\d[\d,]*\.?\d*", figure):
        number = text.replace(",", "").rstrip(".")
        digits, scales = len(number.partition(".")[2]), (1.0, 100.0, 2.0**-20, 2.0**-30)
        rounded = {round(each * scale, digits) for each in numbers for scale in scales}
        if round(float(number), digits) not in rounded:
            return False
    return True


def list_paragraphs_on_results():
    """Yield the page, the benchmarks and the figures of each paragraph that names a benchmark."""
    for page in sorted(DOCS.glob("*.md")):
        if page.name in {"benchmarks.md", "options.md"}:
            continue
        for text in re.split(r"\n\n|\n(?=[*-] )", BLOCK.sub("", page.read_text(encoding="utf-8"))):
            names = re.findall(r"benchmarks/(?:results/)?(\w+)\.(?:json|py)", text)
            figures = FIGURE.findall(re.sub(r"arXiv:\S+", "", without_code(text)))
            if names:
                yield page.name, names, figures


def test_the_figures_of_a_paragraph_that_names_a_benchmark_are_in_its_result():
    count = 0
    for page, names, figures in list_paragraphs_on_results():
        paths = [RESULTS / f"{name}.json" for name in names]
        results = [json.loads(path.read_text())["results"] for path in paths if path.exists()]
        numbers = set(list_numbers(results))
        assert [each for each in figures if not is_of_result(each, numbers)] == [], (page, names)
        count += len(figures)
    assert count > 30


def test_a_figure_that_is_no_result_is_found():
    assert is_of_result("12.3 %", {0.1234})
    assert is_of_result("46 of 48", {46.0, 48.0})
    assert not is_of_result("12.4 %", {0.1234})
    assert not is_of_result("1.5 MiB", {3.0 * 2**20})


def test_the_screen_of_the_readme_is_that_of_a_real_run():
    result = json.loads((RESULTS / "first_screen.json").read_text(encoding="utf-8"))["results"]
    blocks = re.findall(r"^```text\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    (screen,) = (block.splitlines() for block in blocks)
    assert screen[0] == f"$ {result['command']}"
    shown = [line for line in screen[1:] if line]
    assert 12 <= len(shown) <= 16
    rest = iter(result["screen"])
    assert [line for line in shown if line not in rest] == []  # as they are, and in their order


def test_the_readme_is_short_and_has_the_test_command():
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 6000
    assert re.search(r"^pip install -e .*pytest$", text, re.MULTILINE)


def list_anchors(path):
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(
        r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def list_broken_links(page):
    for target in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in list_anchors(path)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    assert [*list_broken_links(page)] == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "a.md").write_text("# One thing\n[x](b.md) [y](#one-thing) [z](#two) `[c](d)`\n")
    assert [*list_broken_links(tmp_path / "a.md")] == ["b.md", "#two"]


def test_every_page_is_in_the_site():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f" {page.name}\n" not in text] == []


def has_key(schema, path):
    """Return whether a document of the schema may have the key; `[]` stands for each of a list."""
    node = schema
    for name in re.findall(r"\w+|\[\]", path):
        choices = [node, *node.get("anyOf", [])]
        choices += [schema["$defs"][c["$ref"].rpartition("/")[2]] for c in choices if "$ref" in c]
        found = [c["items"] for c in choices if name == "[]" and "items" in c]
        found += [c["properties"][name] for c in choices if name in c.get("properties", {})]
        if not found:
            return False
        node = found[0]
    return True


def list_keys_for_agents():
    """Return each key that docs/for-agents.md names, with the kind of its document."""
    kinds = {"predict": "prediction", "noise-floor": "self-comparison"}
    text = (DOCS / "for-agents.md").read_text(encoding="utf-8")
    for line in text.partition("## Read the document")[2].partition("\n## ")[0].splitlines():
        question, _, keys = line.strip("| ").rpartition(" | ")
        if line.startswith("| ") and "`" in keys and not line.startswith("| question"):
            command = re.match(r"`([\w-]+) --json`", question)
            name = command[1] if command else "run"
            yield from ((kinds.get(name, name), key) for key in re.findall(r"`([^`]+)`", keys))


def test_every_key_that_programs_are_told_of_is_in_the_schema():
    keys = [*list_keys_for_agents()]
    assert ("run", "derived.recommendation.basis") in keys
    assert ("prediction", "predictions[].fits") in keys
    schemas = {kind: json_schema(KINDS[kind]) for kind, _ in keys}
    assert [(kind, key) for kind, key in keys if not has_key(schemas[kind], key)] == []
    assert not has_key(schemas["run"], "derived.recommendation.colour")


@pytest.mark.parametrize("name", ["contract.md", "for-agents.md"])
def test_every_exit_code_is_told(name):
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.AdvisorError)}
    told = re.findall(r"^\| (\d+) \|", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert {*map(int, told)} == codes | {0, EXIT_INTERRUPTED}
