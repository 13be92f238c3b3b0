"""The generator, the discriminator, the generator rewritten for inference, and checkpoints."""
