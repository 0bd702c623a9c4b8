"""Strategies of installed packages are found by their entry points."""

import logging
import textwrap

import pytest

from curiosity_bluesky.errors import InputError
from curiosity_bluesky.learning import Explorer, Strategy, registry
from curiosity_bluesky.learning.strategies import Random

GOOD = """
    from dataclasses import dataclass
    from typing import ClassVar

    from curiosity_bluesky.learning.strategies import Random

    @dataclass(frozen=True, kw_only=True)
    class Theirs(Random):
        name: ClassVar[str] = "theirs"
        power: float = 1.0
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution of one module, as pip leaves it in site-packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_REGISTERED", {})

    def install(distribution, module, code, **points):
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(code))
        info = tmp_path / f"{distribution.replace('-', '_')}-2.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.1\n"
        )
        lines = [f"{name} = {module}:{to}" for name, to in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]))
        registry._installed_on.cache_clear()

    yield install
    registry._installed_on.cache_clear()


def test_a_package_brings_a_strategy(install, survey):
    install("their-strategies", "their_module_with_one", GOOD, theirs="Theirs")
    assert "theirs" in Strategy.names() and "curious" in Strategy.names()
    strategy = Strategy.named("theirs", power=2, patch_size=3, n_seeds=2)
    assert (
        type(strategy).__module__ == "their_module_with_one" and strategy.parameters["power"] == 2
    )
    assert Strategy.from_json(strategy.to_json()) == strategy
    [proposal] = Explorer(survey, strategy).propose()
    assert proposal.decided_by == "theirs"
    with pytest.raises(InputError, match="Did you mean 'theirs'"):
        Strategy.named("their")


BROKEN = {
    "nothing": ("import a_module_that_nothing_has", "Theirs", "ModuleNotFoundError.*that_nothing"),
    "exits": ("raise SystemExit(3)", "Theirs", "SystemExit: 3"),
    "syntax": ("def (", "Theirs", "SyntaxError"),
    "lacks": (GOOD, "Other", "AttributeError.*Other"),
    "function": (GOOD, "dataclass", "expected a frozen dataclass that inherits from Strategy"),
    "misnamed": (GOOD.replace('"theirs"', '"mine"'), "Theirs", "class is 'mine'.*'broken'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_one_is_named_and_the_others_work(install, caplog, kind):
    code, to, said = BROKEN[kind]
    install("broken-strategies", f"their_module_{kind}", code, broken=to)
    install("their-strategies", f"their_module_beside_{kind}", GOOD, theirs="Theirs")
    with caplog.at_level(logging.WARNING):
        names = Strategy.names()
    assert "theirs" in names and "curious" in names and "broken" not in names
    [message] = [record.getMessage() for record in caplog.records]
    assert "'broken' of the distribution broken-strategies 2.1 cannot be used" in message
    with pytest.raises(InputError, match=f"broken-strategies 2.1.*{said}.*mend or uninstall"):
        Strategy.named("broken")
    assert Strategy.named("theirs").name == "theirs"
    assert Strategy.named("random").name == "random"
    with pytest.raises(InputError, match="no strategy named 'nope'"):
        Strategy.named("nope")


def test_a_name_of_ours_stays_ours_and_of_two_distributions_the_first_counts(install, caplog):
    install("a-package", "their_first_module", GOOD, theirs="Theirs")
    install("b-package", "their_second_module", GOOD, theirs="Theirs")
    ours = GOOD.replace('"theirs"', '"random"')
    install("c-package", "their_third_module", ours, random="Theirs")
    with caplog.at_level(logging.WARNING):
        assert Strategy.names().count("theirs") == 1
    said = sorted(record.getMessage() for record in caplog.records)
    assert "'random' of the distribution c-package 2.1" in said[0] and "one of ours" in said[0]
    assert "'theirs' of the distribution b-package 2.1" in said[1]
    assert type(Strategy.named("theirs")).__module__ == "their_first_module"
    assert type(Strategy.named("random")) is Random


def test_all_of_ours_are_listed():
    """Each class of the room that has a name of its own is found by it."""
    registry.load_built_in()
    known, found = {Strategy}, set()
    while new := {sub for cls in known for sub in cls.__subclasses__()} - known:
        known |= new
    for cls in known:
        if cls.__module__.startswith(registry.ROOM) and "name" in vars(cls):
            found.add(cls)
            assert registry.find(cls.name) is cls
    assert len(found) == len(registry.BUILT_IN)
