"""The `tessera` command: pictures to streams and back, here or on a server. Imports no grpc, no torch.

app       the command tree, exit codes, what a failure looks like
local     encode, decode, info with the model in this process; truncate without any
remote    serve, client encode, client decode (grpc is imported when they run)
tune      measures this machine and prints settings
files     what is read and what is written: plans, `-`, atomic files
report    what the user sees: lines, JSON, progress bar, exit code
flags     flags that several commands share
"""

from serving.cpu import keep_blas_single_threaded

keep_blas_single_threaded()

from serving.cli.app import main  # noqa: E402 (this one imports numpy)

__all__ = ["main"]
