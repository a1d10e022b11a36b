from __future__ import annotations

import pytest

from eventstore.nix.reference import Attributes, flake_named_by, flake_reference

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


def test_a_revision_takes_precedence_over_a_ref() -> None:
    locked: Attributes = {"type": "github", "owner": "o", "repo": "r", "ref": "main"}

    assert flake_reference(locked) == "github:o/r/main"
    assert flake_reference({**locked, "rev": REV}) == f"github:o/r/{REV}"


@pytest.mark.parametrize("owner", ["a/b/c", "a%2Fb%2Fc", "a%2fb/c"])
def test_nested_groups_are_one_segment(owner: str) -> None:
    """Older releases of Nix leave the slash encoded in the lock file, newer ones do not."""
    locked: Attributes = {"type": "gitlab", "owner": owner, "repo": "r s", "rev": REV}

    assert flake_reference(locked) == f"gitlab:a%2Fb%2Fc/r%20s/{REV}"
    assert flake_reference({**locked, "host": "git.example.org"}) == (
        f"gitlab:a%2Fb%2Fc/r%20s/{REV}?host=git.example.org"
    )


def test_slashes_of_a_ref_are_preserved_and_those_of_a_subgroup_encoded() -> None:
    locked: Attributes = {"type": "gitlab", "owner": "a", "repo": "b%2Fr", "ref": "release/1.0"}

    assert flake_reference(locked) == "gitlab:a/b%2Fr/release/1.0"


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


def test_all_options_of_a_git_repository() -> None:
    switches = ("allRefs", "exportIgnore", "lfs", "shallow", "submodules", "verifyCommit")
    locked: Attributes = {"type": "git", "url": "https://example.org/r", "rev": REV}

    assert flake_reference({**locked, **dict.fromkeys(switches, True)}) == (
        f"git+https://example.org/r?allRefs=1&exportIgnore=1&lfs=1&rev={REV}"
        "&shallow=1&submodules=1&verifyCommit=1"
    )
    assert flake_reference({**locked, **dict.fromkeys(switches, False)}) == (
        f"git+https://example.org/r?rev={REV}"
    )


ONE = '{"key":"AAAA+/=","type":"ssh-rsa"}'
OTHER = '{"key":"BBBB","type":"ssh-ed25519"}'
WRITTEN_ONE = "keytype=ssh-rsa&publicKey=AAAA%2B/%3D"
WRITTEN_TWO = (
    "publicKeys=%5B%7B%22key%22:%22AAAA%2B/%3D%22%2C%22type%22:%22ssh-rsa%22%7D%2C"
    "%7B%22key%22:%22BBBB%22%2C%22type%22:%22ssh-ed25519%22%7D%5D"
)


@pytest.mark.parametrize(
    ("keys", "written"),
    [
        ({"publicKey": "BBBB"}, "keytype=ssh-ed25519&publicKey=BBBB"),
        ({"publicKey": "AAAA+/=", "keytype": "ssh-rsa"}, WRITTEN_ONE),
        ({"publicKeys": f"[{ONE}]"}, WRITTEN_ONE),
        ({"publicKeys": f" [ {ONE}, {OTHER} ] "}, WRITTEN_TWO),
        ({"publicKeys": f"[{ONE}]", "publicKey": "BBBB"}, WRITTEN_TWO),
        ({"publicKeys": "[]"}, ""),
        ({"keytype": "ssh-rsa"}, ""),
    ],
)
def test_the_keys_of_a_git_repository_are_formatted_as_by_nix(
    keys: Attributes, written: str
) -> None:
    locked: Attributes = {"type": "git", "url": "https://example.org/r", "verifyCommit": True}
    listed = f"{written}&verifyCommit=1" if written else "verifyCommit=1"

    assert flake_reference({**locked, **keys}) == f"git+https://example.org/r?{listed}"


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
def test_an_input_without_revision_is_pinned_by_its_hash(kind: str) -> None:
    locked: Attributes = {"type": kind, "url": "https://example.org/a.tar.gz"}

    assert flake_reference(locked) == "https://example.org/a.tar.gz"
    assert flake_reference({**locked, "narHash": HASH}) == (
        f"https://example.org/a.tar.gz?narHash={QUOTED_HASH}"
    )


def test_the_query_of_a_url_is_preserved() -> None:
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
        ({"type": "git", "url": "https://a", "publicKeys": "x"}, "'publicKeys' is not a list"),
        ({"type": "git", "url": "https://a", "publicKeys": "[1]"}, "'publicKeys' is not a list"),
        ({"type": "git", "url": "https://a", "publicKey": True}, "'publicKey' is True"),
        ({"type": "tarball", "url": "https:"}, "which is not a url"),
        ({"type": "tarball", "url": "https://a", "narHash": 1}, "attribute 'narHash' is 1"),
        ({"type": "path", "path": ""}, "attribute 'path' is missing"),
        ({"type": "indirect"}, "attribute 'id' is missing"),
    ],
)
def test_malformed_attributes_are_refused(locked: Attributes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("'", ".")):
        flake_reference(locked)


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("mine", "mine"),
        ("mine#hello", "mine"),
        ("flake:mine#packages.x86_64-linux.hello", "mine"),
        ("Mine_2", "Mine_2"),
        ("./flake", None),
        ("path:flake", None),
        ("github:a/b#hello", None),
        ("mine?rev=abc", None),
        ("flake:mine/master", None),
        ("mine\n", None),
        ("x" * 129, None),
        ("#hello", None),
        ("", None),
    ],
)
def test_a_reference_names_a_flake_by_its_id_alone(reference: str, named: str | None) -> None:
    assert flake_named_by(reference) == named
