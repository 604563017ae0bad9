"""Image classification: training, fine-tuning and exact evaluation."""
