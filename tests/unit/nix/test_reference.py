from __future__ import annotations

import pytest

from eventstore.nix.reference import Attributes, flake_names, flake_reference, is_reference

REV = "94def634a20494ee057c76998843c015909d6311"
HASH = "sha256-Yg/+=="
QUOTED_HASH = "sha256-Yg/%2B%3D%3D"


@pytest.mark.parametrize("kind", ["github", "gitlab", "sourcehut"])
def test_a_repository_of_a_forge(kind: str) -> None:
    locked: Attributes = {"type": kind, "owner": "~o", "repo": "r", "rev": REV, "narHash": HASH}

    assert flake_reference(locked) == f"{kind}:~o/r/{REV}"
    assert flake_reference({**locked, "host": "git.example.org", "dir": "sub/dir"}) == (
        f"{kind}:~o/r/{REV}?dir=sub/dir&host=git.example.org"
    )


def test_a_revision_says_more_than_a_ref() -> None:
    locked: Attributes = {"type": "github", "owner": "o", "repo": "r", "ref": "main"}

    assert flake_reference(locked) == "github:o/r/main"
    assert flake_reference({**locked, "rev": REV}) == f"github:o/r/{REV}"


def test_a_group_of_groups_is_quoted_as_nix_does() -> None:
    locked: Attributes = {"type": "gitlab", "owner": "a%2Fb", "repo": "r s", "rev": REV}

    assert flake_reference(locked) == f"gitlab:a%252Fb/r%20s/{REV}"


def test_a_git_repository() -> None:
    locked: Attributes = {
        "type": "git",
        "url": "https://example.org/r.git",
        "ref": "refs/heads/main",
        "rev": REV,
        "revCount": 7,
        "lastModified": 1,
        "narHash": HASH,
    }

    assert flake_reference(locked) == (
        f"git+https://example.org/r.git?ref=refs/heads/main&rev={REV}"
    )
    assert flake_reference({**locked, "submodules": True, "shallow": False, "dir": "d"}) == (
        f"git+https://example.org/r.git?dir=d&ref=refs/heads/main&rev={REV}&submodules=1"
    )


@pytest.mark.parametrize(
    ("url", "reference"),
    [
        ("ssh://git@example.org/r", f"git+ssh://git@example.org/r?rev={REV}"),
        ("git://example.org/r", f"git://example.org/r?rev={REV}"),
        ("file:///srv/r", f"git+file:///srv/r?rev={REV}"),
        ("https://example.org/r?x=a%20b&bare", f"git+https://example.org/r?rev={REV}&x=a%20b"),
    ],
)
def test_urls_of_git(url: str, reference: str) -> None:
    assert flake_reference({"type": "git", "url": url, "rev": REV}) == reference


def test_a_mercurial_repository() -> None:
    locked: Attributes = {"type": "hg", "url": "https://example.org/r", "ref": "x", "rev": REV}

    assert flake_reference(locked) == f"hg+https://example.org/r?ref=x&rev={REV}"


@pytest.mark.parametrize("kind", ["tarball", "file"])
def test_what_has_no_revision_is_pinned_by_its_hash(kind: str) -> None:
    locked: Attributes = {"type": kind, "url": "https://example.org/a.tar.gz"}

    assert flake_reference(locked) == "https://example.org/a.tar.gz"
    assert flake_reference({**locked, "narHash": HASH}) == (
        f"https://example.org/a.tar.gz?narHash={QUOTED_HASH}"
    )


def test_a_query_of_the_url_is_kept() -> None:
    locked: Attributes = {"type": "tarball", "url": "https://example.org/a?v=1+2", "dir": "d"}

    assert flake_reference(locked) == "https://example.org/a?dir=d&v=1%2B2"


def test_a_path() -> None:
    assert flake_reference({"type": "path", "path": "./sub"}) == "path:./sub"
    assert flake_reference({"type": "path", "path": "/a b", "narHash": HASH, "rev": REV}) == (
        f"path:/a%20b?narHash={QUOTED_HASH}"
    )


def test_an_indirect_reference() -> None:
    assert flake_reference({"type": "indirect", "id": "nixpkgs"}) == "flake:nixpkgs"
    assert flake_reference({"type": "indirect", "id": "nixpkgs", "ref": "main", "rev": REV}) == (
        f"flake:nixpkgs/main/{REV}"
    )


@pytest.mark.parametrize(
    ("locked", "problem"),
    [
        ({}, "attribute 'type' is missing"),
        ({"type": ""}, "attribute 'type' is missing"),
        ({"type": 7}, "attribute 'type' is 7, not a text"),
        ({"type": "svn"}, "type 'svn' is not known"),
        ({"type": "github", "repo": "r"}, "attribute 'owner' is missing"),
        ({"type": "github", "owner": "o", "repo": True}, "attribute 'repo' is True, not a text"),
        ({"type": "git"}, "attribute 'url' is missing"),
        ({"type": "git", "url": "/srv/r"}, "attribute 'url' is '/srv/r', which is not a url"),
        ({"type": "tarball", "url": "https:"}, "which is not a url"),
        ({"type": "tarball", "url": "https://a", "narHash": 1}, "attribute 'narHash' is 1"),
        ({"type": "path", "path": ""}, "attribute 'path' is missing"),
        ({"type": "indirect"}, "attribute 'id' is missing"),
    ],
)
def test_what_cannot_be_written(locked: Attributes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("'", ".")):
        flake_reference(locked)


def test_a_flake_is_named_by_its_id_and_its_path() -> None:
    assert flake_names("mine", "./my flake/") == {
        *("mine", "flake:mine"),
        *("./my flake", "path:./my%20flake"),
    }
    assert flake_names("mine", "/") == {"mine", "flake:mine", "/", "path:"}
    assert flake_names("mine", "") == {"mine", "flake:mine"}


@pytest.mark.parametrize(
    ("reference", "is_one"),
    [
        ("mine", True),
        ("mine#hello", True),
        ("flake:mine#packages.x86_64-linux.hello", True),
        ("./flake", True),
        ("./flake/#hello", True),
        ("path:./flake", True),
        ("min", False),
        ("mine2", False),
        ("Mine", False),
        ("./flake/sub", False),
        ("./flake?dir=sub", False),
        ("flake:mine/master", False),
        ("#hello", False),
        ("", False),
    ],
)
def test_a_reference_may_have_an_attribute_and_no_parameters(reference: str, is_one: bool) -> None:
    assert is_reference(reference, flake_names("mine", "./flake")) is is_one
