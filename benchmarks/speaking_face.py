"""Does the choice of the speaker's face find the speaker, and does it notice when no visible person speaks? Composed
scenes, and real clips.

    MERC_REAL_DATA=… python benchmarks/speaking_face.py --workers 2
    MERC_REAL_DATA=… python benchmarks/speaking_face.py --scenes 20 --first-seed 1000 --tables off_screen cuts

Tables: ``real`` and ``drawn`` heads, two or three of them in one shot; ``off_screen``, only listeners with a voice from
off screen; ``cuts``, two shots; and ``clips``, the clips of the shared folder unchanged (``_scenes.py`` says how scenes
are composed). Each has ``largest``, ``persistent``, ``speaking`` and ``active_speaker`` with each of the authors' two
files of weights, TalkSet's and AVA's.

What is tested. Real heads (cut out of real clips, with their own motion, smiles, blinks and talk) and drawn ones, at
sizes and places that do not depend on who speaks, in front of a background, with camera noise, compressed to H.264 and
decoded by the media stage. The speaker's mouth is opened and closed by warping the frame, driven by the loudness of
real speech and a random movement (the sum correlates with the loudness at about 0.7), up to 0.12 s ahead of the audio.
Listeners are still, nod, blink, or chew: open and close the mouth as far as the speaker does, but not in time with the
audio. Speakers nod and blink as well. Sizes of faces and kinds of listeners are drawn independently of who speaks, so
that "the largest" is right only by chance. Across a cut, rooms, places and sizes change; a track that continues across
it holds two people, or one person by luck.

What is not tested. These are not dialogues: no speaker in profile, no laughter of an audience in the audio, no second
voice, two sentences by one person, and six real people, some of them hidden behind hands or passers-by for a while;
some walk, or talk to someone, in their clips. Mouths are warped open: no teeth, no tongue, no lips that close on a p.
A network trained on real mouths sees less speech here than in reality, and a rule based on loudness sees more.
No one really speaks in the clips of the shared folder. Cuts are hard; there are no dissolves. How often the choice is
right on MELD is unknown; a high figure here is necessary, not sufficient. Drawn heads say next to nothing about a
trained network.

Everything tuned was tuned on seeds from 1000 up; the reported scenes start at seed 0. With all tables, a scene takes 5
to 6 s of one core, mostly for the two networks and the composition.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from _scenes import FPS, Scene, compose, encode, real_heads
from merc.media import active, speaker, tracks
from merc.media.active_speaker.scoring import FaceRun, Scorer
from merc.media.clip import decode, decode_dialogue, settle
from merc.media.config import Config as MediaConfig
from merc.media.config import SpeakerPrecision
from merc.media.faces import Sighting
from merc.media.following import Followed
from merc.media.speaker import Choice, Glimpse
from merc.media.tasks import STREAMS, Clip, DialogueTask
from merc.media.tracks import Box, Track
from merc.media.video import Picture
from merc.params import Params

PARAMS = Path(__file__).parents[1] / "params.yaml"
WEIGHTS = ("talkset", "ava")
RULES = ("largest", "persistent", "speaking")
WAYS = (*RULES, *WEIGHTS)
TABLES = ("real", "drawn", "off_screen", "cuts", "clips")
# Logits that best separate the scenes with a visible speaker from those without: ``--scenes 11 --first-seed
# 1000 --tables real off_screen cuts``.
TUNED_LOGIT = {"talkset": 3.5, "ava": 0.0}
# What the clips of the shared folder show.
CLIPS = {
    "single_face.mp4": "a man who smiles, does not speak; noise below -60 dB",
    "WolfgangLanger_Pexels.mp4": "a woman who acts without a word; digital silence",
    "many_faces_1080p.mp4": "people who walk; noise of a street, no one's words",
    "noface_face.mov": "a face in half of the frames, no one's words",
    "no_face.mp4": "no face",
}


@dataclass(eq=False)
class Seen:
    """Collects what the media stage sees of a scene; an observer of decoding."""

    looks: Sequence[tuple[float, Sequence[Sighting]]] = ()
    glimpses: Sequence[Glimpse] = ()
    sound: NDArray[np.float32] | None = None
    tracks: Sequence[Track] = ()
    followed: Followed | None = None

    def look(self, utterance_id: str, seconds: float, picture: Picture) -> None:
        """Frames are not needed."""

    def choose(
        self,
        utterance_id: str,
        looks: Sequence[tuple[float, Sequence[Sighting]]],
        glimpses: Sequence[Glimpse],
        waveform_S: NDArray[np.float32] | None,
        persons: Sequence[Track],
        choice: Choice,
    ) -> None:
        """Keeps the input of a choice, so that it can be repeated in other ways."""
        self.looks, self.glimpses, self.sound, self.tracks = list(looks), list(glimpses), waveform_S, list(persons)

    def judge(self, utterance_id: str, followed: Followed, verdict: active.Verdict) -> None:
        """Keeps the faces that a network was shown, to ask it again with each set of weights."""
        self.followed = followed


class _Unasked:
    """Stands in for the network while faces are followed."""

    def logits(self, runs: Sequence[FaceRun], waveform_S: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [np.zeros(len(run.faces_THW), np.float32) for run in runs]


def watch(path: Path, config: MediaConfig, model: Path | None) -> Seen:
    """Decodes a clip through the media stage with ``speaking`` and, with YuNet, again with ``active_speaker``."""
    seen = Seen()
    clip = Clip("train/dia0_utt0", "train/dia0", path.name, path.name, "full", None, None, None, None)
    task = DialogueTask(
        path.parent, "scenes", (clip,), frozenset(STREAMS), config.model_copy(update={"choice": "speaking"}), model
    )
    decode_dialogue(task, seen)
    if model is not None:
        followed = decode(replace(task, config=config.model_copy(update={"choice": "active_speaker"})), seen)
        settle(followed, _Unasked(), seen)
    return seen


def settings(params: Params, detector: str, real_data: Path) -> tuple[MediaConfig, Path | None]:
    """The shipped settings with a detector, and the detector's file."""
    config = params.fill("media", MediaConfig)
    if detector == "haar":
        return config.model_copy(update={"detector": "haar"}), None
    model = real_data / "models" / "face_detection_yunet.onnx"
    return config.model_copy(update={"detector": "yunet", "yunet_file": str(model)}), model


