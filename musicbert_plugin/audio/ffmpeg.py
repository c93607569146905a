"""Sound that libsndfile cannot decode (m4a, aac, wma, ...), through the program ``ffmpeg`` where it is installed.

ffmpeg is no requirement of this project: it is looked for on PATH.  It writes float samples in the AU format, whose
header gives the rate and the channels, to a pipe.  It may open nothing but the file: its input protocols and the
containers that it may find in the file are listed, since a playlist with the name of a recording would have it read
other files.  It gets no input, and is ended when nothing has come from it for :data:`PATIENCE` seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicbert_plugin.errors import RecordingError

SUFFIXES = (".m4a", ".m4b", ".aac", ".wma", ".ape", ".wv", ".mka")
CONTAINERS = "aac,ape,asf,flac,matroska,mov,mp3,ogg,wav,wv"
PATIENCE = 60.0  # seconds without output
LONGEST = 3600  # seconds of computing, after which ffmpeg ends itself: nobody else would if this process were killed
_HEADER = 24
_FLOAT = 6  # encoding of AU


class FFmpegStream:
    """The samples of a file as ffmpeg decodes them, from its beginning.

    Parameters
    ----------
    source : path, or bytes of a file
    name : str
        How errors call it.

    Attributes
    ----------
    samplerate : int
        Hz.
    channels : int
    failure : str
        What went wrong, once :meth:`read` has come to the end; empty if nothing did.

    Raises
    ------
    RecordingError
        ``undecodable``: ffmpeg is not installed, or decodes nothing of the file.
    """

    def __init__(self, source: str | Path | bytes, name: str) -> None:
        program = shutil.which("ffmpeg")
        if program is None:
            raise RecordingError(
                "undecodable",
                f"{name}: {Path(name).suffix} needs ffmpeg, which is not installed; install it, or convert the file to "
                "flac.",
            )
        self.failure = ""
        self._opened = contextlib.ExitStack()
        self._stalled = False
        try:
            if isinstance(source, bytes):
                folder = self._opened.enter_context(tempfile.TemporaryDirectory(prefix="recording-"))
                path = os.path.join(folder, "recording")
                with open(path, "wb") as file:
                    file.write(source)
            else:
                path = os.path.abspath(source)
            self._said = self._opened.enter_context(tempfile.TemporaryFile())
            options = ["-nostdin", "-hide_banner", "-loglevel", "error", "-timelimit", str(LONGEST)]
            options += ["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-i", f"file:{path}"]
            options += ["-map", "0:a:0", "-map_metadata", "-1", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
            self._process = subprocess.Popen(
                [program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said
            )
            self._opened.callback(self._end)
            header = self._bytes(_HEADER)
            offset, _, encoding, self.samplerate, self.channels = (
                int.from_bytes(header[at : at + 4], "big") for at in range(4, _HEADER, 4)
            )
            if header[:4] != b".snd" or len(header) < _HEADER or encoding != _FLOAT or offset < _HEADER:
                self._conclude()
                what = self.failure or "it gives no samples"
                raise RecordingError("undecodable", f"{name}: ffmpeg cannot decode it ({what}).")
            self._bytes(offset - _HEADER)
        except OSError as error:
            self.close()
            raise RecordingError("undecodable", f"{name}: ffmpeg cannot be run ({error.strerror or error}).") from None
        except BaseException:
            self.close()
            raise

    def read(self, count: int) -> NDArray[np.float32]:
        """The next samples, float32 [at most count, channels]; none at the end."""
        data = self._bytes(count * self.channels * 4)
        whole = len(data) // (4 * self.channels)
        if not whole:
            self._conclude()
        samples = np.frombuffer(data, ">f4", whole * self.channels).astype(np.float32)
        return samples.reshape(whole, self.channels)

    def _bytes(self, count: int) -> bytes:
        """The next bytes, fewer at the end, or when no more come for too long."""
        pipe: Any = self._process.stdout
        parts, missing = [], count
        while missing:
            timer = threading.Timer(PATIENCE, self._give_up)
            timer.start()
            try:
                part = pipe.read1(missing)
            finally:
                timer.cancel()
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _give_up(self) -> None:
        self._stalled = True
        self._process.kill()

    def _conclude(self) -> None:
        """Wait for the process to end, and see what it says."""
        if self._stalled:
            self.failure = f"ffmpeg has given nothing for {PATIENCE:g} seconds"
            return
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.failure = f"ffmpeg has not ended for {PATIENCE:g} seconds"
            return
        self._said.seek(max(self._said.seek(0, os.SEEK_END) - 4096, 0))
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        # without the module and its address, which differs from call to call
        said = [text for line in lines if (text := re.sub(r"^(\[[^\]]*\] *)+", "", line).strip().rstrip("."))]
        if said or status:
            self.failure = f"ffmpeg: {said[0]}" if said else f"ffmpeg has ended with status {status}"

    def _end(self) -> None:
        self._process.kill()
        if self._process.stdout:
            self._process.stdout.close()
        self._process.wait()

    def close(self) -> None:
        """End the process and remove what was written for it."""
        self._opened.close()
