"""What it takes to run on today's fairseq and torch, and what files and commands may do.

``fairseq`` changes fairseq where it has aged, ``safe_loading`` reads every checkpoint, ``checkpoint_configuration``
checks what a checkpoint names, ``newest_checkpoint`` finds the one that a training goes on from, and ``error_messages``
turns errors into one sentence.
"""
