"""Shards behind a URL are copied once, whole, and to nowhere but their folder."""

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from soft.data import remote_shards
from soft.data.image_folder import imagenet
from soft.data.remote_shards import copy_shards, expand_ranges, find_copy
from soft.errors import SettingError
from tests.data.class_folders import write_class_folders
from tests.data.test_shards import assert_same, read, write

PATTERNS = ["train-*.tar", "val-*.tar"]
OPTIONAL = ["shards.json"]


def copy(url: str, cache: Path) -> Path:
    copy_shards(url, PATTERNS, OPTIONAL, cache)
    return find_copy(url, PATTERNS, cache)


class Handler(http.server.SimpleHTTPRequestHandler):
    """A folder over HTTP; the server counts requests, and cuts off answers to names in `broken`."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        name = self.path.strip("/")
        if name not in self.server.broken:
            return super().do_GET()
        content = (Path(self.directory) / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        return None

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(tmp_path) -> Iterator[http.server.ThreadingHTTPServer]:
    """Serves the folder `tmp_path/remote`, into which shards are written."""
    write(write_class_folders(tmp_path / "tree"), tmp_path / "remote")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "remote"))
    )
    server.requests, server.broken = [], set()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(remote_shards, "PAUSE", 0)


@pytest.mark.parametrize("train", ["train-*.tar", "train-{000000..000000}.tar"])
def test_a_url_reads_as_the_folder(server, tmp_path, make, train):
    options = dict(train_shards=train, val_shards="val-*.tar", json_label="label", cache=str(tmp_path / "cache"))
    data = make(dataset="imagenet_wds", num_classes=None, root=server.url, **options)
    with pytest.raises(SettingError, match=r"^http.* \(root\) is not in cache=.* yet; a launch copies it"):
        data.setup()
    assert server.requests == [], "what only looks, as a preflight does, copies nothing"

    data.prepare_data()
    data.setup()
    assert_same(data.sets, imagenet(tmp_path / "tree"))


def test_only_what_is_evaluated_is_copied(server, tmp_path, make):
    options = dict(
        train_shards="train-*.tar", val_shards="val-*.tar", json_label="label", cache=str(tmp_path / "cache")
    )
    data = make(dataset="imagenet_wds", num_classes=None, root=server.url, **options)
    data.prepare_data("validate")
    data.setup("validate")
    assert len(data.sets.val) == 6
    assert "/train-000000.tar" not in server.requests

    server.requests.clear()
    data.prepare_data()
    data.setup()
    assert (len(data.sets.train), len(data.sets.val)) == (12, 6)
    assert "/val-000000.tar" not in [path for path in server.requests if path.endswith(".tar")]
    assert find_copy(server.url, PATTERNS, tmp_path / "cache") == find_copy(
        server.url, ["val-*.tar"], tmp_path / "cache"
    )


def test_a_copy_needs_no_network(server, tmp_path):
    first = copy(server.url, tmp_path / "cache")
    server.requests.clear()
    second = copy(server.url, tmp_path / "cache")

    assert first == second
    assert server.requests == []
    assert sorted(path.name for path in first.iterdir() if not path.name.startswith(".")) == [
        "copied.json",
        "shards.json",
        "train-000000.tar",
        "val-000000.tar",
    ]


def test_an_interrupted_copy_goes_on(server, tmp_path):
    server.broken.add("val-000000.tar")
    with pytest.raises(SettingError, match=r"^http://127.0.0.1:\d+ \(root\) cannot be copied to cache="):
        copy(server.url, tmp_path / "cache")
    server.broken.clear()
    server.requests.clear()
    folder = copy(server.url, tmp_path / "cache")

    assert "/val-000000.tar" in server.requests
    assert "/train-000000.tar" not in server.requests, "what was whole is kept"
    assert (folder / "val-000000.tar").read_bytes() == (tmp_path / "remote" / "val-000000.tar").read_bytes()


def test_a_damaged_copy_is_fetched_again(server, tmp_path):
    folder = copy(server.url, tmp_path / "cache")
    (folder / "train-000000.tar").write_bytes(b"")
    copy(server.url, tmp_path / "cache")

    assert (folder / "train-000000.tar").stat().st_size == (tmp_path / "remote" / "train-000000.tar").stat().st_size


def test_ranks_that_start_together_copy_once(server, tmp_path):
    results = []
    threads = [threading.Thread(target=lambda: results.append(copy(server.url, tmp_path / "cache"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(results)) == 1
    assert len(results) == 4
    assert server.requests.count("/train-000000.tar") == 1


@pytest.mark.parametrize(
    ("url", "patterns", "message"),
    [
        ("{url}", ["imagenet-*.tar"], "has no files imagenet-*.tar. See data.train_shards"),
        ("{url}", ["train-{000000..000004}.tar"], "train-00000"),
        ("{url}/nothing", PATTERNS, "/nothing (data.root) has no files train-*.tar"),
        ("http://127.0.0.1:9/x", PATTERNS, "http://127.0.0.1:9/x (data.root) cannot be copied to data.cache"),
        ("nowhere://x", PATTERNS, "Protocol not known: nowhere"),
        ("http://me:secret@127.0.0.1:9/x", ["0.tar"], "http://127.0.0.1:9/x (data.root) cannot be copied"),
        ("http://127.0.0.1:9/x?token=secret", ["0.tar"], "http://127.0.0.1:9/x (data.root) cannot be copied"),
        ("nowhere://me:secret@x?token=secret", PATTERNS, "nowhere://x (data.root) cannot be copied"),
    ],
    ids=["other names", "a number too many", "no such folder", "nobody there", "protocol", "password", "token", "both"],
)
def test_what_cannot_be_copied_is_a_sentence(server, tmp_path, url, patterns, message):
    with pytest.raises(SettingError) as caught:
        copy_shards(url.format(url=server.url), patterns, [], tmp_path / "cache")
    assert message in caught.value.as_settings()
    assert "\n" not in caught.value.as_settings()
    assert "secret" not in caught.value.as_settings()


def test_a_full_disk_is_known_before_copying(server, tmp_path, monkeypatch):
    usage = remote_shards.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(remote_shards.shutil, "disk_usage", lambda path: usage)

    with pytest.raises(SettingError, match=r"where 0\.0 are free"):
        copy(server.url, tmp_path / "cache")
    assert "/train-000000.tar" not in server.requests


def test_names_cannot_leave_the_folder(server, tmp_path):
    (tmp_path / "outside.tar").write_bytes(b"")

    with pytest.raises(SettingError, match="would be written outside"):
        copy_shards(f"file://{tmp_path}/remote", ["../outside.tar"], [], tmp_path / "cache")


def test_a_manifest_says_when_a_copied_folder_is_unfinished(server, tmp_path):
    remote = tmp_path / "remote"
    (remote / "shards.json").rename(remote / "shards.unfinished.json")

    copy_shards(server.url, PATTERNS, ["shards.unfinished.json"], tmp_path / "cache")
    with pytest.raises(SettingError, match="is incomplete"):
        read(server.url, cache=str(tmp_path / "cache"))


def test_what_was_copied_is_listed(server, tmp_path):
    folder = copy(server.url, tmp_path / "cache")
    listing = json.loads((folder / "copied.json").read_text())

    assert set(listing["bytes"]) == {"train-000000.tar", "val-000000.tar", "shards.json"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{0..1}/{3..4}", ["0/3", "0/4", "1/3", "1/4"]),
    ],
)
def test_ranges(pattern, names):
    assert expand_ranges(pattern) == names
