"""Music to tokens and back, in numpy alone: a file per token scheme, all of which read and write the same ``Score``."""
