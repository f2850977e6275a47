"""OCI image documents and their Docker schema 2 twins: frozen values, and parsers for what strangers send."""

from hythe.oci.config import HistoryStep, ImageConfig, chain_id, chain_ids, layers_with_diff_ids, parse_config
from hythe.oci.descriptor import Descriptor, parse_descriptor
from hythe.oci.manifest import Index, Manifest, parse_document, select
from hythe.oci.platform import Platform, default_platform, parse_platform

__all__ = [
    "Descriptor",
    "HistoryStep",
    "ImageConfig",
    "Index",
    "Manifest",
    "Platform",
    "chain_id",
    "chain_ids",
    "default_platform",
    "layers_with_diff_ids",
    "parse_config",
    "parse_descriptor",
    "parse_document",
    "parse_platform",
    "select",
]
