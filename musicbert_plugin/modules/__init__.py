"""Parts of models: ``nn.Module`` classes and functions of tensors; they know torch, and no registry of fairseq."""
