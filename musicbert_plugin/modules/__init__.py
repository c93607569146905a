"""Parts of models: ``nn.Module`` classes and functions of tensors that know torch and nothing of fairseq's registries."""
