#!/usr/bin/env python3
"""A real llama.cpp server, from the package xllamacpp, to be asked as somebody else's service.

    llama_server.py MODEL.gguf [--alias NAME] [--port N] [--embeddings] [--pooling KIND] [--key KEY]

Prints one line, its URL, when it answers; ends with its standard input, so that it cannot outlive
who started it.
"""

import argparse
import sys

import xllamacpp


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--alias", help="what the model is called")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free one")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--context", type=int, default=2048, help="tokens of each slot")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--key", help="asked of everybody")
    parser.add_argument("--embeddings", action="store_true", help="serve vectors too")
    kinds = ["mean", "cls", "last", "rank"]
    parser.add_argument("--pooling", choices=kinds, help="how, where the model does not say")
    arguments = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    if arguments.alias:
        params.model_alias = {arguments.alias}
    params.port = arguments.port
    params.n_parallel = arguments.slots
    params.n_ctx = arguments.slots * arguments.context
    params.cpuparams.n_threads = arguments.threads
    params.use_jinja = True
    if arguments.key:
        params.api_keys = [arguments.key]
    params.embedding = arguments.embeddings
    if arguments.pooling:
        kind = f"LLAMA_POOLING_TYPE_{arguments.pooling.upper()}"
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, kind)
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
