"""Everything this package raises on purpose.

EdgeAsdError
├── ConfigError              the operator must fix a file
├── AudioError               this recording cannot be scored
├── BundleError              the bundle must be fetched or exported again
│   ├── BundleCorrupt        a byte of it is not what it was
│   ├── BundleUntrusted      nobody who is trusted signed it: sign it, or trust who did
│   ├── BundleOutdated       older than the one in use, whose name is pinned
│   ├── GoldenMismatch       this machine computes other numbers than the one that exported
│   ├── HeadUnknown          the bundle knows no machine of this name
│   └── BundleUnfetched      it is not to be had where a command said
├── SourceError              the microphone failed; the daemon opens it again
├── UpdateRefused            the operator must wait, or ask something else of a model
├── AlarmRefused             the operator must do something else to the alarm first
└── CommandRefused           who sent the command must send another, or may not send it

Lost audio, an invalid segment and a broker that is away are states, counted and shown, not errors.
A message names the value, what was allowed, and what to do.
"""


class EdgeAsdError(Exception):
    """Root of every error raised on purpose."""


class ConfigError(EdgeAsdError):
    """A setting is missing, unknown or out of range."""


class AudioError(EdgeAsdError):
    """A recording cannot be read or holds nothing that can be scored."""


class BundleError(EdgeAsdError):
    """A bundle cannot be used on this device."""


class BundleCorrupt(BundleError):
    """A file in the bundle does not match its recorded digest."""


class BundleUntrusted(BundleError):
    """The bundle is not signed, or by nobody who is trusted here, or its signature is wrong."""


class BundleOutdated(BundleError):
    """The bundle is older than the one in use, and an older one is not wanted."""


class GoldenMismatch(BundleError):
    """The golden waveform scores differently here than where the bundle was exported."""


class HeadUnknown(BundleError):
    """The bundle has no head for the machine that was asked for."""


class BundleUnfetched(BundleError):
    """A bundle is not to be had where a command said, or is not what was ordered."""


class SourceError(EdgeAsdError):
    """An audio source cannot be opened or stopped delivering; opening it again may help."""


class UpdateRefused(EdgeAsdError):
    """What an operator wants of a model cannot be done as things stand."""


class AlarmRefused(EdgeAsdError):
    """The state of the alarm does not allow what an operator wants of it."""


class CommandRefused(EdgeAsdError):
    """A command that came over the network is not obeyed."""

    def __init__(self, message: str, reason: str, transaction: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        """one word for programs; the message is for people"""
        self.transaction = transaction
        """of the command, where it could be read"""
