"""Sound to spectrograms: decoding (``decoding``), filter banks (``filterbanks``) and front-ends (``front_end``).

Importing the package loads neither torch nor soundfile; its modules do.
"""
