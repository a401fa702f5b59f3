"""Serves a GGUF file with llama.cpp: `python -m trimtab.deployments.engines.llama --gguf FILE --port PORT`.

It answers the OpenAI paths below `/v1`, and `/health`.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM. Returns the exit status; 1 where the package or the file is missing."""
    parser = argparse.ArgumentParser(prog="trimtab.deployments.engines.llama")
    parser.add_argument("--gguf", type=Path, required=True, help="the model file")
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1")
    parser.add_argument("--name", help="what the model is called in answers")
    parser.add_argument("--threads", type=int, help="threads to compute with")
    parser.add_argument("--context", type=int, default=4096, help="tokens of context for each request")
    parser.add_argument("--parallel", type=int, default=4, help="requests served at once")
    wanted = parser.parse_args(arguments)
    try:
        engine = importlib.import_module("xllamacpp")
    except ImportError:
        sys.stderr.write("the local engine is not installed: pip install 'trimtab[local]'\n")
        return 1
    if not wanted.gguf.is_file():
        sys.stderr.write(f"there is no file {wanted.gguf}\n")
        return 1
    # Wait for the signal in this thread; the server's own threads inherit the mask and leave it to us.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    params = engine.CommonParams()
    params.model.path = str(wanted.gguf)
    params.model_alias = {wanted.name or wanted.gguf.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = wanted.port
    params.n_parallel = wanted.parallel
    params.n_ctx = wanted.context * wanted.parallel
    params.ui = False
    if wanted.threads is not None:
        params.cpuparams.n_threads = wanted.threads
        params.cpuparams_batch.n_threads = wanted.threads
    server = engine.Server(params)
    sys.stdout.write(f"serving {wanted.gguf.name} at {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


if __name__ == "__main__":
    sys.exit(main())
