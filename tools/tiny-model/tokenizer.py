"""Byte-level BPE, trained on the corpus, equal to llama.cpp's tokenizer "gpt2" with pre "qwen2"."""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

# Kept in the repository, so that a change of the corpus does not change the tokens. Delete it to train a new one.
FILE = Path(__file__).with_name("tokenizer.json")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def train(texts: list[str], vocab: int) -> Tokenizer:
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    # All 256 bytes are in the vocabulary, so any UTF-8 text has tokens.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator(texts, trainer)
    size = tok.get_vocab_size() + len(CONTROL)
    if size != vocab:
        raise SystemExit(f"the corpus yields {size} tokens, not {vocab}: lower Config.vocab")
    tok.add_special_tokens(list(CONTROL))  # last ids, as in qwen
    return tok


def load() -> Tokenizer:
    return Tokenizer.from_file(str(FILE))


def vocabulary(tok: Tokenizer) -> tuple[list[str], list[str]]:
    """Tokens by id, and merges as "left right" lines."""
    state = json.loads(tok.to_str())["model"]
    tokens = [t for t, _ in sorted(tok.get_vocab(with_added_tokens=True).items(), key=lambda kv: kv[1])]
    merges = [m if isinstance(m, str) else " ".join(m) for m in state["merges"]]
    return tokens, merges
