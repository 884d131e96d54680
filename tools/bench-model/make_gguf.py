#!/usr/bin/env python3
"""Writes a model of exactly the shape of Qwen3-0.6B in Q8_0, with random weights.

    make_gguf.py OUTPUT.gguf [--shape full|small] [--seed N]

It is for measuring speed: nothing is downloaded, and the same seed and numpy version give the same
file. What it says means nothing, but its vocabulary behaves: every token but the 256 bytes is a
space and one to four small letters, and a word of that form is always one token again. So text
that was generated has, as part of the next turn's prompt, the tokens it was generated from, and a
prompt of N short words has N tokens.
"""

import argparse
import hashlib
import itertools
import string

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants

SHAPES = {
    # What a Qwen3-0.6B has.
    "full": dict(
        layers=28, width=1024, heads=16, kv_heads=8, head=128, hidden=3072, vocabulary=151936, context=40960
    ),
    # The same in small, to try things with.
    "small": dict(
        layers=2, width=256, heads=4, kv_heads=2, head=64, hidden=512, vocabulary=20480, context=4096
    ),
}
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


def byte_letters():
    """The letter by which GPT-2's vocabularies write each byte: itself where it can be seen."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unseen = [byte for byte in range(256) if byte not in seen]
    letters = {byte: chr(byte) for byte in seen}
    letters.update((byte, chr(256 + place)) for place, byte in enumerate(unseen))
    return [letters[byte] for byte in range(256)]


def vocabulary(size):
    """Tokens, and the merges by which words become tokens, letter by letter from the left."""
    bytes_ = byte_letters()
    space = bytes_[ord(" ")]
    words = (
        (space, "".join(letters))
        for length in range(1, 5)
        for letters in itertools.product(string.ascii_lowercase, repeat=length)
    )
    words = list(itertools.islice(words, size - len(bytes_) - len(CONTROL)))
    merges = [f"{space}{word[:-1]} {word[-1]}" for space, word in words]
    tokens = bytes_ + [space + word for space, word in words] + CONTROL
    types = [TokenType.NORMAL] * (size - len(CONTROL)) + [TokenType.CONTROL] * len(CONTROL)
    assert len(tokens) == len(set(tokens)) == size
    return tokens, types, merges


def describe(writer, shape):
    writer.add_name("random Qwen3-0.6B")
    writer.add_block_count(shape["layers"])
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["width"])
    writer.add_feed_forward_length(shape["hidden"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    # The heads together are wider than the model, so their width has to be said.
    writer.add_key_length(shape["head"])
    writer.add_value_length(shape["head"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(shape["vocabulary"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tokenizer(writer, shape):
    tokens, types, merges = vocabulary(shape["vocabulary"])
    end_of_text, _, end_of_turn = range(len(tokens) - len(CONTROL), len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(end_of_turn)
    writer.add_pad_token_id(end_of_text)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def add_weights(writer, shape, seed):
    random = np.random.default_rng(seed)

    def matrix(name, rows, columns):
        values = random.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
        q8_0 = GGMLQuantizationType.Q8_0
        writer.add_tensor(name, quants.quantize(values, q8_0), raw_dtype=q8_0)

    def norm(name, length):
        writer.add_tensor(name, 1 + 0.1 * random.standard_normal(length, dtype=np.float32))

    width, hidden, head = shape["width"], shape["hidden"], shape["head"]
    queries, keys = shape["heads"] * head, shape["kv_heads"] * head
    # There is no output matrix: the model takes its embeddings for it.
    matrix("token_embd.weight", shape["vocabulary"], width)
    norm("output_norm.weight", width)
    for layer in range(shape["layers"]):
        name = f"blk.{layer}.{{}}.weight".format
        norm(name("attn_norm"), width)
        matrix(name("attn_q"), queries, width)
        matrix(name("attn_k"), keys, width)
        matrix(name("attn_v"), keys, width)
        norm(name("attn_q_norm"), head)
        norm(name("attn_k_norm"), head)
        matrix(name("attn_output"), width, queries)
        norm(name("ffn_norm"), width)
        matrix(name("ffn_gate"), hidden, width)
        matrix(name("ffn_up"), hidden, width)
        matrix(name("ffn_down"), width, hidden)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("--shape", choices=SHAPES, default="full")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    writer = GGUFWriter(arguments.output, "qwen3")
    describe(writer, shape)
    add_tokenizer(writer, shape)
    add_weights(writer, shape, arguments.seed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open(arguments.output, "rb") as file:
        print(hashlib.file_digest(file, "sha256").hexdigest(), arguments.output)


if __name__ == "__main__":
    main()
