"""Nothing that is read from a disk or a network may run: what could is not called, whatever a file says it is."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for floor in ("benchmarks", "flows", "tasks", "unet") for path in (ROOT / floor).rglob("*.py"))
UNPICKLERS = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
RUNNERS = {"eval", "exec", "os.system", "os.popen", "read_pickle", "pd.read_pickle", "torch.jit.load", "torch.hub.load"}


ALLOWED = {
    "tasks/model/nnunet_weights.py": {"pickle.UnpicklingError"},  # by which torch says that it refused a file: caught
    "tasks/apart.py": {"pickle.loads"},  # of a pipe without a name, from the process that began this one
    "tasks/shelf.py": {"pickle.loads", "pickle.dumps"},  # of bytes that never leave the memory of this process
}


def dangers(text: str) -> list[str]:
    """What in a source may run what it reads."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute | ast.ImportFrom) and home_of(node) in UNPICKLERS:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Call):
            found += danger_of(ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords})
    return found


def home_of(node: ast.Attribute | ast.ImportFrom) -> str:
    return (str(node.module) if isinstance(node, ast.ImportFrom) else ast.unparse(node)).split(".")[0]


def danger_of(called: str, given: dict[str | None, str]) -> list[str]:
    unsafe = (
        called in RUNNERS
        or (called == "torch.load" and given.get("weights_only") != "True")
        or given.get("allow_pickle", "False") != "False"
        or given.get("shell", "False") != "False"
        or (called == "yaml.load" and "Safe" not in given.get("Loader", ""))
    )
    return [called] if unsafe else []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path):
    assert set(dangers(path.read_text())) - ALLOWED.get(str(path.relative_to(ROOT)), set()) == set()


@pytest.mark.parametrize(
    "text",
    [
        "pickle.load(f)",
        "from pickle import loads",
        "joblib.load(p)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "eval(x)",
        "subprocess.run(x, shell=True)",
        "yaml.load(f)",
        "pd.read_pickle(p)",
    ],
)
def test_what_would_run_is_found(text):
    assert dangers(text)
