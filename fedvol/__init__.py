"""fedvol: federated training and external validation of 3D medical imaging models."""

__version__ = "0.1.0"
