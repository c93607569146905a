"""fairseq datasets: reading dataset folders, windows into pieces, masking and packing."""
