"""Sound to spectrograms: decoding (``decoding``, ``file_headers``, ``ffmpeg``), matrices of filters (``filterbanks``),
the constant-Q transform (``constant_q``), and the front-ends that compute features with them (``front_end``), all in
blocks (``framing``, ``row_store``).

Importing the package loads neither torch nor soundfile; its modules do.
"""
