"""Frames into MP4 and GIF: what players need, and no half-written file."""

import sys
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from rllib_ppg.app.video_encode import VideoFile, import_encoder
from rllib_ppg.errors import UserError

COLOURS = np.array([(250, 20, 20), (20, 250, 20), (20, 20, 250), (240, 240, 240)], np.uint8)


def frames(count: int = 12) -> list[np.ndarray]:
    """Return single-coloured frames with a moving white square."""
    made = []
    for index in range(count):
        frame = np.tile(COLOURS[index % 3], (48, 64, 1))
        frame[8:24, 2 * index : 2 * index + 16] = COLOURS[3]
        made.append(frame)
    return made


def write(path: Path, fps: int = 10, count: int = 12) -> Path:
    with VideoFile(path, fps) as video:
        for frame in frames(count):
            video.add(frame)
    return path


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_every_frame_is_there_in_its_place_and_colours(tmp_path: Path, suffix: str):
    seen = decoded(write(tmp_path / f"v{suffix}"))
    assert len(seen) == 12
    for expected, frame in zip(frames(), seen, strict=True):
        assert frame.shape == expected.shape
        # Compression blurs edges; areas keep their colours.
        assert np.median(np.abs(frame.astype(int) - expected)) <= 6


def test_mp4_is_what_browsers_play(tmp_path: Path):
    path = write(tmp_path / "v.mp4", fps=15)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 15 and stream.frames == 12
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # so it plays before it has loaded


@pytest.mark.parametrize(("fps", "seconds"), [(10, 1.2), (15, 0.8), (50, 0.24)])
def test_a_gif_takes_as_long_as_it_should(tmp_path: Path, fps: int, seconds: float):
    with av.open(str(write(tmp_path / "v.gif", fps=fps))) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times[-1] * 12 / 11 == pytest.approx(seconds, abs=0.02)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_same_frames_make_the_same_file(tmp_path: Path, suffix: str):
    chance = np.random.default_rng(0)
    textured = [chance.integers(0, 255, (64, 64, 3), np.uint8) // 4 for _ in range(6)]
    made = set()
    for _ in range(8):
        # Other things that stand in memory meanwhile must not show.
        _junk = [np.full(int(n), 255, np.uint8) for n in chance.integers(100, 20_000, 50)]
        with VideoFile(tmp_path / f"v{suffix}", 10) as video:
            for index in range(18):
                video.add(np.roll(textured[index % 2], index, axis=1))
        made.add((tmp_path / f"v{suffix}").read_bytes())
    assert len(made) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("count", [0, 5])
def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path: Path, suffix: str, count: int):
    path = tmp_path / f"v{suffix}"
    path.write_bytes(b"earlier")
    with pytest.raises(ZeroDivisionError), VideoFile(path, 10) as video:
        for frame in frames(count):
            video.add(frame)
        raise ZeroDivisionError
    assert path.read_bytes() == b"earlier"
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_the_file_appears_only_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "v.mp4"
    with VideoFile(path, 10) as video:
        video.add(frames(1)[0])
        assert not path.exists()
    assert path.exists()


def test_frames_are_not_kept(tmp_path: Path):
    process = psutil.Process()
    with VideoFile(tmp_path / "v.mp4", 30) as video:
        for index in range(300):
            video.add(np.full((512, 512, 3), index % 200, np.uint8))
            if index == 100:  # the encoder looks some tens of frames ahead
                before = process.memory_info().rss
        grown = process.memory_info().rss - before
    assert grown < 40 * 2**20  # 200 frames are 150 MiB


def test_a_link_stays_a_link(tmp_path: Path):
    (tmp_path / "link.mp4").symlink_to(tmp_path / "target.mp4")
    write(tmp_path / "link.mp4")
    assert (tmp_path / "link.mp4").is_symlink() and len(decoded(tmp_path / "target.mp4")) == 12


def test_a_folder_that_is_gone_is_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "gone" / "v.mp4")


@pytest.mark.parametrize("kind", [".mp4", ".gif"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, kind: str):
    path = tmp_path / f"v{kind}"
    video = VideoFile(path, 10)
    video._temporary.symlink_to("/dev/full")
    with pytest.raises(UserError, match="No space left"), video:
        for frame in frames(60):
            video.add(np.random.default_rng(0).integers(0, 255, frame.shape, np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"rllib-ppg\[video\]"):
        import_encoder()
