"""Write the trained weights as one GGUF file: Q8_0 matrices, F32 norms, tokenizer and chat template."""

import argparse
import hashlib
from pathlib import Path

import gguf
import torch
from gguf import GGMLQuantizationType as Quant
from tokenizers import Tokenizer

import tokenizer
from model import Config

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_metadata(w: gguf.GGUFWriter, cfg: Config) -> None:
    w.add_name("arknet-tiny")
    w.add_description("A very small model, so that a new arknet node has something to serve")
    w.add_license("apache-2.0")
    w.add_languages(["en"])
    w.add_context_length(cfg.context)
    w.add_embedding_length(cfg.hidden)
    w.add_block_count(cfg.layers)
    w.add_feed_forward_length(cfg.ffn)
    w.add_head_count(cfg.heads)
    w.add_head_count_kv(cfg.kv_heads)
    # Stated because loaders otherwise assume hidden / heads.
    w.add_key_length(cfg.head_dim)
    w.add_value_length(cfg.head_dim)
    w.add_layer_norm_rms_eps(cfg.eps)
    w.add_rope_freq_base(cfg.rope_base)
    w.add_vocab_size(cfg.vocab)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)


def write_tokenizer(w: gguf.GGUFWriter, tok: Tokenizer) -> None:
    tokens, merges = tokenizer.vocabulary(tok)
    kinds = [
        gguf.TokenType.CONTROL if t in tokenizer.CONTROL else gguf.TokenType.NORMAL for t in tokens
    ]
    text, _start, end = (tok.token_to_id(t) for t in tokenizer.CONTROL)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    w.add_token_merges(merges)
    w.add_bos_token_id(text)
    w.add_pad_token_id(text)
    w.add_eos_token_id(end)
    w.add_add_bos_token(False)
    w.add_chat_template(CHAT_TEMPLATE)


def export(weights: dict[str, torch.Tensor], cfg: Config, tok: Tokenizer, out: Path) -> str:
    w = gguf.GGUFWriter(out, "qwen3")
    write_metadata(w, cfg)
    write_tokenizer(w, tok)
    # No output.weight: loaders then tie the output to token_embd.weight.
    for name, value in weights.items():
        data = value.detach().float().numpy()
        if data.ndim == 2:
            w.add_tensor(name, gguf.quants.quantize(data, Quant.Q8_0), raw_dtype=Quant.Q8_0)
        else:
            w.add_tensor(name, data)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    out.with_name(out.name + ".sha256").write_text(f"{digest}  {out.name}\n")
    return digest


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("run", type=Path, help="the folder train.py wrote")
    args.add_argument("out", type=Path, help="the .gguf file to write")
    args = args.parse_args()
    weights = torch.load(args.run / "weights.pt", weights_only=True)
    digest = export(weights, Config(), tokenizer.load(), args.out)
    print(f"{args.out}: {args.out.stat().st_size} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
