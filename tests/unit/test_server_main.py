import pytest

import services.__main__ as program


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A folder of services: one that can be hosted, one command, one library."""
    sources = {"demo": "async def wire(host):\n    pass\n", "command": "print('no')\n"}
    for name, source in sources.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "__main__.py").write_text(source)
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "__init__.py").write_text("")
    monkeypatch.setattr(program.services, "__path__", [str(tmp_path)])


def test_packages_with_a_wire_can_be_hosted(house):
    assert program.hosted() == ["demo"]


def test_all_hosts_every_one(house):
    assert [wire.__module__ for wire in program.wires("all")] == ["services.demo.__main__"]


def test_unknown_name_is_refused_with_the_known_ones(house):
    with pytest.raises(ValueError, match="no such service: command, ledgr; known: all, demo"):
        program.wires("demo,ledgr,command")
