"""pyarrow where it is installed, and what to install where it is not."""

from __future__ import annotations

from typing import Any

from serving.batch.errors import PackageMissing


def pyarrow_parquet() -> Any:
    """The package, with `.parquet` and `.types` loaded. Raises PackageMissing."""
    try:
        import pyarrow
        import pyarrow.parquet
        import pyarrow.types
    except ImportError as error:
        raise PackageMissing("Parquet needs pyarrow: pip install 'tessera[batch]'") from error
    return pyarrow
