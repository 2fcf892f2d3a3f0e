"""All kinds of sources in one place."""

from flightlog.data.code_dataset_source import CodeDatasetSource
from flightlog.data.filesystem_dataset_source import (
    AzureBlobArtifactDatasetSource,
    AzureDataLakeArtifactDatasetSource,
    B2ArtifactDatasetSource,
    FTPArtifactDatasetSource,
    GCSArtifactDatasetSource,
    HdfsArtifactDatasetSource,
    LocalArtifactDatasetSource,
    R2ArtifactDatasetSource,
    S3ArtifactDatasetSource,
    SFTPArtifactDatasetSource,
    ViewfsArtifactDatasetSource,
)
from flightlog.data.http_dataset_source import HTTPDatasetSource
from flightlog.data.huggingface_dataset_source import HuggingFaceDatasetSource

__all__ = [
    "AzureBlobArtifactDatasetSource",
    "AzureDataLakeArtifactDatasetSource",
    "B2ArtifactDatasetSource",
    "CodeDatasetSource",
    "FTPArtifactDatasetSource",
    "GCSArtifactDatasetSource",
    "HTTPDatasetSource",
    "HdfsArtifactDatasetSource",
    "HuggingFaceDatasetSource",
    "LocalArtifactDatasetSource",
    "R2ArtifactDatasetSource",
    "S3ArtifactDatasetSource",
    "SFTPArtifactDatasetSource",
    "ViewfsArtifactDatasetSource",
]