def scorers(real_data: Path, precision: SpeakerPrecision = "float32") -> dict[str, Scorer]:
    """The network with each set of weights."""
    return {name: Scorer(real_data / "models" / f"light_asd_{name}.model", precision=precision) for name in WEIGHTS}


@dataclass(frozen=True)
class Pick:
    """The result of one way to choose in one scene.

    Attributes:
        name: the person in most of the chosen faces; -1: no one, or no face was chosen.
        margin: None where there was no one else to compare with.
        tracks: for each track or distinguished person, the names of the people in its faces.
        chosen: index of these; -1: none.
        cost_seconds: CPU time of the choice.
        best: with a network, the highest mean logit of anyone over a second; None: no one was judged.
    """

    name: int
    margin: float | None
    tracks: Sequence[frozenset[int]]
    chosen: int
    cost_seconds: float
    best: float | None = None

    @classmethod
    def of(
        cls, names: Sequence[Sequence[int]], chosen: int, margin: float | None, begin: float, best: float | None = None
    ) -> "Pick":
        """``names`` are those in each track's faces, ``begin`` is the CPU time at which the choice started."""
        cost = time.process_time() - begin
        name = Counter(names[chosen]).most_common(1)[0][0] if chosen >= 0 else -1
        return cls(name, margin, [frozenset(of_track) - {-1} for of_track in names], chosen, cost, best)

    @property
    def mixes(self) -> bool:
        """Whether a track holds two people."""
        return any(len(names) > 1 for names in self.tracks)

    @property
    def takes_two(self) -> bool:
        """Whether the chosen track does."""
        return self.chosen >= 0 and len(self.tracks[self.chosen]) > 1


def picks(scene: Scene, seen: Seen, config: MediaConfig, networks: Mapping[str, Scorer]) -> dict[str, Pick]:
    """Chooses in all ways."""
    made = {way: _by_rule(way, scene, seen, config) for way in RULES}
    if seen.followed is not None:
        made |= {
            name: _by_network(scene, seen.followed, seen.sound, network, config) for name, network in networks.items()
        }
    return made


def chosen_by(way: str, seen: Seen, config: MediaConfig) -> tuple[Sequence[Track], Choice]:
    """Tracks and choice without a network, as in the media stage: with ``largest`` and ``persistent`` it sees too few
    frames to detect cuts.
    """
    found = seen.tracks if way == "speaking" else tracks.link([sightings for _, sightings in seen.looks], config)
    return found, speaker.choose(
        found, seen.looks, seen.glimpses, seen.sound, config.model_copy(update={"choice": way})
    )


