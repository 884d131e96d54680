"""The network: a small decoder of the Qwen3 shape, in the tensor layout that GGUF wants."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Config:
    """Every row length is a multiple of 32, because Q8_0 packs 32 values per block."""

    vocab: int = 3072
    layers: int = 6
    hidden: int = 256
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 768
    context: int = 2048
    rope_base: float = 100_000.0
    eps: float = 1e-6


def rope_tables(cfg: Config, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    half = cfg.head_dim // 2
    inv = cfg.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    angle = positions[..., None].float() * inv
    return angle.cos()[:, None], angle.sin()[:, None]  # room for the head axis


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, dim=-1)  # "neox" pairing: halves, not neighbours
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


class Norm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


class Block(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        q, kv = cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim
        self.cfg = cfg
        self.attn_norm = Norm(cfg.hidden, cfg.eps)
        self.attn_q = nn.Linear(cfg.hidden, q, bias=False)
        self.attn_k = nn.Linear(cfg.hidden, kv, bias=False)
        self.attn_v = nn.Linear(cfg.hidden, kv, bias=False)
        self.attn_q_norm = Norm(cfg.head_dim, cfg.eps)
        self.attn_k_norm = Norm(cfg.head_dim, cfg.eps)
        self.attn_output = nn.Linear(q, cfg.hidden, bias=False)
        self.ffn_norm = Norm(cfg.hidden, cfg.eps)
        self.ffn_gate = nn.Linear(cfg.hidden, cfg.ffn, bias=False)
        self.ffn_up = nn.Linear(cfg.hidden, cfg.ffn, bias=False)
        self.ffn_down = nn.Linear(cfg.ffn, cfg.hidden, bias=False)

    def forward(self, x, cos, sin, mask):
        cfg, (b, t, _) = self.cfg, x.shape
        h = self.attn_norm(x)

        def split(y, n):
            return y.view(b, t, n, cfg.head_dim).transpose(1, 2)

        q = rotate(self.attn_q_norm(split(self.attn_q(h), cfg.heads)), cos, sin)
        k = rotate(self.attn_k_norm(split(self.attn_k(h), cfg.kv_heads)), cos, sin)
        v = split(self.attn_v(h), cfg.kv_heads)
        group = cfg.heads // cfg.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.attn_output(a.transpose(1, 2).reshape(b, t, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Model(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        self.token_embd = nn.Embedding(cfg.vocab, cfg.hidden)
        self.blk = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.output_norm = Norm(cfg.hidden, cfg.eps)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, positions, segments, wanted):
        """Logits at the wanted places; a token sees earlier tokens of its own segment only (rows are packed)."""
        cos, sin = rope_tables(self.cfg, positions)
        t = ids.shape[1]
        causal = torch.ones(t, t, dtype=torch.bool).tril()
        mask = (segments[:, None, :, None] == segments[:, None, None, :]) & causal
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, cos, sin, mask)
        return F.linear(self.output_norm(x[wanted]), self.token_embd.weight)
