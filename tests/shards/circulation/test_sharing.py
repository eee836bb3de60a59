"""Shards to the hub and back, with the commands and the real client, and a local server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from merc import files
from merc.commands.shards import main
from merc.shards.card.writing import write_card
from merc.shards.circulation import sharing
from merc.shards.format import reader

from ...shared_hub import Repo, SharedHub

NAME = "ann/tiny"
TRAIN = "dialogues/train-00000-of-00001.parquet"
RECORDS = {"README.md", "croissant.json", "meta/info.json", "meta/stats.json", "meta/manifest.json"}
TABLES = {
    f"{table}/{split}-00000-of-00001.parquet"
    for table in ("dialogues", "trajectories", "failures")
    for split in ("train", "dev", "test")
}


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def _push(folder: Path, *more: str) -> Result:
    return _run("push", folder, NAME, *more)


@pytest.fixture
def free(sound: Path) -> Path:
    """Shards whose card permits redistribution."""
    info = files.read_json(sound / "meta" / "info.json")
    files.write_json(sound / "meta" / "info.json", {**info, "redistribution": "CC0."})
    write_card(sound)
    return sound


@pytest.fixture
def dataset(shared_hub: SharedHub, free: Path) -> Repo:
    """The repository after a push of the shards."""
    made = _push(free)
    assert made.exit_code == 0, made.output
    return shared_hub.repos["dataset", NAME]


def _content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_what_is_pushed_comes_back_byte_by_byte_from_the_commit_that_was_printed(
    shared_hub: SharedHub, free: Path, tmp_path: Path
) -> None:
    (free / "notes.txt").write_text("private")
    pushed = _push(free)
    assert pushed.exit_code == 0, pushed.output
    first, command = pushed.stdout.splitlines()
    repo = shared_hub.repos["dataset", NAME]
    assert first == f"{NAME} (private) at {repo.sha(-1)}: 14 files"
    assert command == f"merc-shards pull {NAME} FOLDER --revision {repo.sha(-1)}"
    assert set(repo.commits[-1]) == {".gitattributes", *RECORDS, *TABLES}  # the README is the card
    (free / "notes.txt").unlink()
    pulled = _run("pull", NAME, tmp_path / "here", "--revision", repo.sha(-1))
    assert pulled.exit_code == 0, pulled.output
    assert pulled.stdout.splitlines() == [
        f"{tmp_path / 'here'}: 6 dialogues, 12 utterances, 14 files, nothing wrong",
        f"{NAME} at {repo.sha(-1)}",
    ]
    assert _content(tmp_path / "here") == _content(free)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".here") and path.is_dir()] == []


def test_the_same_shards_again_make_no_commit(shared_hub: SharedHub, dataset: Repo, free: Path) -> None:
    before = len(dataset.commits), len(shared_hub.uploads)
    again = _push(free)
    assert again.stdout.splitlines()[0] == f"{NAME} (private) at {dataset.sha(-1)}: everything was there already"
    assert (len(dataset.commits), len(shared_hub.uploads)) == before


def test_a_push_replaces_what_is_ours_and_leaves_other_files_there(dataset: Repo, free: Path) -> None:
    dataset.commit({**dataset.commits[-1], "dialogues/train-00001-of-00002.parquet": b"old", "paper.pdf": b"pdf"})
    assert "  removed: dialogues/train-00001-of-00002.parquet" in _push(free).stdout.splitlines()
    assert set(dataset.commits[-1]) == {".gitattributes", "paper.pdf", *RECORDS, *TABLES}


def test_an_interrupted_push_is_not_seen_and_the_next_one_sends_only_the_rest(
    shared_hub: SharedHub, free: Path
) -> None:
    shared_hub.fault = lambda method, _path: "drop" if method == "PUT" and shared_hub.uploads else None
    broken = _push(free)
    assert broken.exit_code == 6
    assert f"push to {NAME}: Error while uploading" in broken.stderr
    assert "the same command does not send them again" in broken.stderr
    repo = shared_hub.repos["dataset", NAME]
    assert set(repo.commits[-1]) == {".gitattributes"}
    there = set(shared_hub.objects)
    assert there
    shared_hub.fault = lambda _method, _path: None
    shared_hub.uploads.clear()
    assert _push(free).exit_code == 0
    large = {files.sha256(free / name) for name in TABLES}
    assert there.isdisjoint(shared_hub.uploads)
    assert there | set(shared_hub.uploads) == large
    assert set(repo.commits[-1]) == {".gitattributes", *RECORDS, *TABLES}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "`hf auth login`"),
        (403, "write access"),
        (404, "no such repository"),
        (412, "changed at the same time"),
        (429, "too many requests"),
        (503, "later"),
    ],
)
def test_a_hub_that_refuses_a_push_is_reported_with_its_own_words_and_what_to_do(
    shared_hub: SharedHub, free: Path, status: int, words: str
) -> None:
    shared_hub.fault = lambda _method, path: status if path.endswith("/commit/main") else None
    refused = _push(free)
    assert refused.exit_code == 6, refused.output
    assert f"push to {NAME}: the hub refuses ({status})" in refused.stderr
    assert words in refused.stderr
    assert "It says: as the test has it" in refused.stderr


def test_without_a_token_and_to_another_owner_nothing_is_pushed(
    shared_hub: SharedHub, free: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = _run("push", free, "bob/tiny")
    assert other.exit_code == 6
    assert 'rights to create a repository under the namespace "bob"' in other.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_false")
    refused = _push(free)
    assert refused.exit_code == 6
    assert "the token is invalid: `hf auth login`, or a token in HF_TOKEN" in refused.stderr
    assert not shared_hub.repos


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_hub_that_refuses_a_pull_leaves_nothing(
    shared_hub: SharedHub, dataset: Repo, tmp_path: Path, status: int
) -> None:
    shared_hub.fault = lambda _method, path: status if "/tree/" in path else None
    refused = _run("pull", NAME, tmp_path / "here")
    assert (refused.exit_code, (tmp_path / "here").exists()) == (6, False)
    assert f"pull from {NAME}: the hub refuses ({status})" in refused.stderr


def test_an_interrupted_pull_resumes_with_the_files_that_are_not_here(
    shared_hub: SharedHub, dataset: Repo, tmp_path: Path
) -> None:
    shared_hub.fault = lambda method, path: "drop" if method == "GET" and path.endswith(TRAIN) else None
    broken = _run("pull", NAME, tmp_path / "here")
    assert (broken.exit_code, (tmp_path / "here").exists()) == (6, False)
    assert "the same command does not download them again" in broken.stderr
    shared_hub.fault = lambda _method, _path: None
    before = dict(shared_hub.asked)
    assert _run("pull", NAME, tmp_path / "here").exit_code == 0
    place = f"/datasets/{NAME}/resolve/{dataset.sha(-1)}/"
    fetched = {
        path.removeprefix(place)
        for (method, path), times in shared_hub.asked.items()
        if method == "GET" and times > before.get((method, path), 0)
    }
    assert TRAIN in fetched
    assert "meta/info.json" not in fetched


def test_an_unknown_repository_or_revision_is_said_to_be_unknown(dataset: Repo, tmp_path: Path) -> None:
    assert "no such repository or revision, or it is private" in _run("pull", "ann/other", tmp_path / "here").stderr
    assert "no such repository or revision" in _run("pull", NAME, tmp_path / "here", "--revision", "v9").stderr
    for wrong in (
        ["pull", "tiny", "here"],
        ["pull", "../../etc", "here"],
        ["pull", NAME, "here", "--revision", "../../x"],
    ):
        assert _run(*wrong).exit_code == 2


def test_a_hub_that_is_not_there_or_must_not_be_asked_ends_with_one_sentence(
    free: Path, monkeypatch: pytest.MonkeyPatch, hub_cache: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    silent = _push(free)
    assert silent.exit_code == 6
    assert "the hub at http://127.0.0.1:9 does not answer" in silent.stderr
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids contacting the hub" in _push(free).stderr


# What must not be redistributed.


def test_shards_that_must_not_be_passed_on_go_nowhere_without_a_word_of_the_user(
    shared_hub: SharedHub, sound: Path
) -> None:
    refused = _push(sound)
    assert refused.exit_code == 2
    assert "Do not redistribute this folder" in refused.stderr
    assert "confirm with --yes-i-may" in refused.stderr
    public = _push(sound, "--public", "--yes-i-may")
    assert public.exit_code == 2
    assert "Use --no-text to leave the transcripts out, or --private" in public.stderr
    assert not shared_hub.asked


def test_confirmed_they_go_to_a_private_repository_and_never_to_one_that_is_public(
    shared_hub: SharedHub, sound: Path
) -> None:
    assert _push(sound, "--yes-i-may").exit_code == 0
    assert shared_hub.repos["dataset", NAME].private
    shared_hub.repos["dataset", NAME] = Repo(private=False)
    shared_hub.uploads.clear()
    refused = _push(sound, "--yes-i-may")
    assert refused.exit_code == 2
    assert f"{NAME} exists and is public" in refused.stderr
    assert set(shared_hub.repos["dataset", NAME].commits[-1]) == {".gitattributes"}


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)])
def test_on_a_terminal_the_user_is_asked(
    shared_hub: SharedHub, sound: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr("merc.commands.sharing._on_a_terminal", lambda: True)
    asked = CliRunner().invoke(main, ["push", str(sound), NAME], input=answer)
    assert asked.exit_code == code
    assert "May everyone with access to the private repository have this corpus?" in asked.stderr
    assert bool(shared_hub.repos) == (code == 0)


def test_without_transcripts_nothing_of_them_goes_up(shared_hub: SharedHub, sound: Path) -> None:
    assert _push(sound, "--no-text").exit_code == 2  # the vectors were made from them
    assert _push(sound, "--no-text", "--public", "--yes-i-may").exit_code == 0
    repo = shared_hub.repos["dataset", NAME]
    assert not repo.private
    assert json.loads(repo.commits[-1]["meta/info.json"])["transcripts"] is False
    assert not any(b"quoted" in data for data in [*repo.commits[-1].values(), *shared_hub.objects.values()])
    assert reader.info(sound)["transcripts"] is True


def test_a_private_repository_does_not_become_public_by_a_push(dataset: Repo, free: Path) -> None:
    refused = _push(free, "--public")
    assert refused.exit_code == 2
    assert "exists and is private" in refused.stderr


# Damaged shards are not uploaded.


def test_shards_with_a_wrong_checksum_are_not_pushed(shared_hub: SharedHub, free: Path) -> None:
    (free / "meta" / "stats.json").write_text((free / "meta" / "stats.json").read_text() + " ")
    for more in ([], ["--no-text"]):
        refused = _push(free, *more)
        assert refused.exit_code == 4
        assert "manifest: meta/stats.json" in refused.stderr
        assert "nothing was pushed" in refused.stderr
    assert not shared_hub.asked


def test_shards_without_a_card_are_not_pushed(shared_hub: SharedHub, free: Path) -> None:
    (free / "README.md").unlink()
    assert "there is no dataset card README.md" in _push(free).stderr
    assert not shared_hub.asked


# A malicious repository.


def test_paths_out_of_the_folder_and_foreign_files_are_neither_fetched_nor_written(
    shared_hub: SharedHub, dataset: Repo, tmp_path: Path
) -> None:
    evil = [
        "../../evil.json",
        "/etc/evil",
        "meta/../../evil.json",
        "dialogues/../evil.parquet",
        "weights.bin",
        "load.py",
        "meta/info.json\n",
        "..\\evil.json",
    ]
    dataset.commit({**dataset.commits[-1], **dict.fromkeys(evil, b"evil")})
    pulled = _run("pull", NAME, tmp_path / "deep" / "er" / "here")
    assert pulled.exit_code == 0, pulled.output
    assert f"{len(evil)} files were not downloaded, since they are of another kind" in pulled.stderr
    assert set(_content(tmp_path / "deep" / "er" / "here")) == {*RECORDS, *TABLES}
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or path.name in ("weights.bin", "load.py")]
    assert not [path for method, path in shared_hub.asked if "evil" in path]


def _changed(name: str, how: Callable[[bytes], bytes]) -> Callable[[SharedHub, Repo], None]:
    return lambda _hub, repo: setattr(
        repo, "commits", [*repo.commits, {**repo.commits[-1], name: how(repo.commits[-1][name])}]
    )


def _listed(name: str, **facts: Any) -> Callable[[SharedHub, Repo], None]:
    return lambda hub, _repo: hub.listed.update({name: facts})


def _without(name: str) -> Callable[[SharedHub, Repo], None]:
    return lambda _hub, repo: setattr(
        repo, "commits", [{key: data for key, data in repo.commits[-1].items() if key != name}]
    )


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            _changed(TRAIN, lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]),
            "another sha256: its content has changed",
        ),
        (_changed(TRAIN, lambda data: data[: len(data) // 2]), "bytes instead of"),
        (_changed(TRAIN, lambda _data: b"PAR1" * 9), "problems"),
        (_changed("meta/info.json", lambda _data: b"{}"), "meta/info.json"),
        (_changed("meta/info.json", lambda _data: b"[" * 100_000), "meta/info.json"),
        (
            _changed(
                "meta/manifest.json",
                lambda data: data.replace(b'"README', b'"x').replace(b"croissant.json", b"../croissant.js"),
            ),
            "not a plain path",
        ),
        (_without("meta/stats.json"), "meta/stats.json"),
        (_without(TRAIN), "problems, as listed by `merc-shards validate`"),
        (_listed(TRAIN, size=3), "bytes were received instead of the 3 that are listed"),
        (_listed(TRAIN, lfs={"oid": "0" * 64, "size": 1, "pointerSize": 130}), "its content has the hash"),
        (_listed("meta/info.json", oid="0" * 40), "its content has the hash"),
        (
            lambda _hub, repo: repo.commit({"model.safetensors": b"x", "load.py": b"y"}),
            "none of its files are of the kind that is pulled here",
        ),
    ],
)
def test_a_repository_that_is_not_what_it_says_is_refused_and_what_is_here_stays(
    shared_hub: SharedHub, dataset: Repo, free: Path, tmp_path: Path, how: Callable[[SharedHub, Repo], None], words: str
) -> None:
    before = _content(free)
    how(shared_hub, dataset)
    refused = _run("pull", NAME, free, "--overwrite")
    assert refused.exit_code == 4, refused.output
    assert words in refused.stderr
    assert _content(free) == before
    assert not [path for path in free.parent.iterdir() if path.name.startswith(f".{free.name}.") and path.is_dir()]


def test_a_link_in_the_repository_is_not_a_file(shared_hub: SharedHub, dataset: Repo, tmp_path: Path) -> None:
    """A link in git is a file whose content is its target; the hub sends that text."""
    dataset.commit({**dataset.commits[-1], "meta/stats.json": b"/etc/passwd"})
    refused = _run("pull", NAME, tmp_path / "here")
    assert (refused.exit_code, (tmp_path / "here").exists()) == (4, False)


def test_what_would_fill_the_disk_is_not_downloaded(shared_hub: SharedHub, dataset: Repo, tmp_path: Path) -> None:
    shared_hub.listed[TRAIN] = {"size": 10**16}
    refused = _run("pull", NAME, tmp_path / "here")
    assert refused.exit_code == 1
    assert "bytes would be downloaded" in refused.stderr
    assert not [path for _, path in shared_hub.asked if "/resolve/" in path]


def test_what_is_here_is_replaced_only_if_that_is_asked_for(dataset: Repo, free: Path, tmp_path: Path) -> None:
    assert _run("pull", NAME, free).exit_code == 5
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert _run("pull", NAME, tmp_path / "mine", "--overwrite").exit_code == 5
    (free / "meta" / "stats.json").write_text("{}")
    assert _run("pull", NAME, free, "--overwrite").exit_code == 0
    assert json.loads((free / "meta" / "stats.json").read_text()) != {}


def test_only_names_that_shards_have_are_ours() -> None:
    ours = [*RECORDS, *TABLES]
    others = [
        "",
        "readme.md",
        "dialogues/train.parquet",
        "dialogues/all-00000-of-00001.parquet",
        "meta/x.json",
        "x/README.md",
        "README.md/",
        f"{TRAIN}\n",
    ]
    assert all(map(sharing.is_ours, ours))
    assert not any(map(sharing.is_ours, others))