def _by_rule(way: str, scene: Scene, seen: Seen, config: MediaConfig) -> Pick:
    begin = time.process_time()
    found, choice = chosen_by(way, seen, config)
    names = [
        [
            scene.name_at(round(seen.looks[look][0] * FPS), seen.looks[look][1][index].box)
            for look, index in track.members
        ]
        for track in found
    ]
    return Pick.of(names, choice.track, choice.margin, begin)


def _by_network(
    scene: Scene, followed: Followed, sound_S: NDArray[np.float32] | None, network: Scorer, config: MediaConfig
) -> Pick:
    begin = time.process_time()
    verdict = active.judge(followed, sound_S, network, config)
    margin = active.portrait(followed, verdict, config).get("face_choice_margin")
    best = max((person.best for person in verdict.persons if person.judged), default=None)
    spots = [[spot for track in person.tracks for spot in followed.tracks[track].spots] for person in verdict.persons]
    names = [[scene.name_at(spot.picture, spot.box) for spot in of_person] for of_person in spots]
    return Pick.of(names, verdict.chosen, margin, begin, best)


@dataclass(frozen=True)
class Judged:
    """How a scene was judged with one detector.

    Attributes:
        rows: the rows of the table that count it.
        chance: probability that a person chosen blindly is the speaker.
        speaker: name.
        picks: by way to choose.
        cuts_found: whether the shots are those of the scene; None: not checked.
    """

    rows: list[str]
    chance: float
    speaker: int
    picks: Mapping[str, Pick]
    cuts_found: bool | None

    def right(self, way: str) -> bool:
        """Whether the speaker was chosen."""
        return self.picks[way].name == self.speaker

    def found(self, way: str) -> bool:
        """Whether the speaker has a track."""
        return any(self.speaker in names for names in self.picks[way].tracks)


def judge(scene: Scene, seen: Seen, config: MediaConfig, networks: Mapping[str, Scorer]) -> Judged:
    """Chooses in all ways and keeps what is to be compared."""
    cuts = None if seen.followed is None else list(seen.followed.shots) == [shot.first for shot in scene.shots]
    return Judged(scene.rows, 1 / len(scene.persons), scene.speaker, picks(scene, seen, config, networks), cuts)


@dataclass(frozen=True)
class Job:
    """A scene to compose and to judge with one detector."""

    table: str
    seed: int
    kind: str
    detectors: tuple[str, ...]


def jobs(table: str, first_seed: int, scenes: int) -> list[Job]:
    """The scenes of a table: even seeds for real heads and odd ones for drawn heads, consecutive ones where all heads
    are real.
    """
    seeds = range(first_seed, first_seed + scenes)
    if table in ("real", "drawn"):
        return [
            Job(table, first_seed + 2 * number + (table == "drawn"), "together", ("haar", "yunet"))
            for number in range(scenes)
        ]
    if table == "off_screen":
        return [Job(table, seed, "off_screen", ("yunet",)) for seed in seeds]
    return [Job(table, seed, ("reverse", "moved")[seed % 2], ("yunet",)) for seed in seeds]


Found = dict[tuple[str, str], list[Judged]]
"""By table and detector."""


