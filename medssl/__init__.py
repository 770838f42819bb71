"""Self-supervised pre-training and few-label fine-tuning for medical image segmentation, on MONAI."""

__version__ = "0.1.0.dev0"
