"""Train the model on corpus/ (CPU, two threads) and leave weights.pt in a folder."""

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import tokenizer
from data import Corpus
from model import Config, Model

ROW, ROWS = 256, 8  # the usual batch
LONG, LONG_EVERY = 2048, 32  # now and then one row that fills the whole context


class Batches:
    def __init__(self, corpus: Corpus, tok, cfg: Config):
        self.corpus, self.tok, self.cfg = corpus, tok, cfg
        self.cache: dict[str, list[int]] = {}
        self.kept = None

    def encode(self, text: str) -> list[int]:
        if text not in self.cache:
            if len(self.cache) > 200_000:
                self.cache.clear()
            self.cache[text] = self.tok.encode(text).ids
        return self.cache[text]

    def document(self, turns: int | None = None) -> tuple[list[int], list[float]]:
        ids, weights = [], []
        for text, weight in self.corpus.document(turns):
            piece = self.encode(text)
            ids += piece
            weights += [weight] * len(piece)
        return ids, weights

    def long_row(self) -> tuple[list[int], list[float], list[int], list[int]]:
        """One conversation that fills the whole context."""
        ids, weights = self.document(turns=60)
        size = min(len(ids), LONG + 1)
        return self.padded(LONG, ids[:size], weights[:size], list(range(size)), [0] * size)

    def row(self) -> tuple[list[int], list[float], list[int], list[int]]:
        """As many documents as fit."""
        rng, newline = self.corpus.rng, self.encode("\n")[0]
        ids, weights, positions, segments = [], [], [], []
        while True:
            doc = self.kept or self.document()
            self.kept = None
            if len(doc[0]) > ROW:
                continue
            if len(ids) + len(doc[0]) > ROW + 1:
                self.kept = doc
                return self.padded(ROW, ids, weights, positions, segments)
            # Positions may jump inside a document, so that short rows teach long distances too.
            at, jumps = 0, rng.random() < 0.15
            for token in doc[0]:
                if jumps and token == newline and rng.random() < 0.2:
                    at += rng.randrange(400)
                positions.append(min(at, self.cfg.context - 1))
                at += 1
            segments += [len(segments)] * len(doc[0])
            ids += doc[0]
            weights += doc[1]

    @staticmethod
    def padded(size, ids, weights, positions, segments):
        pad = size + 1 - len(ids)
        return ids + [0] * pad, weights + [0.0] * pad, positions + [0] * pad, segments + [-1] * pad

    def next(self, long: bool):
        rows = [self.long_row()] if long else [self.row() for _ in range(ROWS)]
        ids, weights, positions, segments = (torch.tensor(list(c)) for c in zip(*rows))
        # The first token of a document is not predicted from the document before it.
        weights[:, 1:] *= (segments[:, 1:] == segments[:, :-1]).float()
        return ids[:, :-1], ids[:, 1:], weights[:, 1:], positions[:, :-1], segments[:, :-1]


def optimizers(model: Model, lr: float):
    """Muon for the matrices of the blocks (fewer steps to the same loss), AdamW for the rest."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("blk.")]
    others = [p for n, p in model.named_parameters() if not (p.dim() == 2 and n.startswith("blk."))]
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    return muon, adamw


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("out", type=Path)
    args.add_argument("--steps", type=int, default=4000)
    args.add_argument("--minutes", type=float, default=25, help="the schedule ends here even if steps are left")
    args.add_argument("--lr", type=float, default=3e-3)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--resume", type=Path, help="folder of an earlier run to go on from")
    args = args.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)

    cfg = Config()
    if not tokenizer.FILE.exists():
        tokenizer.train(Corpus(args.seed).texts(), cfg.vocab).save(str(tokenizer.FILE), pretty=False)
    tok = tokenizer.load()
    batches = Batches(Corpus(args.seed), tok, cfg)
    model = Model(cfg)
    if args.resume:
        model.load_state_dict(torch.load(args.resume / "weights.pt", weights_only=True))
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    opts = optimizers(model, args.lr)

    start, steps, seen, mean = time.monotonic(), 0, 0, None
    for step in range(args.steps):
        done = max(step / args.steps, (time.monotonic() - start) / (args.minutes * 60))
        if done >= 1:
            break
        scale = min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = args.lr * scale
        long = step % LONG_EVERY == LONG_EVERY - 1
        ids, targets, weights, positions, segments = batches.next(long)
        wanted = weights > 0  # most tokens are questions and padding: no logits for those
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids, positions, segments, wanted)
        losses = F.cross_entropy(logits.float(), targets[wanted], reduction="none")
        flat = weights[wanted]
        loss = (losses * flat).sum() / flat.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        with torch.no_grad():
            answers = losses[flat == 1.0].mean().item()
        mean = answers if mean is None else 0.95 * mean + 0.05 * answers
        steps, seen = step + 1, seen + ids.numel()
        if step % 50 == 0:
            took = time.monotonic() - start
            print(f"step {step} answers {mean:.3f} lr {scale:.3f} {seen / took:.0f} tokens/s {took:.0f} s", flush=True)
        if step % 500 == 499:
            torch.save(model.state_dict(), args.out / "weights.pt")
    torch.save(model.state_dict(), args.out / "weights.pt")
    print(f"{steps} steps, {seen} tokens, {time.monotonic() - start:.0f} s, answers {mean:.3f}")


if __name__ == "__main__":
    main()