def judge_all(todo: Sequence[Job], real_data: Path, precision: SpeakerPrecision) -> Found:
    """Composes scenes and judges them."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    params = Params.load(PARAMS)
    heads, networks, found = real_heads(real_data), scorers(real_data, precision), defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenes" / "scene.mp4"
        path.parent.mkdir()
        for job in todo:
            scene = compose(job.seed, real_data, heads, job.kind)
            encode(scene, path)
            for detector in job.detectors:
                config, model = settings(params, detector, real_data)
                found[job.table, detector].append(judge(scene, watch(path, config, model), config, networks))
    return dict(found)


def run(todo: Sequence[Job], real_data: Path, workers: int, precision: SpeakerPrecision) -> Found:
    """Judges scenes in worker processes."""
    found: Found = defaultdict(list)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = [pool.submit(judge_all, todo[number::workers], real_data, precision) for number in range(workers)]
        for part in parts:
            for key, judged in part.result().items():
                found[key] += judged
    return found


def by_row(judged: Sequence[Judged]) -> list[tuple[str, list[Judged]]]:
    """The rows of a table, ``all`` first."""
    rows: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        for row in one.rows:
            rows[row].append(one)
    return sorted(rows.items(), key=lambda item: (item[0] != "all", item[0]))


def print_right(title: str, judged: Sequence[Judged]) -> None:
    """How often each way is right."""
    ways = [way for way in WAYS if way in judged[0].picks]
    print(f"\n{title}, {len(judged)} scenes: share of scenes in which the chosen face is the speaker's")
    print(f"{'':28}{'scenes':>7}{'chance':>8}" + "".join(f"{way:>12}" for way in ways))
    for row, of_row in by_row(judged):
        shares = [np.mean([one.right(way) for one in of_row]) for way in ways]
        print(
            f"{row:28}{len(of_row):7}{np.mean([one.chance for one in of_row]):8.2f}"
            + "".join(f"{share:12.3f}" for share in shares)
        )
    for share in (0.1, 0.25):
        print(
            f"{f'without the {share:.0%} of least margin':43}"
            + "".join(f"{_without_doubtful(judged, way, share):12.3f}" for way in ways)
        )
    print(
        f"{'the speaker has a track':43}"
        + "".join(f"{np.mean([one.found(way) for one in judged]):12.3f}" for way in ways)
    )
    print(
        f"{'CPU ms of the choice, mean':43}"
        + "".join(f"{1000 * np.mean([one.picks[way].cost_seconds for one in judged]):12.1f}" for way in ways)
    )


def _without_doubtful(judged: Sequence[Judged], way: str, share: float) -> float:
    """A choice without anyone to compare with counts as certain."""
    sure = sorted(judged, key=lambda one: np.inf if (margin := one.picks[way].margin) is None else margin)
    return float(np.mean([one.right(way) for one in sure[round(share * len(sure)) :]]))


def print_mixed(judged: Sequence[Judged]) -> None:
    """How often a track holds two people."""
    print(f"\n{'share of scenes in which …':43}" + "".join(f"{way:>12}" for way in WAYS))
    print(
        f"{'a track holds faces of two persons':43}"
        + "".join(f"{np.mean([one.picks[way].mixes for one in judged]):12.3f}" for way in WAYS)
    )
    print(
        f"{'the chosen one does':43}"
        + "".join(f"{np.mean([one.picks[way].takes_two for one in judged]):12.3f}" for way in WAYS)
    )
    print(f"the one cut and no other is found in {np.mean([bool(one.cuts_found) for one in judged]):.3f}")


def told(judged: Sequence[Judged], name: str, limit: float) -> float:
    """Share of the scenes whose speaker is reported off screen."""
    return float(np.mean([(best := one.picks[name].best) is not None and best < limit for one in judged]))


def separating(there: Sequence[Judged], off: Sequence[Judged], name: str) -> float:
    """The limit at which most scenes, with and without the speaker weighted equally, are told correctly; the middle of
    a range of such limits.
    """
    bests = sorted(best for one in (*there, *off) if (best := one.picks[name].best) is not None)
    limits = [(low + high) / 2 for low, high in pairwise(bests)]
    rights = np.array([told(off, name, limit) - told(there, name, limit) for limit in limits])
    return float(np.median(np.array(limits)[rights == rights.max()]))


def print_off_screen(there: Mapping[str, Sequence[Judged]], off: Sequence[Judged], default: float) -> None:
    """How often ``off_screen`` is reported, rightly and wrongly."""
    limits = [(name, limit) for name in WEIGHTS for limit in (default, TUNED_LOGIT[name])]
    rows = [(f"speaker off screen, {row}", of_row) for row, of_row in by_row(off)]
    for table, judged in there.items():
        rows += [
            (f"speaker in the picture ({table}), {row}", of_row)
            for row, of_row in by_row(judged)
            if row == "all" or table == "cuts"
        ]
    print(
        "\nshare of scenes in which off_screen is told, by weights and off_screen_logit: the default, and the best on"
        " seeds from 1000 on"
    )
    print(f"{'':56}{'scenes':>7}" + "".join(f"{f'{name} {limit:g}':>14}" for name, limit in limits))
    for row, of_row in rows:
        print(f"{row:56}{len(of_row):7}" + "".join(f"{told(of_row, name, limit):14.3f}" for name, limit in limits))


def print_logits(there: Mapping[str, Sequence[Judged]], off: Sequence[Judged]) -> None:
    """What ``off_screen`` is based on."""
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    print(
        f"\n{'highest mean logit over a second, quantiles':56}{'weights':>10}"
        + "".join(f"{f'{share:.0%}':>8}" for share in shares)
    )
    everyone = [one for judged in there.values() for one in judged]
    rows = [
        ("speaker off screen", off),
        *((f"speaker in the picture ({table})", judged) for table, judged in there.items()),
    ]
    for name in WEIGHTS:
        for row, judged in rows:
            bests = [best for one in judged if (best := one.picks[name].best) is not None]
            print(f"{row:56}{name:>10}" + "".join(f"{np.quantile(bests, share):8.2f}" for share in shares))
        if everyone:
            print(f"{'these scenes are separated best at':56}{name:>10}{separating(everyone, off, name):8.2f}")


def print_clips(real_data: Path) -> None:
    """What each way to choose makes of the unchanged clips, and of the clips with two spoken sentences as audio."""
    params, networks = Params.load(PARAMS), scorers(real_data)
    voice = np.concatenate(
        [soundfile.read(real_data / "media" / f"spk1_snt{number}.wav", dtype="float32")[0] for number in (1, 2)]
    )
    config, model = settings(params, "yunet", real_data)
    print(
        "\nclips as they are, and with a voice over them that is no one's: the middle of the chosen face in % of the"
        " width, mean logit of the chosen one,"
    )
    print(
        f"highest over a second, and whether off_screen is told at {config.off_screen_logit:g}; expected is that it is"
        " told wherever there is a face and sound"
    )
    print(
        f"{'':26}{'sound':>8}{'persons':>9}{'largest':>9}{'persistent':>12}{'speaking':>10}"
        + "".join(f"{name:>28}" for name in WEIGHTS)
    )
    for name, shown in CLIPS.items():
        seen = watch(real_data / "media" / name, config, model)
        for sound, kept in (("own", seen.sound), ("voice", voice)):
            _print_clip(name, sound, replace(seen, sound=kept), config, networks)
        print(f"  {shown}")


def _print_clip(name: str, sound: str, seen: Seen, config: MediaConfig, networks: Mapping[str, Scorer]) -> None:
    followed = seen.followed
    if followed is None:
        raise ValueError(f"{name} has no pictures")
    cells = []
    for way in RULES:
        found, choice = chosen_by(way, seen, config)
        cells.append(
            _middle(
                (
                    [seen.looks[look][1][index].box for look, index in found[choice.track].members]
                    if choice.track >= 0
                    else []
                ),
                followed,
            )
        )
    line = f"{name:26}{sound:>8}"
    for number, network in enumerate(networks.values()):
        verdict = active.judge(followed, seen.sound, network, config)
        if not number:
            line += f"{len(verdict.persons):9}{cells[0]:>9}{cells[1]:>12}{cells[2]:>10}"
        line += f"{_said(verdict, followed):>28}"
    print(line)


def _said(verdict: active.Verdict, followed: Followed) -> str:
    if verdict.chosen < 0:
        return "none"
    person = verdict.persons[verdict.chosen]
    where = _middle([spot.box for track in person.tracks for spot in followed.tracks[track].spots], followed)
    if not person.judged:
        return f"{where} not judged"
    best = max(one.best for one in verdict.persons if one.judged)
    return f"{where} {person.mean:.2f} {best:.2f} {'off' if verdict.off_screen else 'seen'}"


def _middle(boxes: Sequence[Box], followed: Followed) -> str:
    return f"{100 * np.median([box[0] + box[2] / 2 for box in boxes]) / followed.size[0]:.0f}" if boxes else "none"


def main() -> None:
    parser = argparse.ArgumentParser(description="Does the choice of the speaker's face find the one who speaks?")
    parser.add_argument("--scenes", type=int, default=60, help="of each table")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument(
        "--precision", default="float32", choices=get_args(SpeakerPrecision), help="media.speaker_precision"
    )
    arguments = parser.parse_args()
    if "MERC_REAL_DATA" not in os.environ:
        raise SystemExit("MERC_REAL_DATA is not set: there are no real heads and voices to compose scenes of")
    real_data = Path(os.environ["MERC_REAL_DATA"])
    todo = [
        job
        for table in arguments.tables
        if table != "clips"
        for job in jobs(table, arguments.first_seed, arguments.scenes)
    ]
    found = run(todo, real_data, arguments.workers, arguments.precision) if todo else {}
    for (table, detector), judged in found.items():
        if table != "off_screen":
            print_right(f"{table}, {detector}", judged)
        if table == "cuts":
            print_mixed(judged)
    if ("off_screen", "yunet") in found:
        there = {
            table: judged
            for (table, detector), judged in found.items()
            if table in ("real", "cuts") and detector == "yunet"
        }
        print_off_screen(
            there, found["off_screen", "yunet"], settings(Params.load(PARAMS), "yunet", real_data)[0].off_screen_logit
        )
        print_logits(there, found["off_screen", "yunet"])
    if "clips" in arguments.tables:
        print_clips(real_data)


if __name__ == "__main__":
    main()
