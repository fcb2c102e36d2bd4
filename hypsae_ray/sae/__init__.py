"""The Matryoshka top-k sparse autoencoder, its losses and its training."""
