"""Where tests of the chart get helm from, and what they say where it cannot be had."""

from pathlib import Path

import pytest
from helm_program import VERSION, find_helm


def put_program(path: Path, script: str = "") -> Path:
    """Write something that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_the_one_on_the_path_is_taken(tmp_path: Path) -> None:
    """Whatever its version."""
    helm = put_program(tmp_path / "bin" / "helm")

    assert helm == find_helm({"PATH": str(helm.parent), "XDG_CACHE_HOME": str(tmp_path)})


def test_one_that_was_built_before_is_taken(tmp_path: Path) -> None:
    """Go is not asked again."""
    helm = put_program(tmp_path / "teacherd" / f"helm-{VERSION}" / "helm")

    assert helm == find_helm({"PATH": "", "XDG_CACHE_HOME": str(tmp_path)})


def test_go_builds_it_where_there_is_none(tmp_path: Path) -> None:
    """It appears in the cache at once, whole."""
    build = 'test "$2" = helm.sh/helm/v3/cmd/helm@' + VERSION + '; echo built >"$GOBIN/helm"'
    go = put_program(tmp_path / "bin" / "go", f'/bin/mkdir "$GOBIN" && {build}')
    helm = find_helm({"PATH": str(go.parent), "XDG_CACHE_HOME": str(tmp_path)})

    assert "built\n" == helm.read_text()
    assert ["helm"] == [each.name for each in helm.parent.iterdir()]


def test_without_go_the_test_is_skipped_with_what_to_install(tmp_path: Path) -> None:
    """And fails where nothing may be missing."""
    nothing = {"PATH": "", "XDG_CACHE_HOME": str(tmp_path)}

    with pytest.raises(pytest.skip.Exception, match=r"'go'.*helm\.sh"):
        find_helm(nothing)
    with pytest.raises(pytest.fail.Exception, match=r"'go'.*helm\.sh"):
        find_helm({**nothing, "TEACHERD_TEST_REQUIRE_ALL": "1"})
