"""Speed of feature extraction: seconds of music per processor second, from audio files to log-mels.

    python -m benchmarks.audio_features FOLDER [--front-end logmel96] [--repeat 3]

Decodes, mixes down, resamples and computes the features of every file of a folder, in one process with one thread, and
prints the seconds of music per processor second (user and system, without imports).  Also measured are decoding with
resampling alone, features of decoded samples alone, and, if librosa is installed, its log-mel of the same samples,
whose first call (compilation) is timed separately.  Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.environment import environment


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of a call in this process, all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="folder of audio files")
    parser.add_argument("--front-end", default="logmel96", help="default: logmel96")
    parser.add_argument("--repeat", type=int, default=3, help="rounds, of which the median is printed (default: 3)")
    options = parser.parse_args()

    import torch

    from musicbert_plugin.audio.decoding import SUFFIXES, decode
    from musicbert_plugin.audio.front_end import front_end

    torch.set_num_threads(1)
    front = front_end(options.front_end)
    files = [file for file in sorted(options.folder.iterdir()) if file.suffix in SUFFIXES]
    samples = [decode(file, front.sample_rate) for file in files]
    seconds = sum(map(len, samples)) / front.sample_rate
    front.extract(samples[0])

    def rounds(work: Callable[[], object]) -> float:
        return seconds / statistics.median(processor_seconds(work) for _ in range(options.repeat))

    result: dict[str, object] = {
        "files": len(files),
        "seconds_of_music": round(seconds, 1),
        "front_end": front.name,
        "files_to_features": rounds(lambda: [front.extract(decode(file, front.sample_rate)) for file in files]),
        "decoding_alone": rounds(lambda: [decode(file, front.sample_rate) for file in files]),
        "features_alone": rounds(lambda: [front.extract(sound) for sound in samples]),
    }
    if not front.stack:
        try:
            import librosa
        except ImportError:
            print("librosa is not installed and not measured", file=sys.stderr)
        else:

            def mel(sound: np.ndarray) -> np.ndarray:
                power = librosa.feature.melspectrogram(
                    y=sound, sr=front.sample_rate, n_fft=front.n_fft, hop_length=front.hop, n_mels=front.n_mels
                )
                return np.log(10 * power + 1e-6)

            result["librosa_first_call_seconds"] = processor_seconds(lambda: mel(samples[0]))
            result["librosa_features_alone"] = rounds(lambda: [mel(sound) for sound in samples])
    found = environment("torch", "soundfile", "soxr", "numpy", "librosa")
    rounded = {key: round(value, 1) if isinstance(value, float) else value for key, value in result.items()}
    print(json.dumps({**rounded, "unit": "seconds of music per processor second", **found}))


if __name__ == "__main__":
    main()
