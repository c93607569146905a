"""Music to tokens and back, in numpy alone: a file per token scheme, all reading and writing the same :class:`score.Score`."""
