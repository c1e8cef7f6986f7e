"""The network, plain PyTorch: what is computed. One file per stage; nothing here knows how it is made fast."""
