from __future__ import annotations

import os
import re
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.security.names import MAX_DEPTH, MAX_NAME, NameRefused, inside, open_inside, version

GOOD = ("a", "0" * 64, "2026-11-01", "v1.2.3", "shop_a-2", "a" * MAX_NAME, "a-", "b--c", "x.y_z")
BAD = (
    "", ".", "..", ".hidden", "-rf", "_x", "a.", "a..b", "../x", "a/../b", "/etc/passwd", "//a", "a//b", "a/", "a\\b",
    "C:a", "a b", "a\n", "\na", "a\0", "ä", "а", "%2e%2e", "~", "$HOME", "a;b", "a*", "a" * (MAX_NAME + 1),
)  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_plain_versions_are_taken_as_they_are(tmp_path: Path, text: str) -> None:
    assert version(text) == text
    assert inside(tmp_path, text) == tmp_path / text


@pytest.mark.parametrize("text", BAD)
def test_odd_names_are_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    for take in (version, lambda name: inside(tmp_path, name), lambda name: open_inside(tmp_path, name)):
        with pytest.raises(NameRefused) as caught:
            take(text)
        if len(text) > 3:
            assert text not in str(caught.value)


def test_a_version_is_one_name_and_a_file_may_lie_in_folders(tmp_path: Path) -> None:
    with pytest.raises(NameRefused):
        version("a/b")
    folders = tmp_path / "2026" / "11"
    folders.mkdir(parents=True)
    (folders / "visitors.parquet").write_bytes(b"rows")
    assert inside(tmp_path, "2026/11/visitors.parquet") == folders / "visitors.parquet"
    assert inside(tmp_path, "2026/11") == folders
    assert inside(tmp_path, "2026/12") == tmp_path / "2026" / "12", "the last part may be missing"
    with open_inside(tmp_path, "2026/11/visitors.parquet") as file:
        assert file.read() == b"rows"
    with pytest.raises(NameRefused, match="does not exist"):
        inside(tmp_path, "2027/visitors.parquet")
    with pytest.raises(FileNotFoundError):
        open_inside(tmp_path, "2026/11/others.parquet")
    with pytest.raises(NameRefused):
        inside(tmp_path, "/".join("a" * (MAX_DEPTH + 1)))


def test_links_lead_nowhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, outside, root / "plain"):
        folder.mkdir()
    (outside / "secret").write_text("secret")
    (root / "file").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "near").symlink_to(root / "plain")
    (root / "dangling").symlink_to(tmp_path / "nothing")
    (root / "plain" / "up").symlink_to("..")
    for name in ("file", "folder", "folder/secret", "near", "dangling", "plain/up", "plain/up/file"):
        for take in (inside, open_inside):
            with pytest.raises(NameRefused, match="links"):
                take(root, name)
    (tmp_path / "link-to-root").symlink_to(root)
    assert inside(tmp_path / "link-to-root", "plain").is_dir(), "the root is the operator's choice"


def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with tempfile.TemporaryDirectory(prefix="s-") as short, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/socket")
        for root, name in ((tmp_path, "pipe"), (Path(short), "socket")):
            for take in (inside, open_inside):
                with pytest.raises(NameRefused, match="plain"):
                    take(root, name)
    with pytest.raises(NameRefused, match="plain"):
        open_inside(tmp_path, "folder")
    for take in (inside, open_inside):
        with pytest.raises(NameRefused, match="plain"):
            take(tmp_path, "file/below")


@given(st.text(st.sampled_from("ab0._-/\\ \n\0~é"), max_size=12))
def test_what_is_taken_stays_inside(text: str) -> None:
    root = Path("/nowhere/that/exists")
    try:
        path = inside(root, text)
    except NameRefused:
        return
    assert Path(os.path.normpath(path)) == path
    assert path.is_relative_to(root)
    assert path != root
    assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name)
