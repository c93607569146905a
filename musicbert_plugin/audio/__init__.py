"""Sound to spectrograms: decoding (``decoding``, ``file_headers``), matrices of filters (``filterbanks``) and the
front-ends that compute features with them (``front_end``).

Importing the package loads neither torch nor soundfile; its modules do.
"""
