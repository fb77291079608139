"""Every error a caller can cause, as one tree. Knows nothing of files, networks or RPCs.

TokenizerError                    .reason is a stable, machine-readable word
├── ImageError                    the picture cannot be read
│   ├── ImageMissing              no bytes at all
│   ├── ImageFormatUnsupported    not a format we accept
│   ├── ImageCorrupt              right format, broken content
│   ├── ImageTooLarge             too many pixels, or a side too long
│   ├── ImageAnimated             more than one frame
│   └── ImageModeUnsupported      pixels that have no RGB meaning for us
├── InvalidBudget                 a budget that no stream can keep
├── InvalidRealism                a realism, number of steps or seed out of range
├── RealismUnavailable            a model that has no refiner
├── CodingUnsupported             a coding that the model's token layout does not have
├── BitstreamError                bytes that are not a stream of ours
├── FingerprintMismatch           a stream made by another model
├── ArtifactError                 a model folder that is incomplete or altered
├── ProviderError                 the asked execution provider is not there
└── DeviceMemoryExhausted         no memory where the model runs; a smaller batch may fit
"""

from __future__ import annotations


class TokenizerError(Exception):
    """Base of all errors that a caller of this package can cause.

    `facts` are what the message says, by name and for machines: what was seen, what is allowed.
    """

    reason = "TOKENIZER_ERROR"

    def __init__(self, *message: object, **facts: object) -> None:
        super().__init__(*message)
        self.facts = facts


class ImageError(TokenizerError):
    """A picture that cannot be read."""

    reason = "IMAGE_INVALID"


class ImageMissing(ImageError):
    """There are no bytes to read."""

    reason = "IMAGE_MISSING"


class ImageFormatUnsupported(ImageError):
    """The bytes are no picture in a format that we accept."""

    reason = "IMAGE_FORMAT_UNSUPPORTED"


class ImageCorrupt(ImageError):
    """The format is known, the content is truncated or damaged."""

    reason = "IMAGE_CORRUPT"


class ImageTooLarge(ImageError):
    """More pixels, or a longer side, than the limits allow. Found in the header, before decoding."""

    reason = "IMAGE_TOO_LARGE"


class ImageAnimated(ImageError):
    """More than one frame. Send the frame you mean."""

    reason = "IMAGE_ANIMATED"


class ImageModeUnsupported(ImageError):
    """Pixels of a kind that we cannot turn into RGB without guessing."""

    reason = "IMAGE_MODE_UNSUPPORTED"


class InvalidBudget(TokenizerError):
    """A budget that is contradictory, not a number, or too small for any stream."""

    reason = "RATE_INVALID"


class InvalidRealism(TokenizerError):
    """A realism, a number of steps or a seed that is out of range."""

    reason = "OPTION_INVALID"


class RealismUnavailable(TokenizerError):
    """This model decodes for fidelity only: it was made without a refiner."""

    reason = "OPERATION_UNSUPPORTED"


class CodingUnsupported(TokenizerError):
    """This model's tokens have no such coding; the message lists those that they have."""

    reason = "OPERATION_UNSUPPORTED"


class BitstreamError(TokenizerError):
    """Bytes that are not a stream of ours, or end before the header does."""

    reason = "CODESTREAM_MALFORMED"


class FingerprintMismatch(TokenizerError):
    """The stream was made by another model; decoding it would give a picture of noise."""

    reason = "MODEL_MISMATCH"


class ArtifactError(TokenizerError):
    """A model folder that is missing, incomplete or altered."""

    reason = "MODEL_NOT_FOUND"


class ProviderError(TokenizerError):
    """ONNX Runtime is missing, or the compiler, or the execution provider that was asked for."""

    reason = "PROVIDER_UNAVAILABLE"


class DeviceMemoryExhausted(TokenizerError):
    """There is no memory for this batch where the model runs; a smaller one may fit."""

    reason = "DEVICE_MEMORY"
