"""App: frames into an MP4 or a GIF, one after the other, so that no video is held in memory."""

import importlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_ppg.app.out_file import temporary_of, unwritable
from rllib_ppg.errors import UserError

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

SUFFIXES = (".mp4", ".gif")
MAX_FPS = {".mp4": 120, ".gif": 50}
"""Frames a second; viewers play a GIF with shorter pauses than 1/50 s slowly."""

# Constant quality; 18 can hardly be told from the original, 23 is x264's own choice.
_CRF = "20"


def import_encoder() -> Any:
    """Import PyAV.

    Raises:
        UserError: It is not installed, or its build lacks H.264.
    """
    try:
        av = importlib.import_module("av")
    except ImportError as error:
        raise UserError(
            f'Videos need PyAV, which does not load ({error}); pip install "rllib-ppg[video]".'
        ) from None
    if "libx264" not in av.codecs_available:
        raise UserError(
            "The installed PyAV has no H.264 encoder (libx264); its wheels have it: "
            "pip install --force-reinstall --only-binary av av."
        )
    return av


class VideoFile:
    """A video that appears under its name when it is whole, and not at all after an error.

    A context manager. MP4 is H.264 with 4:2:0 colours, which all browsers play; each frame of a
    GIF has a palette of its own. The same frames make the same file.

    Args:
        path: The file, `.mp4` or `.gif`.
        fps: Frames a second.

    Raises:
        UserError: PyAV is missing, or the file cannot be written.
    """

    def __init__(self, path: Path, fps: int) -> None:
        self.path = path.resolve()  # a link stays one
        self.frames = 0
        self._av = import_encoder()
        self._fps = fps
        self._gif = path.suffix.lower() == ".gif"
        self._temporary = temporary_of(path)
        self._stream: Any = None
        self._graph: Graph | None = None

    def __enter__(self) -> "VideoFile":
        kind = "gif" if self._gif else "mp4"
        # Its index first, so that a browser plays it while it loads.
        options = {} if self._gif else {"movflags": "+faststart"}
        try:
            self._container = self._av.open(str(self._temporary), "w", format=kind, options=options)
        except OSError as error:
            raise unwritable(self.path, error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._container.close()
        except OSError as failure:
            if kind is None:
                raise unwritable(self.path, failure) from None
        finally:
            self._temporary.unlink(missing_ok=True)

    def add(self, frame: np.ndarray) -> None:
        """Append a frame.

        Args:
            frame: uint8 (H, W, 3), of the same size each time; H and W even.

        Raises:
            UserError: The disk is full, or the file cannot be written otherwise.
        """
        if self._stream is None:
            self._start(*frame.shape[:2])
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts, picture.time_base = self.frames, Fraction(1, self._fps)
        self.frames += 1
        try:
            self._encode(picture)
        except OSError as error:
            raise unwritable(self.path, error) from None

    def _start(self, height: int, width: int) -> None:
        stream = self._container.add_stream("gif" if self._gif else "libx264", rate=self._fps)
        stream.width, stream.height = width, height
        stream.pix_fmt = "pal8" if self._gif else "yuv420p"
        if self._gif:
            self._graph = self._palette_graph(height, width)
        else:
            # Another number of threads makes another file; and x264's fastest routines read memory
            # beside the picture, so that the same frames may give files that differ in some bits.
            stream.codec_context.thread_count = 2
            same = "cpu-independent=1"
            stream.options = {"crf": _CRF, "preset": "medium", "x264-params": same}
        self._stream = stream

    def _palette_graph(self, height: int, width: int) -> "Graph":
        """A filter that gives each frame the 256 colours that suit it best."""
        graph: Graph = self._av.filter.Graph()
        rgb = self._av.VideoFormat("rgb24")
        step = Fraction(1, self._fps)
        source = graph.add_buffer(width=width, height=height, format=rgb, time_base=step)
        split = graph.add("split")
        make = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        use = graph.add("paletteuse", "new=1:dither=none")
        sink = graph.add("buffersink")
        source.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(make, 1, 0)
        make.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        return graph

    def _encode(self, picture: "VideoFrame | None") -> None:
        """Encode a frame; None is the end."""
        for ready in self._filtered(picture):
            self._container.mux(self._stream.encode(ready))
        if picture is None:
            self._container.mux(self._stream.encode(None))

    def _filtered(self, picture: "VideoFrame | None") -> "list[VideoFrame]":
        if self._graph is None:
            return [] if picture is None else [picture]
        self._graph.vpush(picture)
        ready: list[VideoFrame] = []
        while True:
            try:
                ready.append(self._graph.vpull())
            except (self._av.BlockingIOError, self._av.EOFError):  # needs more, or has no more
                return ready

    def _finish(self) -> None:
        if self._stream is None:
            raise ValueError("a video needs at least one frame.")
        self._encode(None)
        self._container.close()
        self._temporary.replace(self.path)
